package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/web/gateway/upstream"
)

// services stands in for the addresses of an upstream, without sockets, so that tests run in virtual time.
type services struct {
	mu    sync.Mutex
	does  map[string]func(*http.Request) (*http.Response, error) // by host
	calls []string                                               // hosts in the order of their calls
}

func (s *services) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.calls = append(s.calls, r.URL.Host)
	do := s.does[r.URL.Host]
	s.mu.Unlock()
	trace := httptrace.ContextClientTrace(r.Context())
	trace.GetConn(r.URL.Host)
	if do == nil {
		do = status(200)
	}
	return do(r)
}

// set replaces what a host does; nil: it answers 200.
func (s *services) set(host string, do func(*http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.does == nil {
		s.does = map[string]func(*http.Request) (*http.Response, error){}
	}
	s.does[host] = do
}

// called returns and forgets the hosts that were called.
func (s *services) called() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func connected(r *http.Request) {
	httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
}

// status answers at once with an empty body.
func status(code int, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		connected(r)
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		}
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: code, Header: h, Body: http.NoBody, Request: r}, nil
	}
}

func refuses(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

func resets(r *http.Request) (*http.Response, error) {
	connected(r)
	return nil, fmt.Errorf("read: %w", syscall.ECONNRESET)
}

// hangs answers when the call is given up, after it has a connection or, with silent, before.
func hangs(r *http.Request) (*http.Response, error) {
	connected(r)
	return silent(r)
}

func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

func newPool(t testing.TB, rt http.RoundTripper, cfg upstream.Config) *upstream.Pool {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "hr"
	}
	if cfg.URLs == nil {
		cfg.URLs = []string{"http://a.example", "http://b.example", "http://c.example"}
	}
	p, err := upstream.New(cfg, rt, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// outcome is how a call ended: a status, a class of failure, or another error.
func outcome(resp *http.Response, err error) string {
	var e *upstream.Error
	switch {
	case errors.As(err, &e):
		return string(e.Class)
	case err != nil:
		return err.Error()
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return outcome(nil, err)
	}
	return fmt.Sprint(resp.StatusCode)
}

func call(t testing.TB, p *upstream.Pool, method string) string {
	t.Helper()
	return outcome(p.Call(t.Context(), &upstream.Request{Method: method, Target: "/v1/address?ID=1"}))
}

// expect fails the test unless got is want.
func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

func TestCallsGoRoundTheAddresses(t *testing.T) {
	s := &services{}
	p := newPool(t, s, upstream.Config{})
	for range 9 {
		expect(t, "call", call(t, p, "GET"), "200")
	}
	seen := s.called()
	for _, host := range []string{"a.example", "b.example", "c.example"} {
		if n := strings.Count(strings.Join(seen, " "), host); n != 3 {
			t.Errorf("%s got %d of 9 calls, want 3: %v", host, n, seen)
		}
	}
}

// TestCallsPreferTheAddressWithTheFewestInFlight: a slow address does not collect calls.
func TestCallsPreferTheAddressWithTheFewestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		s.set("b.example", func(r *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Second)
			return status(200)(r)
		})
		p := newPool(t, s, upstream.Config{})
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() { call(t, p, "GET") })
			synctest.Wait()
		}
		if n := strings.Count(strings.Join(s.called(), " "), "b.example"); n != 1 {
			t.Errorf("the slow address got %d calls of 30, want 1", n)
		}
		wg.Wait()
	})
}

