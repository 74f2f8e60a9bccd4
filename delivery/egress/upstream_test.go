package egress_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"quorumhub/delivery/egress"
	"quorumhub/test/fake"
)

func upstreamClient(t *testing.T, urls, onLoopback []string, own ...string) *egress.Client {
	t.Helper()
	var addrs []netip.AddrPort
	for _, a := range own {
		addrs = append(addrs, netip.MustParseAddrPort(a))
	}
	c, err := egress.NewUpstreamClient(urls, onLoopback, addrs, egress.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestUpstreamAddresses is the table of what a name of an upstream may resolve to, and which literal addresses may be
// written.
func TestUpstreamAddresses(t *testing.T) {
	policy := upstreamClient(t,
		[]string{"http://hr.example", "https://hr.example:8443/base", "http://localhost:9100", "http://dev.localhost:9100", "http://box.example:9100",
			"http://127.0.0.1:9100", "http://10.1.2.3:81", "http://[::1]:9100", "http://[::ffff:192.168.0.1]:9100"},
		[]string{"box.example"}, "0.0.0.0:8443", "10.9.9.9:80").Policy()
	for _, c := range []struct {
		host, addr string
		ok         bool
	}{
		{"hr.example", "93.184.216.34:80", true},
		{"HR.example", "93.184.216.34:80", true},
		{"hr.example", "10.0.0.1:80", true}, // private: the operator has written the name
		{"hr.example", "[fd12::1]:8443", true},
		{"hr.example", "100.64.0.1:80", true},
		{"localhost", "127.0.0.1:9100", true},
		{"localhost", "[::1]:9100", true},
		{"dev.localhost", "127.0.0.1:9100", true},
		{"box.example", "127.0.0.1:9100", true},
		{"", "127.0.0.1:9100", true},
		{"", "[::ffff:127.0.0.1]:9100", true},
		{"", "10.1.2.3:81", true},
		{"", "[::1]:9100", true},
		{"", "192.168.0.1:9100", true},

		{"other.example", "93.184.216.34:80", false},
		{"a.hr.example", "93.184.216.34:80", false},
		{"hr.example", "93.184.216.34:8080", false}, // another port
		{"localhost", "127.0.0.1:80", false},
		{"", "127.0.0.1:9101", false},
		{"", "127.0.0.2:9100", false},
		{"", "10.1.2.3:80", false},
		{"hr.example", "127.0.0.1:80", false}, // rebound to this machine
		{"hr.example", "127.9.9.9:80", false},
		{"hr.example", "[::1]:80", false},
		{"hr.example", "[::ffff:127.0.0.1]:80", false},
		{"hr.example", "[64:ff9b::127.0.0.1]:80", false},
		{"hr.example", "[2002:7f00:1::1]:80", false},
		{"hr.example", "10.9.9.9:80", false}, // the hub itself
		{"hr.example", "[::ffff:10.9.9.9]:80", false},
		{"localhost", "127.0.0.1:8443", false},
		{"hr.example", "169.254.169.254:80", false}, // metadata, link-local, nobody in particular
		{"hr.example", "[::ffff:169.254.169.254]:80", false},
		{"hr.example", "[64:ff9b::169.254.169.254]:80", false},
		{"hr.example", "100.100.100.200:80", false},
		{"hr.example", "168.63.129.16:80", false},
		{"hr.example", "192.0.0.192:80", false},
		{"hr.example", "[fe80::1]:80", false},
		{"hr.example", "[fd00:ec2::254]:80", false},
		{"hr.example", "0.0.0.0:80", false},
		{"hr.example", "[::]:80", false},
		{"hr.example", "224.0.0.1:80", false},
		{"localhost", "169.254.169.254:9100", false},
	} {
		err := policy.CheckAddr(netip.MustParseAddrPort(c.addr), c.host)
		if ok := err == nil; ok != c.ok {
			t.Errorf("%q at %s: allowed %v (%v), want %v", c.host, c.addr, ok, err, c.ok)
		}
		var den *egress.DeniedError
		if err != nil && (!errors.As(err, &den) || !den.Denied()) {
			t.Errorf("%q at %s: %v is no DeniedError", c.host, c.addr, err)
		}
	}
	for text, ok := range map[string]bool{"http://hr.example/x": true, "https://HR.example:8443/": true, "http://127.0.0.1:9100/": true,
		"http://hr.example:8080/": false, "http://elsewhere.example/": false, "http://127.0.0.1/": false, "http://u@hr.example/": false} {
		u, _ := url.Parse(text)
		if err := policy.CheckURL(u); (err == nil) != ok {
			t.Errorf("%s: %v, want allowed %v", text, err, ok)
		}
	}
}

// TestUpstreamURLsThatCannotBeServed are refused with their place and what is expected.
func TestUpstreamURLsThatCannotBeServed(t *testing.T) {
	for text, want := range map[string]string{
		"http://169.254.169.254/latest": "never allowed",
		"http://[fe80::1]:80":           "never allowed",
		"http://0.0.0.0:9100":           "never allowed",
		"http://127.0.0.1:8080":         "this hub listens on",
		"http://[::1]:8080":             "this hub listens on",
		"http://0x7f.1:9100":            "octal, hexadecimal and short forms",
		"http://2130706433:9100":        "octal, hexadecimal and short forms",
		"http://hr.example.:9100":       "ends in a dot",
		"http://user:pass@hr.example":   "user name or password",
		"ftp://hr.example":              "expected http or https",
		"http://hr.example:0":           "1 to 65535",
		"http://":                       "no host",
		"http://[::1":                   "not a URL",
	} {
		_, err := egress.NewUpstreamClient([]string{"http://fine.example", text}, nil,
			[]netip.AddrPort{netip.MustParseAddrPort("[::]:8080")}, egress.ClientOptions{})
		if err == nil || !strings.HasPrefix(err.Error(), "urls[1]: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: got %v, want urls[1] and %q", text, err, want)
		}
	}
}

// TestUpstreamRebinding: a name of an upstream that resolves to this machine, to a metadata service or to the hub itself
// is not called, though it was a moment ago.
func TestUpstreamRebinding(t *testing.T) {
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
	(&fake.DNS{Answers: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"),
		netip.MustParseAddr("169.254.169.254")}}).Install(t)
	c := upstreamClient(t, []string{"http://flip.example:" + port}, []string{"flip.example"}, "127.0.0.2:"+port)
	if _, err := get(t, c, "http://flip.example:"+port+"/"); err != nil {
		t.Fatalf("first request: %v", err)
	}
	for _, what := range []string{"the hub itself", "a metadata service"} {
		c.CloseIdleConnections()
		_, err = get(t, c, "http://flip.example:"+port+"/")
		var den *egress.DeniedError
		if !errors.As(err, &den) {
			t.Errorf("rebound to %s: error %v, want a DeniedError", what, err)
		}
	}
	strict := upstreamClient(t, []string{"http://flop.example:" + port}, nil)
	(&fake.DNS{Answers: []netip.Addr{netip.MustParseAddr("127.0.0.2")}}).Install(t)
	var den *egress.DeniedError
	if _, err = get(t, strict, "http://flop.example:"+port+"/"); !errors.As(err, &den) || !strings.Contains(den.Message, "localhost") {
		t.Errorf("rebound to this machine: error %v, want a DeniedError with the way out", err)
	}
	if n := inside.Load(); n != 0 {
		t.Fatalf("the forbidden server was called %d times", n)
	}
}

