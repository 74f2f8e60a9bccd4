// Package fake has test doubles for the rooms that talk to the outside: an engine in memory, a network without sockets,
// recording servers and a DNS server. Tests of delivery and of its inner rooms use it; it imports hub, delivery/egress and
// test/memory.
package fake

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/memory"
)

// Engine is the rest of a hub with one node: the real state with proposals and observers, in memory. It always has a
// leader, itself, until a test decides otherwise.
type Engine struct {
	*memory.Log
	T testing.TB

	applyMu   sync.Mutex // one batch at a time, observers included
	observers []hub.Observer
	events    []*hubpb.Event // everything applied so far
	broken    error          // what Propose returns instead

	Leader atomic.Bool
}

// NewEngine returns an empty engine. Its helpers fail t.
func NewEngine(t testing.TB) *Engine {
	e := &Engine{Log: memory.NewLog(), T: t}
	e.Leader.Store(true)
	return e
}

// Events returns everything applied so far.
func (e *Engine) Events() []*hubpb.Event {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	return slices.Clone(e.events)
}

// Observe adds an observer of everything that is applied.
func (e *Engine) Observe(o hub.Observer) {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.observers = append(e.observers, o)
}

// Forget removes all observers.
func (e *Engine) Forget() {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.observers = nil
}

// IsLeader reports whether the node leads.
func (e *Engine) IsLeader() bool { return e.Leader.Load() }

// Breakdown makes Propose fail with err; nil repairs it.
func (e *Engine) Breakdown(err error) {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	e.broken = err
}

// Propose applies events now and returns their results.
func (e *Engine) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return e.ProposeAt(time.Now(), events...)
}

// ProposeAt applies events with the given leader time.
func (e *Engine) ProposeAt(now time.Time, events ...*hubpb.Event) ([]hub.Result, error) {
	e.applyMu.Lock()
	defer e.applyMu.Unlock()
	if e.broken != nil {
		return nil, e.broken
	}
	res, fx, err := e.Apply(now, events...)
	if err != nil {
		return nil, err
	}
	e.events = append(e.events, events...)
	for _, o := range e.observers {
		o.Applied(fx)
	}
	return res, nil
}

// Box is a hub.SecretBox that does not encrypt, but checks what a secret is bound to.
type Box struct{}

// Seal returns the secret with its binding.
func (Box) Seal(secret []byte, bound string) ([]byte, error) {
	return append([]byte(bound+"\x01"), secret...), nil
}

// Open returns the secret if it was sealed with the same binding.
func (Box) Open(sealed []byte, bound string) ([]byte, error) {
	secret, ok := bytes.CutPrefix(sealed, []byte(bound+"\x01"))
	if !ok {
		return nil, errors.New("sealed with a different binding")
	}
	return secret, nil
}

// Do proposes events that must succeed.
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

// Want describes a subscription to create.
type Want struct {
	Topic, Callback string
	Raw             string // hub.topic as sent; empty: Topic
	Secret          string
	Lease           time.Duration // 0: 1 h
	From            uint64        // start offset
	Mode            hubpb.Mode    // 0: subscribe
	Options         *hubpb.SubscriptionOptions
}

// Request submits a request for verification and returns its ID.
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
		Mode: w.Mode, Topic: w.Topic, TopicRaw: cmp.Or(w.Raw, w.Topic), Callback: w.Callback, CallbackKey: w.Callback,
		LeaseSeconds: int64(w.Lease / time.Second), SealedSecret: sealed, AutoRegister: true, Options: w.Options}}})[0].ID)
}

// Subscribe creates or renews a subscription, as if its intent had been verified.
func (e *Engine) Subscribe(w Want) hub.SubscriptionID {
	e.T.Helper()
	id := e.Request(w)
	res := e.Do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
		Request: uint64(id), VerifiedFrom: time.Now().UnixNano(), StartOffset: w.From,
		Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
	return hub.SubscriptionID(res[0].ID)
}

// End ends a subscription.
func (e *Engine) End(id hub.SubscriptionID, reason hubpb.EndReason) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{uint64(id)}, Reason: reason}}})
}

// Subscription returns a subscription and reports whether it exists.
func (e *Engine) Subscription(id hub.SubscriptionID) (sub hub.Subscription, ok bool) {
	e.View(func(s *hub.State) { sub, ok = s.Subscription(id) })
	return sub, ok
}

// DeadLetters returns all dead letters.
func (e *Engine) DeadLetters() (out []hub.DeadLetter) {
	e.View(func(s *hub.State) { out = s.DeadLetters(0, 0, nil) })
	return out
}

// Topic returns a topic, or the zero value for an unknown one.
func (e *Engine) Topic(name string) (t hub.Topic) {
	e.View(func(s *hub.State) { t, _ = s.TopicByName(name) })
	return t
}

// Namer returns the topic namer of https://hub.example.
func Namer(t testing.TB) *hub.TopicNamer {
	n, err := hub.NewTopicNamer("https://hub.example")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Discard returns a logger that discards everything.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Rewind moves the cursor of a subscription.
func (e *Engine) Rewind(id hub.SubscriptionID, cursor uint64) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRewound{SubscriptionRewound: &hubpb.SubscriptionRewound{Subscription: uint64(id), Offset: cursor}}})
}

// Pause pauses or resumes a subscription.
func (e *Engine) Pause(id hub.SubscriptionID, paused bool) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{SubscriptionPaused: &hubpb.SubscriptionPaused{Subscription: uint64(id), Paused: paused}}})
}

// Replay requests the replay of dead letters.
func (e *Engine) Replay(ids ...uint64) {
	e.T.Helper()
	e.Do(&hubpb.Event{Kind: &hubpb.Event_DeadLetterReplayRequested{DeadLetterReplayRequested: &hubpb.DeadLetterReplayRequested{Letters: ids}}})
}

// SubscribeSigned creates or renews a subscription of topic "t" with a secret, as a subscribe request does.
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

// LateState calls Once right after the state is read for the first time, to test races with later changes.
type LateState struct {
	*Engine
	Once func()
}

// View reads the state and then calls Once.
func (l *LateState) View(f func(*hub.State)) {
	l.Engine.View(f)
	if once := l.Once; once != nil {
		l.Once = nil
		once()
	}
}
