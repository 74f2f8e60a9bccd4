package raftlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// joinRequest asks a cluster to add a fresh node, or to change the address of a member that has moved.
type joinRequest struct {
	Node     string `json:"node"`
	Instance string `json:"instance"`
	Address  string `json:"address"`
	Fresh    bool   `json:"fresh"`
	Voter    bool   `json:"voter"`
	Shared   string `json:"shared"`
	// Keys holds the IDs of all sealing keys the node has.
	Keys []string `json:"keys,omitempty"`
}

type joinResponse struct {
	Joined  bool              `json:"joined,omitempty"`
	Members map[string]string `json:"members,omitempty"` // instances of all nodes, by ID
	Leader  string            `json:"leader,omitempty"`  // address of the node to ask instead
	// LeaderID is that node's ID.
	LeaderID string  `json:"leader_id,omitempty"`
	Refused  refusal `json:"refused,omitempty"`
	Reason   string  `json:"reason,omitempty"` // why the node may not join, or not yet
}

// joinVia joins the cluster of the node that sent a. A *refusedError is final.
func (n *Node) joinVia(ctx context.Context, a *stateResponse) (joined bool, err error) {
	if slices.Contains(a.Configuration, Peer{n.opts.ID, n.opts.Address}) {
		n.opts.Logger.Info("member of a cluster; waiting for its leader", "asked", a.Node, "cluster", a.Cluster)
		return true, n.joined(a.Members)
	}
	if len(a.Configuration) == 0 {
		return false, errors.New("it does not know its cluster's members yet")
	}
	address := ""
	for _, p := range a.Configuration {
		if p.ID == a.Node {
			address = p.Address
		}
	}
	for _, p := range n.opts.Peers {
		if p.ID == a.Node {
			address = p.Address
		}
	}
	answer, err := n.requestJoin(ctx, Peer{a.Node, address})
	if err == nil && answer.Leader != "" && answer.Leader != address {
		answer, err = n.requestJoin(ctx, Peer{answer.LeaderID, answer.Leader})
	}
	switch {
	case err != nil:
		return false, err
	case answer.Joined:
		n.opts.Logger.Info("joined a cluster", "asked", a.Node, "cluster", a.Cluster, "nodes", peersText(a.Configuration))
		return true, n.joined(answer.Members)
	case answer.Refused != "":
		return false, &refusedError{what: answer.Refused, text: oneLine(answer.Reason)}
	case answer.Reason != "":
		return false, errors.New(oneLine(answer.Reason))
	}
	return false, errors.New("its cluster has no leader")
}

// joined makes the node wait for its cluster's leader. Once raft runs, the caller holds idMu.
func (n *Node) joined(members map[string]string) error {
	n.opts.Join = true
	n.formation.mu.Lock()
	n.formation.fresh = false
	n.formation.mu.Unlock()
	if len(members) == 0 {
		return nil
	}
	n.identity.Members = maps.Clone(members)
	delete(n.identity.Members, n.opts.ID)
	return n.identity.write(n.opts.Dir)
}

// requestJoin sends one join request to a node.
func (n *Node) requestJoin(ctx context.Context, to Peer) (*joinResponse, error) {
	q := joinRequest{Node: n.opts.ID, Instance: n.port.self.Load().instance, Address: n.opts.Address,
		Fresh: !n.running.Load() || n.raft.LastIndex() == 0, Voter: !n.opts.Nonvoter, Shared: n.opts.Shared}
	if n.opts.Keys != nil {
		q.Keys = n.opts.Keys()
	}
	request, err := json.Marshal(&q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout+2*reachTimeout)
	defer cancel()
	status, body, err := n.caller.call(ctx, to, laneOpen, methodJoin, request)
	if err != nil {
		return nil, err
	}
	if status != statusOK {
		return nil, fmt.Errorf("it answered with status %d: %s", status, oneLine(string(body)))
	}
	a := new(joinResponse)
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("unreadable response: %w", err)
	}
	return a, nil
}

