package raftlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	// retryPause is the pause between two attempts to send the same batch to a leader.
	retryPause = 5 * time.Millisecond
	// fillBytes is the size at which a batch is sent, and an entry written, although others are in flight. Smaller ones grow
	// while they wait for one of these to finish: an entry costs a commit of raft.db on every node, whatever it holds.
	fillBytes = 32 << 10
	// settleRounds bounds how often a batch about to be sent yields to goroutines that may add to it.
	settleRounds = 16
)

// proposal is one call of Propose in progress.
type proposal struct {
	data    []byte
	newWork bool
	results []hub.Result
	err     error
	done    chan struct{} // receives one value when results and err are set

	taken     bool // by a slot; guarded by batcher.mu
	abandoned bool // by its caller, before it was taken; guarded by batcher.mu
}

// batcher turns concurrent proposals into batches and keeps up to a fixed number of them in flight. It implements
// hub.Proposer.
type batcher struct {
	sink     sink
	origin   string
	maxBytes int
	limit    int64 // of queued bytes
	retryFor time.Duration
	patience time.Duration // how long a batch waits for a leader
	refuse   func() error  // returns why new work is not accepted at the moment, or nil
	latency  *histogram

	mu       sync.Mutex
	work     sync.Cond // the queue is not empty, or stopping
	idle     sync.Cond // nothing is queued or in flight
	queue    []*proposal
	head     int // queue[:head] is taken
	waiting  int // proposals in queue that are not abandoned
	bytes    int // of these
	busy     int // slots with a batch
	seq      uint64
	failing  time.Time // since when attempts fail; zero: the last one did not
	failed   time.Time // when the last attempt failed
	draining bool      // nothing new is accepted
	stopping bool      // slots end

	queued  atomic.Int64 // encoded bytes waiting and in flight
	batches atomic.Uint64
	count   atomic.Uint64 // proposals answered

	stop  chan struct{} // closed: nobody may wait any longer
	once  sync.Once
	slots atomic.Int64  // running
	ended chan struct{} // closed by the last of them
	pool  sync.Pool
}

func newBatcher(o Options, origin string, to sink, refuse func() error) *batcher {
	b := &batcher{
		sink:     to,
		origin:   origin,
		maxBytes: o.MaxEntryBytes,
		limit:    o.MaxQueuedBytes,
		retryFor: o.RetryFor,
		patience: o.LeaderWait,
		refuse:   refuse,
		latency:  new(histogram),
		stop:     make(chan struct{}),
		ended:    make(chan struct{}),
		pool:     sync.Pool{New: func() any { return &proposal{done: make(chan struct{}, 1)} }},
	}
	b.work.L, b.idle.L = &b.mu, &b.mu
	b.slots.Store(int64(o.MaxInFlight))
	for range o.MaxInFlight {
		go b.run()
	}
	return b
}

// Propose implements hub.Proposer. Consecutive calls are applied in order. If ctx ends first, the events may still be
// applied.
func (b *batcher) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := hub.EncodeProposal(events)
	if err != nil {
		return nil, fmt.Errorf("encode proposal: %w", err)
	}
	work := newWork(events)
	if err := b.admit(int64(len(data)), work); err != nil {
		return nil, err
	}
	p := b.pool.Get().(*proposal)
	p.data, p.newWork = data, work
	if !b.enqueue(p) {
		b.queued.Add(-int64(len(data)))
		return nil, hub.ErrStopping
	}
	select {
	case <-p.done:
		results, err := p.results, p.err
		*p = proposal{done: p.done}
		b.pool.Put(p)
		return results, err
	case <-ctx.Done():
		b.abandon(p)
		return nil, ctx.Err()
	case <-b.stop:
		select {
		case <-p.done:
			return p.results, p.err
		default:
		}
		if b.abandon(p) {
			return nil, hub.ErrStopping
		}
		return nil, hub.ErrAmbiguous
	}
}

