package egress_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"quorumhub/delivery/egress"
	"quorumhub/test/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, c *egress.Client, target string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.RoundTrip(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return resp, err
}

// TestEgressRebinding: a name that passed the check at registration, and even a first request, is not called once it
// resolves to a forbidden address where something listens.
func TestEgressRebinding(t *testing.T) {
	var inside atomic.Int32
	outer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
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

	dns := &fake.DNS{Answers: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}}
	p := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowCIDRs: fake.Prefixes(t, "127.0.0.1/32")})
	dns.Install(t)
	c := egress.NewClient(p, egress.ClientOptions{})
	defer c.Close()

	target := "http://flip.example:" + port + "/"
	u, _ := url.Parse(target)
	if err := p.CheckURL(u); err != nil {
		t.Fatalf("CheckURL: %v", err)
	}
	if _, err := get(t, c, target); err != nil {
		t.Fatalf("first request: %v", err)
	}
	c.Close() // the pooled connection to the first address
	_, err = get(t, c, target)
	var den *egress.DeniedError
	if !errors.As(err, &den) {
		t.Fatalf("second request: error %v, want a DeniedError", err)
	}
	if n := inside.Load(); n != 0 {
		t.Fatalf("the forbidden server was called %d times", n)
	}
}

func TestEgressFollowsNoRedirect(t *testing.T) {
	var reached atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			reached.Add(1)
			return
		}
		http.Redirect(w, r, "/next", http.StatusFound)
	}))
	defer s.Close()
	c := fake.DevClient(t)
	resp, err := get(t, c, s.URL)
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("got %v, %v; want the redirect itself", resp, err)
	}
	hr, err := c.HTTPClient(0).Get(s.URL)
	if err != nil || hr.StatusCode != http.StatusFound {
		t.Fatalf("HTTPClient: got %v, %v; want the redirect itself", hr, err)
	}
	_ = hr.Body.Close()
	if reached.Load() != 0 {
		t.Fatal("the redirect was followed")
	}
}

func TestEgressReusesConnections(t *testing.T) {
	var conns atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "some answer")
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := fake.DevClient(t)
	for range 10 {
		if _, err := get(t, c, s.URL); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Fatalf("%d connections for 10 requests, want 1", n)
	}
}

// TestEgressIgnoresProxyEnvironment: a proxy would connect on our behalf, unguarded.
func TestEgressIgnoresProxyEnvironment(t *testing.T) {
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	(&fake.DNS{Answers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}).Install(t)
	c := egress.NewClient(fake.Policy(t, egress.PolicyOptions{}), egress.ClientOptions{})
	defer c.Close()
	var den *egress.DeniedError
	if _, err := get(t, c, "http://inside.example/"); !errors.As(err, &den) {
		t.Fatalf("error %v, want a DeniedError", err)
	}
	if proxied.Load() != 0 {
		t.Fatal("the request went through the proxy")
	}
}

// posted is the outcome of Client.Post: a status, or the class of the failure.
type posted struct {
	status int
	reason egress.Reason
}

func post(ctx context.Context, t testing.TB, c *egress.Client, target string, body []byte, fields ...egress.Field) posted {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	r, err := egress.NewRoute(http.MethodPost, u, "quorumhub/test")
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Post(ctx, &r, fields, body)
	return posted{a.Status, egress.Classify(ctx, err)}
}
