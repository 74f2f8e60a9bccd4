package raftlog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	changeTimeout = 5 * time.Second       // for one attempt to change raft's configuration
	changePause   = 50 * time.Millisecond // between two attempts
	maxNodeID     = 64                    // bytes
	removeWait    = 15 * time.Second      // for a leaving node's subscriptions to get other owners
	transferTries = 4
	reachTimeout  = 2 * time.Second // for a node to answer at the address it gave
)

// membership is a node's state about who belongs to the cluster.
type membership struct {
	changing turn            // serializes changes on the leader
	kick     chan struct{}   // wakes the reconciler
	gone     chan struct{}   // closed when the node learns that it was removed from the cluster
	part     context.Context // ends then, and with the node
	leave    context.CancelFunc
	once     sync.Once
	why      string // set before gone is closed

	mu      sync.Mutex // guards what refresh compares, below
	seen    uint64
	servers []raft.Server
}

func (m *membership) start(ctx context.Context) {
	m.changing, m.kick, m.gone = make(turn, 1), make(chan struct{}, 1), make(chan struct{})
	m.part, m.leave = context.WithCancel(ctx)
}

func (n *Node) kickReconciler() {
	select {
	case n.members.kick <- struct{}{}:
	default:
	}
}

// Operation is a kind of Change.
type Operation string

// Operations.
const (
	// AddNode announces a node: it may join from the given address, as a voter unless Nonvoter is set.
	AddNode Operation = "add"
	// PromoteNode gives a node a vote.
	PromoteNode Operation = "promote"
	// DemoteNode takes a node's vote away; the node continues to deliver.
	DemoteNode Operation = "demote"
	// DrainNode lets others take over what a node delivers, until UndrainNode. It goes on storing everything, and voting.
	DrainNode   Operation = "drain"
	UndrainNode Operation = "undrain"
	// RemoveNode gives a node's subscriptions to other nodes and permanently removes it from the cluster.
	RemoveNode Operation = "remove"
	// TransferLeadership makes another voter the leader: Node, or any if Node is empty.
	TransferLeadership Operation = "transfer-leadership"
)

// Change is a membership change requested by an operator.
type Change struct {
	Operation Operation `json:"operation"`
	Node      string    `json:"node,omitempty"`
	Address   string    `json:"address,omitempty"` // AddNode: host:port for the other nodes
	Nonvoter  bool      `json:"nonvoter,omitempty"`
}

// Change makes a change through the leader; any node can be asked. It returns once the change is decided and in the log, and
// this node has applied it. Its consequences may take longer (see Members). Repeating a change is harmless. The error is
// a *hub.Error for the caller, or ctx's.
func (n *Node) Change(ctx context.Context, c Change) error {
	if n.port == nil && c.Operation == RemoveNode {
		return n.lastNode(cmp.Or(c.Node, n.opts.ID))
	}
	if n.port == nil {
		return hub.Errorf(hub.CodeConflict, "this node runs alone; to let others join, restart it with cluster.peers listing this node and the address where other nodes reach it")
	}
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the change: %w", err)
	}
	for {
		index, err := n.changeOnce(ctx, c, body)
		if err == nil {
			n.progress.wait(ctx, index)
			n.refresh()
			return ctx.Err()
		}
		if !errors.Is(err, errNotLeader) {
			return err
		}
		select {
		case <-time.After(changePause):
		case <-ctx.Done():
			return hub.ErrNoLeader
		case <-n.members.gone:
			return hub.Errorf(hub.CodeConflict, "%s", n.members.why)
		case <-n.ctx.Done():
			return hub.ErrStopping
		}
	}
}

// changeOnce makes one attempt, here or on the leader.
func (n *Node) changeOnce(ctx context.Context, c Change, body []byte) (index uint64, err error) {
	if n.IsLeader() {
		return n.applyChange(ctx, c)
	}
	id, address := n.Leader()
	if address == "" || id == n.opts.ID {
		return 0, errNotLeader
	}
	status, out, err := n.caller.call(ctx, Peer{id, address}, 0, methodChange, body)
	switch {
	case err != nil, status == statusNotLeader:
		return 0, errNotLeader // repeating it is harmless
	case status == statusOK:
		var a changeResponse
		if err := json.Unmarshal(out, &a); err != nil {
			return 0, hub.Errorf(hub.CodeInternal, "unreadable response from the leader: %v", err)
		}
		if a.Error != nil {
			return 0, a.Error
		}
		return a.Index, nil
	}
	return 0, hub.Errorf(hub.CodeUnavailable, "the leader refused the change: %s", oneLine(string(out)))
}

