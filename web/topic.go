package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// topicInPath returns the topic named by the path below /topics/, unescaped once.
func (s *Server) topicInPath(r *http.Request) (string, error) { return s.topicBelow("/topics/", r) }

func (s *Server) topicBelow(prefix string, r *http.Request) (string, error) {
	raw := strings.TrimPrefix(r.URL.EscapedPath(), prefix)
	if name := s.paths.get(raw); name != "" {
		return name, nil
	}
	version := s.Service.Namer().Version()
	name, err := url.PathUnescape(raw)
	if err != nil {
		return "", hub.ParamErrorf("topic", "%s has a %% without two hexadecimal digits", problem.Quote(raw))
	}
	if name, err = s.Service.Namer().HostedName("topic", name); err == nil {
		s.paths.put(raw, name, version)
	}
	return name, err
}

// postTopic publishes to a hosted topic.
func (s *Server) postTopic(w http.ResponseWriter, r *http.Request) {
	name, err := s.topicInPath(r)
	if err == nil && r.URL.RawQuery != "" {
		q := parseQuery(r.URL.RawQuery)
		var batch bool
		if batch, err = q.isBatch(); batch {
			s.publishBatch(w, r, name)
			return
		}
	}
	s.publish(w, r, name, err)
}

// getTopic serves the newest content of a topic, or with ?offset=N one message, as it was published. rel=hub and rel=self make
// every topic discoverable (WebSub section 4). A topic without content is answered 204, because it exists and may be subscribed to.
func (s *Server) getTopic(w http.ResponseWriter, r *http.Request) {
	name, err := s.topicInPath(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if err = s.Service.AuthorizeRead(r.Context(), name); err == nil {
		err = s.byReferenceOnly(r, name)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if wantsStream(r.Header["Accept"]) {
		s.getStream(w, r, name)
		return
	}
	offset, err := offsetParam(r.URL.RawQuery)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	m, err := s.message(name, offset)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept") // an event stream has the same URL
	h.Set("Link", s.links(name, m))
	s.noticeOfNamed(h, name)
	if m == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	etag := entityTag(m)
	h.Set("ETag", etag)
	h.Set("Last-Modified", time.Unix(0, m.Time).UTC().Format(http.TimeFormat))
	h.Set(messageIDHeader, m.ID())
	if s.unchanged(r.Header, etag, m) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if !m.IsBlob() {
		size, caller := int64(len(m.Body)), callerAt(w)
		if err := s.budget.take(caller, size); err != nil {
			s.fail(w, r, err)
			return
		}
		defer s.budget.give(caller, size)
	}
	h.Set("Content-Type", m.ContentType)
	h.Set("Content-Length", strconv.FormatInt(m.Size(), 10))
	// Published content must not run with the hub's origin.
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
	if len(s.CORSOrigins) == 0 {
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	}
	w.WriteHeader(http.StatusOK)
	switch {
	case r.Method == http.MethodHead:
	case m.IsBlob():
		s.sendBlob(w, m)
	default:
		_, _ = w.Write(m.Body) // fails only if the client is gone
	}
}

// offsetParam returns ?offset=N, or 0 if it is absent.
func offsetParam(rawQuery string) (uint64, error) {
	if rawQuery == "" {
		return 0, nil
	}
	q, err := parseURLQuery(rawQuery)
	if err != nil {
		return 0, err
	}
	if !q.Has("offset") {
		return 0, nil
	}
	n, err := strconv.ParseUint(q.Get("offset"), 10, 64)
	if err != nil || n == 0 || len(q["offset"]) > 1 {
		return 0, hub.ParamErrorf("offset", "is %s; expected the offset of a message, from 1", problem.Quote(strings.Join(q["offset"], ",")))
	}
	return n, nil
}

// message reads one message of a topic. Offset 0 is the newest one; nil if there is none.
func (s *Server) message(name string, offset uint64) (*hub.Message, error) {
	for range 3 {
		var t hub.Topic
		var ok bool
		s.State.View(func(st *hub.State) { t, ok = st.TopicByName(name) })
		if !ok {
			return nil, noTopic(name)
		}
		at := offset
		if at == 0 {
			at = t.Head
		}
		switch {
		case offset == 0 && t.First > t.Head:
			return nil, nil
		case at > t.Head:
			return nil, &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "offset",
				Detail: fmt.Sprintf("%d does not exist yet; the topic's newest message is %d", at, t.Head)}
		case at < t.First:
			return nil, &problem.Details{Status: http.StatusGone, Code: "gone", Param: "offset",
				Detail: fmt.Sprintf("%d was dropped by retention; the oldest message kept is %d", at, t.First)}
		}
		msgs, err := s.Messages.Read(t.ID, at, 1, 1)
		switch {
		case errors.Is(err, hub.ErrTrimmed), errors.Is(err, hub.ErrUnknownTopic):
			continue // retention or deregistration intervened between the two reads
		case err != nil:
			return nil, fmt.Errorf("read message %d-%d: %w", t.ID, at, err)
		case len(msgs) == 1 && msgs[0].Offset == at:
			return &msgs[0], nil
		}
	}
	return nil, hub.Errorf(hub.CodeUnavailable, "the topic is changing; try again shortly")
}

func noTopic(name string) error {
	return &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "topic",
		Detail: problem.Quote(name) + " does not exist on this hub"}
}

// links returns the Link header with the hub's and the topic's canonical URLs.
func (s *Server) links(name string, m *hub.Message) string {
	self := s.Service.Namer().URL(name)
	if m != nil && m.LinkSelf != "" && !strings.ContainsAny(m.LinkSelf, "<>\" \t\r\n") {
		self = m.LinkSelf
	}
	return "<" + s.hubURL + ">; rel=\"hub\", <" + self + ">; rel=\"self\""
}
