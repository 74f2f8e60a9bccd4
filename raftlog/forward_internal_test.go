package raftlog

import (
	"errors"
	"strings"
	"testing"

	"quorumhub/hub"
)

// A follower's clients get the same error as the leader's own, whatever its text; unknown codes are generic refusals.
func TestRefusalsAreIdentifiedByCode(t *testing.T) {
	for _, want := range []*hub.Error{hub.ErrOverloaded, hub.ErrDiskFull, hub.ErrStopping} {
		body := encodeRefusal(want)
		if got := decodeRefusal(append(body[:1:1], "in other words"...)); !errors.Is(got, want) {
			t.Errorf("%v came back as %v", want, got)
		}
	}
	for name, body := range map[string][]byte{
		"no body":         nil,
		"unknown code":    append([]byte{200}, "new reason"...),
		"any other error": encodeRefusal(errors.New("forwarded batch is corrupt\nreally")),
	} {
		err := decodeRefusal(body)
		if hub.CodeOf(err) != hub.CodeUnavailable || !strings.HasPrefix(err.Error(), "the leader refused the batch") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