// newWork reports whether events add to what the hub must store or do. Other events follow from work accepted earlier; some
// of them free space.
func newWork(events []*hubpb.Event) bool {
	for _, e := range events {
		switch e.Kind.(type) {
		case *hubpb.Event_MessagePublished, *hubpb.Event_BatchPublished, *hubpb.Event_BlobPartAdded, *hubpb.Event_BlobPublished,
			*hubpb.Event_TopicRegistered, *hubpb.Event_TopicPinged,
			*hubpb.Event_TopicFetched, *hubpb.Event_SubscriptionRequested, *hubpb.Event_SharedContentFetched,
			*hubpb.Event_SessionStarted, *hubpb.Event_DeviceRequested:
			return true
		}
	}
	return false
}

// admit reserves size bytes of the queue.
func (b *batcher) admit(size int64, newWork bool) error {
	limit := 2 * b.limit
	if newWork {
		if err := b.refuse(); err != nil {
			return err
		}
		limit = b.limit
	}
	// An empty queue accepts a single proposal of any size.
	if n := b.queued.Add(size); n > limit && n > size {
		b.queued.Add(-size)
		return hub.ErrOverloaded
	}
	return nil
}

func (b *batcher) enqueue(p *proposal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return false
	}
	b.queue = append(b.queue, p)
	b.waiting++
	b.bytes += len(p.data)
	if b.busy == 0 || b.bytes >= fillBytes { // otherwise it waits for what is in flight, see settleUnlocks
		b.work.Signal()
	}
	return true
}

// abandon removes p from the queue. It reports false if a slot has already taken p.
func (b *batcher) abandon(p *proposal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.taken {
		return false
	}
	p.abandoned = true
	b.unqueueLocked(p)
	b.queued.Add(-int64(len(p.data)))
	b.signalIdleLocked()
	return true
}

// unqueueLocked subtracts p from the waiting proposals. The caller holds mu.
func (b *batcher) unqueueLocked(p *proposal) {
	b.waiting--
	b.bytes -= len(p.data)
}

// run is one slot: it has one batch in flight at a time.
func (b *batcher) run() {
	defer func() {
		if b.slots.Add(-1) == 0 {
			close(b.ended)
		}
	}()
	var (
		taken []*proposal
		next  batch
	)
	for {
		taken = b.take(taken[:0], &next)
		if len(taken) == 0 {
			return
		}
		start := time.Now()
		answer, err := b.deliver(&next)
		b.latency.observe(time.Since(start))
		b.answer(taken, answer, err)
		clear(taken)
		clear(next.proposals)
	}
}

// take waits for proposals and closes a batch. It returns no proposals when the batcher stops.
func (b *batcher) take(taken []*proposal, next *batch) []*proposal {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.settleUnlocks() {
		b.work.Wait()
	}
	if b.stopping {
		return nil
	}
	*next = batch{origin: b.origin, proposals: next.proposals[:0]}
	for b.head < len(b.queue) {
		p := b.queue[b.head]
		if !p.abandoned {
			if len(taken) > 0 && next.size+len(p.data) > b.maxBytes {
				break
			}
			p.taken = true
			b.unqueueLocked(p)
			next.size += len(p.data)
			next.newWork = next.newWork || p.newWork
			next.proposals = append(next.proposals, p.data)
			taken = append(taken, p)
		}
		b.queue[b.head] = nil
		b.head++
	}
	if b.head == len(b.queue) {
		b.queue, b.head = b.queue[:0], 0
	} else if b.head > len(b.queue)/2 {
		n := copy(b.queue, b.queue[b.head:])
		clear(b.queue[n:])
		b.queue, b.head = b.queue[:n], 0
	}
	b.seq++
	next.seq = b.seq
	b.busy++
	return taken
}

// settleUnlocks reports whether a batch may be sent or the batcher stops. It yields until runnable goroutines add no more
// proposals: on a busy machine these would come a moment too late and batches would be small. If nothing else is runnable
// it takes no time. The caller holds mu, which settleUnlocks releases and retakes.
func (b *batcher) settleUnlocks() bool {
	for range settleRounds {
		if b.stopping {
			return true
		}
		if b.waiting == 0 || b.busy > 0 && b.bytes < fillBytes {
			return false
		}
		before := b.waiting
		b.mu.Unlock()
		runtime.Gosched()
		b.mu.Lock()
		if b.waiting == before || b.bytes >= b.maxBytes {
			break
		}
	}
	return b.waiting > 0 || b.stopping
}

