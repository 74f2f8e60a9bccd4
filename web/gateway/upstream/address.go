package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// address is one of an upstream's addresses. While it is healthy and without failures, its accounts take no lock.
type address struct {
	scheme, host, base string
	shown              string

	inFlight atomic.Int64
	counts   counters
	failures atomic.Int32 // in a row
	ejected  atomic.Bool  // until a call to it succeeds

	mu     sync.Mutex
	until  time.Time     // while ejected: no calls until then
	length time.Duration // of the latest ejection
	probed bool          // a call is on its way to see whether it is back
}

// probe takes the right to be the one call to an ejected address whose time is over.
func (a *address) probe(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ejected.Load() || a.probed || now.Before(a.until) {
		return false
	}
	a.probed = true
	return true
}

// due returns the end of the ejection.
func (a *address) due() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.until
}

// role is why an address gets a call.
type role int8

const (
	ordinary   role = iota // it is healthy
	probing                // it is ejected, its time is over: this call shows whether it is back
	lastResort             // it is ejected like all others
)

// succeeded books a good answer. It reports whether that ended an ejection.
func (a *address) succeeded(r role) (back bool) {
	if r == ordinary {
		if a.failures.Load() != 0 && !a.ejected.Load() {
			a.failures.Store(0)
		}
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.probed = a.probed && r != probing
	a.failures.Store(0)
	return a.ejected.CompareAndSwap(true, false)
}

// failed books a failure. It returns for how long that ejected the address; 0: it did not.
func (a *address) failed(r role, e Eject, now time.Time) time.Duration {
	if e.Failures <= 0 || r == lastResort || r == ordinary && a.ejected.Load() {
		return 0 // calls from before the ejection and during it say nothing new
	}
	n := a.failures.Add(1)
	if r == ordinary && int(n) < e.Failures {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r == probing {
		a.probed = false
	} else if a.ejected.Load() {
		return 0
	}
	if a.length == 0 || now.Sub(a.until) > a.length { // it has been good for longer than it was out
		a.length = e.For
	} else {
		a.length = min(2*a.length, e.Max)
	}
	a.until = now.Add(a.length)
	a.ejected.Store(true)
	return a.length
}

// abandoned ends a call that says nothing about the address.
func (a *address) abandoned(r role) {
	if r == probing {
		a.mu.Lock()
		a.probed = false
		a.mu.Unlock()
	}
}

// pick chooses the address for an attempt: of those not tried yet (bits of tried), an ejected one whose time is over, for
// one call to see; or else the healthy one with the fewest calls in flight, in turn where several have as many; or else,
// since all are ejected, the one whose time ends first. -1: all have been tried.
func (p *Pool) pick(tried uint64, now time.Time) (at int, r role) {
	n := len(p.addresses)
	if n == 1 {
		if tried != 0 {
			return -1, ordinary
		}
		return 0, ordinary
	}
	var least int64
	healthy, out := -1, -1
	first := int(p.turn.Add(1) % uint64(n))
	for i := range n {
		k := (first + i) % n
		if tried&(1<<k) != 0 {
			continue
		}
		a := p.addresses[k]
		switch {
		case !a.ejected.Load():
			if flying := a.inFlight.Load(); healthy < 0 || flying < least {
				healthy, least = k, flying
			}
		case a.probe(now):
			return k, probing
		case out < 0 || a.due().Before(p.addresses[out].due()):
			out = k
		}
	}
	if healthy < 0 {
		return out, lastResort
	}
	return healthy, ordinary
}
