package bench

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// tally counts the deliveries of one phase by (message, callback). It is safe for concurrent use.
type tally struct {
	callbacks int
	capacity  int // messages
	seen      [][]atomic.Uint64
	// owed returns which messages a callback must receive, as a mask that repeats every 64 messages: message seq if bit seq%64 is set.
	// nil means all messages.
	owed func(callback int) uint64

	first    atomic.Int64 // first arrivals
	doubled  atomic.Int64 // duplicate arrivals
	foreign  atomic.Int64 // bodies that do not belong to this phase
	unsigned atomic.Int64 // deliveries without a valid signature where one is expected
	last     atomic.Int64 // time of the last first arrival

	latency *latencies // nil if not recorded
}

// newTally returns a tally for a number of callbacks and messages.
func newTally(callbacks, capacity int) *tally {
	t := &tally{callbacks: callbacks, capacity: capacity, seen: make([][]atomic.Uint64, callbacks)}
	for i := range t.seen {
		t.seen[i] = make([]atomic.Uint64, (capacity+63)/64)
	}
	return t
}

// arrived records the arrival of message seq at a callback.
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

// has reports whether message seq has arrived at a callback.
func (t *tally) has(callback, seq int) bool {
	return t.seen[callback][seq/64].Load()&(1<<(seq%64)) != 0
}

// missing counts the owed deliveries that have not arrived, except those of callbacks for which skip is true.
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

// bitset is a set of message numbers. It is safe for concurrent use.
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

// latencies records latencies, except those of excluded callbacks.
type latencies struct {
	mu      sync.Mutex
	hist    *hdrhistogram.Histogram
	exclude func(callback int) bool // may be nil
	since   atomic.Int64            // messages scheduled earlier are not recorded
}

// histogram returns a histogram of 1 µs to 5 min with three significant digits.
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
	// Cannot fail: the value is within the range.
	_ = l.hist.RecordValue(us)
}

func (l *latencies) quantiles() *Quantiles {
	l.mu.Lock()
	defer l.mu.Unlock()
	return quantilesOf(l.hist)
}
