package web_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web/sse"
)

// ledger is an in-memory log of one node. It applies events to a real hub.State and keeps the messages.
type ledger struct {
	mu       sync.RWMutex
	state    *hub.State
	messages map[hub.TopicID][]hub.Message
	parts    map[uint64][]byte
	seq      uint64
	clock    *clock
	feed     *sse.Feed
	silent   bool  // do not notify the feed
	discard  bool  // do not keep parts of blobs
	refuse   error // Propose answers with it when it is set
	block    chan struct{}
	entered  chan struct{}
}

func newLedger(c *clock) *ledger {
	return &ledger{state: hub.NewState(), messages: map[hub.TopicID][]hub.Message{}, parts: map[uint64][]byte{}, clock: c, feed: sse.NewFeed()}
}

func (l *ledger) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if l.block != nil {
		l.entered <- struct{}{}
		select {
		case <-l.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, l.refuse
	}
	proposal, err := hub.EncodeProposal(events)
	if err != nil {
		return nil, err
	}
	l.seq++
	var b hub.EntryBuilder
	b.AddBatch("node-1/test", l.seq, [][]byte{proposal})
	var fx hub.Effects
	res, err := l.state.Apply(b.Encode(l.clock.Now().UnixNano()), &fx)
	if err != nil {
		return nil, err
	}
	for _, p := range fx.Parts {
		if !l.discard {
			l.parts[p.Offset] = p.Body
		}
	}
	for _, m := range fx.Messages {
		l.messages[m.Topic] = append(l.messages[m.Topic], m)
	}
	for _, t := range fx.RemovedTopics {
		delete(l.messages, t)
	}
	if !l.silent {
		l.feed.Applied(&fx)
	}
	return res[0].Proposals[0], nil
}

// proposals returns the number of batches written.
func (l *ledger) proposals() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.seq
}

// ReadPart reads a part that the state still keeps.
func (l *ledger) ReadPart(part uint64, at int, p []byte) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if first, last := l.state.RetainedParts(); part < first || part > last {
		return 0, hub.ErrTrimmed
	}
	return copy(p, l.parts[part][at:]), nil
}

// OffsetAt scans all messages.
func (l *ledger) OffsetAt(topic hub.TopicID, at time.Time) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, ok := l.state.TopicByID(topic)
	if !ok {
		return 0, hub.ErrUnknownTopic
	}
	n := t.First
	for n <= t.Head && l.messages[topic][n-1].Time < at.UnixNano() {
		n++
	}
	return n, nil
}

func (l *ledger) View(f func(*hub.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

func (l *ledger) Read(topic hub.TopicID, from uint64, limit, _ int) ([]hub.Message, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, ok := l.state.TopicByID(topic)
	switch {
	case !ok:
		return nil, hub.ErrUnknownTopic
	case from < t.First:
		return nil, hub.ErrTrimmed
	case from > t.Head:
		return nil, nil
	}
	return l.messages[topic][from-1 : min(int(t.Head), int(from)-1+limit)], nil
}

// ReadLetter reads from the log whatever was trimmed.
func (l *ledger) ReadLetter(_ context.Context, d *hub.DeadLetter) (hub.Message, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, ok := l.state.DeadLetter(d.ID); !ok {
		return hub.Message{}, hub.ErrTrimmed
	}
	return l.messages[d.Topic][d.Offset-1], nil
}

// must proposes events that must be accepted.
func (l *ledger) must(tb testing.TB, events ...*hubpb.Event) []hub.Result {
	tb.Helper()
	res, err := l.Propose(context.Background(), events...)
	if err != nil {
		tb.Fatal(err)
	}
	return res
}

// verify confirms the oldest pending request, like the verification of intent.
func (l *ledger) verify(tb testing.TB) {
	tb.Helper()
	pending := l.state.Requests(0, 1, nil)
	if len(pending) == 0 {
		tb.Fatal("no request is pending")
	}
	t, _ := l.state.TopicByName(pending[0].TopicName)
	l.must(tb, &hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
		Request: uint64(pending[0].ID), VerifiedFrom: l.clock.Now().UnixNano(), StartOffset: t.Head}}})
}

func (l *ledger) trim(tb testing.TB, topic hub.TopicID, through uint64) {
	tb.Helper()
	l.must(tb, &hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
		Ranges: []*hubpb.LogTrimmed_Range{{Topic: uint64(topic), Through: through}}}}})
}

// clock stands still until advanced.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 1, 12, 0, 0, 250e6, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// secrets marks what it seals, so that tests can search for leaks of either form.
type secrets struct{}

const sealedMark = "SEALED:"

func (secrets) Seal(secret []byte, bound string) ([]byte, error) {
	return append([]byte(sealedMark), secret...), nil
}

func (secrets) Open(sealed []byte, bound string) ([]byte, error) {
	return bytes.TrimPrefix(sealed, []byte(sealedMark)), nil
}
