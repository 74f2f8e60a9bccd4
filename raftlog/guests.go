package raftlog

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Connections to the cluster port take a place until they are known to come from a member. Every address has a share of the places,
// a member's address its own besides those of all strangers. When a share is used up the newcomer takes the place of the
// oldest connection in it, of one that has sent nothing if there is any: a node needs its place for milliseconds.
const (
	strangerTimeout = time.Second // for a stranger's certificate, or its hello on a plain port
	strangerShare   = 8           // places of one address
	strangerPlaces  = 32          // of all addresses that are no member's
	memberShare     = 64          // places of a member's address
)

// guests are the connections that have a place. Safe for concurrent use.
type guests struct {
	configured func() map[string]string // addresses of the nodes this one knows, see self.ids

	mu     sync.Mutex
	inside []*guest          // oldest first
	homes  map[string]string // by the ID of a member: the address from which it last connected, or where it answered
}

type guest struct {
	all    *guests
	conn   net.Conn
	home   string
	member bool        // it comes from a member's address
	spoke  atomic.Bool // it has sent something
}

func newGuests(configured func() map[string]string) *guests {
	return &guests{configured: configured, homes: map[string]string{}}
}

// homeOf is what counts as one address: an IPv4 address or an IPv6 network of 64 bits.
func homeOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return homeOfHost(host)
}

func homeOfHost(host string) string {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.String()
		}
	}
	return ip.String()
}

// enter gives a new connection a place. Whoever loses its place for it is closed.
func (g *guests) enter(conn net.Conn) (in *guest, crowded bool) {
	in = &guest{all: g, conn: conn, home: homeOf(conn.RemoteAddr())}
	g.mu.Lock()
	defer g.mu.Unlock()
	in.member = g.isHomeLocked(in.home)
	share := strangerShare
	if in.member {
		share = memberShare
	}
	neighbours, strangers := 0, 0
	for _, o := range g.inside {
		if o.home == in.home {
			neighbours++
		}
		if !o.member {
			strangers++
		}
	}
	var out *guest
	switch {
	case neighbours >= share:
		out = g.oldestLocked(func(o *guest) bool { return o.home == in.home })
	case !in.member && strangers >= strangerPlaces:
		out = g.oldestLocked(func(o *guest) bool { return !o.member })
	}
	if out != nil {
		out.conn.Close()
		g.leaveLocked(out)
	}
	g.inside = append(g.inside, in)
	return in, out != nil
}

// oldestLocked returns the oldest that has sent nothing, else the oldest.
func (g *guests) oldestLocked(of func(*guest) bool) (oldest *guest) {
	for _, o := range g.inside {
		if !of(o) {
			continue
		}
		if !o.spoke.Load() {
			return o
		}
		if oldest == nil {
			oldest = o
		}
	}
	return oldest
}

func (g *guests) leaveLocked(out *guest) {
	if i := slices.Index(g.inside, out); i >= 0 {
		g.inside = slices.Delete(g.inside, i, i+1)
	}
}

// leave gives the place back. Only the first call has an effect.
func (in *guest) leave() {
	in.all.mu.Lock()
	defer in.all.mu.Unlock()
	in.all.leaveLocked(in)
}

// patience is how long the connection may take to show who it is.
func (in *guest) patience() time.Duration {
	if in.member {
		return helloTimeout
	}
	return strangerTimeout
}

func (g *guests) isHomeLocked(home string) bool {
	for _, h := range g.homes {
		if h == home {
			return true
		}
	}
	for address := range g.configured() {
		if host, _, err := net.SplitHostPort(address); err == nil && homeOfHost(host) == home {
			return true
		}
	}
	return false
}

// settle remembers where a member is. Former members are forgotten.
func (g *guests) settle(id string, at net.Addr, isMember func(id string) bool) {
	home := homeOf(at)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.homes[id] == home {
		return
	}
	for known := range g.homes {
		if !isMember(known) {
			delete(g.homes, known)
		}
	}
	g.homes[id] = home
}

// guestConn notes when a guest has sent something.
type guestConn struct {
	net.Conn
	guest *guest
}

// Read implements net.Conn.
func (c guestConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.guest.spoke.Store(true)
	}
	return n, err
}
