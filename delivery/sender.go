package delivery

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"quorumhub/delivery/retry"
	"quorumhub/hub"
)

const (
	// maxSending bounds the requests in flight that a Sender makes.
	maxSending = 8
	// maxSent bounds the results that a Sender keeps; beyond it the oldest are forgotten.
	maxSent = 256
	// testHeader marks test messages.
	testHeader = "X-Hub-Test"
)

// Kind says why an attempt was made.
type Kind uint8

// Kinds of attempts.
const (
	KindDelivery Kind = iota // the subscription's own deliveries
	KindReplay               // of a dead letter, or of one message, on request
	KindTest                 // of a test message
)

// String returns the kind as a word.
func (k Kind) String() string {
	return [...]string{"delivery", "replay", "test"}[k]
}

// Sending is one request to be made to a subscription's callback on request: a message of its topic, or a test message.
type Sending struct {
	Subscription hub.SubscriptionID
	Offset       uint64 // of the message to send once more; 0: a test message
	ContentType  string // of the test message
	Body         []byte // of the test message
}

// Phases are how long the parts of a request took. They are known only of requests that got a response: of others they would
// tell more about a network than the class of the failure may.
type Phases struct {
	Lookup, Connect, TLS, Wait time.Duration // Wait: from the end of the request to the first byte of the response
}

// SentField is a header field of a request that was made. Of what is secret, or proves who sent it, the value is masked.
type SentField struct{ Name, Value string }

// Sent is what became of a Sending.
type Sent struct {
	Done      bool // otherwise it is under way
	Kind      Kind
	At        time.Time
	MessageID string
	Result    PushResult
	Phases    Phases
	Header    []SentField
	Size      int64 // bytes of the message; what was sent in its place may be longer or shorter
}

// Sender makes single requests to the callbacks of the subscriptions that its node delivers, because somebody asks for it and
// waits for the outcome. They bypass the subscription's lane as replays do, one attempt each: order, cursor, failures in a
// row and retries are unaffected. Nothing is sent to a paused or ended subscription (invariant I5), nor by a node out of touch
// (invariant I4). What is under way when the node stops is cut off, and forgotten with it.
//
// The Sender is a hub.Observer. All methods are safe for concurrent use.
type Sender struct {
	d *Dispatcher

	mu      sync.Mutex
	last    uint64
	sent    map[uint64]*sending
	running int
	started bool

	loop *retry.Loop
}

type sending struct {
	Sent
	subscription hub.SubscriptionID
	cut          context.CancelCauseFunc
}

// NewSender returns a sender that sends with the dispatcher's options.
func NewSender(d *Dispatcher) *Sender {
	return &Sender{d: d, sent: map[uint64]*sending{}, loop: retry.NewLoop()}
}

// Start makes the sender ready.
func (s *Sender) Start(ctx context.Context) {
	s.loop.Begin(ctx, s.watch)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
}

// Close cuts off what is under way and waits for it.
func (s *Sender) Close() { s.loop.Close() }

// Applied implements hub.Observer.
func (s *Sender) Applied(fx *hub.Effects) {
	if len(fx.Ended)+len(fx.Subscriptions) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == 0 {
		return
	}
	for _, q := range s.sent {
		if q.Done {
			continue
		}
		if slices.ContainsFunc(fx.Ended, func(e hub.Ended) bool { return e.ID == q.subscription }) ||
			slices.ContainsFunc(fx.Subscriptions, func(sub hub.Subscription) bool { return sub.ID == q.subscription && sub.Paused }) {
			q.cut(errEnded)
		}
	}
}

// Reload cuts off what is under way: its subscriptions may have ended in the state that a snapshot has replaced.
func (s *Sender) Reload() { s.cutAll(errOutOfTouch) }

func (s *Sender) cutAll(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.sent {
		if !q.Done {
			q.cut(cause)
		}
	}
}

