package raftlog

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	helloTimeout = 5 * time.Second // for TLS and the handshake
	repeatAfter  = repeatPause     // before the same message is logged again
	maxLogged    = 256
)

// Peer is a node's ID and address (host:port).
type Peer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// port is the cluster port: a listener whose connections carry raft's streams or calls between nodes. It is the node's
// raft.StreamLayer. It is safe for concurrent use.
type port struct {
	listener  net.Listener
	connect   func(ctx context.Context, network, address string) (net.Conn, error)
	address   string // where other nodes dial this one
	peers     []Peer // see Options.Peers
	addressOf func(id string) string
	token     string
	tls       *TLSFiles // nil: plain TCP, loopback only
	shared    *secrets  // what proves membership then
	log       *slog.Logger
	self      atomic.Pointer[self]
	serve     func(conn net.Conn, from visitor)
	admit     func(kind byte, from visitor) *refusedError // decides about a new connection
	stays     func(from visitor) bool                     // asked for whatever arrives on one of raft's streams
	onRefusal func(*refusedError)                         // called when another node refuses this one or the reverse; it must be quick

	clusters  sync.Map // by node ID: the cluster the node claimed when it last dialed
	agreement agreement

	raft     chan net.Conn
	closed   chan struct{}
	once     sync.Once
	handlers sync.WaitGroup
	runs     *runs
	guests   *guests // connections that are not known to be members'

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	logged map[string]time.Time
	found  map[string]string    // where a node answered last, by its ID
	heard  map[string]time.Time // when raft last received data from a node
}

var _ raft.StreamLayer = (*port)(nil)

// newPort takes over the listener; it accepts nothing before open. serve gets each connection that carries calls, on its own
// goroutine.
func newPort(o Options, me *self, serve func(net.Conn, visitor)) (*port, error) {
	p := &port{
		listener: o.Listener, connect: o.Dial, address: o.Address, peers: o.Peers, token: o.Token, tls: o.TLS, log: o.Logger, serve: serve,
		shared: newSecrets(o.Token, o.Secrets),
		raft:   make(chan net.Conn),
		closed: make(chan struct{}),
		conns:  map[net.Conn]struct{}{},
		logged: map[string]time.Time{},
		heard:  map[string]time.Time{},

		agreement: agreement{log: o.Logger, differs: map[string][]string{}},
	}
	p.self.Store(me)
	p.runs, p.found = newRuns(), map[string]string{}
	p.guests = newGuests(func() map[string]string { return p.self.Load().ids })
	if p.tls == nil {
		if !loopback(o.Listener.Addr()) {
			return nil, fmt.Errorf("cluster.addr: %s is reachable from other machines, but traffic between nodes is plain TCP; "+
				"expected a loopback address, or cluster.tls.ca, cluster.tls.cert and cluster.tls.key", o.Listener.Addr())
		}
	} else if err := p.tls.Check(o.ID); err != nil {
		return nil, err
	}
	return p, nil
}

// open starts accepting connections.
func (p *port) open() {
	p.handlers.Go(p.accept)
	if p.tls != nil {
		p.handlers.Go(p.watchCertificate)
	}
}

// watchCertificate warns before this node's certificate expires: nodes with expired certificates cannot connect.
func (p *port) watchCertificate() {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		switch warning, err := p.tls.expires(time.Now()); {
		case err != nil:
			p.log.Warn("this node's certificate cannot be read", "error", err)
		case warning != "":
			p.log.Warn("this node's certificate expires soon", "certificate", warning)
		}
		select {
		case <-p.closed:
			return
		case <-tick.C:
		}
	}
}

func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

func (p *port) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			select {
			case <-p.closed:
				return
			case <-time.After(20 * time.Millisecond): // out of file descriptors, for example
				p.logOnce("cluster port cannot accept connections; retrying", "error", err)
				continue
			}
		}
		if !p.track(conn) {
			return
		}
		in, crowded := p.guests.enter(conn)
		if crowded {
			p.logOnce("too many connections that do not say who they are; the oldest are closed", "remote", in.home)
		}
		p.handlers.Go(func() { p.handleConn(conn, in) })
	}
}

