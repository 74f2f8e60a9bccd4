package egress_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/test/fake"
)

// tunnels is a proxy that leads every name to one address and answers CONNECT as answer says; empty: a tunnel.
type tunnels struct {
	URL *url.URL
	to  string

	mu     sync.Mutex
	answer string
	asked  []string // targets
	auth   []string
}

// newTunnels starts a proxy. Everything ends with the test.
func newTunnels(t *testing.T, to string, config *tls.Config) *tunnels {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &tunnels{URL: &url.URL{Scheme: "http", Host: l.Addr().String()}, to: to}
	if config != nil {
		l = tls.NewListener(l, config)
		x.URL.Scheme = "https"
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { x.serve(t.Context(), c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	return x
}

func (x *tunnels) serve(ctx context.Context, c net.Conn) {
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	x.mu.Lock()
	x.asked, x.auth = append(x.asked, req.Method+" "+req.RequestURI), append(x.auth, req.Header.Get("Proxy-Authorization"))
	answer := x.answer
	x.mu.Unlock()
	switch answer {
	case "":
	case "silence":
		<-ctx.Done()
		return
	default:
		_, _ = io.WriteString(c, answer)
		return
	}
	out, err := net.Dial("tcp", x.to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	defer context.AfterFunc(ctx, func() { _ = out.Close() })()
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, out)
		_ = c.Close()
	}()
	_, _ = io.Copy(out, br)
	_ = out.Close()
	<-back
}

func (x *tunnels) seen() (asked, auth []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.asked), slices.Clone(x.auth)
}

func throughProxy(t *testing.T, o egress.PolicyOptions, rules *egress.TLSRules) *egress.Client {
	t.Helper()
	c := egress.NewClient(fake.Policy(t, o), egress.ClientOptions{TLS: rules})
	t.Cleanup(c.Close)
	return c
}

// Both kinds of requests, to http and https targets, go through tunnels of the proxy, and connections are reused.
func TestEgressThroughAProxy(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var overTLS *tls.Config // of the proxy
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Host)
		})
		s := httptest.NewUnstartedServer(handler)
		var rules *egress.TLSRules
		if secure {
			s.StartTLS()
			ca := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
				t.Fatal(err)
			}
			var err error
			if rules, err = egress.NewTLSRules([]egress.TLSRule{{Hosts: []string{"example.com", "127.0.0.1"}, CA: ca}}); err != nil {
				t.Fatal(err)
			}
			overTLS = &tls.Config{Certificates: s.TLS.Certificates}
		} else {
			s.Start()
		}
		defer s.Close()
		x := newTunnels(t, s.Listener.Addr().String(), overTLS)
		c := throughProxy(t, egress.PolicyOptions{Proxy: x.URL, ProxyAuth: "hub:s3cret"}, rules)
		target := "http://example.com/cb"
		if secure {
			target = "https://example.com/cb"
		}
		for range 3 {
			if got := post(t.Context(), t, c, target, []byte("x")); got.status != 200 {
				t.Fatalf("%s: Post: %+v", target, got)
			}
			if resp, err := get(t, c, target); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: RoundTrip: %v", target, err)
			}
		}
		port := map[bool]string{false: "80", true: "443"}[secure]
		asked, auth := x.seen()
		if want := "CONNECT example.com:" + port; len(asked) != 2 || asked[0] != want || asked[1] != want {
			t.Errorf("the proxy was asked %q, want twice %q", asked, want)
		}
		if auth[0] != "Basic aHViOnMzY3JldA==" {
			t.Errorf("Proxy-Authorization %q", auth[0])
		}
	}
}