// watch cuts off what is under way once the node is out of touch.
func (s *Sender) watch() {
	tick := time.NewTicker(replayTick)
	defer tick.Stop()
	for {
		select {
		case <-s.loop.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		busy := s.running > 0
		s.mu.Unlock()
		if !busy || s.d.InTouch() {
			continue
		}
		s.cutAll(errOutOfTouch)
	}
}

// Send begins to make a request, and returns the number by which Sent knows it. Errors are *hub.Error: the subscription cannot be
// sent to now, the message is not there, or too many requests are under way (CodeLimited).
func (s *Sender) Send(o Sending) (uint64, error) {
	sub, m, err := s.prepare(&o)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.started, s.loop.Closing():
		return 0, hub.Errorf(hub.CodeUnavailable, "the node is stopping; try again shortly")
	case s.running >= maxSending:
		return 0, &hub.Error{Code: hub.CodeLimited, Message: fmt.Sprintf("%d messages are being sent on request already; try again shortly", maxSending), RetryAfter: time.Second}
	}
	s.last++
	ticket := s.last
	delete(s.sent, ticket-min(ticket, maxSent))
	ctx, cut := context.WithCancelCause(s.loop.Context())
	q := &sending{subscription: sub.ID, cut: cut}
	q.Sent = Sent{Kind: KindReplay, At: s.d.o.Clock.Now(), MessageID: m.ID(), Size: m.Size()}
	if o.Offset == 0 {
		q.Kind, q.MessageID = KindTest, testID()
	}
	s.sent[ticket] = q
	s.running++
	s.loop.Go(func() {
		defer cut(nil)
		s.make(ctx, q, sub, m)
	})
	return ticket, nil
}

func testID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return "test-" + hex.EncodeToString(b[:])
}

// Sent returns what became of a request; ok is false if it is not known any more.
func (s *Sender) Sent(ticket uint64) (Sent, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.sent[ticket]
	if q == nil {
		return Sent{}, false
	}
	return q.Sent, true
}

// prepare finds what is to be sent.
func (s *Sender) prepare(o *Sending) (sub hub.Subscription, m hub.Message, err error) {
	known := false
	var first, head uint64
	s.d.o.State.View(func(st *hub.State) {
		if sub, known = st.Subscription(o.Subscription); known {
			t, _ := st.TopicByID(sub.Topic)
			first, head = t.First, t.Head
		}
	})
	switch id := o.Subscription; {
	case !known:
		return sub, m, hub.Errorf(hub.CodeNotFound, "%s has ended", id)
	case sub.Paused:
		return sub, m, hub.Errorf(hub.CodeConflict, "%s is paused, and nothing is sent to it; resume it first", id)
	case sub.Expired(s.d.o.Clock.Now()):
		return sub, m, hub.Errorf(hub.CodeConflict, "the lease of %s has ended, and nothing is sent to it; it must be renewed first", id)
	case sub.Assignment.Node != s.d.o.Node || sub.Assignment.Next != "":
		return sub, m, hub.Errorf(hub.CodeUnavailable, "%s is changing its owner; try again shortly", id)
	case !s.d.InTouch():
		return sub, m, hub.Errorf(hub.CodeUnavailable, "the node that delivers %s is out of touch with the cluster; try again shortly", id)
	}
	if o.Offset == 0 {
		m = hub.Message{Topic: sub.Topic, Time: s.d.o.Clock.Now().UnixNano(), ContentType: o.ContentType, Body: o.Body,
			Headers: []hub.Header{{Name: testHeader, Value: "true", Carried: true}}}
		return sub, m, nil
	}
	if o.Offset > head {
		return sub, m, hub.ParamErrorf("message_id", "names message %d, which does not exist yet; the newest is %d", o.Offset, head)
	}
	found, err := s.d.o.Messages.Read(sub.Topic, o.Offset, 1, 1)
	switch {
	case errors.Is(err, hub.ErrTrimmed), errors.Is(err, hub.ErrUnknownTopic), err == nil && (len(found) == 0 || found[0].Offset != o.Offset):
		return sub, m, &hub.Error{Code: hub.CodeConflict, Param: "message_id",
			Message: fmt.Sprintf("names message %d, which retention has dropped; the oldest that is kept is %d, and dead letters are replayed by their own IDs", o.Offset, first)}
	case err != nil:
		return sub, m, fmt.Errorf("read message %d of %s: %w", o.Offset, sub.TopicName, err)
	}
	return sub, found[0], nil
}

// make makes the request and keeps what came of it.
func (s *Sender) make(ctx context.Context, q *sending, sub hub.Subscription, m hub.Message) {
	t := &tracer{}
	ctx = httptrace.WithClientTrace(ctx, t.trace())
	test := ""
	if q.Kind == KindTest {
		test = q.MessageID
	}
	res := s.d.sendAside(ctx, &sub, &m, test, true)
	phases, header := t.result(res.Status != 0)
	if q.Kind == KindReplay && res.Outcome == PushGone {
		_, _ = retry.Recorder{Proposer: s.d.o.Proposer, Log: s.d.o.Log}.Record(s.loop.Context(), "end of a subscription whose callback is gone",
			goneEvent(sub.ID, sub.RenewedAt.UnixNano(), sub.Assignment.Epoch)) // fails only if the context ends
	}
	s.d.remember(sub.ID, m.Offset, res, q.Kind)
	s.d.o.Log.Info("message sent on request", "kind", q.Kind.String(), "subscription", sub.ID.String(), "message", q.MessageID, "outcome", res.Outcome.String(),
		"status", res.Status, "reason", string(res.Reason))
	s.mu.Lock()
	defer s.mu.Unlock()
	q.Done, q.Result, q.Phases, q.Header = true, res, phases, header
	s.running--
}

