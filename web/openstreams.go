package web

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
)

// eventRoutes are those about open streams and events.
func (s *Server) eventRoutes() []*route {
	get := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}
	}
	return []*route{
		{name: "events", paths: []string{"/v1/events"}, methods: get(s.listEvents), access: access{own: true}},
		{name: "open_streams", paths: []string{"/v1/streams"}, methods: get(s.listStreams), access: access{own: true}},
		{name: "open_stream", paths: []string{"/v1/streams/:id"}, methods: map[string]http.HandlerFunc{http.MethodDelete: s.endStream},
			access: access{changes: auth.ActionSubscriptions, own: true}},
	}
}

// openStream is an event stream that a reader has open at this node.
type openStream struct {
	ID      string    `json:"id"`
	Topic   string    `json:"topic"`
	Node    string    `json:"node"`
	Owner   string    `json:"owner,omitempty"`
	Address string    `json:"address,omitempty"` // of the reader
	Since   time.Time `json:"since"`

	end func()
}

// openStreams are those of this node, by ID. Safe for concurrent use.
type openStreams struct {
	mu   sync.Mutex
	byID map[string]*openStream
}

// add enters a stream under a new ID. Call the result when it has ended.
func (o *openStreams) add(st *openStream) (remove func()) {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	st.ID = hex.EncodeToString(random[:])
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byID == nil {
		o.byID = map[string]*openStream{}
	}
	o.byID[st.ID] = st
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.byID, st.ID)
	}
}

func (o *openStreams) get(id string) *openStream {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byID[id]
}

// list returns the streams of which match is true, the oldest first.
func (o *openStreams) list(match func(*openStream) bool) []*openStream {
	out := []*openStream{}
	o.mu.Lock()
	for _, st := range o.byID {
		if match(st) {
			out = append(out, st)
		}
	}
	o.mu.Unlock()
	slices.SortFunc(out, func(a, b *openStream) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// errEnded is why a stream's context ended: its owner, or an operator, wants it.
var errEnded = errors.New("the stream was ended by its owner or an operator")

// listStreams lists the streams that are open at this node: all to operators, and to other principals their own.
func (s *Server) listStreams(w http.ResponseWriter, r *http.Request) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "topic")
	}
	topic := ""
	if name := values.Get("topic"); err == nil && name != "" {
		topic, err = s.Service.Namer().HostedName("topic", name)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx := r.Context()
	writeJSON(w, http.StatusOK, page[*openStream]{Items: s.streams.list.list(func(st *openStream) bool {
		return s.owns(ctx, st.Owner) && (topic == "" || st.Topic == topic)
	})})
}

// endStream ends a stream of this node. Its reader may come back as long as it may read the topic.
func (s *Server) endStream(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/v1/streams/")
	st := s.streams.list.get(id)
	if st == nil || !s.owns(r.Context(), st.Owner) {
		s.fail(w, r, &hub.Error{Code: hub.CodeNotFound, Param: "id", Message: problem.Quote(id) + " is not a stream of this node; GET /v1/streams lists those that are open here"})
		return
	}
	auth.Note(r.Context(), "stream", st.ID)
	auth.Note(r.Context(), "stream_topic", st.Topic)
	auth.Note(r.Context(), "stream_owner", st.Owner)
	st.end()
	w.WriteHeader(http.StatusNoContent)
}
