package node

import (
	"context"
	"math"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// raftNode is what the delivery room needs of the raft node.
type raftNode interface {
	hub.Proposer
	hub.Cluster
}

// timedNode also says by what time the cluster acts.
type timedNode interface {
	raftNode
	Clock() hub.Clock
}

// lateNode stands in for the raft node until it is open: those who observe the log must be there before the
// log moves, and act through the node that moves it.
type lateNode struct {
	ready chan struct{}
	to    timedNode // set before ready is closed
}

func newLateNode() *lateNode { return &lateNode{ready: make(chan struct{})} }

// set gives the node that everything goes to from now on. It is called once.
func (n *lateNode) set(to timedNode) {
	n.to = to
	close(n.ready)
}

// Propose implements hub.Proposer; it waits for set.
func (n *lateNode) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	select {
	case <-n.ready:
		return n.to.Propose(ctx, events...)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// IsLeader implements hub.Leadership; before set nobody leads.
func (n *lateNode) IsLeader() bool {
	select {
	case <-n.ready:
		return n.to.IsLeader()
	default:
		return false
	}
}

// Nodes implements hub.Cluster; before set there are none.
func (n *lateNode) Nodes() []hub.NodeStatus {
	select {
	case <-n.ready:
		return n.to.Nodes()
	default:
		return nil
	}
}

// Contact implements hub.Cluster; before set there was none.
func (n *lateNode) Contact() time.Duration {
	select {
	case <-n.ready:
		return n.to.Contact()
	default:
		return math.MaxInt64
	}
}

// Now implements hub.Clock: the time by which the cluster acts, and before set the machine's.
func (n *lateNode) Now() time.Time {
	select {
	case <-n.ready:
		return n.to.Clock().Now()
	default:
		return time.Now()
	}
}
