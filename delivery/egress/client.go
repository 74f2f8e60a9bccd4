package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of what a called server may send before a body starts.
const (
	maxResponseHeaderBytes = 32 << 10
	defaultDialTimeout     = 10 * time.Second
	defaultHeaderTimeout   = 60 * time.Second
	defaultIdleTimeout     = 60 * time.Second
	defaultMaxIdle         = 2048
	handshakeTimeout       = 10 * time.Second
)

// ClientOptions tunes a Client. The zero value is ready to use.
type ClientOptions struct {
	Resolver      *net.Resolver // nil: the system's
	DialTimeout   time.Duration // one connection with its name lookup; 0: 10 s
	HeaderTimeout time.Duration // of RoundTrip, from the end of the request to the response header; 0: 60 s
	// MaxIdlePerHost is the number of idle connections kept for one host; 0: 256. It must not be below the
	// number of requests usually in flight to one host, or connections are thrown away after each use.
	MaxIdlePerHost int
	// MaxIdle is the number of idle connections kept for deliveries to all hosts together; 0: 2048. The one that
	// was idle for longest makes room.
	MaxIdle int
	// IdleTimeout is how long a connection is kept without use; 0: 60 s.
	IdleTimeout time.Duration
	// RootCAs are the certificate authorities to trust; nil: the system's.
	RootCAs *x509.CertPool
	// TLS are the certificates of hosts that have their own; nil: none has.
	TLS *TLSRules
}

// Client is the guarded HTTP client: every connection it makes passed its Policy on the concrete address,
// at the moment of dialling. It follows no redirect, uses no proxy, keeps no cookies and decodes nothing.
// RoundTrip goes through net/http; a Pusher makes its requests over connections of the Client's own, which
// leave by the same dialler. Safe for concurrent use.
type Client struct {
	policy    *Policy
	transport *http.Transport
	wires     *wirePool
	rules     *TLSRules

	mu     sync.Mutex
	byRule map[*tls.Config]*http.Transport // for hosts with a rule: one pool for each rule and its files
}

// NewClient builds a client with its own connection pool. Close it when done.
func NewClient(p *Policy, o ClientOptions) *Client {
	d := &net.Dialer{
		Timeout:   cmp.Or(o.DialTimeout, defaultDialTimeout),
		KeepAlive: 30 * time.Second,
		Resolver:  o.Resolver,
		ControlContext: func(ctx context.Context, network, address string, _ syscall.RawConn) error {
			return p.checkDial(ctx, network, address)
		},
	}
	maxIdle := o.MaxIdlePerHost
	if maxIdle <= 0 {
		maxIdle = 256
	}
	// The only way out: both kinds of connections are made here.
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		return d.DialContext(context.WithValue(ctx, dialHost{}, host), network, address)
	}
	idleTimeout := cmp.Or(o.IdleTimeout, defaultIdleTimeout)
	wires := newWirePool(dial, o.RootCAs, maxIdle, o.MaxIdle, idleTimeout)
	wires.rules = o.TLS
	return &Client{policy: p, wires: wires, rules: o.TLS, byRule: map[*tls.Config]*http.Transport{}, transport: &http.Transport{
		Proxy:                  nil, // never from the environment: the guard would check the proxy's address only
		DialContext:            dial,
		TLSClientConfig:        noticing(&tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}),
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           0, // bounded per host and by IdleConnTimeout
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  cmp.Or(o.HeaderTimeout, defaultHeaderTimeout),
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		WriteBufferSize:        8 << 10, // a small message with its header leaves in one packet
		ReadBufferSize:         2 << 10, // answers are short
	}}
}

// Policy is what the client was made with.
func (c *Client) Policy() *Policy { return c.policy }

// RoundTrip makes one request and follows nothing: a redirect is an answer like any other.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	asked := new(atomic.Bool)
	resp, err := c.transportFor(req).RoundTrip(req.WithContext(context.WithValue(req.Context(), certificateAsked{}, asked)))
	if err != nil && asked.Load() {
		err = refusedCertificate(err)
	}
	return resp, err
}

// transportFor is the pool for a request. A rule whose files were renewed gets a new one, and the old one's idle connections end.
func (c *Client) transportFor(req *http.Request) *http.Transport {
	if c.rules == nil || req.URL.Scheme != "https" {
		return c.transport
	}
	port := req.URL.Port()
	if port == "" {
		port = "443"
	}
	config := c.rules.of(req.URL.Hostname(), port)
	if config == nil {
		return c.transport
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byRule[config]
	if t == nil {
		for old, of := range c.byRule {
			if !c.rules.inForce(old) {
				of.CloseIdleConnections()
				delete(c.byRule, old)
			}
		}
		t = c.transport.Clone()
		t.TLSClientConfig = noticing(config.Clone())
		c.byRule[config] = t
	}
	return t
}

// HTTPClient is a *http.Client whose requests go through RoundTrip, for libraries that want one. It returns a
// redirect as it is instead of following it.
func (c *Client) HTTPClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     c,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close closes the idle connections. Requests under way are not touched.
func (c *Client) Close() {
	c.wires.close()
	c.transport.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.byRule {
		t.CloseIdleConnections()
	}
}

// dialHost is the context key of the host name a dial is made for.
type dialHost struct{}

// checkDial judges one concrete address right before the connection is made.
func (p *Policy) checkDial(ctx context.Context, network, address string) error {
	if network != "tcp4" && network != "tcp6" {
		return denied("network %q is not allowed", network)
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return denied("address %q cannot be read", address)
	}
	host, _ := ctx.Value(dialHost{}).(string)
	if _, err := netip.ParseAddr(host); err == nil {
		host = ""
	}
	if err := p.CheckAddr(a, host); err != nil {
		return err
	}
	if check, ok := ctx.Value(addrCheck{}).(func(netip.Addr) error); ok {
		return check(a.Addr())
	}
	return nil
}

// addrCheck is the context key of what WithAddrCheck adds.
type addrCheck struct{}

// WithAddrCheck returns a context for requests whose connections check must allow too. It is called with the concrete
// address of each new connection, after the Policy allowed that and right before the dial. Its error ends the request,
// whose error wraps it.
func WithAddrCheck(ctx context.Context, check func(netip.Addr) error) context.Context {
	return context.WithValue(ctx, addrCheck{}, check)
}
