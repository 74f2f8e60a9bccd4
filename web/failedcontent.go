package web

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// Number of messages in a pull of failed content: by default, and at most.
const (
	defaultPull = 10
	maxPull     = 1000
)

const subscriberSignature = "X-Subscriber-Signature"

// failedContentRequest asks for a page of what a subscriber has not received since a time.
type failedContentRequest struct {
	topic, callbackKey string
	since              time.Time
	page, count        uint64
	signed             []byte // the parameters as received, concatenated
	mac                []byte // nil: missing or malformed
}

// getFailedContent serves the pull of failed content of MOSIP's first hub. The subscriber authenticates with its own secret and
// gets what it has not acknowledged, from the dead letters and the log. A pull acknowledges nothing, so replaying a request only
// repeats the response.
func (s *Server) getFailedContent(w http.ResponseWriter, r *http.Request) {
	q, err := s.readFailedContent(r)
	var sub hub.Subscription
	if err == nil {
		sub, err = s.signedBySubscriber(w, q)
	}
	var offsets []pulled
	if err == nil {
		offsets, err = s.failedContent(&sub, q)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeFailedContent(w, r, &sub, offsets)
}

// signedBySubscriber returns the subscription whose secret signed a request. A wrong signature takes from the client's budget for
// refused requests, before anything is computed.
func (s *Server) signedBySubscriber(w http.ResponseWriter, q failedContentRequest) (hub.Subscription, error) {
	x, _ := w.(*exchange)
	if err := s.reserveRefusal(x); err != nil {
		return hub.Subscription{}, err
	}
	sub, ok, err := s.Service.SignedBySubscriber(q.topic, q.callbackKey, q.signed, q.mac)
	switch {
	case err != nil:
		s.returnRefusal(x)
	case !ok:
		err = hub.ParamErrorf(subscriberSignature, "does not hold for this topic and callback")
	default:
		s.returnRefusal(x)
	}
	return sub, err
}

func (s *Server) readFailedContent(r *http.Request) (q failedContentRequest, err error) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err != nil {
		return q, err
	}
	get := func(name string) string {
		if v := values[name]; len(v) > 1 && err == nil {
			err = hub.ParamErrorf(name, "is given %d times; expected once", len(v))
		}
		return values.Get(name)
	}
	topic, encoded, timestamp, page, count := get("topic"), get("callback"), get("timestamp"), get("pageindex"), get("messageCount")
	if err != nil {
		return q, err
	}
	if q.topic, err = s.Service.Namer().Name("topic", topic); err != nil {
		return q, err
	}
	callback, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(encoded), "="))
	if err != nil || len(callback) == 0 || !utf8.Valid(callback) {
		return q, hub.ParamErrorf("callback", "is %s; expected the callback's URL in base64url", problem.Quote(encoded))
	}
	q.callbackKey = hub.NormalizeURL(string(callback))
	if q.since, err = time.Parse(time.RFC3339Nano, timestamp); err != nil {
		if q.since, err = time.Parse("2006-01-02T15:04:05", timestamp); err != nil { // UTC, with an optional fraction
			return q, hub.ParamErrorf("timestamp", "is %s; expected a time such as 2026-01-31T12:00:00.000Z", problem.Quote(timestamp))
		}
	}
	if page != "" {
		if q.page, err = strconv.ParseUint(page, 10, 32); err != nil {
			return q, hub.ParamErrorf("pageindex", "is %s; expected a number from 0", problem.Quote(page))
		}
	}
	q.count = defaultPull
	if count != "" {
		if q.count, err = strconv.ParseUint(count, 10, 32); err != nil || q.count == 0 || q.count > maxPull {
			return q, hub.ParamErrorf("messageCount", "is %s; expected 1 to %d", problem.Quote(count), maxPull)
		}
	}
	q.signed = []byte(topic + string(callback) + timestamp + page + count)
	if given := r.Header[subscriberSignature]; len(given) == 1 {
		q.mac, _ = base64.StdEncoding.DecodeString(given[0]) // a malformed one matches nothing
	}
	return q, nil
}

// pulled is one message of a pull. letter is nil if the message is in the log.
type pulled struct {
	offset uint64
	letter *hub.DeadLetter
}

