package egress

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// NewUpstreamClient returns a client that calls the hosts and ports of one service and no others. Since an operator has
// written them, they may be private, on any port, and, if written as an address, on this machine. Link-local addresses,
// metadata services and the hub itself stay forbidden whatever a name resolves to, judged on the concrete address of every
// connection; the error is a *DeniedError. It uses no proxy, and it does not bound the wait for a response's header: the
// caller does.
//
// Of urls, only hosts and ports count. Names of localhost may resolve to this machine, others only if onLoopback lists them:
// what listens there is not open to whoever answers for a name. own lists what this process listens on, as in
// PolicyOptions.DenyAddrs.
//
// Where o leaves them open, ConnectTimeout is 3 s, MaxIdlePerHost 2048, and IdleTimeout 4 s: many servers close connections
// that were idle for 5 s, and a request that crosses with that is lost. Errors name the URL by its place, from [0], and what
// is expected.
func NewUpstreamClient(urls, onLoopback []string, own []netip.AddrPort, o ClientOptions) (*Client, error) {
	p, err := newUpstreamPolicy(urls, onLoopback, own)
	if err != nil {
		return nil, err
	}
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 3*time.Second)
	o.MaxIdlePerHost = cmp.Or(o.MaxIdlePerHost, 2048)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 4*time.Second)
	client := NewClient(p, o)
	t := client.transport
	t.ResponseHeaderTimeout, t.ReadBufferSize, t.WriteBufferSize = 0, 4<<10, 4<<10
	dial, buffers := t.DialContext, &sync.Pool{New: func() any { return new([bodyPiece]byte) }}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return bodyConn{conn, buffers}, nil
	}
	return client, nil
}

// bodyPiece is the size in bytes of the pieces in which bodies leave.
const bodyPiece = 16 << 10

// bodyConn sends bodies through buffers that are used again. The connections of package net would take 32 KiB for each.
type bodyConn struct {
	net.Conn
	buffers *sync.Pool // *[bodyPiece]byte
}

func (c bodyConn) ReadFrom(r io.Reader) (int64, error) {
	buffer := c.buffers.Get().(*[bodyPiece]byte)
	defer c.buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, buffer[:])
}

// newUpstreamPolicy returns the policy of such a client.
func newUpstreamPolicy(urls, onLoopback []string, own []netip.AddrPort) (*Policy, error) {
	p, err := NewPolicy(PolicyOptions{DenyAddrs: own})
	if err != nil {
		return nil, err
	}
	p.upstream = map[string]bool{}
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, denied("urls[%d]: not a URL; expected one such as http://hr.internal:8080", i)
		}
		port, err := checkUpstreamURL(u)
		if err != nil {
			return nil, denied("urls[%d]: %s", i, err)
		}
		host := strings.ToLower(u.Hostname())
		p.upstream[target(host, port)] = host == "localhost" || strings.HasSuffix(host, ".localhost") ||
			slices.ContainsFunc(onLoopback, func(name string) bool { return strings.EqualFold(name, host) })
		if addr, err := netip.ParseAddr(host); err == nil {
			if err := p.CheckAddr(netip.AddrPortFrom(addr, port), ""); err != nil {
				return nil, denied("urls[%d]: %s", i, err)
			}
		}
	}
	return p, nil
}

// target is a key of Policy.upstream.
func target(host string, port uint16) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.Itoa(int(port)))
}

// checkUpstreamURL checks what a URL shows, and returns its port.
func checkUpstreamURL(u *url.URL) (uint16, error) {
	if u.Scheme != "http" && u.Scheme != "https" {
		return 0, denied("scheme %q is not allowed, expected http or https", u.Scheme)
	}
	if u.User != nil {
		return 0, denied("the URL contains a user name or password, which is not allowed")
	}
	if err := checkHostSyntax(strings.ToLower(u.Hostname())); err != nil {
		return 0, err
	}
	return urlPort(u)
}

// checkUpstreamTarget judges a host and port before anything is resolved.
func (p *Policy) checkUpstreamTarget(host string, port uint16) error {
	if _, listed := p.upstream[target(host, port)]; !listed {
		return denied("%s is none of the upstream's addresses", target(host, port))
	}
	return nil
}

// checkUpstreamAddr judges a concrete address and the name it was resolved from; empty for a literal address.
func (p *Policy) checkUpstreamAddr(a netip.AddrPort, host string) error {
	ip := a.Addr().Unmap()
	if ip.Zone() != "" {
		return denied("address %s has a zone, which is not allowed", ip)
	}
	key := target(cmp.Or(host, ip.String()), a.Port())
	local, listed := p.upstream[key]
	if !listed {
		return denied("%s is none of the upstream's addresses", key)
	}
	if n, ok := isNever(ip); ok {
		return denied("address %s is never allowed (part of %s)", ip, n)
	}
	inner, _ := embedded(ip)
	for _, face := range []netip.Addr{ip, inner} {
		switch {
		case !face.IsValid():
		case p.IsOwn(netip.AddrPortFrom(face, a.Port())):
			return denied("address %s is one this hub listens on", a)
		case face.IsLoopback() && host != "" && !local:
			return denied("%s resolves to %s, which is this machine; write the address itself or localhost if that is meant", host, ip)
		}
	}
	return nil
}
