package fake

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

// Engine is a hub with one node, without its outbound side: the real hub.State fed by proposals, and a message log in
// memory.
type Engine struct {
	T testing.TB

	applyMu   sync.Mutex // one entry at a time, observers included
	observers []hub.Observer
	seq       uint64

	mu     sync.RWMutex
	state  *hub.State
	log    map[hub.TopicID][]hub.Message
	Events []*hubpb.Event // all applied events
	broken error          // the error that Propose returns instead
	reads  atomic.Int64

	Leader atomic.Bool
}

func NewEngine(t testing.TB) *Engine {
	e := &Engine{T: t, state: hub.NewState(), log: map[hub.TopicID][]hub.Message{}}
	e.Leader.Store(true)
	return e
}

func (e *Engine) Observe(o hub.Observer) {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.observers = append(e.observers, o)
}

func (e *Engine) Forget() {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.observers = nil
}

func (e *Engine) IsLeader() bool { return e.Leader.Load() }

func (e *Engine) Breakdown(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = err
}

func (e *Engine) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return e.ProposeAt(time.Now(), events...)
}

// ProposeAt applies events with the given leader time.
func (e *Engine) ProposeAt(now time.Time, events ...*hubpb.Event) ([]hub.Result, error) {
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
	e.Events = append(e.Events, events...)
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

func (e *Engine) View(f func(*hub.State)) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	f(e.state)
}

func (e *Engine) Read(topic hub.TopicID, from uint64, max, maxBytes int) ([]hub.Message, error) {
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

// OffsetAt implements hub.TimeIndex by linear search.
func (e *Engine) OffsetAt(topic hub.TopicID, at time.Time) (uint64, error) {
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

// Box is a hub.SecretBox that stores secrets in the clear, with their binding.
type Box struct{}

func (Box) Seal(secret []byte, bound string) ([]byte, error) {
	return append([]byte(bound+"\x01"), secret...), nil
}

func (Box) Open(sealed []byte, bound string) ([]byte, error) {
	secret, ok := bytes.CutPrefix(sealed, []byte(bound+"\x01"))
	if !ok {
		return nil, errors.New("sealed for something else")
	}
	return secret, nil
}

func (e *Engine) Do(events ...*hubpb.Event) []hub.Result {
	e.T.Helper()
	res, err := e.Propose(context.Background(), events...)
	if err != nil {
		e.T.Fatal(err)
	}
	return res
}

// Publish appends a message and returns its offset.
func (e *Engine) Publish(topic, body string) uint64 {
	e.T.Helper()
	res := e.Do(&hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: topic, ContentType: "text/plain", Body: []byte(body), AutoRegister: true}}})
	return res[0].Offset
}

// Want describes a subscription to make.
type Want struct {
	Topic, Callback string
	Secret          string
	Lease           time.Duration // 0: 1 h
	From            uint64        // start offset
	at              time.Time     // of the verification; zero: now
	Mode            hubpb.Mode    // 0: subscribe
	Options         *hubpb.SubscriptionOptions
}

// Request records a request and returns its ID.
func (e *Engine) Request(w Want) hub.RequestID {
	e.T.Helper()
	if w.Lease == 0 {
		w.Lease = time.Hour
	}
	if w.Mode == 0 {
		w.Mode = hub.ModeSubscribe
	}
	var sealed []byte
	if w.Secret != "" {
		sealed, _ = Box{}.Seal([]byte(w.Secret), hub.SecretBinding(w.Topic, w.Callback))
	}
	return hub.RequestID(e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: w.Mode, Topic: w.Topic, TopicRaw: w.Topic, Callback: w.Callback, CallbackKey: w.Callback,
		LeaseSeconds: int64(w.Lease / time.Second), SealedSecret: sealed, AutoRegister: true, Options: w.Options}}})[0].ID)
}

// Subscribe makes or renews a subscription as if it had been verified.
func (e *Engine) Subscribe(w Want) hub.SubscriptionID {
	e.T.Helper()
	id := e.Request(w)
	if w.at.IsZero() {
		w.at = time.Now()
	}
	res := e.Do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
		Request: uint64(id), VerifiedFrom: w.at.UnixNano(), StartOffset: w.From,
		Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
	return hub.SubscriptionID(res[0].ID)
}

func (e *Engine) End(id hub.SubscriptionID, reason hubpb.EndReason) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{uint64(id)}, Reason: reason}}})
}

func (e *Engine) Subscription(id hub.SubscriptionID) (sub hub.Subscription, ok bool) {
	e.View(func(s *hub.State) { sub, ok = s.Subscription(id) })
	return sub, ok
}

func (e *Engine) DeadLetters() (out []hub.DeadLetter) {
	e.View(func(s *hub.State) { out = s.DeadLetters(0, 0, nil) })
	return out
}

func (e *Engine) Topic(name string) (t hub.Topic) {
	e.View(func(s *hub.State) { t, _ = s.TopicByName(name) })
	return t
}

func Namer(t testing.TB) *hub.TopicNamer {
	n, err := hub.NewTopicNamer("https://hub.example")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (e *Engine) Rewind(id hub.SubscriptionID, cursor uint64) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRewound{SubscriptionRewound: &hubpb.SubscriptionRewound{Subscription: uint64(id), Offset: cursor}}})
}

func (e *Engine) Pause(id hub.SubscriptionID, paused bool) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{SubscriptionPaused: &hubpb.SubscriptionPaused{Subscription: uint64(id), Paused: paused}}})
}

// ReadLetter implements hub.LetterReader.
func (e *Engine) ReadLetter(ctx context.Context, d *hub.DeadLetter) (hub.Message, error) {
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

func (e *Engine) Replay(ids ...uint64) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_DeadLetterReplayRequested{DeadLetterReplayRequested: &hubpb.DeadLetterReplayRequested{Letters: ids}}})
}

// SubscribeSigned is Subscribe for a subscription with a secret and a signature scheme.
func (e *Engine) SubscribeSigned(callback, secret, scheme string, grace time.Duration) hub.SubscriptionID {
	e.T.Helper()
	var sealed []byte
	if secret != "" {
		sealed, _ = Box{}.Seal([]byte(secret), hub.SecretBinding("t", callback))
	}
	res := e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: hub.ModeSubscribe, Topic: "t", TopicRaw: "t", Callback: callback, CallbackKey: callback, LeaseSeconds: 10 * 86400,
		SealedSecret: sealed, Scheme: scheme, SecretGrace: int64(grace / time.Second), AutoRegister: true}}})
	res = e.Do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: res[0].ID,
		VerifiedFrom: time.Now().UnixNano(), Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
	return hub.SubscriptionID(res[0].ID)
}

// LateState is an Engine where Once runs right after the state is first read.
type LateState struct {
	*Engine
	Once func()
}

func (l *LateState) View(f func(*hub.State)) {
	l.Engine.View(f)
	if once := l.Once; once != nil {
		l.Once = nil
		once()
	}
}