type changeResponse struct {
	Index uint64     `json:"index"`
	Error *hub.Error `json:"error,omitempty"`
}

// handleChange is the leader's side of Change.
func (n *Node) handleChange(body []byte) (status byte, out []byte) {
	if !n.running.Load() || !n.IsLeader() {
		return statusNotLeader, nil
	}
	var c Change
	if err := json.Unmarshal(body, &c); err != nil {
		return statusRefused, []byte("unreadable change")
	}
	ctx, cancel := context.WithTimeout(n.ctx, 2*changeTimeout)
	defer cancel()
	var a changeResponse
	var err error
	a.Index, err = n.applyChange(ctx, c)
	if errors.Is(err, errNotLeader) {
		return statusNotLeader, nil
	}
	if err != nil && !errors.As(err, &a.Error) {
		a.Error = hub.Errorf(hub.CodeUnavailable, "%s failed: %s", c.Operation, oneLine(err.Error()))
	}
	if out, err = json.Marshal(a); err != nil {
		return statusRefused, []byte(err.Error())
	}
	return statusOK, out
}

// applyChange decides a change as the leader. It returns the log index at which the change is done.
func (n *Node) applyChange(ctx context.Context, c Change) (index uint64, err error) {
	if err := n.members.changing.take(ctx); err != nil {
		return 0, err
	}
	defer n.members.changing.release()
	if err := await(ctx, n.raft.VerifyLeader()); err != nil {
		return 0, errNotLeader
	}
	members := n.Members()
	m := memberOf(members, c.Node)
	known, announced := n.nodes()[c.Node]
	switch {
	case c.Node == "" && c.Operation != TransferLeadership:
		return 0, hub.ParamErrorf("node", "is missing; expected a node ID")
	case c.Operation == AddNode:
		err = n.announceNode(ctx, c, m)
	case known.Phase == hub.NodeRemoved:
		return 0, hub.Errorf(hub.CodeConflict, "%s was removed from the cluster", c.Node)
	case m == nil && !announced && c.Node != "":
		return 0, hub.Errorf(hub.CodeNotFound, "%s is not a node of this cluster; its nodes are %s", oneLine(c.Node), idsOf(members))
	case c.Operation == RemoveNode:
		err = n.startRemoval(ctx, c.Node, members)
	case c.Operation == TransferLeadership:
		err = n.transferTo(ctx, c.Node, members)
	case m == nil:
		return 0, hub.Errorf(hub.CodeConflict, "%s is expected but has not joined yet", c.Node)
	case known.Phase == hub.NodeLeaving:
		return 0, hub.Errorf(hub.CodeConflict, "%s is being removed", c.Node)
	case c.Operation == PromoteNode:
		err = n.promote(ctx, m)
	case !announced && (c.Operation == DrainNode || c.Operation == UndrainNode):
		return 0, hub.Errorf(hub.CodeUnavailable, "%s has joined just now; try again shortly", c.Node)
	case c.Operation == DrainNode:
		err = n.drain(ctx, m, members)
	case c.Operation == UndrainNode:
		if m.Drained {
			err = n.recordChange(ctx, &hubpb.NodeChanged{Node: m.ID, Drain: hubpb.NodeDrain_DRAIN_NO})
		}
	case c.Operation == DemoteNode:
		if m.Voter {
			if err := checkQuorumWithout(m.ID, members); err != nil {
				return 0, err
			}
		}
		err = n.recordChange(ctx, &hubpb.NodeChanged{Node: m.ID, Vote: hubpb.NodeVote_VOTE_NO})
	default:
		return 0, hub.ParamErrorf("operation", "is %q; expected add, promote, demote, drain, undrain, remove or transfer-leadership", oneLine(string(c.Operation)))
	}
	n.kickReconciler()
	return n.store.Applied().Index, err
}

func memberOf(members []Member, id string) *Member {
	for i := range members {
		if members[i].ID == id {
			return &members[i]
		}
	}
	return nil
}

func idsOf(members []Member) string {
	var ids []string
	for i := range members {
		ids = append(ids, members[i].ID)
	}
	return strings.Join(ids, ", ")
}

// recordChange writes a change of a node to the log.
func (n *Node) recordChange(ctx context.Context, e *hubpb.NodeChanged) error {
	_, err := n.batcher.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_NodeChanged{NodeChanged: e}})
	return err
}

