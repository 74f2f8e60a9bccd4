package web

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
)

const (
	eventStream = "text/event-stream"
	// streamTurn is how many events are written before they are flushed.
	streamTurn = 64
	// streamSendBuffer bounds what the kernel holds for a reader that does not read.
	streamSendBuffer = 64 << 10
	// streamWriteBytes is what is written under one deadline.
	streamWriteBytes = 32 << 10
	// reconnectMin and reconnectSpread are the time after which readers are asked to come back, so that those of a
	// node that stops do not all come at once.
	reconnectMin    = 500 * time.Millisecond
	reconnectSpread = time.Second
)

// Reasons why a stream ended, as its end event and the metrics name them.
const (
	endStopping = "stopping"      // this node stops; another one goes on
	endBehind   = "out_of_touch"  // this node has not heard of its cluster; another one may have
	endRemoved  = "topic_removed" // the topic was deregistered
	endSlow     = "slow"          // the reader did not take what was sent; it learns nothing of it
	endClient   = "client"        // the reader went away
	endFailed   = "failed"        // the log could not be read
	endDenied   = "forbidden"     // the reader may not read the topic any more
)

type gapEvent struct {
	Reason string `json:"reason"`
	// FirstMissing to LastMissing are gone, with reason retention.
	FirstMissing uint64 `json:"first_missing,omitempty"`
	LastMissing  uint64 `json:"last_missing,omitempty"`
	LastEventID  string `json:"last_event_id,omitempty"` // with reason unknown_id
	Next         uint64 `json:"next"`
}

type endEvent struct {
	Reason string `json:"reason"`
}

// wantsStream tells whether the client asks for an event stream.
func wantsStream(accept []string) bool {
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			kind, params, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(kind), eventStream) && quality(params) > 0 {
				return true
			}
		}
	}
	return false
}

// stream is one reader of one topic (server-sent events, WHATWG HTML section 9.2).
type stream struct {
	s       *Server
	w       http.ResponseWriter
	control *http.ResponseController
	topic   *watched
	next    uint64 // offset of the next message
	touch   time.Time
	allowed time.Time // when it was last asked whether the reader may read this
}

// getStream follows a topic: what the start names is sent first, then every message as it comes. Each message is one
// event with its message id, from which the reader goes on after a break, on any node.
func (s *Server) getStream(w http.ResponseWriter, r *http.Request, name string) {
	t, start, err := s.streamStart(r, name)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if s.streams.open.Add(1) > int64(s.StreamMax) {
		s.streams.open.Add(-1)
		s.streams.refused.Inc()
		s.fail(w, r, &problem{status: http.StatusServiceUnavailable, code: "too_many_streams", retryAfter: 5,
			detail: fmt.Sprintf("this node serves %d streams already (streams.max); try another node or later", s.StreamMax)})
		return
	}
	defer s.streams.open.Add(-1)
	client := clientAt(w)
	if !s.streams.readers.enter(client, s.ClientStreams) {
		s.fail(w, r, &problem{status: http.StatusTooManyRequests, code: "too_many_streams", limit: "streams", retryAfter: 5,
			detail: fmt.Sprintf("this node serves %d streams to this client already (limits.streams)", s.ClientStreams)})
		return
	}
	defer s.streams.readers.leave(client)

	h := w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept")
	h.Set("Link", s.links(name, nil))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if c, ok := r.Context().Value(connKey{}).(interface{ SetWriteBuffer(int) error }); ok {
		_ = c.SetWriteBuffer(streamSendBuffer) // a larger one costs memory of the kernel, nothing else
	}
	st := &stream{s: s, w: w, control: http.NewResponseController(w), touch: s.Clock.Now(), allowed: time.Now()}
	_ = st.control.SetReadDeadline(time.Time{}) // without a connection there is none
	st.topic = s.Feed.watch(t.ID, s.State)
	defer s.Feed.leave(st.topic)
	// No event may be pending when the node stops: net/http waits for this handler.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams.stopping, cancel)()

	reason := st.run(ctx, name, t.ID, start)
	if reason == endClient && s.streams.stopping.Err() != nil {
		reason = endStopping
	}
	if reason != endClient && reason != endSlow {
		_ = st.event("end", "", endEvent{reason}) // the connection ends in any case
	}
	s.streams.ended(reason)
}

