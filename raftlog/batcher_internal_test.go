package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// fakeSink answers every batch, or as script says. Every event's offset is the number of its batch.
type fakeSink struct {
	mu      sync.Mutex
	got     []batch
	script  func(attempt int, b *batch) error
	release chan struct{} // if set, each send waits for one value
}

func (f *fakeSink) send(b *batch) (hub.BatchResult, error) {
	f.mu.Lock()
	kept := *b
	kept.proposals = slices.Clone(b.proposals)
	f.got = append(f.got, kept)
	attempt := len(f.got)
	f.mu.Unlock()
	if f.release != nil {
		<-f.release
	}
	if f.script != nil {
		if err := f.script(attempt, b); err != nil {
			return hub.BatchResult{}, err
		}
	}
	res := hub.BatchResult{Seq: b.seq}
	for range b.proposals {
		res.Proposals = append(res.Proposals, []hub.Result{{Offset: b.seq}})
	}
	return res, nil
}

func (f *fakeSink) batches() []batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

func testBatcher(t *testing.T, f *fakeSink, change func(*Options)) *batcher {
	o := Options{MaxInFlight: 1, MaxEntryBytes: 256 << 10, MaxQueuedBytes: 1 << 20, RetryFor: time.Second}
	if change != nil {
		change(&o)
	}
	b := newBatcher(o, "n/boot", f, func() error { return nil })
	t.Cleanup(func() {
		b.halt()
		<-b.ended
	})
	return b
}

func message(size int) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{Topic: "t", Body: make([]byte, size)}}}
}

func cursor() *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Node: "n"}}}
}

type outcome struct {
	results []hub.Result
	err     error
}

func propose(ctx context.Context, b *batcher, e ...*hubpb.Event) <-chan outcome {
	c := make(chan outcome, 1)
	go func() {
		r, err := b.Propose(ctx, e...)
		c <- outcome{r, err}
	}()
	return c
}

func TestQueuedProposalsFormTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{release: make(chan struct{})}
		b := testBatcher(t, f, nil)
		first := propose(t.Context(), b, message(10))
		synctest.Wait() // the only slot has it
		var rest []<-chan outcome
		for range 50 {
			rest = append(rest, propose(t.Context(), b, message(10)))
		}
		synctest.Wait()
		close(f.release)
		for _, c := range append(rest, first) {
			if o := <-c; o.err != nil || len(o.results) != 1 {
				t.Fatalf("%+v", o)
			}
		}
		got := f.batches()
		if len(got) != 2 || len(got[0].proposals) != 1 || len(got[1].proposals) != 50 {
			t.Fatalf("%d batches", len(got))
		}
		if got[0].origin != "n/boot" || got[0].seq != 1 || got[1].seq != 2 {
			t.Errorf("origin %s, seq %d and %d", got[0].origin, got[0].seq, got[1].seq)
		}
		synctest.Wait()
		if n := b.queued.Load(); n != 0 {
			t.Errorf("%d bytes still reserved", n)
		}
	})
}

func TestBatchClosesAtMaxEntryBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{release: make(chan struct{})}
		b := testBatcher(t, f, func(o *Options) { o.MaxEntryBytes = 10_000; o.MaxQueuedBytes = 10 << 20 })
		propose(t.Context(), b, message(1))
		synctest.Wait()
		for range 10 {
			propose(t.Context(), b, message(3000))
		}
		synctest.Wait()
		propose(t.Context(), b, message(50_000)) // larger than an entry: a batch of its own
		synctest.Wait()
		close(f.release)
		synctest.Wait()
		var sizes []int
		for _, g := range f.batches() {
			sizes = append(sizes, len(g.proposals))
			if g.size > 10_000 && len(g.proposals) > 1 {
				t.Errorf("batch of %d bytes with %d proposals", g.size, len(g.proposals))
			}
		}
		if want := []int{1, 3, 3, 3, 1, 1}; !slices.Equal(sizes, want) {
			t.Errorf("batches of %v proposals, want %v", sizes, want)
		}
	})
}