// deliver sends a batch. It retries for a while if the outcome is unknown or there is no leader. If there has been no leader
// for that long, everything queued fails too, so that no caller waits behind batches that cannot be sent.
func (b *batcher) deliver(next *batch) (hub.BatchResult, error) {
	begin := time.Now()
	var pause *time.Ticker
	for ambiguous := false; ; {
		answer, err := b.sink.send(next)
		if err == nil {
			b.succeeded()
			return answer, nil
		}
		var refused *hub.Error
		switch {
		case errors.Is(err, errNotLeader):
		case errors.As(err, &refused):
			if !ambiguous {
				return hub.BatchResult{}, refused
			}
		default:
			ambiguous = true
		}
		leaderGone := b.leaderGone()
		switch {
		case ambiguous && time.Since(begin) >= b.retryFor:
			return hub.BatchResult{}, hub.ErrAmbiguous
		case !ambiguous && leaderGone:
			return hub.BatchResult{}, hub.ErrNoLeader
		}
		if pause == nil {
			pause = time.NewTicker(retryPause)
			defer pause.Stop()
		}
		select {
		case <-b.stop:
			if !ambiguous {
				return hub.BatchResult{}, hub.ErrStopping
			}
			return hub.BatchResult{}, hub.ErrAmbiguous
		case <-pause.C:
		}
	}
}

// failureGap ends a series of failures: a later batch waits for a leader again.
const failureGap = time.Second

func (b *batcher) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing = time.Time{}
}

// leaderGone records a failed attempt, and reports whether attempts have failed for longer than a batch waits. In that case
// it fails everything that is queued.
func (b *batcher) leaderGone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.failing.IsZero() || now.Sub(b.failed) > failureGap {
		b.failing = now
	}
	b.failed = now
	if now.Sub(b.failing) < b.patience {
		return false
	}
	if b.patience == 0 {
		return true // queued proposals make their own attempts
	}
	for _, p := range b.queue[b.head:] {
		if !p.abandoned {
			p.taken = true
			b.unqueueLocked(p)
			b.queued.Add(-int64(len(p.data)))
			p.err = hub.ErrNoLeader
			p.done <- struct{}{}
		}
	}
	clear(b.queue)
	b.queue, b.head = b.queue[:0], 0
	b.signalIdleLocked()
	return true
}

func (b *batcher) answer(taken []*proposal, answer hub.BatchResult, err error) {
	var bytes int64
	for i, p := range taken {
		bytes += int64(len(p.data))
		if err != nil {
			p.err = err
		} else {
			// The state keeps the results for repeated batches; callers get their own copy.
			p.results = append([]hub.Result(nil), answer.Proposals[i]...)
		}
		p.done <- struct{}{} // p belongs to its caller from here on
	}
	b.queued.Add(-bytes)
	b.count.Add(uint64(len(taken)))
	b.batches.Add(1)
	b.mu.Lock()
	b.busy--
	b.work.Signal() // wakes a batch that waits until it is larger or nothing is in flight
	b.signalIdleLocked()
	b.mu.Unlock()
}

// signalIdleLocked wakes drain when nothing is queued or in flight. The caller holds mu.
func (b *batcher) signalIdleLocked() {
	if b.draining && b.waiting == 0 && b.busy == 0 {
		b.idle.Broadcast()
	}
}

// drain accepts nothing new and waits until everything in flight has finished, or ctx ends.
func (b *batcher) drain(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draining = true
	defer context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.idle.Broadcast()
	})()
	for b.waiting > 0 || b.busy > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d proposals and %d batches are still in flight: %w", b.waiting, b.busy, err)
		}
		select {
		case <-b.stop:
			return nil
		default:
		}
		b.idle.Wait()
	}
	return nil
}

// halt ends every wait: proposals no slot has taken get hub.ErrStopping, the others hub.ErrAmbiguous.
func (b *batcher) halt() {
	b.once.Do(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.draining, b.stopping = true, true
		close(b.stop)
		b.work.Broadcast()
		b.idle.Broadcast()
	})
}

// stats returns the queue's current figures.
func (b *batcher) stats() (waiting, inFlight int, queued int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting, b.busy, b.queued.Load()
}