// TestUpstreamClientGoesNowhereElse: not to other hosts or ports, whose names it does not even look up, not where a
// redirect points, and not through a proxy of the environment.
func TestUpstreamClientGoesNowhereElse(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer service.Close()
	t.Setenv("HTTP_PROXY", other.URL)
	t.Setenv("http_proxy", other.URL)
	dns := &fake.DNS{Answers: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	dns.Install(t)
	c := upstreamClient(t, []string{service.URL}, nil)

	req, _ := http.NewRequestWithContext(t.Context(), "POST", service.URL, strings.NewReader(strings.Repeat("x", 100_000)))
	resp, err := c.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || len(body) != 100_000 {
		t.Errorf("the service answered %d with %d bytes, %v", resp.StatusCode, len(body), err)
	}
	if resp, err := get(t, c, service.URL+"/away"); err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("redirect: got %v, %v; want it returned", resp, err)
	}
	for _, target := range []string{other.URL, "http://elsewhere.example/", "http://localhost:" + strings.Split(service.URL, ":")[2]} {
		var den *egress.DeniedError
		if _, err := get(t, c, target); !errors.As(err, &den) {
			t.Errorf("%s: error %v, want a DeniedError", target, err)
		}
	}
	if elsewhere.Load() != 0 || dns.Asked() != 0 {
		t.Errorf("%d requests went elsewhere, %d names were looked up", elsewhere.Load(), dns.Asked())
	}
}
