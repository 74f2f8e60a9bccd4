package hub

import (
	"cmp"
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// Node is the log's record of a node of the cluster. Raft's configuration decides who takes part in consensus; this
// record says what the node is to become and which data directory belongs to it.
type Node struct {
	ID       string
	Instance string // ID of its data directory; empty: not known yet
	Address  string // host:port for the other nodes
	Voter    bool   // it is to become or stay a voter
	Phase    NodePhase
	Since    time.Time // when Phase began, by the leader's clock
	Boot     string    // its newest run
	Stopping bool      // this run has announced that it is stopping
	// Drained: an operator wants it to deliver nothing for the time being. It goes on storing everything, and voting.
	Drained bool
	URLs    []string // under which clients reach it, without /topics/; a removed node's stay known
}

// NodePhase is a stage of a node's membership.
type NodePhase = hubpb.NodePhase

// Phases of a Node.
const (
	NodeExpected = hubpb.NodePhase_NODE_EXPECTED
	NodeMember   = hubpb.NodePhase_NODE_MEMBER
	NodeLeaving  = hubpb.NodePhase_NODE_LEAVING
	NodeRemoved  = hubpb.NodePhase_NODE_REMOVED
)

// Draining reports whether the node takes no more subscriptions and hands over those it has.
func (n Node) Draining() bool {
	return n.Stopping || n.Phase == NodeLeaving || n.Phase == NodeRemoved
}

// Nodes returns all nodes ever admitted or expected, including removed ones, in order of ID.
func (s *State) Nodes() []Node {
	out := make([]Node, 0, len(s.nodes))
	for _, n := range s.nodes {
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Node returns the node with this ID.
func (s *State) Node(id string) (n Node, ok bool) {
	if known := s.nodes[id]; known != nil {
		return *known, true
	}
	return Node{}, false
}

// NodesChanged returns a number that rises with every change of Nodes within one process.
func (s *State) NodesChanged() uint64 { return s.nodesChanged }

// admitNode records a node. A data directory other than the known one, or a removed node, is ignored.
func (s *State) admitNode(e *hubpb.NodeAdmitted, fx *Effects) Result {
	n := s.nodes[e.Node]
	switch {
	case e.Node == "":
		return Result{Outcome: OutcomeStale}
	case n == nil:
		n = &Node{ID: e.Node, Phase: NodeExpected, Since: timeOf(s.meta.Now)}
		s.nodes[e.Node] = n
	case n.Phase == NodeRemoved, n.Instance != "" && e.Instance != "" && n.Instance != e.Instance:
		return Result{Outcome: OutcomeStale}
	}
	n.Instance = cmp.Or(e.Instance, n.Instance)
	n.Address, n.Voter = e.Address, e.Voter
	if e.Member && n.Phase == NodeExpected {
		n.Phase, n.Since = NodeMember, timeOf(s.meta.Now)
	}
	s.changedNode(n, fx)
	return Result{}
}

// changeNode advances a node's phase, or changes its vote or whether it delivers. Removal is final.
func (s *State) changeNode(e *hubpb.NodeChanged, fx *Effects) Result {
	n := s.nodes[e.Node]
	if n == nil || n.Phase == NodeRemoved || e.Phase != hubpb.NodePhase_NODE_UNCHANGED && e.Phase < n.Phase {
		return Result{Outcome: OutcomeStale}
	}
	if e.Phase != hubpb.NodePhase_NODE_UNCHANGED && e.Phase != n.Phase {
		n.Phase, n.Since = e.Phase, timeOf(s.meta.Now)
	}
	if e.Vote != hubpb.NodeVote_VOTE_UNCHANGED {
		n.Voter = e.Vote == hubpb.NodeVote_VOTE_YES
	}
	if e.Drain != hubpb.NodeDrain_DRAIN_UNCHANGED {
		n.Drained = e.Drain == hubpb.NodeDrain_DRAIN_YES
	}
	s.changedNode(n, fx)
	return Result{}
}

// changeNodeRun records that a run of a node starts, is stopping or has stopped. What a stopped node still owns loses
// its owner under a new epoch, so neither earlier decisions nor the node's next run can build on it.
func (s *State) changeNodeRun(e *hubpb.NodeRunChanged, fx *Effects) Result {
	n := s.nodes[e.Node]
	started := e.Run == hubpb.NodeRun_RUN_STARTED
	if n == nil || !started && n.Boot != e.Boot {
		return Result{Outcome: OutcomeStale}
	}
	n.Boot, n.Stopping = e.Boot, !started
	if e.Run == hubpb.NodeRun_RUN_STOPPED && s.owned[n.ID] > 0 {
		for _, h := range s.Placements() {
			if h.Assignment.Node == n.ID {
				u := s.unitOf(s.subs[h.Subscription])
				s.setOwner(u, u.assignment.Next)
				s.report(u, fx)
			}
		}
	}
	s.changedNode(n, fx)
	return Result{}
}

// MaxNodeURLs is how many URLs of one node are recorded.
const MaxNodeURLs = 32

// setNodeURLs records the URLs under which clients reach a node.
func (s *State) setNodeURLs(e *hubpb.NodeUrlsSet, fx *Effects) Result {
	n := s.nodes[e.Node]
	if n == nil || n.Phase == NodeRemoved {
		return Result{Outcome: OutcomeStale}
	}
	n.URLs = slices.Clone(e.Urls[:min(len(e.Urls), MaxNodeURLs)])
	s.changedNode(n, fx)
	return Result{}
}

func (s *State) changedNode(n *Node, fx *Effects) {
	s.nodesChanged++
	s.touchName(TableNode, n.ID)
	fx.Nodes = append(fx.Nodes, *n)
}

func (n *Node) row() *hubpb.NodeRow {
	return &hubpb.NodeRow{Node: n.ID, Instance: n.Instance, Address: n.Address, Voter: n.Voter, Phase: n.Phase, Boot: n.Boot,
		Stopping: n.Stopping, Since: nanos(n.Since), Urls: n.URLs, Drained: n.Drained}
}

func nodeFromRow(r *hubpb.NodeRow) *Node {
	return &Node{ID: r.Node, Instance: r.Instance, Address: r.Address, Voter: r.Voter, Phase: r.Phase, Boot: r.Boot,
		Stopping: r.Stopping, Since: timeOf(r.Since), URLs: r.Urls, Drained: r.Drained}
}