func (n *Node) recordAdmission(ctx context.Context, e *hubpb.NodeAdmitted) error {
	res, err := n.batcher.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_NodeAdmitted{NodeAdmitted: e}})
	if err == nil && res[0].Outcome != hub.OutcomeOK {
		return refuse(refusedWiped, "%s was admitted with other data in the meantime; start it with a new cluster.node_id", e.Node)
	}
	return err
}

// announceNode allows a node to join.
func (n *Node) announceNode(ctx context.Context, c Change, m *Member) error {
	if len(c.Node) > maxNodeID || strings.ContainsFunc(c.Node, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("._-", r)
	}) {
		return hub.ParamErrorf("node", "is %q; expected at most %d letters, digits, dots, dashes and underscores", oneLine(c.Node), maxNodeID)
	}
	if m != nil {
		return hub.Errorf(hub.CodeConflict, "%s is already a node of this cluster, at %s; to move it, restart it with the new address in cluster.peers", m.ID, m.Address)
	}
	if n.nodes()[c.Node].Phase == hub.NodeRemoved {
		return hub.Errorf(hub.CodeConflict, "%s was removed from the cluster; its ID is never reused; choose another one", c.Node)
	}
	if err := n.resolve(ctx, c.Address); err != nil {
		return hub.ParamErrorf("address", "is %s", err.text)
	}
	if other := n.ownerOf(c.Address); other != "" {
		return hub.Errorf(hub.CodeConflict, "%s is the address of %s; if that node does not come back, remove it first", c.Address, other)
	}
	return n.recordAdmission(ctx, &hubpb.NodeAdmitted{Node: c.Node, Address: c.Address, Voter: !c.Nonvoter})
}

// ownerOf returns the ID of the node at an address, empty if there is none.
func (n *Node) ownerOf(address string) string {
	for _, s := range n.servers() {
		if string(s.Address) == address {
			return string(s.ID)
		}
	}
	return ""
}

// resolve checks that an address can be used from here, without connecting to it.
func (n *Node) resolve(ctx context.Context, address string) *refusedError {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return refuse(refusedAddress, "%q; expected host:port such as 10.0.0.4:8180", oneLine(address))
	}
	ips := []string{host}
	if _, err := netip.ParseAddr(host); err != nil {
		ctx, cancel := context.WithTimeout(ctx, reachTimeout)
		defer cancel()
		if ips, err = net.DefaultResolver.LookupHost(ctx, host); err != nil || len(ips) == 0 {
			return refuse(refusedAddress, "%q, which %s cannot resolve (%v); expected an address that all nodes can reach", oneLine(address), n.opts.ID, err)
		}
	}
	for _, text := range ips {
		if ip, err := netip.ParseAddr(text); err == nil && n.opts.TLS == nil && !ip.IsLoopback() {
			return refuse(refusedPlain, "%q, which is on another machine, but the nodes of this cluster use plain TCP; expected a loopback address, or cluster.tls.ca, cluster.tls.cert and cluster.tls.key on every node", oneLine(address))
		}
	}
	return nil
}

// promote gives a caught-up node a vote.
func (n *Node) promote(ctx context.Context, m *Member) error {
	switch {
	case m.Voter:
	case !m.Alive:
		return hub.Errorf(hub.CodeConflict, "%s does not answer; an absent voter endangers the quorum", m.ID)
	case !m.Healthy:
		return hub.Errorf(hub.CodeConflict, "%s has not caught up yet: it is at entry %d; try again shortly", m.ID, m.AppliedIndex)
	}
	if err := n.recordChange(ctx, &hubpb.NodeChanged{Node: m.ID, Vote: hubpb.NodeVote_VOTE_YES}); err != nil {
		return err
	}
	if m.Voter {
		return nil
	}
	return n.reconfigure(ctx, func() raft.Future {
		return n.raft.AddVoter(raft.ServerID(m.ID), raft.ServerAddress(m.Address), 0, changeTimeout)
	})
}

// drain lets others deliver what a node does, and lead if it leads.
func (n *Node) drain(ctx context.Context, m *Member, members []Member) error {
	others := slices.DeleteFunc(slices.Clone(members), func(o Member) bool { return o.ID == m.ID })
	if !spared(others) {
		return hub.Errorf(hub.CodeConflict, "no other node could deliver what %s does: the others are down, stopping or drained", m.ID)
	}
	if !m.Drained {
		if err := n.recordChange(ctx, &hubpb.NodeChanged{Node: m.ID, Drain: hubpb.NodeDrain_DRAIN_YES}); err != nil {
			return err
		}
	}
	if m.ID == n.opts.ID && successor(members, m.ID) != nil {
		// It is drained whether or not another node leads.
		if err := n.transferTo(ctx, "", members); err != nil {
			n.opts.Logger.Info("a drained node still leads", "node", m.ID, "error", err)
		}
	}
	return nil
}

