package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxResponseHeaderBytes = 32 << 10
	dialTimeout            = 10 * time.Second // name lookup included
	handshakeTimeout       = 10 * time.Second
	headerTimeout          = 60 * time.Second // from the end of the request to the response header
)

// ClientOptions configures a Client. The zero value is ready to use.
type ClientOptions struct {
	// MaxIdlePerHost is the number of idle connections kept for one host; 0: 256. It must not be below the usual
	// number of requests in flight to one host, or connections are discarded after each use.
	MaxIdlePerHost int
	// MaxIdle is the number of idle connections that Post keeps for all hosts together; 0: 2048. The one that has
	// been idle for longest makes room.
	MaxIdle int
	// IdleTimeout is how long an unused connection is kept; 0: 60 s.
	IdleTimeout time.Duration
	// ConnectTimeout bounds the making of a connection, name lookup included; 0: 10 s.
	ConnectTimeout time.Duration
	// TLS holds the rules of hosts that have their own certificates; nil: none.
	TLS *TLSRules
}

// Client is the guarded HTTP client: the Policy has allowed the concrete address of every connection it makes, right
// before the dial. It follows no redirects, uses no proxy but the Policy's, keeps no cookies and decodes nothing. RoundTrip and
// HTTPClient go through net/http; Post uses connections of the Client's own, made by the same dialer. Safe for
// concurrent use.
type Client struct {
	policy    *Policy
	transport *http.Transport
	wires     *wirePool
	rules     *TLSRules

	mu     sync.Mutex
	byRule map[*tls.Config]*http.Transport // for hosts with a rule: one pool per rule and version of its files
}

// NewClient returns a client with its own connection pools. Close it when done.
func NewClient(p *Policy, o ClientOptions) *Client {
	o.MaxIdlePerHost = cmp.Or(o.MaxIdlePerHost, 256)
	o.MaxIdle = max(cmp.Or(o.MaxIdle, 2048), o.MaxIdlePerHost)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 60*time.Second)
	d := &net.Dialer{
		Timeout:   cmp.Or(o.ConnectTimeout, dialTimeout),
		KeepAlive: 30 * time.Second,
		ControlContext: func(ctx context.Context, network, address string, _ syscall.RawConn) error {
			return p.checkDial(ctx, network, address)
		},
	}
	dial := p.dialer(d, o.TLS) // the only way out: both kinds of connections are made by it
	return &Client{policy: p, wires: newWirePool(dial, o), rules: o.TLS, byRule: map[*tls.Config]*http.Transport{}, transport: &http.Transport{
		Proxy:                  nil, // never from the environment; dial uses the configured one
		DialContext:            dial,
		TLSClientConfig:        noteCertificateRequests(&tls.Config{MinVersion: tls.VersionTLS12}),
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           0, // bounded per host and by IdleConnTimeout
		MaxIdleConnsPerHost:    o.MaxIdlePerHost,
		IdleConnTimeout:        o.IdleTimeout,
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		WriteBufferSize:        8 << 10, // a small message leaves in one packet with its header
		ReadBufferSize:         2 << 10, // responses are short
	}}
}

// Policy returns the client's policy.
func (c *Client) Policy() *Policy { return c.policy }

// RoundTrip makes one request. It returns redirects like any other response.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" {
		return c.transport.RoundTrip(req)
	}
	asked := new(atomic.Bool)
	resp, err := c.transportFor(req).RoundTrip(req.WithContext(context.WithValue(req.Context(), certificateRequested{}, asked)))
	if err != nil && asked.Load() {
		err = refusedCertificate(err)
	}
	return resp, err
}

// transportFor returns the pool for a request. Once a rule's files change, it gets a new pool, and the idle
// connections of the old one are closed.
func (c *Client) transportFor(req *http.Request) *http.Transport {
	if c.rules.none() || req.URL.Scheme != "https" {
		return c.transport
	}
	port := req.URL.Port()
	if port == "" {
		port = "443"
	}
	config := c.rules.configFor(req.URL.Hostname(), port)
	if config == nil {
		return c.transport
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byRule[config]
	if t == nil {
		for old, of := range c.byRule {
			if !c.rules.isCurrent(old) {
				of.CloseIdleConnections()
				delete(c.byRule, old)
			}
		}
		t = c.transport.Clone()
		t.TLSClientConfig = noteCertificateRequests(config.Clone())
		c.byRule[config] = t
	}
	return t
}

// HTTPClient returns an *http.Client whose requests go through RoundTrip, for libraries that need one. It returns
// redirects instead of following them.
func (c *Client) HTTPClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     c,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close closes the idle connections. Requests in flight are not affected.
func (c *Client) Close() {
	c.wires.close()
	c.CloseIdleConnections()
}

// CloseIdleConnections closes the idle connections that RoundTrip uses.
func (c *Client) CloseIdleConnections() {
	c.transport.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.byRule {
		t.CloseIdleConnections()
	}
}

// dialHost is the context key of the host name that a dial is for.
type dialHost struct{}

// checkDial checks one concrete address right before the connection is made.
func (p *Policy) checkDial(ctx context.Context, network, address string) error {
	if network != "tcp4" && network != "tcp6" {
		return denied("network %q is not allowed", network)
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return denied("address %q is not host:port", address)
	}
	if ctx.Value(viaProxy{}) != nil {
		return p.checkProxyDial(a)
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

// addrCheck is the context key of the check that WithAddrCheck adds.
type addrCheck struct{}

// WithAddrCheck returns a context for requests whose connections must also pass check. It is called with the concrete
// address of each new connection, after the Policy has allowed it and right before the dial. If it fails, the request
// fails with an error that wraps check's.
func WithAddrCheck(ctx context.Context, check func(netip.Addr) error) context.Context {
	return context.WithValue(ctx, addrCheck{}, check)
}

// UserAgent returns the User-Agent of all outbound requests, such as quorumhub/1.2.3 (+https://hub.example/).
func UserAgent(version, publicURL string) string {
	if version == "" {
		version = "dev"
	}
	if publicURL == "" {
		return "quorumhub/" + version
	}
	return "quorumhub/" + version + " (+" + publicURL + ")"
}