// A small batch waits while another is in flight, so that there are fewer entries; a large one does not.
func TestSmallBatchesWaitForThoseInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{release: make(chan struct{})}
		b := testBatcher(t, f, func(o *Options) { o.MaxInFlight = 4; o.MaxQueuedBytes = 10 << 20 })
		inFlight := func() int { _, n, _ := b.stats(); return n }
		all := []<-chan outcome{propose(t.Context(), b, message(10))}
		synctest.Wait()
		for range 20 {
			all = append(all, propose(t.Context(), b, message(1000)))
			synctest.Wait()
		}
		if n := inFlight(); n != 1 {
			t.Fatalf("%d batches in flight with 20 kB waiting, want 1", n)
		}
		for range 20 {
			all = append(all, propose(t.Context(), b, message(1000)))
			synctest.Wait()
		}
		if n := inFlight(); n != 2 {
			t.Fatalf("%d batches in flight with another 20 kB waiting, want 2", n)
		}
		close(f.release)
		for _, c := range all {
			if o := <-c; o.err != nil {
				t.Fatal(o.err)
			}
		}
		got := f.batches()
		if len(got) != 3 || len(got[0].proposals) != 1 || got[1].size < fillBytes || len(got[1].proposals)+len(got[2].proposals) != 40 {
			t.Errorf("%d batches, the second of %d bytes", len(got), got[1].size)
		}
	})
}

func TestAdmissionIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{release: make(chan struct{})}
		b := testBatcher(t, f, func(o *Options) { o.MaxQueuedBytes = 100_000 })
		size := proto.Size(&hubpb.Proposal{Events: []*hubpb.Event{message(1000)}})
		fits := 100_000 / size
		var accepted []<-chan outcome
		for range fits {
			accepted = append(accepted, propose(t.Context(), b, message(1000)))
			synctest.Wait()
		}
		if o := <-propose(t.Context(), b, message(1000)); !errors.Is(o.err, hub.ErrOverloaded) {
			t.Errorf("beyond the bound: %+v", o)
		}
		// Consequences of earlier work may use up to twice the bound.
		follow := propose(t.Context(), b, cursor())
		synctest.Wait()
		if n := b.queued.Load(); n > 101_000 {
			t.Errorf("%d bytes queued", n)
		}
		close(f.release)
		for _, c := range append(accepted, follow) {
			if o := <-c; o.err != nil {
				t.Errorf("accepted, but then %v", o.err)
			}
		}
		synctest.Wait()
		if o := <-propose(t.Context(), b, message(1000)); o.err != nil {
			t.Errorf("with the queue empty again: %v", o.err)
		}
		synctest.Wait()
		// An empty queue accepts a single proposal beyond the bound.
		if o := <-propose(t.Context(), b, message(200_000)); o.err != nil {
			t.Errorf("large proposal, empty queue: %v", o.err)
		}
	})
}

func TestRefusedWorkIsNotQueued(t *testing.T) {
	f := &fakeSink{}
	b := testBatcher(t, f, nil)
	b.refuse = func() error { return hub.ErrDiskFull }
	for _, e := range []*hubpb.Event{
		message(1),
		{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: "t"}}},
		{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: "t"}}},
		{Kind: &hubpb.Event_TopicFetched{TopicFetched: &hubpb.TopicFetched{Topic: 1}}},
		{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Topic: "t"}}},
	} {
		if _, err := b.Propose(t.Context(), e); !errors.Is(err, hub.ErrDiskFull) {
			t.Errorf("%T: %v", e.Kind, err)
		}
	}
	for _, e := range []*hubpb.Event{
		cursor(),
		{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{}}},
		{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "t"}}},
		{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{}}},
	} {
		if _, err := b.Propose(t.Context(), e); err != nil {
			t.Errorf("%T: %v", e.Kind, err)
		}
	}
	if n := b.queued.Load(); n != 0 {
		t.Errorf("%d bytes still reserved", n)
	}
}

