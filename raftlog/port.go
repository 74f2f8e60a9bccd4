package raftlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	helloTimeout = 5 * time.Second  // for TLS and the handshake
	maxPending   = 64               // connections that have not introduced themselves
	repeatAfter  = 30 * time.Second // until the same refusal is logged again
	maxLogged    = 256
)

// Peer is a node by id and address (host:port).
type Peer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// port is the one place where nodes meet: a listener whose connections carry raft's streams or calls. It is the
// raft.StreamLayer of the node. Safe for concurrent use.
type port struct {
	listener  net.Listener
	connect   func(ctx context.Context, network, address string) (net.Conn, error)
	address   string // under which the others dial this node
	token     string
	tls       *TLSFiles // nil: plain TCP, loopback only
	log       *slog.Logger
	self      atomic.Pointer[self]
	serve     func(conn net.Conn, from string)
	onRefusal func(*refusedError) // told when this node and another one do not agree; it must be quick

	clusters sync.Map // id of a node: the cluster that it said it belongs to, when it dialed last

	raft     chan net.Conn
	closed   chan struct{}
	once     sync.Once
	handlers sync.WaitGroup
	pending  chan struct{} // places for strangers

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	logged map[string]time.Time
	heard  map[string]time.Time // when raft last had an answer from an address
}

var _ raft.StreamLayer = (*port)(nil)

// newPort takes the listener over; nobody is let in before open. serve gets each connection that carries calls, on a goroutine of its own.
func newPort(o Options, me *self, serve func(net.Conn, string)) (*port, error) {
	p := &port{
		listener: o.Listener, connect: o.Dial, address: o.Address, token: o.Token, tls: o.TLS, log: o.Logger, serve: serve,
		raft:    make(chan net.Conn),
		closed:  make(chan struct{}),
		pending: make(chan struct{}, maxPending),
		conns:   map[net.Conn]struct{}{},
		logged:  map[string]time.Time{},
		heard:   map[string]time.Time{},
	}
	p.self.Store(me)
	if p.tls == nil {
		if !loopback(o.Listener.Addr()) {
			return nil, fmt.Errorf("cluster.addr: %s is reached from other machines, and the traffic between nodes is plain TCP; "+
				"expected a loopback address, or cluster.tls.ca, cluster.tls.cert and cluster.tls.key", o.Listener.Addr())
		}
	} else if err := p.tls.Check(o.ID); err != nil {
		return nil, err
	}
	return p, nil
}

// open begins to accept connections.
func (p *port) open() {
	p.handlers.Go(p.accept)
	if p.tls != nil {
		p.handlers.Go(p.watchCertificate)
	}
}

// watchCertificate warns of a certificate that ends soon: a cluster whose certificates have ended stops talking.
func (p *port) watchCertificate() {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		switch warning, err := p.tls.expires(time.Now()); {
		case err != nil:
			p.log.Warn("the certificate of this node cannot be read", "error", err)
		case warning != "":
			p.log.Warn("the certificate of this node ends soon", "certificate", warning)
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
				p.logOnce("cluster port: cannot accept", "error", err)
				continue
			}
		}
		select {
		case p.pending <- struct{}{}:
		default:
			conn.Close() // too many that do not say who they are
			continue
		}
		if !p.track(conn) {
			<-p.pending
			return
		}
		p.handlers.Go(func() { p.handleConn(conn) })
	}
}

// handleConn brings a new connection to where it belongs.
func (p *port) handleConn(raw net.Conn) {
	conn, kind, from, err := p.acceptHandshake(raw)
	<-p.pending
	if err != nil {
		_ = p.forget(raw) // the stranger was told what there is to tell
		return
	}
	switch kind {
	case streamRaft:
		select {
		case p.raft <- conn:
		case <-p.closed:
			conn.Close()
		}
	case streamCalls:
		p.serve(conn, from)
		conn.Close()
	}
}

// acceptHandshake is the handshake of the listening side.
func (p *port) acceptHandshake(raw net.Conn) (conn net.Conn, kind byte, from string, err error) {
	conn = &trackedConn{Conn: raw, port: p, raw: raw}
	peer := raw
	if err := raw.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, 0, "", err
	}
	if p.tls != nil {
		t := tls.Server(raw, p.tls.server())
		if err := t.HandshakeContext(context.Background()); err != nil { // raw's deadline bounds it
			p.logOnce("refused a connection: TLS", "remote", raw.RemoteAddr().String(), "error", tlsProblem(err))
			return nil, 0, "", err
		}
		conn, peer = &trackedConn{Conn: t, port: p, raw: raw}, t
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil {
		return nil, 0, "", err
	}
	kind = first[0]
	if kind != streamRaft && kind != streamCalls {
		p.logOnce("refused a connection: not a node of quorumhub", "remote", raw.RemoteAddr().String())
		return nil, 0, "", errors.New("not a node")
	}
	var h hello
	if err := readHello(conn, &h); err != nil {
		p.logOnce("refused a connection: no readable hello", "remote", raw.RemoteAddr().String(), "error", err)
		return nil, 0, "", err
	}
	me := p.self.Load()
	r := checkPeer(peer, h.Node)
	if r == nil {
		r = me.checkHello(&h, p.token)
	}
	if r != nil {
		p.logOnce("refused a node", "node", oneLine(h.Node), "reason", string(r.what), "error", oneLine(r.text))
		return nil, 0, "", errors.Join(r, writeHello(conn, nil, &welcome{Version: protocolVersion, Refused: r.what, Reason: r.text, Settled: !me.fresh}))
	}
	p.clusters.Store(h.Node, h.Cluster)
	w := welcome{Version: protocolVersion, Cluster: me.cluster, Node: me.id, Instance: me.instance, Level: me.level}
	if err := writeHello(conn, nil, &w); err != nil {
		return nil, 0, "", err
	}
	return conn, kind, h.Node, raw.SetDeadline(time.Time{})
}

