package hub_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
)

type times map[int64]uint64

func (m times) OffsetAt(_ hub.TopicID, at time.Time) (uint64, error) {
	if m == nil {
		return 0, hub.ErrUnknownTopic
	}
	return m[at.Unix()], nil
}

func TestStart(t *testing.T) {
	topic := &hub.Topic{ID: 1, First: 5, Head: 9}
	at := times{100: 7, 200: 10, 50: 2}
	for _, c := range []struct {
		text string
		in   times
		want uint64
		says string // of the error
	}{
		{"latest", at, 10, ""},
		{"earliest", at, 5, ""},
		{"5", at, 5, ""},
		{"10", at, 10, ""},
		{"4", at, 0, "start: is 4; the topic has messages 5 to 9, expected 5 to 10"},
		{"11", at, 0, "start: is 11; the topic has messages 5 to 9, expected 5 to 10"},
		{"1970-01-01T00:01:40Z", at, 7, ""},
		{"1970-01-01T01:01:40+01:00", at, 7, ""},
		{"1970-01-01T00:03:20Z", at, 10, ""},
		{"1970-01-01T00:00:50Z", at, 5, ""}, // the lookup ran before the trim
		{"1970-01-01T00:00:50Z", nil, 10, ""},
		{"0", at, 0, "expected latest, earliest"},
		{"-1", at, 0, "expected latest, earliest"},
		{"", at, 0, "expected latest, earliest"},
		{"yesterday", at, 0, "expected latest, earliest"},
		{"2026-11-22", at, 0, "RFC 3339"},
		{"0001-01-01T00:00:00Z", at, 0, "RFC 3339"},
	} {
		s, err := hub.ParseStart("start", c.text)
		var got uint64
		if err == nil {
			got, err = s.Resolve("start", topic, c.in)
		}
		var known *hub.Error
		switch {
		case c.says == "" && (err != nil || got != c.want):
			t.Errorf("%q: %d, %v; want %d", c.text, got, err, c.want)
		case c.says != "" && (!errors.As(err, &known) || known.Code != hub.CodeInvalid || known.Param != "start" || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%q: %v; want an error that says %q", c.text, err, c.says)
		}
	}
}
