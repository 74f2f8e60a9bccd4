package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// engine is the rest of a hub with one node: the real State fed by proposals, and a message log in memory.
type engine struct {
	t testing.TB

	applyMu   sync.Mutex // one entry at a time, observers included
	observers []hub.Observer
	seq       uint64

	mu     sync.RWMutex
	state  *hub.State
	log    map[hub.TopicID][]hub.Message
	events []*hubpb.Event // all that were applied
	broken error          // what Propose answers instead
	reads  atomic.Int64

	leader atomic.Bool
}

func newEngine(t testing.TB) *engine {
	e := &engine{t: t, state: hub.NewState(), log: map[hub.TopicID][]hub.Message{}}
	e.leader.Store(true)
	return e
}

func (e *engine) observe(o hub.Observer) {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.observers = append(e.observers, o)
}

func (e *engine) forget() {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.observers = nil
}

func (e *engine) IsLeader() bool { return e.leader.Load() }

func (e *engine) breakdown(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = err
}

func (e *engine) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return e.proposeAt(time.Now(), events...)
}

// proposeAt applies events with a leader's time.
func (e *engine) proposeAt(now time.Time, events ...*hubpb.Event) ([]hub.Result, error) {
	e.mu.RLock()
	broken := e.broken
	e.mu.RUnlock()
	if broken != nil {
		return nil, broken
	}
	p, err := hub.EncodeProposal(events)
	if err != nil {
		return nil, err
	}
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.seq++
	var b hub.EntryBuilder
	b.AddBatch("test/1", e.seq, [][]byte{p})
	fx := new(hub.Effects)
	e.mu.Lock()
	res, err := e.state.Apply(b.Encode(now.UnixNano()), fx)
	e.events = append(e.events, events...)
	for _, m := range fx.Messages {
		e.log[m.Topic] = append(e.log[m.Topic], m)
	}
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, o := range e.observers {
		o.Applied(fx)
	}
	return res[0].Proposals[0], nil
}

func (e *engine) View(f func(*hub.State)) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	f(e.state)
}

func (e *engine) Read(topic hub.TopicID, from uint64, max, maxBytes int) ([]hub.Message, error) {
	e.reads.Add(1)
	e.mu.RLock()
	defer e.mu.RUnlock()
	t, ok := e.state.TopicByID(topic)
	if !ok {
		return nil, hub.ErrUnknownTopic
	}
	if from < t.First {
		return nil, hub.ErrTrimmed
	}
	if from > t.Head {
		return nil, nil
	}
	msgs := e.log[topic][from-1:]
	n, size := 0, 0
	for n < len(msgs) && n < max && (n == 0 || size+len(msgs[n].Body) <= maxBytes) {
		size += len(msgs[n].Body)
		n++
	}
	return msgs[:n:n], nil
}

// OffsetAt walks over all messages.
func (e *engine) OffsetAt(topic hub.TopicID, at time.Time) (uint64, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	t, ok := e.state.TopicByID(topic)
	if !ok {
		return 0, hub.ErrUnknownTopic
	}
	n := t.First
	for n <= t.Head && e.log[topic][n-1].Time < at.UnixNano() {
		n++
	}
	return n, nil
}

// box is a SecretBox that shows what it was given.
type box struct{}

func (box) Seal(secret []byte, bound string) ([]byte, error) {
	return append([]byte(bound+"\x01"), secret...), nil
}

func (box) Open(sealed []byte, bound string) ([]byte, error) {
	secret, ok := bytes.CutPrefix(sealed, []byte(bound+"\x01"))
	if !ok {
		return nil, errors.New("sealed for something else")
	}
	return secret, nil
}

func (e *engine) do(events ...*hubpb.Event) []hub.Result {
	e.t.Helper()
	res, err := e.Propose(context.Background(), events...)
	if err != nil {
		e.t.Fatal(err)
	}
	return res
}

// publish appends a message and returns its offset.
func (e *engine) publish(topic, body string) uint64 {
	e.t.Helper()
	res := e.do(&hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: topic, ContentType: "text/plain", Body: []byte(body), AutoRegister: true}}})
	return res[0].Offset
}