// streamFrom is where a stream begins.
type streamFrom struct {
	start   hub.Position
	resume  bool   // behind Last-Event-ID
	eventID string // as it was given
	offset  uint64 // of the last message the reader has
	known   bool   // the id is one of this topic
}

// streamStart reads what the request says about the start. Last-Event-ID counts more than the query: a browser sends
// both when it comes back.
func (s *Server) streamStart(r *http.Request, name string) (t hub.Topic, from streamFrom, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return t, from, hub.ParamErrorf("query", "cannot be read (%v)", err)
	}
	for key, v := range query {
		if key != "start" {
			return t, from, hub.ParamErrorf(quote(key), "is not a parameter of a stream; expected start")
		}
		if len(v) > 1 {
			return t, from, hub.ParamErrorf("start", "is given %d times; expected once", len(v))
		}
		if from.start, err = hub.ParsePosition("start", v[0]); err != nil {
			return t, from, err
		}
	}
	var ok bool
	s.State.View(func(st *hub.State) { t, ok = st.TopicByName(name) })
	if !ok {
		return t, from, noTopic(name)
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		from.resume, from.eventID = true, id
		from.offset, from.known = offsetOfEvent(t.ID, id)
	} else if offset, ok := from.start.Offset(); ok && offset > t.Head+1 && !s.catchUp(r.Context(), t.ID, offset-1) {
		err = from.start.Check(t, s.Clock.Now())
	}
	return t, from, err
}

// offsetOfEvent takes the id of an event apart: a message id, or the bare offset. It is known when it is of this topic.
func offsetOfEvent(topic hub.TopicID, id string) (uint64, bool) {
	if of, offset, ok := strings.Cut(id, "-"); ok {
		if n, err := strconv.ParseUint(of, 10, 64); err != nil || hub.TopicID(n) != topic {
			return 0, false
		}
		id = offset
	}
	n, err := strconv.ParseUint(id, 10, 64)
	return n, err == nil
}

// catchUp waits a while until this node has a topic's message, and tells whether it has.
func (s *Server) catchUp(ctx context.Context, topic hub.TopicID, offset uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, s.StreamCatchUp)
	defer cancel()
	w := s.Feed.watch(topic, s.State)
	defer s.Feed.leave(w)
	for {
		head, gone, changed := s.Feed.at(w)
		if head >= offset || gone {
			return head >= offset
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		case <-s.streams.stopping.Done():
			return false
		}
	}
}

// begin finds the first message, and says so when it is not the one the reader is waiting for.
func (st *stream) begin(ctx context.Context, topic hub.TopicID, from streamFrom) error {
	if from.known {
		from.known = st.s.catchUp(ctx, topic, from.offset)
	}
	var t hub.Topic
	st.s.State.View(func(s *hub.State) { t, _ = s.TopicByID(topic) })
	switch {
	case from.resume && from.known:
		st.next = from.offset + 1
	case from.resume:
		st.next = t.First
	default:
		var ok bool
		if st.next, ok = from.start.Offset(); ok {
			break // it may be gone: then a gap event comes first
		}
		cursor, err := from.start.Resolve(t, st.s.Times)
		if err != nil {
			return err
		}
		st.next = cursor + 1
	}
	// A reader that loses the connection before its first event comes back to this place.
	hello := fmt.Sprintf(": heartbeat %s\nretry: %d\nid: %s\n\n", st.s.StreamHeartbeat, (reconnectMin + rand.N(reconnectSpread)).Milliseconds(), st.lastID())
	if err := st.write([]byte(hello)); err != nil {
		return err
	}
	if from.resume && !from.known {
		st.s.streams.gaps.Inc()
		return st.event("gap", st.lastID(), gapEvent{Reason: "unknown_id", LastEventID: clip(from.eventID), Next: st.next})
	}
	return nil
}