// reconfigure makes one change to raft's configuration.
func (n *Node) reconfigure(ctx context.Context, change func() raft.Future) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	err := await(ctx, change())
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrLeadershipLost):
		return errNotLeader
	case errors.Is(err, context.DeadlineExceeded):
		return hub.ErrAmbiguous
	}
	return err
}

// startRemoval records that a node is leaving; the reconciler does the rest.
func (n *Node) startRemoval(ctx context.Context, id string, members []Member) error {
	if m := memberOf(members, id); m == nil {
		return n.recordChange(ctx, &hubpb.NodeChanged{Node: id, Phase: hub.NodeRemoved}) // it never joined
	} else if len(members) == 1 {
		return n.lastNode(id)
	} else if m.Voter {
		if err := checkQuorumWithout(id, members); err != nil {
			return err
		}
	}
	if _, known := n.nodes()[id]; !known { // it died before it reported its instance
		if err := n.recordAdmission(ctx, &hubpb.NodeAdmitted{Node: id, Member: true}); err != nil {
			return err
		}
	}
	return n.recordChange(ctx, &hubpb.NodeChanged{Node: id, Phase: hub.NodeLeaving})
}

// lastNode returns the error for removing the only node.
func (n *Node) lastNode(id string) error {
	const whatElse = "without it there is no hub; to shut the hub down, stop the process; to move it to another machine, "
	if n.port == nil {
		return hub.Errorf(hub.CodeConflict, "%s runs alone, and %sback it up and restore the backup there", id, whatElse)
	}
	return hub.Errorf(hub.CodeConflict, "%s is the only voter left, and %slet a node join there, wait until it is a voter, and repeat this", id, whatElse)
}

// checkQuorumWithout returns an error if the cluster cannot do without a node's vote.
func checkQuorumWithout(id string, members []Member) error {
	voters, alive := 0, 0
	for i := range members {
		m := &members[i]
		if !m.Voter || m.ID == id || m.Leaving {
			continue
		}
		voters++
		if m.Alive {
			alive++
		}
	}
	switch need := voters/2 + 1; {
	case voters == 0:
		return hub.Errorf(hub.CodeConflict, "%s is the only voter left; let another node join and vote first", id)
	case alive < need:
		return hub.Errorf(hub.CodeConflict, "without %s the cluster would have %d voters, %d of them alive, but needs %d; bring dead voters back or remove them first", id, voters, alive, need)
	}
	return nil
}

// transferTo makes another voter the leader: id, or the most up-to-date one if id is empty.
func (n *Node) transferTo(ctx context.Context, id string, members []Member) error {
	to := memberOf(members, id)
	switch {
	case id == n.opts.ID:
		return nil
	case id == "":
		if to = successor(members, n.opts.ID); to == nil {
			return hub.Errorf(hub.CodeConflict, "no other voter is healthy; leadership stays with %s", n.opts.ID)
		}
	case to == nil:
		return hub.Errorf(hub.CodeConflict, "%s has not joined yet", id)
	case !to.Voter:
		return hub.Errorf(hub.CodeConflict, "%s is not a voter and cannot lead; promote it first", id)
	case !to.Healthy || to.Stopping || to.Leaving:
		return hub.Errorf(hub.CodeConflict, "%s is not healthy and cannot lead at the moment", id)
	}
	// One attempt lasts one election timeout, which is short for a busy machine.
	for try := 1; ; try++ {
		err := await(ctx, n.raft.LeadershipTransferToServer(raft.ServerID(to.ID), raft.ServerAddress(to.Address)))
		if err == nil || n.raft.State() != raft.Leader {
			return nil
		}
		if try == transferTries || ctx.Err() != nil {
			return hub.Errorf(hub.CodeUnavailable, "leadership could not be transferred to %s: %v; try again", to.ID, err)
		}
		select {
		case <-time.After(changePause):
		case <-ctx.Done():
		}
	}
}

// successor returns the voter best suited to lead instead of id, nil if there is none.
func successor(members []Member, id string) (best *Member) {
	for i := range members {
		m := &members[i]
		if m.ID != id && m.Voter && m.Healthy && !m.Stopping && !m.Leaving && (best == nil || m.AppliedIndex > best.AppliedIndex) {
			best = m
		}
	}
	return best
}

// turn is a lock that is held across network calls. Waiting for it ends with the caller's context.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) release() { <-t }
