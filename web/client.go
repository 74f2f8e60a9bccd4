package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// clientOf returns the address that identifies the sender of a request: the peer's or, behind a trusted proxy, the last one in
// X-Forwarded-For that is not a trusted proxy's. For IPv6 it is the /64 network, since a client has at least one. It is the zero
// Addr if unknown.
func (s *Server) clientOf(r *http.Request) netip.Addr {
	if r.RemoteAddr == "" || r.RemoteAddr == "@" {
		// A unix socket: whom its permissions admit is believed like a trusted proxy.
		return networkOf(s.forwardedFor(netip.Addr{}, r.Header["X-Forwarded-For"]))
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := peer.Addr().Unmap()
	if len(s.TrustedProxies) > 0 && s.trusts(client) {
		client = s.forwardedFor(client, r.Header["X-Forwarded-For"])
	}
	return networkOf(client)
}

// addressOf returns the client's address for the log.
func (s *Server) addressOf(x *exchange, r *http.Request) string {
	if len(s.TrustedProxies) > 0 {
		return x.client.String()
	}
	return r.RemoteAddr
}

// networkOf returns the address that a client is counted under.
func networkOf(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

func (s *Server) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forwardedFor walks the addresses from the nearest on. It ignores everything beyond a malformed one, which no trusted proxy
// vouches for.
func (s *Server) forwardedFor(client netip.Addr, lines []string) netip.Addr {
	for _, line := range slices.Backward(lines) {
		for line != "" {
			item := line
			if i := strings.LastIndexByte(line, ','); i >= 0 {
				line, item = line[:i], line[i+1:]
			} else {
				line = ""
			}
			a, err := parseForwarded(strings.TrimSpace(item))
			if err != nil {
				return client
			}
			if client = a; !s.trusts(a) {
				return client
			}
		}
	}
	return client
}

// parseForwarded parses an address, to which some proxies add a port.
func parseForwarded(item string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(item); err == nil {
		return ap.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(strings.Trim(item, "[]"))
	return a.Unmap(), err
}

// counts counts what each of K has open. The zero value is ready to use.
type counts[K comparable] struct {
	mu sync.Mutex
	by map[K]int
}

// clientCounts counts by client.
type clientCounts = counts[netip.Addr]

// enter counts one more for a client, unless it has most already. most 0 is no limit.
func (c *counts[K]) enter(client K, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if most > 0 && c.by[client] >= most {
		return false
	}
	if c.by == nil {
		c.by = map[K]int{}
	}
	c.by[client]++
	return true
}

// count returns how many a client has open.
func (c *counts[K]) count(client K) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[client]
}

func (c *counts[K]) leave(client K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by[client]--; c.by[client] == 0 {
		delete(c.by, client)
	}
}
