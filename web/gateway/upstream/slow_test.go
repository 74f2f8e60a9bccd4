package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/web/gateway/upstream"
)

// TestSlowUpstream: no wait for it is unbounded: not for the header, not for the next piece, not for it to take the next one.
func TestSlowUpstream(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	wait := func() { <-release }
	const limit = 300 * time.Millisecond
	cfg := func(url string) upstream.Config {
		return upstream.Config{URLs: []string{url}, Timeout: limit, IdleTimeout: limit}
	}
	silent := newPool(t, transport(t), cfg(rawService(t, func(string, net.Conn) { wait() })))
	expect(t, "no header", call(t, silent, "GET"), "timeout")

	stops := newPool(t, transport(t), cfg(rawService(t, func(_ string, c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
		wait()
	})))
	expect(t, "no next piece", call(t, stops, "GET"), "timeout")

	takesNothing := newPool(t, transport(t), cfg(rawService(t, func(string, net.Conn) { wait() })))
	endless := &upstream.Request{Method: "POST", Target: "/", ContentLength: -1, Body: endless{}}
	expect(t, "takes nothing", outcome(takesNothing.Call(t.Context(), endless)), "timeout")

	// What moves may take longer than the limits.
	moves := newPool(t, transport(t), cfg(rawService(t, func(_ string, c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
		for range 10 {
			time.Sleep(limit / 4)
			_, _ = io.WriteString(c, "x")
		}
	})))
	expect(t, "a response that moves", call(t, moves, "GET"), "200")
	takes := newPool(t, transport(t), cfg(rawService(t, func(head string, c net.Conn) {
		_, _ = io.CopyN(io.Discard, c, 10)
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})))
	slowClient := &upstream.Request{Method: "POST", Target: "/", ContentLength: 10, Body: &trickle{n: 10, every: limit / 4}}
	expect(t, "a request that moves", outcome(takes.Call(t.Context(), slowClient)), "204")
	stalls := &upstream.Request{Method: "POST", Target: "/", ContentLength: 10, Body: &trickle{n: 10, every: limit / 4, stall: 3 * limit}}
	expect(t, "a client that stalls is not the upstream's fault", outcome(takes.Call(t.Context(), stalls)), "204")
}

type endless struct{}

// trickle yields n bytes, one at a time.
type trickle struct {
	n     int
	every time.Duration
	stall time.Duration // before the last byte
}

// TestEarlyAnswer: an upstream that answers before it has the whole body ends the upload; the client has the answer at
// once, and nobody reads the client's body any more.
func TestEarlyAnswer(t *testing.T) {
	url := rawService(t, func(_ string, c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
		_, _ = io.Copy(io.Discard, c)
	})
	p := newPool(t, transport(t), upstream.Config{URLs: []string{url}})
	start := time.Now()
	got := exchange(t, gateway(t, p).URL, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nthe client sends no more and waits")
	if !strings.Contains(got, "413") || !strings.HasSuffix(got, "too large") {
		t.Errorf("the client got %q", got)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}

	in, out := io.Pipe()
	defer out.Close()
	body := &watched{Reader: in}
	interrupted := 0
	resp, err := p.Call(t.Context(), &upstream.Request{Method: "POST", Target: "/", ContentLength: -1, Body: body, Interrupt: func() {
		interrupted++
		in.CloseWithError(errors.New("interrupted"))
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if n := body.reads.Load(); n != 0 || interrupted > 1 {
		t.Errorf("after the end %d reads are under way; interrupted %d times", n, interrupted)
	}
}

// watched counts the reads under way.
type watched struct {
	io.Reader
	reads atomic.Int32
}

// TestClientThatLeavesEndsTheCall at the upstream, during the wait and in the middle of a response.
func TestClientThatLeavesEndsTheCall(t *testing.T) {
	ended := make(chan struct{}, 2)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begins" {
			_, _ = io.WriteString(w, "begins")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		ended <- struct{}{}
	}))
	defer service.Close()
	p := newPool(t, transport(t), upstream.Config{URLs: []string{service.URL}, Breaker: upstream.Breaker{Failures: 1}})
	front := gateway(t, p)
	for _, path := range []string{"/waits", "/begins"} {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", front.URL+path, nil)
		time.AfterFunc(100*time.Millisecond, cancel)
		if resp, err := transport(t).RoundTrip(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the upstream goes on", path)
		}
	}
	waitFor(t, "the calls' end", func() bool { return p.Status().InFlight == 0 })
	if st := p.Status(); st.Breaker != upstream.StateClosed {
		t.Errorf("status %+v", st)
	}
}
