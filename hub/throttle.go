package hub

import (
	"container/list"
	"sync"
	"time"
)

// Rate is a number of requests per period. The zero value is no limit.
type Rate struct {
	Requests int
	Per      time.Duration
}

// Limited reports whether there is a limit.
func (r Rate) Limited() bool { return r.Requests > 0 && r.Per > 0 }

// Allowance is a Throttle's decision on one request.
type Allowance struct {
	OK   bool
	Left int           // requests that would still be accepted now
	Full time.Duration // until the whole of Rate.Requests is available again
	Wait time.Duration // until the next request is accepted; 0 if OK
}

// Throttle keeps a token bucket per key: an idle key may spend Rate.Requests at once and regains them evenly over
// Rate.Per. It remembers a fixed number of keys and evicts the one unused for longest. Safe for concurrent use.
type Throttle[K comparable] struct {
	max   int
	begin time.Time

	mu    sync.Mutex
	known map[K]*list.Element
	order list.List // of *bucket[K], most recently used first
}

// bucket holds a single number (the generic cell rate algorithm): when it is full again.
type bucket[K comparable] struct {
	key  K
	full time.Duration // since Throttle.begin
}

// NewThrottle returns a Throttle that remembers at most maxKeys keys. now is the current time of the clock that Spend
// is given.
func NewThrottle[K comparable](maxKeys int, now time.Time) *Throttle[K] {
	return &Throttle[K]{max: maxKeys, begin: now, known: map[K]*list.Element{}}
}

// Spend takes one request from the key's bucket if there is one. A refused request costs nothing.
func (t *Throttle[K]) Spend(key K, rate Rate, now time.Time) Allowance {
	if !rate.Limited() {
		return Allowance{OK: true}
	}
	each := max(rate.Per/time.Duration(rate.Requests), 1)
	at := now.Sub(t.begin)
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bucket(key, at)
	b.full = max(b.full, at)
	next := b.full + each
	if over := next - at - rate.Per; over > 0 {
		return Allowance{Full: b.full - at, Wait: over}
	}
	b.full = next
	return Allowance{OK: true, Left: int((rate.Per - (next - at)) / each), Full: next - at}
}

// Return gives back one request that Spend took and that turned out to cost nothing.
func (t *Throttle[K]) Return(key K, rate Rate, now time.Time) {
	if !rate.Limited() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.known[key]; e != nil { // a bucket that was evicted is full
		b := e.Value.(*bucket[K]) //nolint:forcetypeassert // it holds nothing else
		b.full = max(b.full-max(rate.Per/time.Duration(rate.Requests), 1), now.Sub(t.begin))
	}
}

// Keys returns the number of remembered keys.
func (t *Throttle[K]) Keys() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}

func (t *Throttle[K]) bucket(key K, at time.Duration) *bucket[K] {
	if e := t.known[key]; e != nil {
		t.order.MoveToFront(e)
		return e.Value.(*bucket[K]) //nolint:forcetypeassert // it holds nothing else
	}
	if len(t.known) >= t.max {
		last := t.order.Back()
		delete(t.known, t.order.Remove(last).(*bucket[K]).key) //nolint:forcetypeassert // as above
	}
	b := &bucket[K]{key: key, full: at}
	t.known[key] = t.order.PushFront(b)
	return b
}
