package web

import (
	"context"
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
	out.Content, out.Share = contentItem(t.Content)
	out.RequireEncryption = t.Content.Encrypts()
	if t.Lifecycle != nil {
		out.Lifecycle = lifecycleItemOf(t.Lifecycle)
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

// putTopic sets a topic's own limits, or with {"retention": {}} restores the hub's; and whether it is deprecated. It answers with
// the topic after it. Its owner stays within the hub's limits.
func (s *Server) putTopic(w http.ResponseWriter, r *http.Request) {
	name, err := s.topicBelow("/v1/topics/", r)
	if err == nil {
		err = s.setTopic(w, r, name)
	}
	if err == nil {
		err = s.showTopic(w, name)
	}
	if err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) setTopic(w http.ResponseWriter, r *http.Request, name string) error {
	const expected = `expected JSON such as {"retention": {"max_age": "7d", "max_bytes": 1073741824}}`
	var in struct {
		Retention *retentionItem `json:"retention"`
		Lifecycle *lifecycleItem `json:"lifecycle"`
		Content   string         `json:"content"`
		Share     *shareItem     `json:"share"`
		Encrypt   *bool          `json:"require_encryption"`
	}
	if err := s.readJSON(w, r, maxShortJSONBytes, &in, expected); err != nil {
		return err
	}
	if in.Retention == nil && in.Lifecycle == nil && in.Content == "" && in.Share == nil && in.Encrypt == nil {
		return hub.ParamErrorf("retention", "is missing; %s, or {\"retention\": {}} for the hub's limits", expected)
	}
	if in.Lifecycle != nil {
		if err := s.setLifecycle(r, name, in.Lifecycle); err != nil {
			return err
		}
	}
	if err := s.setContent(r, name, in.Content, in.Share, in.Encrypt); err != nil {
		return err
	}
	if in.Retention == nil {
		return nil
	}
	return s.setRetention(r.Context(), name, in.Retention)
}

// setRetention sets a topic's own limits. Its owner stays within the hub's.
func (s *Server) setRetention(ctx context.Context, name string, item *retentionItem) error {
	limits, err := item.limits()
	if err != nil {
		return err
	}
	if _, operator := s.onlyOwner(ctx); !operator {
		return s.Service.SetOwnRetention(ctx, name, limits)
	}
	return s.Service.SetRetention(ctx, name, limits)
}

// limits returns the limits that a request asks for.
func (i *retentionItem) limits() (out hub.Retention, err error) {
	out.MaxBytes = i.MaxBytes
	if i.MaxAge != nil {
		age, ok := parseAge(*i.MaxAge)
		if !ok {
			return out, hub.ParamErrorf("max_age", "is %s; expected a duration such as 90s, 12h or 7d, or 0 for no limit", problem.Quote(*i.MaxAge))
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
