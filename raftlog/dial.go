package raftlog

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// connectHead is how long one address of a node may take to connect when there is another one.
const connectHead = 400 * time.Millisecond

// dial connects to a node. If its ID is known, it is looked for where it answered last and where Options.Peers says that it is, too:
// raft's configuration is out of date when several nodes have moved while they were
// down. The error wraps a *refusedError if either node refuses the other.
func (p *port) dial(ctx context.Context, why purpose, to Peer) (net.Conn, error) {
	if to.ID == "" {
		return p.dialAt(ctx, why, Peer{p.self.Load().ids[to.Address], to.Address}, helloTimeout)
	}
	ways := p.waysTo(to)
	var first error
	for i, at := range ways {
		head := connectHead
		if i == len(ways)-1 {
			head = helloTimeout
		}
		conn, err := p.dialAt(ctx, why, Peer{to.ID, at}, head)
		if err == nil {
			p.answersAt(to.ID, at)
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if timeout, ok := errors.AsType[net.Error](first); len(ways) > 1 && ctx.Err() == nil && ok && timeout.Timeout() {
		return p.dialAt(ctx, why, Peer{to.ID, ways[0]}, helloTimeout) // it may just be far away
	}
	return nil, first
}

// waysTo lists the addresses at which to look for a node.
func (p *port) waysTo(to Peer) (ways []string) {
	ways = []string{to.Address}
	p.mu.Lock()
	last := p.found[to.ID]
	p.mu.Unlock()
	for _, peer := range p.peers {
		if peer.ID == to.ID && peer.Address != to.Address {
			ways = append(ways, peer.Address)
		}
	}
	if i := slices.Index(ways, last); i > 0 {
		ways[0], ways[i] = ways[i], ways[0]
	}
	return ways
}

// streamAddress is how raft's transport names a node: by its ID, so that a connection that it keeps is to that node, whatever
// address it has and whoever else gets the address later. This node's own name is its address, because raft tells it to others.
func (n *Node) streamAddress(id raft.ServerID) raft.ServerAddress {
	if string(id) == n.opts.ID {
		return raft.ServerAddress(n.opts.Address)
	}
	return raft.ServerAddress(byID + string(id))
}

const byID = "id:"

// addresses are a node's streamAddress, for raft.
type addresses struct{ *Node }

// ServerAddr implements raft.ServerAddressProvider.
func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return a.streamAddress(id), nil
}

// addressOf returns a node's address by raft's configuration, or else by Options.Peers.
func (n *Node) addressOf(id string) string {
	for _, s := range n.configuration() {
		if string(s.ID) == id {
			return string(s.Address)
		}
	}
	for _, p := range n.opts.Peers {
		if p.ID == id {
			return p.Address
		}
	}
	return ""
}

func (p *port) answersAt(id, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.found) >= maxLogged {
		clear(p.found)
	}
	p.found[id] = address
}

// dialAt connects to a node at one address; an empty ID stands for whoever is there. head bounds TCP's part of it.
func (p *port) dialAt(ctx context.Context, why purpose, to Peer, head time.Duration) (net.Conn, error) {
	id, address := to.ID, to.Address
	select {
	case <-p.closed:
		return nil, net.ErrClosed
	default:
	}
	begin, cancel := context.WithTimeout(ctx, head)
	raw, err := p.connect(begin, "tcp", address)
	cancel()
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
			p.logOnce("cannot connect to a node", "address", address, "reason", string(r.what), "error", r.text)
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
	// A suspended process accepts connections but never answers: a caller that gives up must not wait for it.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	peer := raw
	me := p.self.Load()
	switch {
	case p.tls != nil:
		t, err := p.secure(ctx, raw, to)
		if err != nil {
			return fail(err)
		}
		conn, peer = &trackedConn{Conn: t, port: p, raw: raw}, t
	case !loopback(raw.RemoteAddr()):
		return fail(refuse(refusedPlain, "%s is on another machine, but plain TCP is allowed only for loopback addresses; set cluster.tls.ca, cluster.tls.cert and cluster.tls.key", address))
	}
	shared := p.shared
	if p.tls != nil {
		shared = nil
	}
	w, err := dialHandshake(conn, why, me, id, p.token, shared)
	if err != nil {
		return fail(classifyTLS(address, err)) // with TLS 1.3 the other side's verdict on this node's certificate arrives only now
	}
	if r := checkPeer(peer, w.Node); r != nil {
		return fail(r)
	}
	if !stop() {
		return fail(ctx.Err())
	}
	if id == w.Node {
		p.guests.settle(w.Node, raw.RemoteAddr(), func(id string) bool { return p.stays(visitor{id: id, proven: true}) })
	}
	p.agreement.compare(me.settings, w.Node, w.Settings)
	return conn, raw.SetDeadline(time.Time{})
}

// secure puts TLS on a connection to a node. It comes before the hello, which contains the token.
func (p *port) secure(ctx context.Context, raw net.Conn, to Peer) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(to.Address)
	if err != nil {
		return nil, err
	}
	c, err := p.tls.client(host)
	if err != nil {
		return nil, err
	}
	t := tls.Client(raw, c)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, classifyTLS(to.Address, err)
	}
	if to.ID != "" {
		if r := checkPeer(t, to.ID); r != nil {
			return nil, r
		}
	}
	return t, nil
}

// classifyTLS turns a refusal by TLS into a *refusedError. Other failures are returned as they are.
func classifyTLS(address string, err error) error {
	var own *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var theirs *net.OpError
	if errors.As(err, &own) || errors.As(err, &plain) || errors.As(err, &theirs) && theirs.Op == "remote error" {
		return refuse(refusedTLS, "TLS with %s: %v", address, tlsProblem(err))
	}
	return err
}
