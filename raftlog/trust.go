package raftlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Who may do what at the cluster port. Asking for a node's state and asking to join is open to every node that gets through the
// handshake. Everything else, raft's streams included, is for the members of the cluster, and membership is looked up for
// every call: a certificate that was issued or a secret that is known makes no member, and a connection gives no right to
// the next call.

// visitor is the node at the other end of a connection to the cluster port.
type visitor struct {
	id, boot string
	proven   bool // see port.examine
}

// service is what this node does for another one's call.
type service struct {
	open   bool // for nodes that are not members, too
	answer func(from visitor, body []byte) (status byte, out []byte)
}

// callServices lists the calls. One that does not say that it is open is for members.
func (n *Node) callServices() map[byte]service {
	members := func(answer func(body []byte) (byte, []byte)) service {
		return service{answer: func(_ visitor, body []byte) (byte, []byte) { return answer(body) }}
	}
	return map[byte]service{
		methodState:     {open: true, answer: func(_ visitor, body []byte) (byte, []byte) { return n.handleState(body) }},
		methodJoin:      {open: true, answer: n.handleJoin},
		methodStatus:    members(func([]byte) (byte, []byte) { return n.handleStatus() }),
		methodForward:   members(n.handleForward),
		methodChange:    members(n.handleChange),
		methodReadIndex: members(func([]byte) (byte, []byte) { return n.handleReadIndex() }),
		methodTerm:      members(n.handleTerm),
		methodContact:   {answer: func(from visitor, body []byte) (byte, []byte) { return n.handleReport(from.id, body) }},
		methodNodeCall:  members(n.handleNodeCall),
	}
}

// serveCalls serves one connection from another node.
func (n *Node) serveCalls(conn net.Conn, from visitor) {
	services := n.callServices()
	limit := func() uint32 {
		if n.isMemberNow(from) {
			return maxFrame
		}
		return maxOpenFrame
	}
	serveCalls(conn, limit, func(method byte, body []byte) (byte, []byte) {
		s, known := services[method]
		if status, text := n.checkVisitor(from, s.open); status != statusOK {
			n.port.logOnce("refused a call of a node", "node", oneLine(from.id), "call", method, "error", oneLine(text))
			return status, []byte(text)
		}
		if !known {
			return statusRefused, []byte("unknown call")
		}
		return s.answer(from, body)
	})
}

// checkVisitor decides whether a node may make a call now. text is for people.
func (n *Node) checkVisitor(from visitor, open bool) (status byte, text string) {
	switch me := n.port.self.Load(); {
	case me.removed[from.id]:
		return statusRemoved, me.checkNode(from.id, "", "").text
	case n.port.runs.displaced(from):
		return statusStranger, twinText(from.id, "has taken its place")
	case open:
		return statusOK, ""
	case !from.proven:
		return statusStranger, n.port.shared.refusal(n.opts.ID).text
	case !n.isMember(from.id):
		return statusStranger, strangerText(from.id)
	}
	return statusOK, ""
}

func strangerText(id string) string {
	return fmt.Sprintf("%s is not a member of this cluster, and may only ask to join it", id)
}

// isMemberNow reports whether a node may use what is for members.
func (n *Node) isMemberNow(from visitor) bool {
	status, _ := n.checkVisitor(from, false)
	return status == statusOK
}

// admitVisitor decides about a new connection. Calls are decided one by one.
func (n *Node) admitVisitor(kind byte, from visitor) *refusedError {
	if kind != streamRaft {
		return nil
	}
	select {
	case <-n.raftRuns: // before, it is not known who the members are
	case <-time.After(stateTimeout):
		return refuse(refusedMember, "%s is starting", n.opts.ID)
	case <-n.ctx.Done():
	}
	if from.proven && !n.isMember(from.id) {
		n.askWhetherMember(from.id)
	}
	status, text := n.checkVisitor(from, false)
	switch status {
	case statusOK:
		return nil
	case statusRemoved:
		return refuse(refusedRemoved, "%s", text)
	}
	return refuse(refusedMember, "%s", text)
}

