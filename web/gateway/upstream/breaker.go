package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// State is that of a circuit breaker.
type State string

const (
	StateClosed   State = "closed"    // calls go through
	StateOpen     State = "open"      // calls are refused
	StateHalfOpen State = "half-open" // one call goes through, to see
)

// breaker is a circuit breaker. It is our own because a call that its client gives up says nothing about the upstream: it
// must return the permission to probe without an outcome, which the breakers of libraries (failsafe-go, gobreaker) have no
// way to express. While closed and without failures it takes no lock.
type breaker struct {
	limit   int // failures in a row; 0 or less: never opens
	openFor time.Duration

	failures atomic.Int32 // in a row
	open     atomic.Bool  // open or half open

	mu      sync.Mutex
	until   time.Time // while open: refused until then
	probing bool      // one call is on its way to see
}

// admit reports whether a call may go ahead and whether it is the probe; if not, how long to wait.
func (b *breaker) admit(now time.Time) (ok, probe bool, wait time.Duration) {
	if !b.open.Load() {
		return true, false, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open.Load():
		return true, false, 0
	case now.Before(b.until):
		return false, false, b.until.Sub(now)
	case b.probing:
		return false, false, time.Second
	}
	b.probing = true
	return true, true, 0
}

// succeeded books a good call. It reports whether that closed the breaker.
func (b *breaker) succeeded(probe bool) (closed bool) {
	if !probe {
		if b.failures.Load() != 0 && !b.open.Load() {
			b.failures.Store(0)
		}
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	b.failures.Store(0)
	return b.open.CompareAndSwap(true, false)
}

// failed books a bad call. It reports whether that opened the breaker.
func (b *breaker) failed(probe bool, now time.Time) (opened bool) {
	if b.limit <= 0 || !probe && b.open.Load() {
		return false // calls from before it opened say nothing new
	}
	n := b.failures.Add(1)
	if !probe && int(n) < b.limit {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	} else if b.open.Load() {
		return false
	}
	b.until = now.Add(b.openFor)
	b.open.Store(true)
	return true
}

// abandoned ends a call that says nothing about the upstream.
func (b *breaker) abandoned(probe bool) {
	if probe {
		b.mu.Lock()
		b.probing = false
		b.mu.Unlock()
	}
}

// state returns the breaker's state and, while it is open, until when.
func (b *breaker) state(now time.Time) (State, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open.Load():
		return StateClosed, time.Time{}
	case now.Before(b.until):
		return StateOpen, b.until
	}
	return StateHalfOpen, time.Time{}
}
