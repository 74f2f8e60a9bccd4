package raftlog

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// acceptHandshake is the handshake of the listening side.
func (p *port) acceptHandshake(raw net.Conn, in *guest) (conn net.Conn, kind byte, from visitor, err error) {
	conn = &trackedConn{Conn: guestConn{raw, in}, port: p, raw: raw}
	peer := raw
	begin := time.Now()
	if err := raw.SetDeadline(begin.Add(in.patience())); err != nil {
		return nil, 0, from, err
	}
	if p.tls != nil {
		t := tls.Server(guestConn{raw, in}, p.tls.server())
		if err := t.HandshakeContext(context.Background()); err != nil { // raw's deadline bounds it
			p.logTLSFailure(in.home, err)
			return nil, 0, from, err
		}
		conn, peer = &trackedConn{Conn: t, port: p, raw: raw}, t
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil {
		return nil, 0, from, err
	}
	kind = first[0]
	if kind != streamRaft && kind != streamCalls {
		p.logOnce("refused a connection: not a quorumhub node", "remote", raw.RemoteAddr().String())
		return nil, 0, from, errors.New("not a quorumhub node")
	}
	var h hello
	if err := readHello(conn, &h); err != nil {
		p.logOnce("refused a connection: unreadable handshake", "remote", raw.RemoteAddr().String(), "error", err)
		return nil, 0, from, err
	}
	if err := raw.SetDeadline(begin.Add(helloTimeout)); err != nil {
		return nil, 0, from, err
	}
	from = visitor{id: h.Node, boot: h.Boot}
	me := p.self.Load()
	from.proven, err = p.examine(conn, peer, kind, me, &h)
	var r *refusedError
	var its *run
	if err == nil {
		its, r = p.decide(raw, kind, from, me, &h)
	} else if !errors.As(err, &r) {
		return nil, 0, from, err
	}
	if r != nil {
		p.logOnce("refused a node", "node", oneLine(h.Node), "reason", string(r.what), "error", oneLine(r.text))
		return nil, 0, from, errors.Join(r, writeHello(conn, nil, &welcome{Version: protocolVersion, Refused: r.what, Reason: r.text, Settled: !me.fresh}))
	}
	if from.proven {
		p.clusters.Store(h.Node, h.Cluster)
		p.agreement.compare(me.settings, h.Node, h.Settings)
	}
	w := welcome{Version: protocolVersion, Cluster: me.cluster, Node: me.id, Instance: me.instance, Level: me.level, Settings: me.settings}
	if err := writeHello(conn, nil, &w); err != nil {
		return nil, 0, from, err
	}
	if its != nil {
		conn = runConn{conn, its}
	}
	return conn, kind, from, raw.SetDeadline(time.Time{})
}

// decide decides about a node that is what it claims, as far as it has proven that.
func (p *port) decide(raw net.Conn, kind byte, from visitor, me *self, h *hello) (*run, *refusedError) {
	if from.proven && h.Node == me.id && h.Instance == me.instance && h.Boot != me.boot && h.Boot != "" {
		return nil, refuse(refusedTwin, "%s", twinText(me.id, "answers at "+p.address))
	}
	if r := me.checkHello(h); r != nil {
		return nil, r
	}
	if r := p.admit(kind, from); r != nil {
		return nil, r
	}
	if !from.proven || from.boot == "" {
		return nil, nil
	}
	return p.runs.enter(from, raw)
}

// logTLSFailure reports why a connection got no further than TLS. Of connections that just end, one line is enough.
func (p *port) logTLSFailure(from string, err error) {
	why := tlsProblem(err)
	var broken *net.OpError
	if errors.As(err, &broken) && broken.Op != "remote error" || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		why = errors.New("the connection ended, or nothing came for too long")
	}
	p.logOnce("refused a connection: TLS handshake failed", "remote", from, "error", why)
}

// examine finds out whether the dialing node is what it claims: one of the nodes that hold the cluster's secrets and, with TLS,
// the very node its certificate names.
func (p *port) examine(conn, peer net.Conn, kind byte, me *self, h *hello) (proven bool, err error) {
	r := checkPeer(peer, h.Node)
	if r == nil {
		r = me.checkVersion(h.Version)
	}
	switch {
	case r != nil:
	case p.tls != nil:
		r = me.checkToken(h.Token, p.token)
		proven = r == nil
	case h.Nonce == "": // a program that knows no proofs
		r = me.checkToken(h.Token, p.token)
		proven = r == nil && (p.token != "" || me.clusterLevel == levelUnproven)
	default:
		proven, r, err = p.shared.challengeVisitor(conn, purpose{kind, h.Open}, me, h)
	}
	if r != nil {
		return false, r
	}
	return proven, err
}