// handleJoin answers a join request. A node asks for itself only.
func (n *Node) handleJoin(from visitor, body []byte) (status byte, out []byte) {
	var q joinRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return statusRefused, []byte("unreadable request")
	}
	if q.Node != from.id {
		return statusRefused, []byte("a node may ask for itself only")
	}
	if !n.running.Load() {
		return statusRefused, []byte("starting")
	}
	var a joinResponse
	if !n.IsLeader() {
		if id, address := n.Leader(); id != n.opts.ID {
			a.Leader, a.LeaderID = address, id
		}
	} else {
		ctx, cancel := context.WithTimeout(n.ctx, changeTimeout+reachTimeout)
		defer cancel()
		err := n.admitNode(ctx, &q, from.proven)
		var r *refusedError
		switch {
		case err == nil:
			a.Joined, a.Members = true, n.port.self.Load().members
		case errors.As(err, &r):
			a.Refused, a.Reason = r.what, r.text
			n.port.logOnce("refused a node", "node", oneLine(q.Node), "reason", string(r.what), "error", oneLine(r.text))
		default:
			a.Reason = err.Error()
			n.port.logOnce("a node cannot join yet; it keeps trying", "node", oneLine(q.Node), "error", oneLine(err.Error()))
		}
	}
	out, err := json.Marshal(a)
	if err != nil {
		return statusRefused, []byte(err.Error())
	}
	return statusOK, out
}

// admitNode adds a node as a non-voter, or changes the address of a member. A *refusedError is final; other errors are
// temporary or wait for an operator.
func (n *Node) admitNode(ctx context.Context, q *joinRequest, proven bool) error {
	if err := n.members.changing.take(ctx); err != nil {
		return err
	}
	defer n.members.changing.release()
	if err := await(ctx, n.raft.VerifyLeader()); err != nil {
		return errors.New("the cluster has no leader at the moment")
	}
	n.refresh()
	if r := n.port.self.Load().checkNode(q.Node, q.Instance, ""); r != nil {
		return r
	}
	if !proven {
		if r := n.checkKeys(q); r != nil {
			return r
		}
		return n.port.shared.refusal(n.opts.ID)
	}
	known := n.nodes()[q.Node]
	if known.Phase == hub.NodeLeaving {
		return refuse(refusedRemoved, "%s is being removed from the cluster", q.Node)
	}
	if r := n.resolve(ctx, q.Address); r != nil {
		r.text = fmt.Sprintf("the address of %s is %s; check cluster.peers on %s", q.Node, r.text, q.Node)
		return r
	}
	m := memberOf(n.Members(), q.Node)
	if other := n.ownerOf(q.Address); other != "" && other != q.Node && m == nil {
		return fmt.Errorf("%s is the address of %s; if that node's data are lost, remove it with: quorumhub cluster remove %s", q.Address, other, other)
	}
	switch {
	case m != nil && m.Address == q.Address:
		return nil
	case m != nil:
		if err := n.verifyAddress(ctx, q); err != nil {
			return err
		}
		n.opts.Logger.Info("node changed its address", "node", q.Node, "from", m.Address, "to", q.Address)
		return n.addAt(ctx, q) // for a voter this changes only the address
	case !q.Fresh:
		return refuse(refusedRemoved, "%s is not a member of this cluster, but has the files of a node; to join it needs an empty data_dir and a new cluster.node_id", q.Node)
	}
	if r := n.checkKeys(q); r != nil {
		return r
	}
	switch {
	case n.opts.ListedOnly && known.Phase != hub.NodeExpected:
		return fmt.Errorf("%s was not announced (cluster.admission: listed); admit it with: quorumhub cluster add %s %s", q.Node, q.Node, q.Address)
	case known.Phase == hub.NodeExpected && known.Address != q.Address && known.Instance == "":
		return refuse(refusedAddress, "%s was announced at %s, not at %s; correct its cluster.peers, or announce it again with: quorumhub cluster add %s %s", q.Node, known.Address, q.Address, q.Node, q.Address)
	}
	if err := n.verifyAddress(ctx, q); err != nil {
		return err
	}
	voter := q.Voter
	if known.Phase == hub.NodeExpected {
		voter = known.Voter
	}
	if err := n.recordAdmission(ctx, &hubpb.NodeAdmitted{Node: q.Node, Instance: q.Instance, Address: q.Address, Voter: voter}); err != nil {
		return err
	}
	if err := n.addAt(ctx, q); err != nil {
		return err
	}
	n.opts.Logger.Info("node joined the cluster", "node", q.Node, "address", q.Address, "voter", voter)
	n.refresh()
	n.kickReconciler()
	return nil
}

