package hub

import (
	"container/list"
	"sync"
	"time"
)

// Rate is how many requests are taken in how much time. The zero value is no limit.
type Rate struct {
	Requests int
	Per      time.Duration
}

// Limited tells whether there is a limit at all.
func (r Rate) Limited() bool { return r.Requests > 0 && r.Per > 0 }

// Allowance is what a Throttle says to one request.
type Allowance struct {
	OK   bool
	Left int           // requests that would be taken now
	Full time.Duration // until all of Rate.Requests are there again
	Wait time.Duration // until one is taken, when OK is false; else 0
}

// Throttle holds a token bucket for each key: one that was quiet has Rate.Requests to spend at once and gets them back
// evenly over Rate.Per. It remembers a fixed number of keys; to learn of a further one it forgets the one that was quiet for longest.
// Safe for concurrent use.
type Throttle[K comparable] struct {
	max   int
	begin time.Time

	mu    sync.Mutex
	known map[K]*list.Element
	order list.List // of *bucket[K], the one used last in front
}

// bucket is kept as one number (the generic cell rate algorithm): the moment when it is full again.
type bucket[K comparable] struct {
	key  K
	full time.Duration // since Throttle.begin
}

// NewThrottle makes a Throttle that remembers at most max keys. now is the present of the clock whose times Spend gets.
func NewThrottle[K comparable](maxKeys int, now time.Time) *Throttle[K] {
	return &Throttle[K]{max: maxKeys, begin: now, known: map[K]*list.Element{}}
}

// Spend takes one request from the key's bucket, if it holds one. A request that is refused takes nothing.
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

// Keys is the number of keys that are remembered.
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
