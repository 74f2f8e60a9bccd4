package web

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/sse"
)

const (
	// inlineBytes is the largest body in an event; for a larger one the event contains a URL.
	inlineBytes = hub.MaxInlineBytes
	// largestEvent bounds an encoded message: each byte may be escaped as \u0000, and so may those of the content type.
	largestEvent = 6*(inlineBytes+255) + 1<<10
	// streamTurn is how many events are written between flushes.
	streamTurn = 64
	// streamSendBuffer bounds what the kernel buffers for a reader that does not read.
	streamSendBuffer = 64 << 10
	// endGrace is how long a reader may take for the rest of a stream that must end.
	endGrace = time.Second
	// reconnectMin and reconnectSpread set the delay before readers reconnect, so that those of a stopping node do not all
	// reconnect at once.
	reconnectMin    = 500 * time.Millisecond
	reconnectSpread = time.Second
)

// Reasons for the end of a stream, in its end event and the metrics.
const (
	endStopping = "stopping"      // the node is stopping; another one can continue
	endBehind   = "out_of_touch"  // the node lost touch with its cluster; another one may not have
	endRemoved  = "topic_removed" // the topic was deregistered
	endSlow     = "slow"          // the reader did not take what was sent in time; it gets no end event
	endClient   = "client"        // the reader disconnected
	endFailed   = "failed"        // the log could not be read
	endDenied   = "forbidden"     // the reader lost the right to read the topic
	endAsked    = "ended"         // its owner, or an operator, ended it
)

type gapEvent struct {
	Reason string `json:"reason"`
	// FirstMissing to LastMissing were dropped, with reason retention.
	FirstMissing uint64 `json:"first_missing,omitempty"`
	LastMissing  uint64 `json:"last_missing,omitempty"`
	LastEventID  string `json:"last_event_id,omitempty"` // with reason unknown_id
	Next         uint64 `json:"next"`
}

type endEvent struct {
	Reason string `json:"reason"`
}

// wantsStream reports whether the client asks for an event stream by name.
func wantsStream(accept []string) bool {
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			kind, params, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(kind), sse.ContentType) && problem.Quality(params) > 0 {
				return true
			}
		}
	}
	return false
}

// stream is one reader of one topic. Its fields belong to the handler's goroutine.
type stream struct {
	*sse.Writer
	s     *Server
	owner any // whose share of the frames it uses
	topic *sse.Watch
	next  uint64    // offset of the next message
	touch time.Time // when the node was last in touch with the cluster
}

// getStream streams a topic: first the messages from the start position on, then every new one. Each event has its message ID, from
// which the reader can resume on any node.
func (s *Server) getStream(w http.ResponseWriter, r *http.Request, name string) {
	t, start, err := s.streamStart(r, name)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	leave, err := s.enterStream(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer leave()
	client := clientAt(w)

	w.Header().Set("Vary", "Accept")
	w.Header().Set("Link", s.links(name, nil))
	s.noticeOfNamed(w.Header(), name)
	out := sse.NewWriter(w, s.StreamWriteTimeout)
	if r.Method == http.MethodHead {
		return
	}
	if c := connOfRequest(r); c != nil {
		_ = c.SetWriteBuffer(streamSendBuffer) // failing costs only kernel memory
	}
	defer out.Close()
	st := &stream{Writer: out, s: s, owner: callerAt(w), touch: s.Clock.Now()}
	st.topic = s.Feed.Watch(t.ID, s.State)
	defer st.topic.Close()
	open := &openStream{Topic: name, Node: s.Node.ID(), Owner: auth.CallerOf(r.Context()).Principal.ID, Since: s.Clock.Now().UTC()}
	if client.IsValid() {
		open.Address = client.String()
	}
	s.streams.ended(st.serve(r.Context(), open, t.ID, start))
}

// enterStream counts one more stream of this node, its client and its principal, or says which of them has too many. Call leave when it
// has ended.
func (s *Server) enterStream(w http.ResponseWriter, r *http.Request) (leave func(), err error) {
	if s.streams.open.Add(1) > int64(s.StreamMax) {
		s.streams.open.Add(-1)
		s.streams.refused.Inc()
		return nil, &problem.Details{Status: http.StatusServiceUnavailable, Code: "too_many_streams", RetryAfter: 5 * time.Second,
			Detail: fmt.Sprintf("this node already serves %d streams (streams.max); try another node or later", s.StreamMax)}
	}
	client, principal := clientAt(w), ""
	if !s.streams.readers.enter(client, s.ClientStreams) {
		s.streams.open.Add(-1)
		return nil, &problem.Details{Status: http.StatusTooManyRequests, Code: "too_many_streams", Limit: "streams", RetryAfter: 5 * time.Second,
			Detail: fmt.Sprintf("this node already serves %d streams to this client (limits.streams)", s.ClientStreams)}
	}
	if s.Guard != nil {
		principal = auth.CallerOf(r.Context()).Principal.ID
		most := s.Guard.Quotas(r.Context(), principal).Streams
		if principal != "" && !s.streams.principals.enter(principal, most) {
			s.streams.open.Add(-1)
			s.streams.readers.leave(client)
			return nil, &problem.Details{Status: http.StatusForbidden, Code: "quota_reached", Quota: &hub.QuotaUse{Quota: "streams", Limit: int64(most), Used: int64(most)},
				Detail: fmt.Sprintf("the quota streams is reached: this node already serves %d streams to you (quorumhub auth quotas)", most)}
		}
	}
	return func() {
		s.streams.open.Add(-1)
		s.streams.readers.leave(client)
		if principal != "" {
			s.streams.principals.leave(principal)
		}
	}, nil
}

// serve sends until the stream ends, and returns the reason. Whatever the stream is doing, it ends when the node stops, for which
// net/http waits, when the reader may no longer read the topic, and when its owner wants it.
func (st *stream) serve(ctx context.Context, open *openStream, topic hub.TopicID, from streamFrom) string {
	ctx, end := context.WithCancelCause(ctx)
	watched := st.s.watchRights(ctx, func(ctx context.Context) (time.Time, error) { return st.s.stillAllowed(ctx, open.Topic) }, end)
	defer func() { end(nil); <-watched }()
	open.end = func() { end(errEnded) }
	defer st.s.streams.list.add(open)()
	defer context.AfterFunc(st.s.streams.stopping, func() { end(errStopping) })()
	defer context.AfterFunc(ctx, func() { st.Finish(endGrace) })()

	reason := st.run(ctx, topic, from)
	if reason == endClient || reason == endSlow {
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, errStopping):
			reason = endStopping
		case errors.Is(cause, errForbidden):
			reason = endDenied
		case errors.Is(cause, errEnded):
			reason = endAsked
		}
	}
	if reason != endClient && reason != endSlow {
		_ = st.Event("end", "", endEvent{reason}) // the connection closes in any case
	}
	return reason
}