// checkKeys refuses a node that lacks a sealing key the state needs.
func (n *Node) checkKeys(q *joinRequest) *refusedError {
	var agreed hub.SealingKeys
	var missing []string
	n.store.View(func(s *hub.State) { agreed, missing = s.SealingKeys(), s.NeededKeys() })
	if agreed.Sealing == "" || n.opts.Keys == nil {
		if q.Shared == n.opts.Shared {
			return nil
		}
		return refuse(refusedKey, "%s and %s have different sealing keys: %s has %s, %s has %s; copy one secrets.key_file to every node",
			n.opts.ID, q.Node, n.opts.ID, n.opts.Shared, q.Node, oneLine(q.Shared))
	}
	missing = slices.DeleteFunc(missing, func(id string) bool { return slices.Contains(q.Keys, id) })
	if len(missing) == 0 {
		return nil
	}
	return refuse(refusedKey, "%s lacks the sealing key %s, which this cluster needs; copy the current secrets.key_file of %s there",
		q.Node, strings.Join(missing, " and "), n.opts.ID)
}

// addAt gives a node its address in raft's configuration, in which no address may occur twice. Whoever has it there has moved, too, but
// has not said so yet: it gets none until it does, and is found through Options.Peers.
func (n *Node) addAt(ctx context.Context, q *joinRequest) error {
	if other := n.ownerOf(q.Address); other != "" && other != q.Node {
		err := n.reconfigure(ctx, func() raft.Future {
			return n.raft.AddNonvoter(raft.ServerID(other), raft.ServerAddress(noAddress+other), 0, changeTimeout)
		})
		if err != nil {
			return err
		}
	}
	return n.reconfigure(ctx, func() raft.Future {
		return n.raft.AddNonvoter(raft.ServerID(q.Node), raft.ServerAddress(q.Address), 0, changeTimeout)
	})
}

// verifyAddress checks that the node answers at the address it gave, so that an unreachable address never gets into raft's
// configuration.
func (n *Node) verifyAddress(ctx context.Context, q *joinRequest) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	question, err := json.Marshal(stateRequest{Node: n.opts.ID, Member: true})
	if err != nil {
		return err
	}
	status, body, err := n.callAt(ctx, q.Address, q.Node, methodState, question)
	var a stateResponse
	if err == nil && status == statusOK {
		err = json.Unmarshal(body, &a)
	}
	switch {
	case err != nil:
		// Not wrapped: whatever separates the nodes, a refusal included, may be temporary.
		return fmt.Errorf("%s cannot be reached from %s at the address it gave, %s: %s; check cluster.peers on %s", q.Node, n.opts.ID, q.Address, oneLine(err.Error()), q.Node)
	case a.Node != q.Node || a.Instance != q.Instance:
		return fmt.Errorf("the node at %s is not the %s that asks to join from there; check cluster.peers on %s", q.Address, q.Node, q.Node)
	}
	return nil
}

// noAddress, with a node's ID, stands for the address of a node that has moved and not yet said where to. Nothing can listen there.
const noAddress = "moved.invalid:"

// callAt makes one open call to a node at a certain address, whoever is believed to be there.
func (n *Node) callAt(ctx context.Context, address, id string, method byte, body []byte) (status byte, answer []byte, err error) {
	conn, err := n.port.dialAt(ctx, purpose{streamCalls, true}, Peer{id, address}, helloTimeout)
	if err != nil {
		return 0, nil, err
	}
	s := newSession(conn)
	defer func() {
		conn.Close()
		<-s.over
	}()
	return s.call(ctx, method, body)
}

// refresh updates what the port knows about the nodes.
func (n *Node) refresh() {
	var seen uint64
	n.store.View(func(s *hub.State) { seen = s.NodesChanged() })
	servers := n.servers()
	n.members.mu.Lock()
	defer n.members.mu.Unlock()
	if n.members.seen == seen && slices.Equal(n.members.servers, servers) {
		return
	}
	n.members.seen, n.members.servers = seen, servers
	n.port.self.Store(n.self())
}

// self returns what the node currently tells others about itself and knows about them.
func (n *Node) self() *self {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	return n.selfLocked()
}

