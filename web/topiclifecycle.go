package web

import (
	"net/http"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// lifecycleItem says whether a topic is deprecated or retired. In requests, "active" removes the mark.
type lifecycleItem struct {
	Status       string     `json:"status"`
	DeprecatedAt *time.Time `json:"deprecated_at,omitempty"`
	SunsetAt     *time.Time `json:"sunset_at,omitempty"`
	RetiredAt    *time.Time `json:"retired_at,omitempty"` // only in responses
	Successor    string     `json:"successor,omitempty"`  // name or URL of a topic
}

// Status of a topic.
const (
	topicActive     = "active"
	topicDeprecated = "deprecated"
	topicRetired    = "retired"
)

func lifecycleItemOf(l *hub.TopicLifecycle) *lifecycleItem {
	out := &lifecycleItem{Status: topicDeprecated, DeprecatedAt: moment(l.DeprecatedAt), SunsetAt: moment(l.SunsetAt), RetiredAt: moment(l.RetiredAt), Successor: l.Successor}
	if l.Retired() {
		out.Status = topicRetired
	}
	return out
}

// setLifecycle deprecates or retires a topic, or removes the mark.
func (s *Server) setLifecycle(r *http.Request, name string, in *lifecycleItem) error {
	auth.Note(r.Context(), "lifecycle", in.Status)
	var mark *hub.TopicMark
	switch in.Status {
	case topicActive:
		if in.DeprecatedAt != nil || in.SunsetAt != nil || in.Successor != "" {
			return hub.ParamErrorf("status", "is active, which takes no dates and no successor; expected deprecated or retired with these")
		}
	case topicDeprecated, topicRetired:
		mark = &hub.TopicMark{Retire: in.Status == topicRetired}
		if in.DeprecatedAt != nil {
			mark.DeprecatedAt = *in.DeprecatedAt
		}
		if in.SunsetAt != nil {
			mark.SunsetAt = *in.SunsetAt
		}
		if in.Successor != "" {
			var err error
			if mark.Successor, err = s.Service.Namer().HostedName("successor", in.Successor); err != nil {
				return err
			}
		}
	default:
		return hub.ParamErrorf("status", "is %s; expected active, deprecated or retired", problem.Quote(in.Status))
	}
	if in.RetiredAt != nil {
		return hub.ParamErrorf("retired_at", "cannot be set; expected status: retired to retire the topic now, or sunset_at for later")
	}
	return s.Service.SetTopicLifecycle(r.Context(), name, mark, principalName(r))
}

// noticeOf tells a caller that a topic is deprecated.
func (s *Server) noticeOf(h http.Header, topic hub.TopicID) {
	n := s.Notices.Of(topic)
	if n == nil {
		return
	}
	h["Deprecation"] = []string{n.Deprecation}
	if n.Sunset != "" {
		h["Sunset"] = []string{n.Sunset}
	}
	if n.Link != "" {
		h.Add("Link", n.Link)
	}
}

// noticeOfNamed is noticeOf for a topic by its name or URL.
func (s *Server) noticeOfNamed(h http.Header, raw string) {
	if !s.Notices.Any() {
		return
	}
	name, err := s.Service.Namer().HostedName("topic", raw)
	if err != nil {
		return
	}
	id := hub.TopicID(0)
	s.State.View(func(st *hub.State) {
		t, _ := st.TopicByName(name)
		id = t.ID
	})
	s.noticeOf(h, id)
}
