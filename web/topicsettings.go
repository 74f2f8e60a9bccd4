package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// retentionItem holds a topic's own limits. Absent or null means the hub's configuration.
type retentionItem struct {
	MaxAge   *string `json:"max_age,omitempty"`
	MaxBytes *int64  `json:"max_bytes,omitempty"`
}

func topicItemOf(t *hub.Topic) topicItem {
	out := topicItem{Name: t.Name, HeadOffset: t.Head, FirstOffset: t.First, Subscriptions: t.Subscribers(),
		Owner: t.Owner, StoredBytes: t.StoredBytes()}
	if !t.Retention.IsDefault() {
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

// putTopic sets a topic's own limits, or with {"retention": {}} restores the hub's, and answers with the topic after it. Its owner
// stays within the hub's limits.
func (s *Server) putTopic(w http.ResponseWriter, r *http.Request) {
	name, err := s.topicBelow("/v1/topics/", r)
	if err == nil {
		var limits hub.Retention
		if limits, err = s.readRetention(w, r); err == nil {
			set := s.Service.SetRetention
			if _, operator := s.onlyOwner(r.Context()); !operator {
				set = s.Service.SetOwnRetention
			}
			err = set(r.Context(), name, limits)
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
	var in struct {
		Retention *retentionItem `json:"retention"`
	}
	if err := s.readJSON(w, r, maxShortJSONBytes, &in, expected); err != nil {
		return out, err
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

// maxAgeDays keeps an age within the range of a Duration.
const maxAgeDays = 36500

// parseAge parses a duration, or a number of days such as 7d.
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