func (n *Node) selfLocked() *self {
	s := &self{id: n.opts.ID, boot: n.boot, instance: n.identity.Instance, cluster: n.identity.ClusterID, former: n.identity.Former, level: n.level, clusterLevel: n.FeatureLevel(), settings: settingsOf(n.opts.Settings),
		members: map[string]string{}, removed: map[string]bool{}, ids: map[string]string{}, fresh: !n.founded && !n.opts.Join && n.identity.ClusterID == ""}
	if n.founded || s.cluster != "" {
		maps.Copy(s.members, n.identity.Members)
	}
	// Until a forced new cluster is applied, the state is that of the former cluster, whose nodes do not belong to this one.
	known := n.nodes()
	if slices.Contains(s.former, n.clusterID()) {
		known = nil
	}
	for id, node := range known {
		if node.Instance != "" {
			s.members[id] = node.Instance
		}
		if node.Phase == hub.NodeRemoved {
			s.removed[id] = true
		}
	}
	if n.running.Load() {
		for _, server := range n.servers() {
			s.ids[string(server.Address)] = string(server.ID)
		}
	}
	if len(s.ids) == 0 {
		for _, p := range n.opts.Peers {
			s.ids[p.Address] = p.ID
		}
	}
	return s
}

// withPeers adds the nodes in Options.Peers to servers.
func (n *Node) withPeers(servers []raft.Server) []raft.Server {
	for _, p := range n.opts.Peers {
		if !slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == p.ID }) {
			servers = append(servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Address)})
		}
	}
	return servers
}

// updateAddress asks the cluster to change this node's address if raft's configuration has another one. It reports whether the
// address is correct.
func (n *Node) updateAddress(ctx context.Context) (done bool) {
	servers := n.servers()
	i := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == n.opts.ID })
	if i < 0 {
		return false
	}
	if string(servers[i].Address) == n.opts.Address {
		return true
	}
	if n.IsLeader() {
		return false // the reconciler does it
	}
	for _, s := range n.withPeers(servers) {
		if string(s.ID) == n.opts.ID {
			continue
		}
		a, err := n.requestJoin(ctx, Peer{string(s.ID), string(s.Address)})
		if err == nil && a.Leader != "" && a.LeaderID != string(s.ID) {
			a, err = n.requestJoin(ctx, Peer{a.LeaderID, a.Leader})
		}
		switch {
		case err != nil:
		case a.Joined:
			n.opts.Logger.Info("the cluster has accepted this node's new address", "address", n.opts.Address)
			return true
		case a.Reason != "":
			n.port.logOnce("the cluster does not accept this node's new address; retrying", "address", n.opts.Address, "error", oneLine(a.Reason))
			return false
		}
	}
	return false
}

// handleRefusal is called when another node refuses this one or the reverse. It notices that this node was removed.
func (n *Node) handleRefusal(r *refusedError) {
	switch {
	case r.what == refusedProof:
		n.unproven.note()
	case r.what == refusedTwin && r.theirs && n.running.Load():
		n.handleTwin(r)
	}
	if r.what != refusedRemoved || !r.theirs || !n.running.Load() {
		return
	}
	n.members.once.Do(func() {
		n.opts.Logger.Warn("this node was removed from the cluster; to join again it needs an empty data_dir and a new cluster.node_id", "reason", r.text)
		n.idMu.Lock()
		now := time.Now().UTC()
		n.identity.RemovedAt = &now
		err := n.identity.write(n.opts.Dir)
		n.idMu.Unlock()
		if err != nil {
			n.opts.Logger.Warn("could not record in node.json that this node was removed", "error", err)
		}
		n.leading.Store(false)
		n.members.why = r.text
		close(n.members.gone)
		n.members.leave()
	})
}

func (n *Node) isRemoved() bool {
	select {
	case <-n.members.gone:
		return true
	default:
		return false
	}
}

// Removed is closed once the node has learned that it was removed from its cluster. It should stop; it cannot start with
// these files again.
func (n *Node) Removed() <-chan struct{} { return n.members.gone }

// AwaitRemoval waits until a node is no longer part of the cluster, as far as this node knows.
func (n *Node) AwaitRemoval(ctx context.Context, id string) error {
	tick := time.NewTicker(changePause)
	defer tick.Stop()
	for {
		if known, ok := n.nodes()[id]; !ok || known.Phase == hub.NodeRemoved {
			return nil
		}
		select {
		case <-tick.C:
		case <-n.members.gone:
			if id == n.opts.ID {
				return nil
			}
			return hub.Errorf(hub.CodeConflict, "%s", n.members.why)
		case <-ctx.Done():
			return hub.Errorf(hub.CodeUnavailable, "%s is still being removed; see quorumhub cluster status", id)
		case <-n.ctx.Done():
			return hub.ErrStopping
		}
	}
}

// IsRefusal reports whether Open failed because other nodes refuse this one permanently, which only a different configuration
// can change.
func IsRefusal(err error) bool {
	var r *refusedError
	return errors.As(err, &r)
}
