package delivery_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
)

// start starts a server and makes a pusher that trusts it.
func start(t *testing.T, s *httptest.Server, secure bool, o delivery.ClientOptions) *delivery.Pusher {
	t.Helper()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.StartTLS()
		o.RootCAs = x509.NewCertPool()
		o.RootCAs.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	c := delivery.NewClient(policy(t, delivery.PolicyOptions{Mode: delivery.ModeDevLoopback}), o)
	t.Cleanup(c.Close)
	return &delivery.Pusher{Client: c, Clock: hub.SystemClock{}, UserAgent: "quorumhub/test"}
}

// connCounter counts the connections of a server, all of them and those open.
func connCounter(s *httptest.Server) (all, open *atomic.Int64) {
	all, open = new(atomic.Int64), new(atomic.Int64)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			all.Add(1)
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		default:
		}
	}
	return all, open
}

func TestPushReusesConnections(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("chunked") {
				w.(http.Flusher).Flush()
			}
			if r.URL.Query().Has("close") {
				w.Header().Set("Connection", "close")
			}
			_, _ = io.WriteString(w, "thank you")
		}))
		all, _ := connCounter(s)
		p := start(t, s, secure, delivery.ClientOptions{})
		for _, query := range []string{"/a", "/b?chunked", "/c"} {
			e := endpoint(t, p, s.URL+query, nil)
			for range 5 {
				if res := p.Push(t.Context(), e, delivery.Content{Body: []byte("x")}); res.Outcome != delivery.PushDelivered {
					t.Fatalf("TLS %v: %+v", secure, res)
				}
			}
		}
		if n := all.Load(); n != 1 {
			t.Errorf("TLS %v: %d connections, want 1", secure, n)
		}
		for range 3 {
			p.Push(t.Context(), endpoint(t, p, s.URL+"/?close", nil), delivery.Content{Body: []byte("x")})
		}
		if n := all.Load(); n != 3 {
			t.Errorf("TLS %v: %d connections, want 3: one and two more after a close each", secure, n)
		}
	}
}

// TestIdleConnectionsAreBounded by host, altogether and by time.
func TestIdleConnectionsAreBounded(t *testing.T) {
	const at = 6
	run := func(t *testing.T, o delivery.ClientOptions) (p *delivery.Pusher, open *atomic.Int64) {
		gate := make(chan struct{})
		var arrived atomic.Int64
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if arrived.Add(1) == at {
				close(gate)
			}
			<-gate
		}))
		_, open = connCounter(s)
		p = start(t, s, false, o)
		var wg sync.WaitGroup
		for i := range at {
			// Two names of one server, so that there are two pools.
			target := s.URL
			if i%2 == 1 {
				target = strings.Replace(target, "127.0.0.1", "localhost", 1)
			}
			e := endpoint(t, p, target, nil)
			wg.Go(func() {
				if res := p.Push(t.Context(), e, delivery.Content{}); res.Outcome != delivery.PushDelivered {
					t.Errorf("%+v", res)
				}
			})
		}
		wg.Wait()
		return p, open
	}
	t.Run("host", func(t *testing.T) {
		_, open := run(t, delivery.ClientOptions{MaxIdlePerHost: 2})
		eventually(t, "four connections left", func() bool { return open.Load() == 4 })
	})
	t.Run("all", func(t *testing.T) {
		_, open := run(t, delivery.ClientOptions{MaxIdlePerHost: 3, MaxIdle: 4})
		eventually(t, "four connections left", func() bool { return open.Load() == 4 })
	})
	t.Run("time", func(t *testing.T) {
		_, open := run(t, delivery.ClientOptions{IdleTimeout: 20 * time.Millisecond})
		eventually(t, "no connection left", func() bool { return open.Load() == 0 })
	})
	t.Run("close", func(t *testing.T) {
		p, open := run(t, delivery.ClientOptions{})
		p.Client.(*delivery.Client).Close()
		eventually(t, "no connection left", func() bool { return open.Load() == 0 })
	})
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(limit) {
			t.Fatalf("not within 30 s: %s", what)
		}
		runtime.Gosched()
	}
}

func TestPushTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	trusting := start(t, s, true, delivery.ClientOptions{})
	c := delivery.Content{Body: []byte("x")}
	if res := trusting.Push(t.Context(), endpoint(t, trusting, s.URL, nil), c); res.Outcome != delivery.PushDelivered {
		t.Errorf("%+v", res)
	}
	// The test certificate is for example.com and 127.0.0.1.
	other := strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	if res := trusting.Push(t.Context(), endpoint(t, trusting, other, nil), c); res.Outcome != delivery.PushDown || res.Reason != delivery.ReasonTLS {
		t.Errorf("another name: %+v", res)
	}
	p := pusher(t)
	if res := p.Push(t.Context(), endpoint(t, p, s.URL, nil), c); res.Outcome != delivery.PushDown || res.Reason != delivery.ReasonTLS {
		t.Errorf("unknown authority: %+v", res)
	}
	plain := strings.Replace(s.URL, "https", "http", 1)
	if res := p.Push(t.Context(), endpoint(t, p, plain, nil), c); res.Status != 400 {
		t.Errorf("plain HTTP to a TLS port: %+v", res)
	}
	u, _ := url.Parse(record(t, func(http.ResponseWriter, *http.Request) {}).URL)
	u.Scheme = "https"
	if res := p.Push(t.Context(), endpoint(t, p, u.String(), nil), c); res.Outcome != delivery.PushDown || res.Reason != delivery.ReasonTLS {
		t.Errorf("TLS to a plain HTTP port: %+v", res)
	}
}

// TestPushHTTP2Only: a server that refuses anything but HTTP/2 gets its messages too.
func TestPushHTTP2Only(t *testing.T) {
	var got atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.ProtoMajor == 2 && string(b) == "x" && r.Header.Get("X-Hub-Message-Id") == "1-1" {
			got.Add(1)
		}
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(503)
	}))
	s.EnableHTTP2 = true
	var certs []tls.Certificate
	s.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		proto := "something else"
		for _, p := range hello.SupportedProtos {
			if p == "h2" {
				proto = "h2"
			}
		}
		return &tls.Config{Certificates: certs, NextProtos: []string{proto}}, nil
	}}
	p := start(t, s, true, delivery.ClientOptions{})
	certs = s.TLS.Certificates
	e := endpoint(t, p, s.URL, nil)
	for range 3 {
		res := p.Push(t.Context(), e, delivery.Content{Body: []byte("x"), MessageID: "1-1"})
		if res.Status != 503 || res.RetryAfter != 5*time.Second {
			t.Errorf("%+v", res)
		}
	}
	if n := got.Load(); n != 3 {
		t.Errorf("%d requests by HTTP/2, want 3", n)
	}
}

// TestPushRebinding is TestEgressRebinding for deliveries: each new connection is judged by its address.
func TestPushRebinding(t *testing.T) {
	var inside, outside atomic.Int32
	outer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { outside.Add(1) }))
	defer outer.Close()
	_, port, _ := net.SplitHostPort(outer.Listener.Addr().String())
	l, err := net.Listen("tcp4", "127.0.0.2:"+port)
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	inner := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) { inside.Add(1) })}}
	inner.Start()
	defer inner.Close()
	t.Setenv("HTTP_PROXY", inner.URL)
	t.Setenv("http_proxy", inner.URL)

	dns := &fakeDNS{answers: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}}
	c := delivery.NewClient(policy(t, delivery.PolicyOptions{Mode: delivery.ModeEdge, AllowCIDRs: prefixes(t, "127.0.0.1/32")}),
		delivery.ClientOptions{Resolver: dns.resolver()})
	defer c.Close()
	p := &delivery.Pusher{Client: c, Clock: hub.SystemClock{}, UserAgent: "quorumhub/test"}
	e := endpoint(t, p, fmt.Sprintf("http://flip.example:%s/", port), nil)
	if res := p.Push(t.Context(), e, delivery.Content{}); res.Outcome != delivery.PushDelivered {
		t.Fatalf("first: %+v", res)
	}
	c.Close()
	if res := p.Push(t.Context(), e, delivery.Content{}); res.Outcome != delivery.PushRefused || res.Reason != delivery.ReasonDenied {
		t.Errorf("second: %+v", res)
	}
	if inside.Load() != 0 || outside.Load() != 1 {
		t.Errorf("inside called %d times, outside %d", inside.Load(), outside.Load())
	}
}
