package upstream_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/web/gateway/upstream"
)

// TestFailingAddressIsEjected: it gets no calls for a growing time, then one to see, and is back after a good answer.
func TestFailingAddressIsEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		s.set("b.example", refuses)
		p := newPool(t, s, upstream.Config{Retry: 1, Eject: upstream.Eject{Failures: 3, For: 5 * time.Second, Max: 15 * time.Second}})
		to := func() (n int) { return strings.Count(strings.Join(s.called(), " "), "b.example") }
		burst := func(n int) int {
			for range n {
				expect(t, "call", call(t, p, "GET"), "200")
			}
			return to()
		}
		if n := burst(60); n != 3 {
			t.Errorf("the address got %d calls before it was ejected, want 3", n)
		}
		if a := p.Status().Addresses[1]; a.Healthy || time.Until(a.EjectedUntil) != 5*time.Second || a.Attempts.Failed[upstream.ClassDial] != 3 {
			t.Errorf("status %+v, want ejected for 5 s after three failures to dial", a)
		}
		for _, wait := range []time.Duration{5 * time.Second, 10 * time.Second, 15 * time.Second, 15 * time.Second} {
			time.Sleep(wait - time.Millisecond)
			if n := burst(10); n != 0 {
				t.Errorf("%v after the last failure: %d calls, want none", wait-time.Millisecond, n)
			}
			time.Sleep(time.Millisecond)
			if n := burst(10); n != 1 {
				t.Errorf("%v after the last failure: %d calls, want one to see", wait, n)
			}
		}
		s.set("b.example", nil)
		time.Sleep(15 * time.Second)
		if n := burst(30); n < 9 {
			t.Errorf("the address that is back got %d calls of 30", n)
		}
		if a := p.Status().Addresses[1]; !a.Healthy || !a.EjectedUntil.IsZero() {
			t.Errorf("status %+v, want healthy", a)
		}
		time.Sleep(time.Minute) // good for longer than it was out: the next ejection is a first one
		s.set("b.example", refuses)
		burst(30)
		if a := p.Status().Addresses[1]; time.Until(a.EjectedUntil) != 5*time.Second {
			t.Errorf("ejected for %v, want 5 s", time.Until(a.EjectedUntil))
		}
	})
}

// TestOneCallSeesWhetherAnEjectedAddressIsBack: the others go elsewhere meanwhile, and a client that gives up leaves the
// question open for the next call.
func TestOneCallSeesWhetherAnEjectedAddressIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		s.set("b.example", resets)
		p := newPool(t, s, upstream.Config{Eject: upstream.Eject{Failures: 1}})
		for p.Status().Addresses[1].Healthy {
			call(t, p, "POST")
		}
		time.Sleep(5 * time.Second)
		s.called()
		s.set("b.example", hangs)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			expect(t, "the call that sees", outcome(p.Call(ctx, &upstream.Request{Method: "GET", Target: "/"})), "context canceled")
		})
		synctest.Wait()
		for range 20 {
			expect(t, "another call", call(t, p, "GET"), "200")
		}
		if n := strings.Count(strings.Join(s.called(), " "), "b.example"); n != 1 {
			t.Errorf("%d calls to the address, want one", n)
		}
		cancel()
		wg.Wait()
		s.set("b.example", nil)
		expect(t, "the next call", call(t, p, "GET"), "200")
		if a := p.Status().Addresses[1]; !a.Healthy {
			t.Errorf("status %+v, want healthy", a)
		}
	})
}

// TestSomeAddressIsAlwaysCalled: with all ejected, the one whose time ends first is.
func TestSomeAddressIsAlwaysCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		for _, host := range []string{"a.example", "b.example", "c.example"} {
			s.set(host, refuses)
		}
		p := newPool(t, s, upstream.Config{Breaker: upstream.Breaker{}, Eject: upstream.Eject{Failures: 1}})
		for range 3 {
			expect(t, "call", call(t, p, "GET"), "dial")
			time.Sleep(time.Second)
		}
		first := s.called()[0]
		expect(t, "call", call(t, p, "GET"), "dial")
		if got := s.called(); len(got) != 1 || got[0] != first {
			t.Errorf("called %v, want %s, which was ejected first", got, first)
		}
		for _, a := range p.Status().Addresses {
			if time.Until(a.EjectedUntil) > 5*time.Second {
				t.Errorf("%+v: calls made for want of another address extended its ejection", a)
			}
		}
		s.set(first, nil)
		expect(t, "call", call(t, p, "GET"), "200")
		expect(t, "call after it is back", call(t, p, "GET"), "200")
	})
}

