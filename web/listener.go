package web

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// limited bounds open connections: in total, where further ones wait in the kernel's queue, and of each client address, where
// further ones are closed to leave room for others.
type limited struct {
	net.Listener // set by from
	slots        chan struct{}
	done         chan struct{}
	once         sync.Once
	most         int // per client; 0: no limit
	exempt       func(netip.Addr) bool
	refused      prometheus.Counter

	clients clientCounts
}

func (s *Server) newLimited() (*limited, error) {
	l := &limited{slots: make(chan struct{}, s.MaxConnections), done: make(chan struct{}), most: s.ClientConnections, exempt: s.trusts,
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "quorumhub_http_connections_refused_total",
			Help: "Connections closed at once because their client had too many (limits.connections)."})}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "quorumhub_http_connections", Help: "HTTP connections open now, the one to be accepted next included."},
		func() float64 { return float64(len(l.slots)) })
	for _, c := range []prometheus.Collector{l.refused, open} {
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

// Accept waits for a free slot, then for a connection from a client below its limit.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if client, ok := l.enter(c.RemoteAddr()); ok {
			return &slotConn{Conn: c, listener: l, client: client}, nil
		}
		l.refused.Inc()
		_ = c.Close() // nothing was sent, so nothing is lost
	}
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

type slotConn struct {
	net.Conn
	listener *limited
	client   netip.Addr
	once     sync.Once
}

// Close closes the connection and releases its slot.
func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
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
	if tcp, ok := c.Conn.(interface{ SetWriteBuffer(int) error }); ok {
		return tcp.SetWriteBuffer(bytes)
	}
	return nil
}