// failedContent returns a page of messages in log order: first those that became dead letters since the given time, then those
// published since then and not acknowledged yet.
func (s *Server) failedContent(sub *hub.Subscription, q failedContentRequest) ([]pulled, error) {
	from, err := s.Times.OffsetAt(sub.Topic, q.since)
	if err != nil && !errors.Is(err, hub.ErrUnknownTopic) {
		return nil, fmt.Errorf("find the offset at %s: %w", q.since, err)
	}
	var letters []hub.DeadLetter
	var owed []uint64
	skip := q.page * q.count
	s.State.View(func(st *hub.State) {
		now, ok := st.Subscription(sub.ID)
		if !ok {
			return
		}
		letters = st.DeadLetters(0, st.Counts().DeadLetters, func(d *hub.DeadLetter) bool { return d.Subscription == sub.ID && !d.At.Before(q.since) })
		past := uint64(0)
		if n := uint64(len(letters)); skip > n {
			past = skip - n
		}
		if t, ok := st.TopicByID(now.Topic); ok {
			owed = now.Cursor.RemainingOffsets(max(from, t.First), t.Head, past, int(q.count))
		}
	})
	slices.SortFunc(letters, func(a, b hub.DeadLetter) int { return cmp.Compare(a.Offset, b.Offset) })
	out := make([]pulled, 0, q.count)
	for i := range letters {
		if uint64(i) >= skip && uint64(len(out)) < q.count {
			out = append(out, pulled{letters[i].Offset, &letters[i]})
		}
	}
	for _, o := range owed {
		if uint64(len(out)) < q.count {
			out = append(out, pulled{offset: o})
		}
	}
	return out, nil
}

// writeFailedContent writes {"failedcontents":[{"message":"..","timestamp":".."}]}, with one message in memory at a time. Content
// that is not text is in base64. It skips what was dropped meanwhile, and aborts the response if it cannot complete it.
func (s *Server) writeFailedContent(w http.ResponseWriter, r *http.Request, sub *hub.Subscription, list []pulled) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(w, 64<<10)
	control := http.NewResponseController(w)
	_, _ = out.WriteString(`{"failedcontents":[`)
	first := true
	for i := range list {
		_ = control.SetWriteDeadline(time.Now().Add(exportStep)) // fails without a connection, as in tests
		text, err := s.pulledItem(r, sub, &list[i])
		switch {
		case errors.Is(err, hub.ErrTrimmed):
			continue
		case err != nil:
			s.Log.Error("pull of failed content aborted", "error", err, "correlation_id", idOf(w))
			panic(http.ErrAbortHandler)
		}
		if !first {
			text = append([]byte{','}, text...)
		}
		first = false
		if _, err := out.Write(text); err != nil {
			panic(http.ErrAbortHandler) // the client is gone
		}
	}
	_, _ = out.WriteString("]}")
	_ = out.Flush() // fails only if the client is gone
}

func (s *Server) pulledItem(r *http.Request, sub *hub.Subscription, p *pulled) ([]byte, error) {
	m, err := s.pulledMessage(r, sub, p)
	if err != nil {
		return nil, err
	}
	size, caller := 4*m.Size(), callerID{client: s.clientOf(r)}
	if err := s.budget.take(caller, size); err != nil {
		return nil, err
	}
	defer s.budget.give(caller, size)
	body, err := hub.ReadBody(s.Parts, &m)
	if err != nil {
		return nil, err
	}
	text := string(body)
	if !utf8.Valid(body) {
		text = base64.StdEncoding.EncodeToString(body)
	}
	return json.Marshal(struct {
		Message   string `json:"message"`
		Timestamp string `json:"timestamp"`
	}{text, time.Unix(0, m.Time).UTC().Format("2006-01-02T15:04:05.000000000Z")})
}

func (s *Server) pulledMessage(r *http.Request, sub *hub.Subscription, p *pulled) (hub.Message, error) {
	if p.letter != nil {
		return s.Letters.ReadLetter(r.Context(), p.letter)
	}
	found, err := s.Messages.Read(sub.Topic, p.offset, 1, 1)
	switch {
	case err != nil:
		return hub.Message{}, err
	case len(found) == 0 || found[0].Offset != p.offset:
		return hub.Message{}, hub.ErrTrimmed
	}
	return found[0], nil
}
