package egress_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/test/fake"
)

// start starts a server and returns a client that trusts it.
func start(t *testing.T, s *httptest.Server, secure bool, o egress.ClientOptions) *egress.Client {
	t.Helper()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.StartTLS()
		o.TLS = fake.Trust(t, s)
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	c := egress.NewClient(fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeDevLoopback}), o)
	t.Cleanup(c.Close)
	return c
}

// connCounter counts a server's connections, all and open ones.
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

func TestPostReusesConnections(t *testing.T) {
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
		client := start(t, s, secure, egress.ClientOptions{})
		for _, query := range []string{"/a", "/b?chunked", "/c"} {
			for range 5 {
				if res := post(t.Context(), t, client, s.URL+query, []byte("x")); res.status != 200 {
					t.Fatalf("TLS %v: %+v", secure, res)
				}
			}
		}
		if n := all.Load(); n != 1 {
			t.Errorf("TLS %v: %d connections, want 1", secure, n)
		}
		for range 3 {
			post(t.Context(), t, client, s.URL+"/?close", []byte("x"))
		}
		if n := all.Load(); n != 3 {
			t.Errorf("TLS %v: %d connections, want 3: one and two more after a close each", secure, n)
		}
	}
}

// TestIdleConnectionsAreBounded per host, in total and by time.
func TestIdleConnectionsAreBounded(t *testing.T) {
	const at = 6
	run := func(t *testing.T, o egress.ClientOptions) (client *egress.Client, open *atomic.Int64) {
		gate := make(chan struct{})
		var arrived atomic.Int64
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if arrived.Add(1) == at {
				close(gate)
			}
			<-gate
		}))
		_, open = connCounter(s)
		client = start(t, s, false, o)
		var wg sync.WaitGroup
		for i := range at {
			// Two names for one server make two pools.
			target := s.URL
			if i%2 == 1 {
				target = strings.Replace(target, "127.0.0.1", "localhost", 1)
			}
			wg.Go(func() {
				if res := post(t.Context(), t, client, target, nil); res.status != 200 {
					t.Errorf("%+v", res)
				}
			})
		}
		wg.Wait()
		return client, open
	}
	t.Run("host", func(t *testing.T) {
		_, open := run(t, egress.ClientOptions{MaxIdlePerHost: 2})
		fake.Eventually(t, "four connections left", func() bool { return open.Load() == 4 })
	})
	t.Run("all", func(t *testing.T) {
		_, open := run(t, egress.ClientOptions{MaxIdlePerHost: 3, MaxIdle: 4})
		fake.Eventually(t, "four connections left", func() bool { return open.Load() == 4 })
	})
	t.Run("time", func(t *testing.T) {
		_, open := run(t, egress.ClientOptions{IdleTimeout: 20 * time.Millisecond})
		fake.Eventually(t, "no connection left", func() bool { return open.Load() == 0 })
	})
	t.Run("close", func(t *testing.T) {
		client, open := run(t, egress.ClientOptions{})
		client.Close()
		fake.Eventually(t, "no connection left", func() bool { return open.Load() == 0 })
	})
}

func TestPostTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	trusting, other := start(t, s, true, egress.ClientOptions{}), fake.DevClient(t)
	refused := posted{reason: egress.ReasonTLS}
	plain, err := url.Parse(fake.Record(t, func(http.ResponseWriter, *http.Request) {}).URL)
	if err != nil {
		t.Fatal(err)
	}
	plain.Scheme = "https"
	for name, tc := range map[string]struct {
		client *egress.Client
		url    string
		want   posted
	}{
		"trusted": {trusting, s.URL, posted{status: 200}},
		// The test certificate is for example.com and 127.0.0.1.
		"another name":             {trusting, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), refused},
		"unknown authority":        {other, s.URL, refused},
		"plain HTTP to a TLS port": {other, strings.Replace(s.URL, "https", "http", 1), posted{status: 400}},
		"TLS to a plain HTTP port": {other, plain.String(), refused},
	} {
		if got := post(t.Context(), t, tc.client, tc.url, []byte("x")); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// TestPostRebinding is TestEgressRebinding for Post: each new connection is checked by its address.
func TestPostRebinding(t *testing.T) {
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

	dns := &fake.DNS{Answers: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}}
	dns.Install(t)
	c := egress.NewClient(fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowCIDRs: fake.Prefixes(t, "127.0.0.1/32")}), egress.ClientOptions{})
	defer c.Close()
	target := fmt.Sprintf("http://flip.example:%s/", port)
	if res := post(t.Context(), t, c, target, nil); res.status != 200 {
		t.Fatalf("first: %+v", res)
	}
	c.Close()
	if res := post(t.Context(), t, c, target, nil); res.reason != egress.ReasonDenied {
		t.Errorf("second: %+v", res)
	}
	if inside.Load() != 0 || outside.Load() != 1 {
		t.Errorf("inside called %d times, outside %d", inside.Load(), outside.Load())
	}
}
