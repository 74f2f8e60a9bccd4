package bench

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// tally counts what arrives in one phase by (message, callback). Safe for concurrent use.
type tally struct {
	callbacks int
	capacity  int // messages
	seen      [][]atomic.Uint64
	// owed says which messages a callback is to get, as a mask for each 64 of them: message seq when bit seq%64 is
	// set. nil: all.
	owed func(callback int) uint64

	first    atomic.Int64 // arrivals that were new
	doubled  atomic.Int64 // arrivals of what was there already
	foreign  atomic.Int64 // bodies that are none of this phase's
	unsigned atomic.Int64 // deliveries without a right signature, where one was asked for
	last     atomic.Int64 // moment of the last new arrival

	latency *latencies // nil: not recorded
}

// newTally makes a tally for so many callbacks and messages.
func newTally(callbacks, capacity int) *tally {
	t := &tally{callbacks: callbacks, capacity: capacity, seen: make([][]atomic.Uint64, callbacks)}
	for i := range t.seen {
		t.seen[i] = make([]atomic.Uint64, (capacity+63)/64)
	}
	return t
}

// arrived books message seq at a callback.
func (t *tally) arrived(callback, seq int, scheduled, now time.Duration) {
	if callback < 0 || callback >= t.callbacks || seq < 0 || seq >= t.capacity {
		t.foreign.Add(1)
		return
	}
	bit := uint64(1) << (seq % 64)
	if t.mask(callback)&bit == 0 {
		t.foreign.Add(1)
		return
	}
	if t.seen[callback][seq/64].Or(bit)&bit != 0 {
		t.doubled.Add(1)
		return
	}
	t.first.Add(1)
	t.last.Store(int64(now))
	if t.latency != nil {
		t.latency.record(callback, scheduled, now)
	}
}

func (t *tally) mask(callback int) uint64 {
	if t.owed == nil {
		return ^uint64(0)
	}
	return t.owed(callback)
}

// has reports whether message seq came to a callback.
func (t *tally) has(callback, seq int) bool {
	return t.seen[callback][seq/64].Load()&(1<<(seq%64)) != 0
}

// missing counts the pairs of an owed message and a callback that did not come. Callbacks for which skip is
// true are not looked at.
func (t *tally) missing(owed *bitset, skip func(callback int) bool) int {
	n := 0
	for c := range t.seen {
		if skip != nil && skip(c) {
			continue
		}
		mask := t.mask(c)
		for w := range t.seen[c] {
			n += bits.OnesCount64(owed.words[w].Load() & mask &^ t.seen[c][w].Load())
		}
	}
	return n
}

// bitset is a set of message numbers. Safe for concurrent use.
type bitset struct{ words []atomic.Uint64 }

func newBitset(capacity int) *bitset { return &bitset{make([]atomic.Uint64, (capacity+63)/64)} }

func (b *bitset) add(n int) { b.words[n/64].Or(1 << (n % 64)) }

func (b *bitset) len() int {
	n := 0
	for i := range b.words {
		n += bits.OnesCount64(b.words[i].Load())
	}
	return n
}

// latencies collects durations of the callbacks that count.
type latencies struct {
	mu      sync.Mutex
	hist    *hdrhistogram.Histogram
	exclude func(callback int) bool // may be nil
	since   atomic.Int64            // messages scheduled before are not recorded
}

// histogram holds 1 µs to 5 min with three digits.
func histogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(5*time.Minute/time.Microsecond), 3)
}

func newLatencies(exclude func(callback int) bool) *latencies {
	return &latencies{hist: histogram(), exclude: exclude}
}

func (l *latencies) record(callback int, scheduled, now time.Duration) {
	if int64(scheduled) < l.since.Load() || l.exclude != nil && l.exclude(callback) {
		return
	}
	us := min(max((now-scheduled).Microseconds(), 1), l.hist.HighestTrackableValue())
	l.mu.Lock()
	defer l.mu.Unlock()
	// The value was moved into the range above; there is no other error.
	_ = l.hist.RecordValue(us)
}

func (l *latencies) quantiles() *Quantiles {
	l.mu.Lock()
	defer l.mu.Unlock()
	return quantilesOf(l.hist)
}