// TestBreaker: it opens after failed calls in a row, refuses with the time to come back, lets one call see, and closes.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		p := newPool(t, s, upstream.Config{URLs: []string{"http://a.example"}, Breaker: upstream.Breaker{Failures: 3, OpenFor: 10 * time.Second}})
		fail := func(n int) {
			s.set("a.example", status(504))
			for range n {
				expect(t, "failing call", call(t, p, "POST"), "504")
			}
		}
		fail(2)
		s.set("a.example", nil)
		expect(t, "call", call(t, p, "POST"), "200") // in a row: this one starts the count anew
		fail(2)
		s.set("a.example", refuses)
		expect(t, "third failure", call(t, p, "POST"), "dial")
		s.called()
		time.Sleep(4 * time.Second)
		_, err := p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/"})
		var e *upstream.Error
		if !errors.As(err, &e) || e.Class != upstream.ClassBreakerOpen || e.RetryAfter != 6*time.Second {
			t.Fatalf("got %+v, want breaker_open for 6 s more", err)
		}
		if d := e.Problem(); d.Status != 503 || d.Code != "breaker_open" || d.RetryAfter != 6*time.Second {
			t.Errorf("problem %+v", d)
		}
		if st := p.Status(); st.Breaker != upstream.StateOpen || time.Until(st.OpenUntil) != 6*time.Second || st.Calls.Failed[upstream.ClassBreakerOpen] != 1 {
			t.Errorf("status %+v", st)
		}
		if got := s.called(); len(got) != 0 {
			t.Errorf("an open breaker let calls through: %v", got)
		}

		time.Sleep(6 * time.Second)
		expect(t, "the call that sees", call(t, p, "POST"), "dial")
		expect(t, "after it failed", call(t, p, "POST"), "breaker_open")
		time.Sleep(10 * time.Second)
		s.set("a.example", hangs)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			expect(t, "a call that sees and is given up", outcome(p.Call(ctx, &upstream.Request{Method: "GET", Target: "/"})), "context canceled")
		})
		synctest.Wait()
		expect(t, "while one sees", call(t, p, "POST"), "breaker_open")
		cancel()
		wg.Wait()
		if st := p.Status().Breaker; st != upstream.StateHalfOpen {
			t.Errorf("breaker %s, want half open: a client that gives up says nothing", st)
		}
		s.set("a.example", nil)
		for range 3 {
			expect(t, "call", call(t, p, "POST"), "200")
		}
		if st := p.Status().Breaker; st != upstream.StateClosed {
			t.Errorf("breaker %s, want closed", st)
		}
	})
}

// TestBreakerCountsCallsNotAttempts: what a repeat mends is no failure.
func TestBreakerCountsCallsNotAttempts(t *testing.T) {
	s := &services{}
	s.set("b.example", refuses)
	s.set("c.example", refuses)
	p := newPool(t, s, upstream.Config{Retry: 2, Breaker: upstream.Breaker{Failures: 1}})
	for range 20 {
		expect(t, "call", call(t, p, "GET"), "200")
	}
	if st := p.Status(); st.Breaker != upstream.StateClosed || st.Calls.Answered != 20 || st.Calls.Failed != nil {
		t.Errorf("status %+v", st)
	}
}

// TestClientsCannotOpenTheBreaker: neither by giving up nor by bodies that break off or are too long.
func TestClientsCannotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		s.set("a.example", func(r *http.Request) (*http.Response, error) {
			connected(r)
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
			return hangs(r)
		})
		p := newPool(t, s, upstream.Config{URLs: []string{"http://a.example"}, Breaker: upstream.Breaker{Failures: 1}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		expect(t, "own deadline", outcome(p.Call(ctx, &upstream.Request{Method: "GET", Target: "/"})), "timeout")
		gone, cancelGone := context.WithCancelCause(t.Context())
		cancelGone(errors.New("client left"))
		expect(t, "left", outcome(p.Call(gone, &upstream.Request{Method: "GET", Target: "/"})), "client left")
		post := func(length int64, body io.Reader) string {
			return outcome(p.Call(t.Context(), &upstream.Request{Method: "POST", Target: "/", ContentLength: length, Body: body}))
		}
		expect(t, "breaks off", post(-1, io.MultiReader(strings.NewReader("x"), failing{&http.MaxBytesError{Limit: 1}})), "http: request body too large")
		expect(t, "too short", post(5, strings.NewReader("x")), "unexpected EOF")
		expect(t, "too long", post(1, strings.NewReader("xx")), "the request's body is longer than its Content-Length")
		if st := p.Status(); st.Breaker != upstream.StateClosed || st.InFlight != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// failing is a reader that fails.
type failing struct{ err error }