func clip(id string) string { return oneLine(id[:min(len(id), 100)]) }

// lastID is the id of the message before the next one.
func (st *stream) lastID() string {
	m := hub.Message{Topic: st.topic.id, Offset: st.next - 1}
	return m.ID()
}

// run sends until the stream ends, and says why it did.
func (st *stream) run(ctx context.Context, name string, topic hub.TopicID, from streamFrom) (reason string) {
	if err := st.begin(ctx, topic, from); err != nil {
		return st.why(err)
	}
	beat := time.NewTimer(st.s.StreamHeartbeat)
	defer beat.Stop()
	for {
		if time.Since(st.allowed) >= st.s.StreamHeartbeat {
			// Keys are revoked and rules change while streams go on.
			if err := st.s.Service.AuthorizeRead(ctx, name); err != nil {
				return endDenied
			}
			st.allowed = time.Now()
		}
		head, gone, changed := st.s.Feed.at(st.topic)
		sent := st.next <= head
		for n := 1; st.next <= head && !gone; n++ {
			if err := st.message(ctx); err != nil {
				return st.why(err)
			}
			if n%streamTurn == 0 {
				if err := st.flush(); err != nil {
					return st.why(err)
				}
			}
		}
		if gone {
			return endRemoved
		}
		if err := st.flush(); err != nil {
			return st.why(err)
		}
		if sent {
			beat.Reset(st.s.StreamHeartbeat)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return endClient
		case <-beat.C:
			if st.outOfTouch() {
				return endBehind
			}
			if err := st.write([]byte(":\n\n")); err != nil {
				return st.why(err)
			}
			beat.Reset(st.s.StreamHeartbeat)
		}
	}
}

// outOfTouch tells that this node has not followed the log for two heartbeats: the reader had better look elsewhere.
func (st *stream) outOfTouch() bool {
	now := st.s.Clock.Now()
	if st.s.Node.InTouch() {
		st.touch = now
	}
	return now.Sub(st.touch) >= 2*st.s.StreamHeartbeat
}

// message sends the next message, or what is known of a gap in its place.
func (st *stream) message(ctx context.Context) error {
	fr, err := st.s.streams.frames.take(ctx, frameKey{st.topic.id, st.next})
	if err == nil {
		defer st.s.streams.frames.give(fr)
		if err = st.write(fr.bytes); err != nil {
			return err
		}
		st.s.streams.sent.Inc()
		st.next++
		return nil
	}
	if !lost(err) {
		return err
	}
	var t hub.Topic
	var ok bool
	st.s.State.View(func(s *hub.State) { t, ok = s.TopicByID(st.topic.id) })
	if !ok || t.First <= st.next {
		return err
	}
	gap := gapEvent{Reason: "retention", FirstMissing: st.next, LastMissing: t.First - 1, Next: t.First}
	st.next = t.First
	st.s.streams.gaps.Inc()
	return st.event("gap", st.lastID(), gap)
}

func (st *stream) event(kind, id string, data any) error {
	b, err := encodeEvent(kind, id, data)
	if err != nil {
		return err
	}
	if err := st.write(b); err != nil {
		return err
	}
	return st.flush()
}

// write gives the reader StreamWriteTimeout for each piece, so that a slow line gets a large event in the end.
func (st *stream) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), streamWriteBytes)
		_ = st.control.SetWriteDeadline(time.Now().Add(st.s.StreamWriteTimeout))
		if _, err := st.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (st *stream) flush() error {
	_ = st.control.SetWriteDeadline(time.Now().Add(st.s.StreamWriteTimeout))
	err := st.control.Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// why is the reason for which a stream ends with err.
func (st *stream) why(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endSlow
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return endClient
	case errors.Is(err, hub.ErrUnknownTopic):
		return endRemoved
	}
	var broken *net.OpError
	if errors.As(err, &broken) {
		return endClient
	}
	st.s.Log.Error("a stream cannot go on", "topic", uint64(st.topic.id), "offset", st.next, "error", err)
	return endFailed
}

// connKey is where a request's context has its connection.
type connKey struct{}