// dial connects with the node at address, for kind. A *refusedError in the chain says that the two do not agree.
func (p *port) dial(ctx context.Context, kind byte, address string) (net.Conn, error) {
	select {
	case <-p.closed:
		return nil, net.ErrClosed
	default:
	}
	raw, err := p.connect(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if !p.track(raw) {
		return nil, net.ErrClosed
	}
	conn := net.Conn(&trackedConn{Conn: raw, port: p, raw: raw})
	fail := func(err error) (net.Conn, error) {
		conn.Close()
		var r *refusedError
		if errors.As(err, &r) {
			p.logOnce("no connection with a node", "address", address, "reason", string(r.what), "error", r.text)
			p.onRefusal(r)
		}
		return nil, err
	}
	end := time.Now().Add(helloTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	if err := raw.SetDeadline(end); err != nil {
		return fail(err)
	}
	// A node that was stopped takes connections and says nothing: who gives up must not wait for it.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	peer := raw
	me := p.self.Load()
	switch {
	case p.tls != nil:
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fail(err)
		}
		c, err := p.tls.client(host)
		if err != nil {
			return fail(err)
		}
		t := tls.Client(raw, c)
		conn = &trackedConn{Conn: t, port: p, raw: raw}
		if err := t.HandshakeContext(ctx); err != nil {
			return fail(classifyTLS(address, err))
		}
		peer = t
		// Before the hello, which holds the token.
		if id := me.ids[address]; id != "" {
			if r := checkPeer(peer, id); r != nil {
				return fail(r)
			}
		}
	case !loopback(raw.RemoteAddr()):
		return fail(refuse(refusedPlain, "%s is on another machine, and plain TCP is for loopback addresses only; set cluster.tls.ca, cluster.tls.cert and cluster.tls.key", address))
	}
	w, err := dialHandshake(conn, kind, me, me.ids[address], p.token)
	if err != nil {
		return fail(classifyTLS(address, err)) // with TLS 1.3 the other side's opinion of this node's certificate arrives only now
	}
	if r := checkPeer(peer, w.Node); r != nil {
		return fail(r)
	}
	if !stop() {
		return fail(ctx.Err())
	}
	return conn, raw.SetDeadline(time.Time{})
}

// clusterOf is the cluster that a node said it belongs to, when it dialed last; empty when it knew of none, or never dialed.
func (p *port) clusterOf(id string) string {
	said, _ := p.clusters.Load(id)
	cluster, _ := said.(string)
	return cluster
}

// classifyTLS tells what TLS refuses from what merely failed.
func classifyTLS(address string, err error) error {
	var own *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var theirs *net.OpError
	if errors.As(err, &own) || errors.As(err, &plain) || errors.As(err, &theirs) && theirs.Op == "remote error" {
		return refuse(refusedTLS, "TLS with %s: %v", address, tlsProblem(err))
	}
	return err
}

// logOnce logs something about the network, the same thing once in a while only.
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

// withoutRemote leaves out the remote address, whose port differs every time.
func withoutRemote(args []any) []any {
	if len(args) >= 2 && args[0] == "remote" {
		return args[2:]
	}
	return args
}

// track notes an open connection; after close it closes it and reports false.
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
	return conn.Close()
}

// trackedConn is a connection that the port knows of, so that none outlives it.
type trackedConn struct {
	net.Conn
	port *port
	raw  net.Conn
}

// Close implements net.Conn. It closes what lies below, so that it never waits for a TLS farewell.
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
	conn, err := p.dial(ctx, streamRaft, string(address))
	if err != nil {
		return nil, err
	}
	return &answeredConn{Conn: conn, port: p, address: string(address)}, nil
}

// answeredConn notes when raft gets answers.
type answeredConn struct {
	net.Conn
	port    *port
	address string
}

func (c *answeredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.port.mu.Lock()
		c.port.heard[c.address] = time.Now()
		c.port.mu.Unlock()
	}
	return n, err
}

// answered is when raft last had an answer from an address; zero: never.
func (p *port) answered(address string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[address]
}

// Addr implements net.Listener: the address under which others know this node.
func (p *port) Addr() net.Addr { return nodeAddress(p.address) }

type nodeAddress string

func (nodeAddress) Network() string  { return "tcp" }
func (a nodeAddress) String() string { return string(a) }

// Close implements net.Listener: it closes the listener and every connection, and does not wait.
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