// want is a subscription wanted.
type want struct {
	topic, callback string
	secret          string
	lease           time.Duration // 0: 1 h
	from            uint64        // start offset
	at              time.Time     // of verification, zero: now
	mode            hubpb.Mode    // 0: subscribe
	options         *hubpb.SubscriptionOptions
}

// request records a request and returns its id.
func (e *engine) request(w want) hub.RequestID {
	e.t.Helper()
	if w.lease == 0 {
		w.lease = time.Hour
	}
	if w.mode == 0 {
		w.mode = hub.ModeSubscribe
	}
	var sealed []byte
	if w.secret != "" {
		sealed, _ = box{}.Seal([]byte(w.secret), hub.SecretBinding(w.topic, w.callback))
	}
	return hub.RequestID(e.do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: w.mode, Topic: w.topic, TopicRaw: w.topic, Callback: w.callback, CallbackKey: w.callback,
		LeaseSeconds: int64(w.lease / time.Second), SealedSecret: sealed, AutoRegister: true, Options: w.options}}})[0].ID)
}

// subscribe makes or renews a subscription, as if it had been verified.
func (e *engine) subscribe(w want) hub.SubscriptionID {
	e.t.Helper()
	id := e.request(w)
	if w.at.IsZero() {
		w.at = time.Now()
	}
	res := e.do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
		Request: uint64(id), VerifiedFrom: w.at.UnixNano(), StartOffset: w.from,
		Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
	return hub.SubscriptionID(res[0].ID)
}

func (e *engine) end(id hub.SubscriptionID, reason hubpb.EndReason) {
	e.t.Helper()
	e.do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{uint64(id)}, Reason: reason}}})
}

func (e *engine) subscription(id hub.SubscriptionID) (sub hub.Subscription, ok bool) {
	e.View(func(s *hub.State) { sub, ok = s.Subscription(id) })
	return sub, ok
}

func (e *engine) deadLetters() (out []hub.DeadLetter) {
	e.View(func(s *hub.State) { out = s.DeadLetters(0, 0, nil) })
	return out
}

func (e *engine) topic(name string) (t hub.Topic) {
	e.View(func(s *hub.State) { t, _ = s.TopicByName(name) })
	return t
}

func namer(t testing.TB) *hub.TopicNamer {
	n, err := hub.NewTopicNamer("https://hub.example")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (e *engine) rewind(id hub.SubscriptionID, cursor uint64) {
	e.t.Helper()
	e.do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRewound{SubscriptionRewound: &hubpb.SubscriptionRewound{Subscription: uint64(id), Offset: cursor}}})
}

func (e *engine) pause(id hub.SubscriptionID, paused bool) {
	e.t.Helper()
	e.do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{SubscriptionPaused: &hubpb.SubscriptionPaused{Subscription: uint64(id), Paused: paused}}})
}

// ReadLetter implements hub.LetterReader.
func (e *engine) ReadLetter(ctx context.Context, d *hub.DeadLetter) (hub.Message, error) {
	if err := ctx.Err(); err != nil {
		return hub.Message{}, err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if _, ok := e.state.DeadLetter(d.ID); !ok {
		return hub.Message{}, hub.ErrTrimmed
	}
	return e.log[d.Topic][d.Offset-1], nil
}

func (e *engine) replay(ids ...uint64) {
	e.t.Helper()
	e.do(&hubpb.Event{Kind: &hubpb.Event_DeadLettersReplaying{DeadLettersReplaying: &hubpb.DeadLettersReplaying{Letters: ids}}})
}

// subscribeSigned makes or renews a subscription with a secret, the way subscribe does.
func (e *engine) subscribeSigned(callback, secret, scheme string, grace time.Duration) hub.SubscriptionID {
	e.t.Helper()
	var sealed []byte
	if secret != "" {
		sealed, _ = box{}.Seal([]byte(secret), hub.SecretBinding("t", callback))
	}
	res := e.do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: hub.ModeSubscribe, Topic: "t", TopicRaw: "t", Callback: callback, CallbackKey: callback, LeaseSeconds: 10 * 86400,
		SealedSecret: sealed, Scheme: scheme, SecretGrace: int64(grace / time.Second), AutoRegister: true}}})
	res = e.do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: res[0].ID,
		VerifiedFrom: time.Now().UnixNano(), Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
	return hub.SubscriptionID(res[0].ID)
}
