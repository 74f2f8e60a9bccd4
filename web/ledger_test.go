package web_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/memory"
	"quorumhub/web/sse"
)

// ledger is the engine behind a server under test: one node in memory, with the test's clock.
type ledger struct {
	*memory.Log
	state *hub.State

	proposing sync.Mutex // one batch at a time, the feed included
	clock     *clock
	feed      *sse.Feed
	silent    bool  // the feed is not notified
	discard   bool  // the parts of blobs are not kept
	refuse    error // what Propose returns, if set
	block     chan struct{}
	entered   chan struct{}
}

func newLedger(c *clock) *ledger {
	log := memory.NewLog()
	return &ledger{Log: log, state: log.State(), clock: c, feed: sse.NewFeed()}
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
	l.proposing.Lock()
	defer l.proposing.Unlock()
	if l.refuse != nil {
		return nil, l.refuse
	}
	res, fx, err := l.Apply(l.clock.Now(), events...)
	if err != nil {
		return nil, err
	}
	if l.discard {
		for _, p := range fx.Parts {
			l.DropPart(p.Offset)
		}
	}
	if !l.silent {
		l.feed.Applied(fx)
	}
	return res, nil
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

// verify confirms the oldest pending request, as verification of intent does.
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

// clock stands still until a test advances it.
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

// secrets marks sealed secrets, so that tests can search for leaks of either form.
type secrets struct{}

const sealedMark = "SEALED:"

func (secrets) Seal(secret []byte, bound string) ([]byte, error) {
	return append([]byte(sealedMark), secret...), nil
}

func (secrets) Open(sealed []byte, bound string) ([]byte, error) {
	return bytes.TrimPrefix(sealed, []byte(sealedMark)), nil
}
