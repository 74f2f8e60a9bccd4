package web

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// roomRetry is how often a connection that waits for room looks for one that has become idle.
	roomRetry = 50 * time.Millisecond
	// roomShare is the share of all connections that are closed together to make room, so that looking for them is rare.
	roomShare = 128
	// heavyShare is the share of all connections beyond which a client address is the first to lose idle ones.
	heavyShare = 64
)

// limited bounds open connections: of each client address, where further ones are closed, and in total. When the total is reached,
// those that wait for a request make room for new ones, the longest wait first; if all are being served, new ones wait in the
// kernel's queue.
type limited struct {
	net.Listener // set by from
	slots        chan struct{}
	done         chan struct{}
	once         sync.Once
	most         int // per client; 0: no limit
	exempt       func(netip.Addr) bool
	refused      prometheus.Counter
	evicted      prometheus.Counter

	clients clientCounts

	mu   sync.Mutex
	open map[*slotConn]struct{}
}

func (s *Server) newLimited() (*limited, error) {
	l := &limited{slots: make(chan struct{}, s.MaxConnections), done: make(chan struct{}), most: s.ClientConnections, exempt: s.trusts,
		open: map[*slotConn]struct{}{},
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_http_connections_refused_total",
			Help: "Connections closed at once because their client had too many (limits.connections)."}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_http_connections_evicted_total",
			Help: "Connections without a request that were closed to make room for others."})}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "quorumhub_http_connections", Help: "HTTP connections open now."},
		func() float64 { return float64(len(l.slots)) })
	for _, c := range []prometheus.Collector{l.refused, l.evicted, open} {
		if err := s.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("connection metrics: %w", err)
		}
	}
	return l, nil
}

// from sets the source of connections.
func (l *limited) from(ln net.Listener) net.Listener {
	l.Listener = ln
	return l
}

// Accept waits for a connection from a client below its limit, and for room for it.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client, ok := l.enter(c.RemoteAddr())
		if !ok {
			l.refused.Inc()
			_ = c.Close() // nothing was sent, so nothing is lost
			continue
		}
		if !l.awaitRoom() {
			l.leave(client)
			_ = c.Close()
			return nil, net.ErrClosed
		}
		conn := &slotConn{Conn: c, listener: l, client: client}
		conn.waits()
		conn.head.expected.Store(true)
		l.mu.Lock()
		l.open[conn] = struct{}{}
		l.mu.Unlock()
		return conn, nil
	}
}

// awaitRoom takes a slot. It returns false if the listener is closed first.
func (l *limited) awaitRoom() bool {
	for {
		select {
		case l.slots <- struct{}{}:
			return true
		default:
		}
		if l.makeRoom() {
			continue
		}
		retry := time.NewTimer(roomRetry)
		select {
		case l.slots <- struct{}{}:
			retry.Stop()
			return true
		case <-retry.C:
		case <-l.done:
			retry.Stop()
			return false
		}
	}
}

// makeRoom closes connections that wait for a request: those of addresses with many connections first, then those that have waited
// longest. It reports whether it found any.
func (l *limited) makeRoom() bool {
	type idle struct {
		conn  *slotConn
		light bool
		since int64
	}
	var found []idle
	l.mu.Lock()
	for c := range l.open {
		if c.serving.Load() == 0 {
			found = append(found, idle{c, l.clients.count(c.client) <= cap(l.slots)/heavyShare, c.since.Load()})
		}
	}
	l.mu.Unlock()
	slices.SortFunc(found, func(a, b idle) int {
		if a.light != b.light {
			if b.light {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.since, b.since)
	})
	found = found[:min(len(found), max(1, cap(l.slots)/roomShare))]
	for _, i := range found {
		_ = i.conn.Close() // a client that was about to use it tries again, as after any timeout of an idle connection
	}
	l.evicted.Add(float64(len(found)))
	return len(found) > 0
}

// enter counts a connection for its client. The zero Addr means that it is not counted.
func (l *limited) enter(remote net.Addr) (netip.Addr, bool) {
	tcp, ok := remote.(*net.TCPAddr)
	if l.most <= 0 || !ok {
		return netip.Addr{}, true
	}
	peer := tcp.AddrPort().Addr().Unmap()
	if l.exempt(peer) {
		return netip.Addr{}, true
	}
	client := networkOf(peer)
	return client, l.clients.enter(client, l.most)
}

func (l *limited) leave(client netip.Addr) {
	if client.IsValid() {
		l.clients.leave(client)
	}
}

// Close stops accepting. Connections stay open.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	if l.Listener == nil {
		return nil
	}
	return l.Listener.Close()
}

// slotConn is a connection that counts.
type slotConn struct {
	net.Conn
	listener *limited
	client   netip.Addr
	once     sync.Once
	serving  atomic.Int32 // requests that handlers are working on
	since    atomic.Int64 // when it last began to wait for a request, or for the rest of a request's header
	head     head
}

// Read keeps the beginning of each request.
func (c *slotConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.head.saw(b[:n])
	return n, err
}

// waits records that the connection waits for a request from now on.
func (c *slotConn) waits() { c.since.Store(time.Now().UnixNano()) }

// connOf returns the counted connection below c, or nil.
func connOf(c any) *slotConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	conn, _ := c.(*slotConn)
	return conn
}

// connKey is the key of the *slotConn in a request's context.
type connKey struct{}

// connOfRequest returns the connection that a request came on, or nil.
func connOfRequest(r *http.Request) *slotConn {
	conn, _ := r.Context().Value(connKey{}).(*slotConn)
	return conn
}

// serves marks the connection as serving a request, until served.
func (c *slotConn) serves() { c.serving.Add(1) }

// served ends what serves began. The response may still be on its way.
func (c *slotConn) served() {
	c.waits()
	c.serving.Add(-1)
}

// connState is the server's ConnState hook.
func connState(c net.Conn, state http.ConnState) {
	if conn := connOf(c); conn != nil && (state == http.StateIdle || state == http.StateActive) {
		conn.waits()
		if state == http.StateIdle {
			conn.head.expected.Store(true)
		}
	}
}

// Close closes the connection and releases its slot.
func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.listener.mu.Lock()
		delete(c.listener.open, c)
		c.listener.mu.Unlock()
		c.listener.leave(c.client)
		<-c.listener.slots
	})
	return err
}

// CloseWrite lets net/http finish the response to a request whose body it has not read, so that the client gets the response
// instead of a reset.
func (c *slotConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SetWriteBuffer bounds what the kernel buffers of written data.
func (c *slotConn) SetWriteBuffer(bytes int) error {
	if buffered, ok := c.Conn.(interface{ SetWriteBuffer(int) error }); ok {
		return buffered.SetWriteBuffer(bytes)
	}
	return nil
}
