package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// retentionItem is a topic's own limits. What is absent or null is as the hub is configured.
type retentionItem struct {
	MaxAge   *string `json:"max_age,omitempty"`
	MaxBytes *int64  `json:"max_bytes,omitempty"`
}

func topicItemOf(t *hub.Topic) topicItem {
	out := topicItem{Name: t.Name, HeadOffset: t.Head, FirstOffset: t.First, Subscriptions: t.Subscribers()}
	if !t.Retention.Default() {
		out.Retention = &retentionItem{MaxBytes: t.Retention.MaxBytes}
		if t.Retention.MaxAge != nil {
			age := formatAge(*t.Retention.MaxAge)
			out.Retention.MaxAge = &age
		}
	}
	return out
}

func (s *Server) getTopicItem(w http.ResponseWriter, r *http.Request) {
	name, err := s.topicBelow("/v1/topics/", r)
	if err == nil {
		err = s.showTopic(w, name)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) showTopic(w http.ResponseWriter, name string) error {
	var t hub.Topic
	var ok bool
	s.State.View(func(st *hub.State) { t, ok = st.TopicByName(name) })
	if !ok {
		return noTopic(name)
	}
	writeJSON(w, http.StatusOK, topicItemOf(&t))
	return nil
}

// putTopic gives a topic limits of its own, or with {"retention": {}} the hub's, and answers with the topic as it then is.
func (s *Server) putTopic(w http.ResponseWriter, r *http.Request) {
	name, err := s.topicBelow("/v1/topics/", r)
	if err == nil {
		var limits hub.Retention
		if limits, err = s.readRetention(w, r); err == nil {
			err = s.Service.SetRetention(r.Context(), name, limits)
		}
	}
	if err == nil {
		err = s.showTopic(w, name)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) readRetention(w http.ResponseWriter, r *http.Request) (out hub.Retention, err error) {
	const expected = `expected JSON such as {"retention": {"max_age": "7d", "max_bytes": 1073741824}}`
	body, err := s.readBody(w, r, maxOperateBytes, hub.Errorf(hub.CodeTooLarge, "body: is larger than %d bytes", maxOperateBytes))
	defer body.release()
	if err != nil {
		return out, err
	}
	var in struct {
		Retention *retentionItem `json:"retention"`
	}
	dec := json.NewDecoder(strings.NewReader(string(body.bytes)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return out, hub.ParamErrorf("body", "cannot be read (%s); %s", problem.OneLine(err.Error()), expected)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return out, hub.ParamErrorf("body", "goes on behind the JSON; %s", expected)
	}
	if in.Retention == nil {
		return out, hub.ParamErrorf("retention", "is missing; %s, or {\"retention\": {}} for the hub's limits", expected)
	}
	out.MaxBytes = in.Retention.MaxBytes
	if in.Retention.MaxAge != nil {
		age, ok := parseAge(*in.Retention.MaxAge)
		if !ok {
			return out, hub.ParamErrorf("max_age", "is %s; expected a duration such as 90s, 12h or 7d, or 0 for no limit", problem.Quote(*in.Retention.MaxAge))
		}
		out.MaxAge = &age
	}
	return out, nil
}

// maxAgeDays keeps an age within what a Duration holds.
const maxAgeDays = 36500

// parseAge reads a duration, also in whole days.
func parseAge(s string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		return time.Duration(n) * 24 * time.Hour, err == nil && n <= maxAgeDays
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

func formatAge(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return d.String()
}
