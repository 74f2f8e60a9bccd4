package upstream

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

// Pool calls one upstream. Safe for concurrent use.
type Pool struct {
	name      string
	transport http.RoundTripper
	log       *slog.Logger
	addresses []*address
	headers   map[string][]string

	retry                  int
	timeout, connect, idle time.Duration
	maxInFlight            int64
	eject                  Eject
	breaker                breaker

	turn     atomic.Uint64
	inFlight atomic.Int64
	repeats  atomic.Int64 // attempts under way that repeat another
	counts   counters
	closed   atomic.Bool
}

// idleCloser is a transport that keeps connections.
type idleCloser interface{ CloseIdleConnections() }

// Close closes the idle connections; those in use are closed after it. Calls under way go on, and so do those that still
// come, from requests that found the pool before it was replaced.
func (p *Pool) Close() {
	p.closed.Store(true)
	if t, ok := p.transport.(idleCloser); ok {
		t.CloseIdleConnections()
	}
}

// Call sends r to an address of the upstream and returns the response once its header is there, with hop-by-hop fields
// removed. Its body must be closed; it streams, and a read fails with an *Error if the upstream cuts it short or stops.
//
// A call is repeated, Config.Retry times at most, if its method is GET, HEAD, OPTIONS, PUT or DELETE, its body is none or
// Replayable, and it failed before a response (no connection, or one that ended) or with 502, 503 or 504: at an address
// not tried yet or, after a short wait, at one that was. All of it ends by Config.Timeout. No more than a fifth of an
// upstream's calls are repeats at one time, but always three, lest they bring down what has too much to do.
//
// A final 502, 503 or 504 is returned as a response. Errors are an *Error; or those of ctx and of reading Body, which are
// not the upstream's, as they are; or a *problem.Details for a request that cannot be sent.
func (p *Pool) Call(ctx context.Context, r *Request) (*http.Response, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if n := p.inFlight.Add(1); n > p.maxInFlight {
		p.inFlight.Add(-1)
		p.counts.add(ClassTooMany)
		return nil, &Error{Class: ClassTooMany, RetryAfter: time.Second}
	}
	now := time.Now()
	admitted, probe, wait := p.breaker.admit(now)
	if !admitted {
		p.inFlight.Add(-1)
		p.counts.add(ClassBreakerOpen)
		return nil, &Error{Class: ClassBreakerOpen, RetryAfter: wait}
	}
	p.prepare(r)
	e, resp, err := p.attempts(ctx, r, now)
	if err != nil {
		p.inFlight.Add(-1)
		p.counts.addError(err)
		p.book(verdictOf(err), probe)
		return nil, err
	}
	if e.bad {
		p.book(bad, probe)
	} else if probe {
		p.book(good, true)
	}
	return e.handOver(resp), nil
}

// prepare makes the header of a request that of the upstream's requests.
func (p *Pool) prepare(r *Request) {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	h := r.Header
	removeHopByHop(h)
	for name, values := range p.headers {
		h[name] = values
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // net/http would add its own
	}
}

// attempts calls one address after the other until there is an answer or nothing is left to try.
func (p *Pool) attempts(ctx context.Context, r *Request, now time.Time) (*exchange, *http.Response, error) {
	deadline := now.Add(cmp.Or(r.Timeout, p.timeout))
	left := 0
	if p.retry > 0 && r.idempotent() {
		left = p.retry
	}
	var tried uint64
	for n := 0; ; n++ {
		at, role := p.pick(tried, now)
		tried |= 1 << at
		e, resp, err := p.attempt(ctx, r, p.addresses[at], role, deadline)
		if n > 0 {
			p.repeats.Add(-1)
		}
		if err == nil && !e.bad || left == n || !repeatable(err) || ctx.Err() != nil {
			return e, resp, err
		}
		var wait time.Duration
		if bits.OnesCount64(tried) == len(p.addresses) {
			tried = 0
			wait = time.Duration(float64(repeatPause<<n) * (0.5 + rand.Float64()/2))
		}
		now = time.Now()
		if now.Add(wait).Compare(deadline) >= 0 || wait > 0 && resp != nil && resp.Header["Retry-After"] != nil || !p.mayRepeat() {
			return e, resp, err
		}
		if err == nil {
			e.discard()
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				p.repeats.Add(-1)
				return nil, nil, context.Cause(ctx)
			}
			now = time.Now()
		}
	}
}

// repeatPause is the wait before a call goes to an address that has failed it; it doubles with every repeat.
const repeatPause = 50 * time.Millisecond

// mayRepeat takes one of the repeats that may be under way.
func (p *Pool) mayRepeat() bool {
	if p.repeats.Add(1) <= max(3, p.inFlight.Load()/5) {
		return true
	}
	p.repeats.Add(-1)
	return false
}

// repeatable reports whether an attempt ended in a way that another may change: with nil, a bad status.
func repeatable(err error) bool {
	if err == nil {
		return true
	}
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Class {
	case ClassDial, ClassDNS, ClassTLS, ClassDenied, ClassReset:
		return true
	case ClassTimeout:
		return errors.Is(e.Cause, errNoConnection)
	case ClassProtocol, ClassBreakerOpen, ClassTooMany:
	}
	return false
}

// verdict is what a call says about an upstream.
type verdict int8

const (
	neutral verdict = iota // nothing: its client gave it up
	good
	bad
)

func verdictOf(err error) verdict {
	var e *Error
	if errors.As(err, &e) && !errors.Is(e.Cause, errCallersDeadline) {
		return bad
	}
	return neutral
}

// book enters a call in the accounts of the upstream.
func (p *Pool) book(v verdict, probe bool) {
	switch v {
	case good:
		if p.breaker.succeeded(probe) {
			p.log.Info("the upstream answers again: its breaker is closed")
		}
	case bad:
		if p.breaker.failed(probe, time.Now()) {
			p.log.Warn("the upstream fails: its breaker is open", "for", p.breaker.openFor)
		}
	case neutral:
		p.breaker.abandoned(probe)
	}
}

// bookAt enters an attempt in the accounts of its address.
func (p *Pool) bookAt(a *address, v verdict, r role) {
	switch v {
	case good:
		if a.succeeded(r) {
			p.log.Info("an address of the upstream answers again", "address", a.shown)
		}
	case bad:
		if d := a.failed(r, p.eject, time.Now()); d > 0 {
			p.log.Warn("an address of the upstream fails: it gets no calls for a while", "address", a.shown, "for", d)
		}
	case neutral:
		a.abandoned(r)
	}
}