// handleConn performs the handshake on a new connection and passes it on. Only members give their place as guests back before the
// connection ends.
func (p *port) handleConn(raw net.Conn, in *guest) {
	defer in.leave()
	conn, kind, from, err := p.acceptHandshake(raw, in)
	if err == nil && p.stays(from) {
		p.guests.settle(from.id, raw.RemoteAddr(), func(id string) bool { return p.stays(visitor{id: id, proven: true}) })
		in.leave()
	}
	if err != nil {
		_ = p.forget(raw) // the other side has been told the reason, if there is one to tell
		return
	}
	switch kind {
	case streamRaft:
		select {
		case p.raft <- &memberConn{Conn: conn, stays: func() bool { return p.stays(from) }}:
		case <-p.closed:
			conn.Close()
		}
	case streamCalls:
		p.serve(conn, from)
		conn.Close()
	}
}

// clusterOf returns the cluster that a node claimed when it last dialed; empty if it knew none or never dialed.
func (p *port) clusterOf(id string) string {
	said, _ := p.clusters.Load(id)
	cluster, _ := said.(string)
	return cluster
}

// logOnce logs a warning, but the same one only once per repeatAfter.
func (p *port) logOnce(what string, args ...any) {
	key := fmt.Sprint(append([]any{what}, withoutRemote(args)...)...)
	now := time.Now()
	p.mu.Lock()
	last, ok := p.logged[key]
	if ok && now.Sub(last) < repeatAfter {
		p.mu.Unlock()
		return
	}
	if len(p.logged) >= maxLogged {
		clear(p.logged)
	}
	p.logged[key] = now
	p.mu.Unlock()
	p.log.Warn(what, args...)
}

// withoutRemote drops the remote address, whose port differs every time.
func withoutRemote(args []any) []any {
	if len(args) >= 2 && args[0] == "remote" {
		return args[2:]
	}
	return args
}

// track registers an open connection. Once the port is closed it closes the connection and reports false.
func (p *port) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		conn.Close()
		return false
	default:
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *port) forget(conn net.Conn) error {
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	p.runs.leave(conn)
	return conn.Close()
}

// trackedConn is a connection registered with the port, so that it does not outlive the port.
type trackedConn struct {
	net.Conn
	port *port
	raw  net.Conn
}

// Close implements net.Conn. It closes the underlying connection, so that it never waits for a TLS close_notify.
func (c *trackedConn) Close() error { return c.port.forget(c.raw) }

// Accept implements net.Listener, for raft.
func (p *port) Accept() (net.Conn, error) {
	select {
	case conn := <-p.raft:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer.
func (p *port) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, helloTimeout))
	defer cancel()
	to := Peer{Address: string(address)}
	if id, ok := strings.CutPrefix(to.Address, byID); ok {
		if to = (Peer{id, p.addressOf(id)}); to.Address == "" {
			return nil, fmt.Errorf("%s is not a node of this cluster", id)
		}
	}
	conn, err := p.dial(ctx, purpose{kind: streamRaft}, to)
	if err != nil {
		return nil, err
	}
	return &answeredConn{Conn: conn, port: p, id: to.ID}, nil
}

// answeredConn records when raft receives data.
type answeredConn struct {
	net.Conn
	port *port
	id   string
}

func (c *answeredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.port.mu.Lock()
		c.port.heard[c.id] = time.Now()
		c.port.mu.Unlock()
	}
	return n, err
}

// answered returns when raft last received data from a node; zero: never.
func (p *port) answered(id string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[id]
}

// Addr implements net.Listener. It returns the address by which other nodes know this one.
func (p *port) Addr() net.Addr { return nodeAddress(p.address) }

type nodeAddress string

func (nodeAddress) Network() string  { return "tcp" }
func (a nodeAddress) String() string { return string(a) }

// Close implements net.Listener. It closes the listener and every connection, and does not wait.
func (p *port) Close() error {
	p.once.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		close(p.closed)
		p.listener.Close()
		for conn := range p.conns {
			conn.Close()
		}
	})
	return nil
}

// wait waits for the port's goroutines after Close.
func (p *port) wait() { p.handlers.Wait() }