// TestOnlyWhatIsIdempotentIsRepeated: by method and body, and only after failures that another attempt may mend.
func TestOnlyWhatIsIdempotentIsRepeated(t *testing.T) {
	replay := func() io.ReadCloser { return io.NopCloser(strings.NewReader("x")) }
	for _, c := range []struct {
		name     string
		fails    func(*http.Request) (*http.Response, error)
		r        upstream.Request
		attempts int
		want     string
	}{
		{"GET refused", refuses, upstream.Request{Method: "GET"}, 2, "200"},
		{"HEAD refused", refuses, upstream.Request{Method: "HEAD"}, 2, "200"},
		{"OPTIONS refused", refuses, upstream.Request{Method: "OPTIONS"}, 2, "200"},
		{"DELETE reset", resets, upstream.Request{Method: "DELETE"}, 2, "200"},
		{"PUT that can be sent again", resets, upstream.Request{Method: "PUT", ContentLength: 1, Replayable: replay}, 2, "200"},
		{"GET 502", status(502), upstream.Request{Method: "GET"}, 2, "200"},
		{"GET 503", status(503), upstream.Request{Method: "GET"}, 2, "200"},
		{"GET 504", status(504), upstream.Request{Method: "GET"}, 2, "200"},
		{"GET without a connection in time", silent, upstream.Request{Method: "GET"}, 2, "200"},
		{"GET of a name without address", func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}
		}, upstream.Request{Method: "GET"}, 2, "200"},

		{"POST refused", refuses, upstream.Request{Method: "POST"}, 1, "dial"},
		{"POST that could be sent again", resets, upstream.Request{Method: "POST", ContentLength: 1, Replayable: replay}, 1, "reset"},
		{"POST 503", status(503), upstream.Request{Method: "POST"}, 1, "503"},
		{"PATCH reset", resets, upstream.Request{Method: "PATCH"}, 1, "reset"},
		{"PUT that streams", resets, upstream.Request{Method: "PUT", ContentLength: 1, Body: strings.NewReader("x")}, 1, "reset"},
		{"GET 500", status(500), upstream.Request{Method: "GET"}, 1, "500"},
		{"GET 429", status(429), upstream.Request{Method: "GET"}, 1, "429"},
		{"GET without an answer in time", hangs, upstream.Request{Method: "GET"}, 1, "timeout"},
		{"GET and nonsense", func(r *http.Request) (*http.Response, error) {
			connected(r)
			return nil, errors.New("malformed HTTP response")
		}, upstream.Request{Method: "GET"}, 1, "protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &services{}
				first := true
				for _, host := range []string{"a.example", "b.example", "c.example"} {
					s.set(host, func(r *http.Request) (*http.Response, error) {
						if first {
							first = false
							return c.fails(r)
						}
						return status(200)(r)
					})
				}
				p := newPool(t, s, upstream.Config{Retry: 2})
				c.r.Target = "/"
				expect(t, "outcome", outcome(p.Call(t.Context(), &c.r)), c.want)
				calls := s.called()
				if len(calls) != c.attempts {
					t.Errorf("%d attempts, want %d", len(calls), c.attempts)
				}
				if len(slices.Compact(slices.Sorted(slices.Values(calls)))) != len(calls) {
					t.Errorf("an attempt was repeated at the same address although others were not tried: %v", calls)
				}
				if n := p.Status().InFlight; n != 0 {
					t.Errorf("%d calls in flight at the end", n)
				}
			})
		})
	}
}

// TestRepeatsAreCountedAndEndByTheTimeout: Retry is the number of repeats, an only address is asked again after a short
// wait, and nothing begins after the timeout.
func TestRepeatsAreCountedAndEndByTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		for _, host := range []string{"a.example", "b.example", "c.example"} {
			s.set(host, status(503))
		}
		off := upstream.Breaker{}
		for retry := range 5 {
			p := newPool(t, s, upstream.Config{Retry: retry, Breaker: off})
			expect(t, "outcome", call(t, p, "GET"), "503")
			if n := len(s.called()); n != retry+1 {
				t.Errorf("retry %d: %d attempts", retry, n)
			}
		}

		only := []string{"http://a.example"}
		start := time.Now()
		p := newPool(t, s, upstream.Config{URLs: only, Retry: 3, Breaker: off})
		expect(t, "outcome", call(t, p, "GET"), "503")
		if took, n := time.Since(start), len(s.called()); n != 4 || took < 175*time.Millisecond || took > 350*time.Millisecond {
			t.Errorf("%d attempts in %v, want 4 in 175 to 350 ms", n, took)
		}
		s.set("a.example", status(503, "Retry-After", "7"))
		expect(t, "outcome", call(t, p, "GET"), "503")
		if n := len(s.called()); n != 1 {
			t.Errorf("%d attempts at an only address that asks to come back later, want 1", n)
		}

		s.set("a.example", status(503))
		p = newPool(t, s, upstream.Config{URLs: only, Retry: 3, Breaker: off, Timeout: 60 * time.Millisecond})
		start = time.Now()
		expect(t, "outcome", call(t, p, "GET"), "503")
		if took, n := time.Since(start), len(s.called()); n != 2 || took > 60*time.Millisecond {
			t.Errorf("%d attempts in %v, want two, and no wait beyond the 60 ms", n, took)
		}

		s.set("a.example", silent)
		p = newPool(t, s, upstream.Config{URLs: only, Retry: 10, Breaker: off, Timeout: 10 * time.Second, ConnectTimeout: 3 * time.Second})
		start = time.Now()
		expect(t, "outcome", call(t, p, "GET"), "timeout")
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v, want 10 s", took)
		}
		if n := len(s.called()); n != 4 {
			t.Errorf("%d attempts, want 4: three of 3 s and one of what is left", n)
		}
		start = time.Now()
		expect(t, "outcome", outcome(p.Call(t.Context(), &upstream.Request{Method: "POST", Target: "/", Timeout: 20 * time.Second})), "timeout")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("a POST without a connection took %v, want the 3 s for that", took)
		}
	})
}

// TestRepeatsDoNotMultiplyTheLoad: while everything fails, no more than a fifth of the calls are repeats.
func TestRepeatsDoNotMultiplyTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &services{}
		for _, host := range []string{"a.example", "b.example", "c.example"} {
			s.set(host, func(r *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return status(503)(r)
			})
		}
		p := newPool(t, s, upstream.Config{Retry: 2, Breaker: upstream.Breaker{}})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { call(t, p, "GET") })
		}
		wg.Wait()
		if n := len(s.called()); n < 110 || n > 140 {
			t.Errorf("%d attempts for 100 calls that fail, want about 120 to 136", n)
		}
	})
}

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (forbidden) Error() string { return "address 10.1.2.3 is never allowed" }
func (forbidden) Denied() bool  { return true }

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
