package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// With a proxy, every connection is a tunnel (CONNECT, RFC 9110 section 9.3.6), for http targets, too. The proxy resolves
// names, so the concrete address of a target is unknown here: the Policy judges its name, or the address if the URL has
// one, and the proxy must judge the rest.

// maxProxyHeader is how many bytes of a proxy's answer are read.
const maxProxyHeader = 8 << 10

// proxy is where tunnels begin.
type proxy struct {
	secure bool
	addr   string // host:port
	name   string // as the certificate must name it
	auth   string // Proxy-Authorization; empty: none
}

// errProxy classifies a failure of the proxy itself.
var errProxy = errors.New("the outbound proxy")

func newProxy(u *url.URL, credentials string) (*proxy, error) {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("egress proxy: expected a URL such as http://proxy.example.org:3128, with credentials in proxy_auth")
	}
	port, err := urlPort(u)
	if err != nil {
		return nil, fmt.Errorf("egress proxy: %w", err)
	}
	if err := checkHostSyntax(u.Hostname()); err != nil {
		return nil, fmt.Errorf("egress proxy: %w", err)
	}
	p := &proxy{secure: u.Scheme == "https", addr: net.JoinHostPort(u.Hostname(), fmt.Sprint(port)), name: u.Hostname()}
	if credentials != "" {
		if user, _, ok := strings.Cut(credentials, ":"); !ok || user == "" || !fieldValue(credentials) {
			return nil, errors.New("egress proxy_auth: expected user:password")
		}
		p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
	}
	return p, nil
}

// viaProxy is the context key that marks a dial to the proxy.
type viaProxy struct{}

// checkProxied judges a target that only the proxy will see.
func (p *Policy) checkProxied(host string, port uint16) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Unmap().IsLoopback() {
			return denied("address %s is another machine behind the proxy than here", addr)
		}
		return p.CheckAddr(netip.AddrPortFrom(addr, port), "")
	}
	if err := checkHostSyntax(host); err != nil {
		return err
	}
	if !portAllowed(port) {
		return portError(port)
	}
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return denied("host %q is another machine behind the proxy than here", host)
	}
	if !p.hostAllowed(host) && isInside(host) {
		return denied("host %q is not a public name; egress mode %s allows it only if allow_hosts lists it", host, p.mode)
	}
	return nil
}

// isInside reports whether a name exists in some local network only: it has one label, or ends in a domain that is
// reserved for them or commonly used there (RFC 6762 appendix G, RFC 8375, and .internal).
func isInside(host string) bool {
	at := strings.LastIndexByte(host, '.')
	switch host[at+1:] {
	case "local", "internal", "intranet", "private", "corp", "home", "lan", "localdomain", "onion", "test", "invalid", "arpa":
		return true
	}
	return at < 0
}

// checkProxyDial judges the address of the proxy, which the operator has chosen: it may be private, but not one that is
// never allowed, nor this hub.
func (p *Policy) checkProxyDial(a netip.AddrPort) error {
	ip := a.Addr().Unmap()
	if n, ok := isNever(ip); ok {
		return denied("the proxy's address %s is never allowed (part of %s)", ip, n)
	}
	if p.IsOwn(netip.AddrPortFrom(ip, a.Port())) {
		return denied("the proxy's address %s is one this hub listens on", a)
	}
	return nil
}

// tunnel returns a connection to host:port through the proxy. dial makes the connection to the proxy, for which the rules
// apply, too.
func (x *proxy) tunnel(ctx context.Context, target string, dial dialFunc, rules *TLSRules) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	tcp, err := dial(context.WithValue(ctx, viaProxy{}, true), "tcp", x.addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = tcp.SetDeadline(longAgo()) })
	c, err := x.connect(ctx, tcp, target, rules)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	return c, nil
}

// connect asks for the tunnel.
func (x *proxy) connect(ctx context.Context, c net.Conn, target string, rules *TLSRules) (net.Conn, error) {
	if x.secure {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if _, port, err := net.SplitHostPort(x.addr); err == nil {
			if own := rules.configFor(x.name, port); own != nil {
				config = own.Clone()
			}
		}
		config.ServerName, config.NextProtos = cmp.Or(config.ServerName, x.name), []string{"http/1.1"}
		t := tls.Client(c, config)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		c = t
	}
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if x.auth != "" {
		request += "Proxy-Authorization: " + x.auth + "\r\n"
	}
	if _, err := c.Write([]byte(request + "\r\n")); err != nil {
		return nil, err
	}
	status, err := readTunnelAnswer(c)
	if err != nil {
		return nil, err
	}
	if status < 200 || status > 299 {
		return nil, fmt.Errorf("answered %d to CONNECT", status)
	}
	return c, nil
}

// readTunnelAnswer reads a response header and not a byte more: what follows belongs to the tunnel.
func readTunnelAnswer(c net.Conn) (status int, err error) {
	var header []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(header[max(0, len(header)-4):]), "\r\n\r\n") {
		if len(header) == maxProxyHeader {
			return 0, errors.New("answered with a header that is too long")
		}
		if _, err := c.Read(one); err != nil {
			return 0, err
		}
		header = append(header, one[0])
	}
	var minor int
	if n, err := fmt.Sscanf(string(header[:min(len(header), 16)]), "HTTP/1.%d %3d", &minor, &status); n != 2 || err != nil {
		return 0, errors.New("answered with something else than HTTP/1.1")
	}
	return status, nil
}

// dialFunc is net.Dialer.DialContext.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer returns the function that makes all connections of a client: directly, or through the proxy.
func (p *Policy) dialer(d *net.Dialer, rules *TLSRules) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, denied("port %q is not a number from 1 to 65535", port)
		}
		if p.upstream != nil {
			if err := p.checkUpstreamTarget(host, uint16(n)); err != nil {
				return nil, err // before anybody is asked for the name's address
			}
		}
		if p.proxy == nil {
			return d.DialContext(context.WithValue(ctx, dialHost{}, host), network, address)
		}
		if err := p.checkProxied(host, uint16(n)); err != nil {
			return nil, err
		}
		if check, ok := ctx.Value(addrCheck{}).(func(netip.Addr) error); ok {
			if addr, err := netip.ParseAddr(host); err == nil {
				if err := check(addr); err != nil {
					return nil, err
				}
			}
		}
		return p.proxy.tunnel(ctx, address, d.DialContext, rules)
	}
}