// The guard judges what it can see of a target, before the proxy is asked; and the proxy's own address.
func TestEgressPolicyWithAProxy(t *testing.T) {
	x := newTunnels(t, "127.0.0.1:1", nil)
	public := egress.PolicyOptions{Proxy: x.URL}
	edge := egress.PolicyOptions{Mode: egress.ModeEdge, Proxy: x.URL, AllowHosts: []string{"hooks.corp", "*.plant.internal"},
		AllowCIDRs: fake.Prefixes(t, "10.0.0.0/8", "127.0.0.0/8")}
	for _, tt := range []struct {
		o      egress.PolicyOptions
		target string
		want   bool
	}{
		{public, "http://example.com/", true}, {public, "https://93.184.216.34/", true},
		{public, "http://10.1.2.3/", false}, {public, "http://127.0.0.1/", false}, {public, "http://[::1]/", false},
		{public, "http://169.254.169.254/", false}, {public, "http://[64:ff9b::a9fe:a9fe]/", false},
		{public, "http://localhost/", false}, {public, "http://a.localhost/", false}, {public, "http://printer/", false},
		{public, "http://metadata.google.internal/", false}, {public, "http://METADATA.google.INTERNAL/", false},
		{public, "http://nas.local/", false}, {public, "http://hooks.corp/", false}, {public, "http://router.home.arpa/", false},
		{public, "http://example.com:22/", false}, {public, "http://2130706433/", false},
		{edge, "http://hooks.corp/", true}, {edge, "http://a.plant.internal/", true}, {edge, "http://b.corp/", false},
		{edge, "http://10.1.2.3/", true}, {edge, "http://192.168.1.1/", false},
		{edge, "http://localhost/", false}, {edge, "http://127.0.0.1/", false},
	} {
		p := fake.Policy(t, tt.o)
		u, err := url.Parse(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.CheckURL(u); (err == nil) != tt.want {
			t.Errorf("%s, mode %s: CheckURL %v, want allowed = %v", tt.target, tt.o.Mode, err, tt.want)
		}
		if tt.want {
			continue
		}
		var den *egress.DeniedError
		if _, err := get(t, throughProxy(t, tt.o, nil), tt.target); !errors.As(err, &den) {
			t.Errorf("%s, mode %s: request: %v, want a DeniedError", tt.target, tt.o.Mode, err)
		}
	}
	if asked, _ := x.seen(); len(asked) > 0 {
		t.Errorf("the proxy was asked for %q", asked)
	}
	own := netip.MustParseAddrPort(x.URL.Host)
	for _, o := range []egress.PolicyOptions{
		{Proxy: x.URL, DenyAddrs: []netip.AddrPort{own}},
		{Proxy: &url.URL{Scheme: "http", Host: "169.254.169.254:3128"}},
	} {
		var den *egress.DeniedError
		if _, err := get(t, throughProxy(t, o, nil), "http://example.com/"); !errors.As(err, &den) {
			t.Errorf("proxy %s: %v, want a DeniedError", o.Proxy, err)
		}
	}
}

func TestEgressProxyFailures(t *testing.T) {
	x := newTunnels(t, "127.0.0.1:1", nil)
	c := throughProxy(t, egress.PolicyOptions{Proxy: x.URL}, nil)
	for answer, want := range map[string]egress.Reason{
		"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n": egress.ReasonProxy, "HTTP/1.1 403 Forbidden\r\n\r\n": egress.ReasonProxy,
		"HTTP/1.1 502 Bad Gateway\r\n\r\n": egress.ReasonProxy, "SSH-2.0-x\r\n\r\n": egress.ReasonProxy, "HTTP/1.1 200": egress.ReasonProxy,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n": egress.ReasonProxy,
	} {
		x.mu.Lock()
		x.answer = answer
		x.mu.Unlock()
		if got := post(t.Context(), t, c, "http://example.com/", []byte("x")); got.reason != want {
			t.Errorf("%.30q: reason %q, want %q", answer, got.reason, want)
		}
	}
	x.mu.Lock()
	x.answer = "silence"
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got := post(ctx, t, c, "http://example.com/", []byte("x")); got.reason != egress.ReasonTimeout {
		t.Errorf("a proxy that says nothing: reason %q, want a timeout", got.reason)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := &url.URL{Scheme: "http", Host: l.Addr().String()}
	_ = l.Close()
	if got := post(t.Context(), t, throughProxy(t, egress.PolicyOptions{Proxy: gone}, nil), "http://example.com/", nil); got.reason != egress.ReasonProxy {
		t.Errorf("a proxy that is down: reason %q", got.reason)
	}
}

func TestEgressProxyOptions(t *testing.T) {
	for _, text := range []string{"ftp://p:1", "http://u:p@p:1", "http://p:1/path", "http://p:1?x", "http://p:0", "http://0x7f.1:3128", "http:"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := egress.NewPolicy(egress.PolicyOptions{Proxy: u}); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
	if _, err := egress.NewPolicy(egress.PolicyOptions{ProxyAuth: "a:b"}); err == nil {
		t.Error("credentials without a proxy were accepted")
	}
	u := &url.URL{Scheme: "http", Host: "p:1"}
	for _, auth := range []string{"s3cret", ":s3cret", "s3cret:b\r\nX: y"} {
		if _, err := egress.NewPolicy(egress.PolicyOptions{Proxy: u, ProxyAuth: auth}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("credentials %q: %v", auth, err)
		}
	}
}