func TestUnknownOutcomeIsRetriedUnderTheSameNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{script: func(attempt int, _ *batch) error {
			switch attempt {
			case 1:
				return fmt.Errorf("%w: leadership lost", errUnknown)
			case 2:
				return errNotLeader // tells nothing about the first attempt, whose outcome is unknown
			}
			return nil
		}}
		b := testBatcher(t, f, nil)
		o := <-propose(t.Context(), b, message(1))
		if o.err != nil || o.results[0].Offset != 1 {
			t.Fatalf("%+v", o)
		}
		for _, g := range f.batches() {
			if g.seq != 1 || g.origin != "n/boot" || len(g.proposals) != 1 {
				t.Errorf("attempt with origin %s, seq %d, %d proposals", g.origin, g.seq, len(g.proposals))
			}
		}
		if n := len(f.batches()); n != 3 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestErrorsOfPropose(t *testing.T) {
	unknown := fmt.Errorf("%w: x", errUnknown)
	tests := []struct {
		name   string
		script func(int, *batch) error
		want   error
	}{
		{"not the leader", func(int, *batch) error { return errNotLeader }, hub.ErrNoLeader},
		{"unknown until the deadline", func(int, *batch) error { return unknown }, hub.ErrAmbiguous},
		{"unknown, then no leader", func(n int, _ *batch) error {
			if n == 1 {
				return unknown
			}
			return errNotLeader
		}, hub.ErrAmbiguous},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := testBatcher(t, &fakeSink{script: tt.script}, nil)
				begin := time.Now()
				if o := <-propose(t.Context(), b, message(1)); !errors.Is(o.err, tt.want) {
					t.Errorf("got %+v, want %v", o, tt.want)
				}
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{release: make(chan struct{})}
		b := testBatcher(t, f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		inFlight := propose(ctx, b, message(1))
		synctest.Wait()
		queued := propose(ctx, b, message(2))
		other := propose(t.Context(), b, message(3))
		synctest.Wait()
		cancel()
		for _, c := range []<-chan outcome{inFlight, queued} {
			if o := <-c; !errors.Is(o.err, context.Canceled) {
				t.Errorf("%+v", o)
			}
		}
		close(f.release)
		if o := <-other; o.err != nil {
			t.Errorf("the other caller: %v", o.err)
		}
		synctest.Wait()
		if got := f.batches(); len(got) != 2 || len(got[1].proposals) != 1 {
			t.Errorf("an abandoned proposal was sent: %+v", got)
		}
		if n := b.queued.Load(); n != 0 {
			t.Errorf("%d bytes still reserved", n)
		}
		if _, err := b.Propose(ctx, message(1)); !errors.Is(err, context.Canceled) {
			t.Errorf("with a cancelled context: %v", err)
		}
	})
}

// A future that raft never resolves blocks only its slot.
func TestStopEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{release: make(chan struct{})}
		b := testBatcher(t, f, nil)
		defer close(f.release)
		inFlight := propose(t.Context(), b, message(1))
		synctest.Wait()
		queued := propose(t.Context(), b, message(2))
		synctest.Wait()
		b.halt()
		if o := <-inFlight; !errors.Is(o.err, hub.ErrAmbiguous) {
			t.Errorf("in flight: %+v", o)
		}
		if o := <-queued; !errors.Is(o.err, hub.ErrStopping) {
			t.Errorf("queued: %+v", o)
		}
		if o := <-propose(t.Context(), b, message(3)); !errors.Is(o.err, hub.ErrStopping) {
			t.Errorf("late: %+v", o)
		}
	})
}

func TestDrainFinishesAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSink{release: make(chan struct{})}
		b := testBatcher(t, f, nil)
		a, c := propose(t.Context(), b, message(1)), propose(t.Context(), b, message(2))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("drain of a stuck batch: %v", err)
		}
		if _, err := b.Propose(t.Context(), message(3)); !errors.Is(err, hub.ErrStopping) {
			t.Errorf("while draining: %v", err)
		}
		close(f.release)
		if err := b.drain(t.Context()); err != nil {
			t.Errorf("drain: %v", err)
		}
		for _, c := range []<-chan outcome{a, c} {
			if o := <-c; o.err != nil {
				t.Errorf("accepted before the drain: %v", o.err)
			}
		}
	})
}

// Consecutive proposals of one caller are applied in order, with many slots and many callers.
func TestOrderOfOneCaller(t *testing.T) {
	f := &fakeSink{}
	b := testBatcher(t, f, func(o *Options) { o.MaxInFlight = 8 })
	var wg sync.WaitGroup
	for c := range 20 {
		wg.Go(func() {
			last := uint64(0)
			for range 200 {
				r, err := b.Propose(context.Background(), message(c))
				if err != nil || r[0].Offset <= last {
					t.Errorf("batch %v after batch %d, %v", r, last, err)
					return
				}
				last = r[0].Offset
			}
		})
	}
	wg.Wait()
}