// streamFrom is the position a stream begins at.
type streamFrom struct {
	start   hub.Position
	resume  bool   // after Last-Event-ID
	eventID string // as given
	offset  uint64 // of the last message the reader has
	known   bool   // the ID belongs to this topic
}

// lastEventParam is Last-Event-ID for readers that cannot set headers.
const lastEventParam = "last_event_id"

// streamStart reads the start position from the request. Last-Event-ID takes precedence over the query, as a reconnecting browser
// sends both, and last_event_id over start.
func (s *Server) streamStart(r *http.Request, name string) (t hub.Topic, from streamFrom, err error) {
	query, err := parseURLQuery(r.URL.RawQuery)
	if err != nil {
		return t, from, err
	}
	for key, v := range query {
		if len(v) > 1 {
			return t, from, hub.ParamErrorf(printable(key), "is given %d times; expected once", len(v))
		}
		switch key {
		case "start":
			if from.start, err = hub.ParsePosition("start", v[0]); err != nil {
				return t, from, err
			}
		case lastEventParam:
			from.eventID = v[0]
		case ticketParam: // redeem has looked at it
		default:
			return t, from, hub.ParamErrorf(problem.Quote(key), "is not a parameter of a stream; expected start, last_event_id or ticket")
		}
	}
	var ok bool
	s.State.View(func(st *hub.State) { t, ok = st.TopicByName(name) })
	if !ok {
		return t, from, noTopic(name)
	}
	from.eventID = cmp.Or(r.Header.Get("Last-Event-ID"), from.eventID)
	if from.eventID != "" {
		from.resume = true
		from.offset, from.known = offsetOfEvent(t.ID, from.eventID)
	} else if offset, ok := from.start.Offset(); ok && offset > t.Head+1 && !s.catchUp(r.Context(), t.ID, offset-1) {
		err = from.start.Check(t, s.Clock.Now())
	}
	return t, from, err
}

// offsetOfEvent parses the ID of an event, a message ID or a bare offset. It reports whether the ID belongs to this topic.
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

// catchUp waits up to StreamCatchUp for this node to have a message, and reports whether it has.
func (s *Server) catchUp(ctx context.Context, topic hub.TopicID, offset uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, s.StreamCatchUp)
	defer cancel()
	w := s.Feed.Watch(topic, s.State)
	defer w.Close()
	for {
		head, gone, changed := w.Progress()
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

// begin finds the first message, and sends a gap event if it is not the one the reader expects.
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
			break // if it was dropped, a gap event comes first
		}
		cursor, err := from.start.Resolve(t, st.s.Times)
		if err != nil {
			return err
		}
		st.next = cursor + 1
	}
	// The ID lets a reader that loses the connection before its first event resume here.
	hello := fmt.Sprintf(": heartbeat %s\nretry: %d\nid: %s\n\n", st.s.StreamHeartbeat, (reconnectMin + rand.N(reconnectSpread)).Milliseconds(), st.lastID())
	if _, err := st.Write([]byte(hello)); err != nil {
		return err
	}
	if from.resume && !from.known {
		st.s.streams.gaps.Inc()
		return st.Event("gap", st.lastID(), gapEvent{Reason: "unknown_id", LastEventID: clip(from.eventID), Next: st.next})
	}
	return nil
}