// sendAside makes one request beside the subscription's lane, with its current secret and callback. A test message has an ID of its
// own. A traced request goes through net/http, which tells how long each phase takes.
func (d *Dispatcher) sendAside(ctx context.Context, sub *hub.Subscription, m *hub.Message, test string, traced bool) PushResult {
	o := &d.o
	e, res, err := d.newEndpoint(sub.Callback, credentials{sub.SealedSecret, sub.SignatureMethod(), hub.SecretBinding(sub.TopicName, sub.CallbackKey), webhooksOf(sub),
		sub.SealedHeaders, hub.HeadersBinding(sub.TopicName, sub.CallbackKey), sub.EncryptionKey})
	if err != nil {
		o.Log.Error("cannot prepare a message that is sent on request", "subscription", sub.ID.String(), "error", err)
		return res
	}
	e.subscription, e.reference, e.test = sub.ID, test == "" && sub.Options != nil && sub.Options.Reference, test
	if traced {
		e.http2.Store(true)
	}
	self := cmp.Or(m.LinkSelf, selfOf(o.Namer, sub))
	ctx, cancel := context.WithTimeout(ctx, o.Timeout+blobTime(m))
	defer cancel()
	res = o.push(ctx, e, m, sub.TopicName, LinkHeader(o.HubURL, self))
	if o.Attempted != nil {
		o.Attempted(sub.Topic, res)
	}
	return res
}

// tracer observes one request.
type tracer struct {
	mu     sync.Mutex
	begun  [3]time.Time // of lookup, connect, TLS
	sent   time.Time
	phases Phases
	header []SentField
}

func (t *tracer) trace() *httptrace.ClientTrace {
	at := func(f func(now time.Time)) {
		t.mu.Lock()
		defer t.mu.Unlock()
		f(time.Now())
	}
	begin := func(i int) { at(func(now time.Time) { t.begun[i] = now }) }
	end := func(i int, d *time.Duration) {
		at(func(now time.Time) {
			if !t.begun[i].IsZero() {
				*d = now.Sub(t.begun[i])
			}
		})
	}
	return &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { begin(0) },
		DNSDone:              func(httptrace.DNSDoneInfo) { end(0, &t.phases.Lookup) },
		ConnectStart:         func(string, string) { begin(1) },
		ConnectDone:          func(string, string, error) { end(1, &t.phases.Connect) },
		TLSHandshakeStart:    func() { begin(2) },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { end(2, &t.phases.TLS) },
		WroteHeaderField:     func(name string, values []string) { at(func(time.Time) { t.field(name, values) }) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { at(func(now time.Time) { t.sent = now }) },
		GotFirstResponseByte: func() { at(func(now time.Time) { t.firstByte(now) }) },
	}
}

func (t *tracer) firstByte(now time.Time) {
	if !t.sent.IsZero() {
		t.phases.Wait = now.Sub(t.sent)
	}
}

func (t *tracer) field(name string, values []string) {
	for _, v := range values {
		t.header = append(t.header, SentField{name, masked(name, v)})
	}
}

// masked returns a header's value as it may be shown: those that carry no secret whole, of signatures the method, and nothing of others,
// which callbacks demand or policies add.
func masked(name, value string) string {
	switch strings.ToLower(name) {
	case "host", ":authority", ":method", ":path", ":scheme", "user-agent", "content-type", "content-length", "link", "deprecation", "sunset", "accept-encoding",
		"x-hub-message-id", "x-hub-test", "webhook-id", "webhook-timestamp":
		return value
	case "x-hub-signature":
		method, _, _ := strings.Cut(value, "=")
		return method + "=••••"
	case "webhook-signature":
		return "v1,••••"
	}
	return "•••• (" + strconv.Itoa(len(value)) + " bytes)"
}

// result returns what was observed. Phases count only if there was a response.
func (t *tracer) result(answered bool) (Phases, []SentField) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !answered {
		return Phases{}, t.header
	}
	return t.phases, t.header
}