// isMember reports whether a node belongs to the cluster as far as this node knows: by raft's newest configuration. A node
// without one has just founded the cluster with its peers, or joined it through them.
func (n *Node) isMember(id string) bool {
	servers := n.configuration()
	if len(servers) > 0 {
		return slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == id }) || n.vouched.has(id, servers)
	}
	if n.vouched.has(id, nil) {
		return true
	}
	if slices.ContainsFunc(n.opts.Peers, func(p Peer) bool { return p.ID == id }) {
		return true
	}
	n.idMu.Lock()
	defer n.idMu.Unlock()
	return n.identity.Members[id] != ""
}

// configuration returns raft's newest configuration, which must not be changed.
func (n *Node) configuration() []raft.Server {
	if !n.running.Load() {
		return nil
	}
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// vouched are nodes that this node's configuration lacks but members have named as members: this node was away when they
// joined, and can learn of it only from a leader that may be one of them. It is void once the configuration changes.
type vouched struct {
	mu    sync.Mutex
	base  []raft.Server // the configuration at the time
	ids   []string
	asked time.Time
}

const (
	// vouchPause is the least time between two rounds of asking.
	vouchPause = 500 * time.Millisecond
	// vouchReview is the age at which what members said is asked again.
	vouchReview = 10 * time.Second
)

func (v *vouched) has(id string, base []raft.Server) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.ids) > 0 && slices.Equal(v.base, base) && slices.Contains(v.ids, id)
}

// due reports whether to ask now, and if so counts as asking.
func (v *vouched) due(after time.Duration) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.asked) < after {
		return false
	}
	v.asked = time.Now()
	return true
}

func (v *vouched) reviewDue() bool {
	v.mu.Lock()
	some := len(v.ids) > 0
	v.mu.Unlock()
	return some && v.due(vouchReview)
}

// askWhetherMember asks the members this node knows about a node that it does not know.
func (n *Node) askWhetherMember(id string) {
	if n.vouched.due(vouchPause) {
		n.askMembers(n.ctx)
	}
	if !n.isMember(id) {
		n.port.logOnce("a node that is no member, as far as the members that answer know, wants to take part", "node", oneLine(id))
	}
}

// askMembers asks all members this node knows, or else its peers, who the members are.
func (n *Node) askMembers(ctx context.Context) {
	base := n.configuration()
	request, err := json.Marshal(stateRequest{Node: n.opts.ID, Member: true})
	var mu sync.Mutex
	var ids []string
	var asking sync.WaitGroup
	for _, p := range n.knownPeers(base) {
		asking.Go(func() {
			a, err := n.requestState(ctx, p, request, err)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && a.Node == p.ID {
				for _, c := range a.Configuration {
					ids = append(ids, c.ID)
				}
			}
		})
	}
	asking.Wait()
	n.vouched.mu.Lock()
	defer n.vouched.mu.Unlock()
	n.vouched.base, n.vouched.ids = base, ids
}

// knownPeers are the other nodes of a configuration, or Options.Peers if there is none.
func (n *Node) knownPeers(servers []raft.Server) (peers []Peer) {
	for _, s := range servers {
		peers = append(peers, Peer{string(s.ID), string(s.Address)})
	}
	if len(servers) == 0 {
		peers = slices.Clone(n.opts.Peers)
	}
	return slices.DeleteFunc(peers, func(p Peer) bool { return p.ID == n.opts.ID })
}

// lasting measures how long something has been happening again and again. Safe for concurrent use.
type lasting struct {
	mu          sync.Mutex
	first, last time.Time
}

// lastingGap ends what happens again and again.
const lastingGap = 2 * time.Second

// note records that it has just happened, and returns for how long it has.
func (l *lasting) note() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.last) > lastingGap {
		l.first = now
	}
	l.last = now
	return now.Sub(l.first)
}

// so returns for how long it has been happening, 0 if it no longer does.
func (l *lasting) so() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.last) > lastingGap {
		return 0
	}
	return l.last.Sub(l.first)
}

// LacksSecret reports whether the other nodes have been refusing this one, or the reverse, for some time because they have no
// secret in common.
func (n *Node) LacksSecret() bool { return n.unproven.so() >= patience }

// memberConn is one of raft's streams from another node, which ends when that node is no member any more.
type memberConn struct {
	net.Conn
	stays func() bool
}

// errNoMember ends a stream of a node that is no member any more.
var errNoMember = errors.New("the node is no member of the cluster any more")

// Read implements net.Conn.
func (c *memberConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.stays() {
		c.Close()
		return 0, errNoMember
	}
	return n, err
}