// clip shortens an ID from a client for an event.
func clip(id string) string { return problem.OneLine(id[:min(len(id), 100)]) }

// lastID returns the ID of the message before the next one.
func (st *stream) lastID() string {
	m := hub.Message{Topic: st.topic.Topic(), Offset: st.next - 1}
	return m.ID()
}

// run sends until the stream ends, and returns the reason.
func (st *stream) run(ctx context.Context, topic hub.TopicID, from streamFrom) (reason string) {
	if err := st.begin(ctx, topic, from); err != nil {
		return st.why(err)
	}
	beat := time.NewTimer(st.s.StreamHeartbeat)
	defer beat.Stop()
	for {
		head, gone, changed := st.topic.Progress()
		sent := st.next <= head
		for n := 1; st.next <= head && !gone; n++ {
			if ctx.Err() != nil {
				return endClient
			}
			if err := st.message(ctx); err != nil {
				return st.why(err)
			}
			if n%streamTurn == 0 {
				if err := st.Flush(); err != nil {
					return st.why(err)
				}
			}
		}
		if gone {
			return endRemoved
		}
		if err := st.Flush(); err != nil {
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
			if err := st.Heartbeat(); err != nil {
				return st.why(err)
			}
			beat.Reset(st.s.StreamHeartbeat)
		}
	}
}

// outOfTouch reports whether the node has been out of touch for two heartbeats, so that the reader should try another one.
func (st *stream) outOfTouch() bool {
	now := st.s.Clock.Now()
	if st.s.Node.InTouch() {
		st.touch = now
	}
	return now.Sub(st.touch) >= 2*st.s.StreamHeartbeat
}

// message sends the next message, or a gap event if it was dropped.
func (st *stream) message(ctx context.Context) error {
	fr, err := st.s.streams.frames.Take(ctx, st.owner, st.topic.Topic(), st.next)
	if err == nil {
		defer st.s.streams.frames.Release(fr)
		if _, err = st.Write(fr.Bytes()); err != nil {
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
	st.s.State.View(func(s *hub.State) { t, ok = s.TopicByID(st.topic.Topic()) })
	if !ok || t.First <= st.next {
		return err
	}
	gap := gapEvent{Reason: "retention", FirstMissing: st.next, LastMissing: t.First - 1, Next: t.First}
	st.next = t.First
	st.s.streams.gaps.Inc()
	return st.Event("gap", st.lastID(), gap)
}

// why returns the reason of a stream that ends with err.
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
	st.s.Log.Error("stream aborted", "topic", uint64(st.topic.Topic()), "offset", st.next, "error", err)
	return endFailed
}

// messageEvent is the data of a message event. Exactly one of body, body_base64 and body_url is set; body_url is relative to the
// stream's URL.
type messageEvent struct {
	ID          string    `json:"id"`
	Offset      uint64    `json:"offset"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"content_type"`
	Size        int64     `json:"size"`
	Body        *string   `json:"body,omitempty"`
	BodyBase64  *string   `json:"body_base64,omitempty"`
	BodyURL     string    `json:"body_url,omitempty"`
}

// encodeMessage reads a message and encodes it as an event.
func (s *Server) encodeMessage(topic hub.TopicID, offset uint64) ([]byte, error) {
	msgs, err := s.Messages.Read(topic, offset, 1, 1)
	switch {
	case err != nil:
		return nil, err
	case len(msgs) == 0 || msgs[0].Offset != offset:
		return nil, hub.ErrTrimmed // a snapshot of a later state has replaced it
	}
	m := &msgs[0]
	e := messageEvent{ID: m.ID(), Offset: m.Offset, Time: time.Unix(0, m.Time).UTC(), ContentType: m.ContentType, Size: m.Size()}
	switch {
	case m.Size() > inlineBytes:
		e.BodyURL = "?offset=" + strconv.FormatUint(offset, 10)
	case utf8.Valid(m.Body):
		text := string(m.Body)
		e.Body = &text
	default:
		text := base64.StdEncoding.EncodeToString(m.Body)
		e.BodyBase64 = &text
	}
	return sse.Encode("", e.ID, e)
}

// lost reports whether an error means that the message is gone for good.
func lost(err error) bool {
	return errors.Is(err, hub.ErrTrimmed) || errors.Is(err, hub.ErrUnknownTopic)
}
