package node

import (
	"context"
	"math"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// raftNode is what the delivery room needs of the raft node, and the clock by which the cluster acts.
type raftNode interface {
	hub.Proposer
	hub.Cluster
	Clock() hub.Clock
}

// LateNode stands in for the raft node until it is open: those who observe the log must be there before the
// log moves, and act through the node that moves it.
type LateNode struct {
	ready chan struct{}
	to    raftNode // set before ready is closed
}

// NewLateNode returns a stand-in for which Set has not been called.
func NewLateNode() *LateNode { return &LateNode{ready: make(chan struct{})} }

// Set gives the node that everything goes to from now on. It is called once.
func (n *LateNode) Set(to raftNode) {
	n.to = to
	close(n.ready)
}

// Propose implements hub.Proposer; it waits for Set.
func (n *LateNode) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	select {
	case <-n.ready:
		return n.to.Propose(ctx, events...)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// IsLeader implements hub.Leadership; before Set nobody leads.
func (n *LateNode) IsLeader() bool {
	select {
	case <-n.ready:
		return n.to.IsLeader()
	default:
		return false
	}
}

// Nodes implements hub.Cluster; before Set there are none.
func (n *LateNode) Nodes() []hub.NodeStatus {
	select {
	case <-n.ready:
		return n.to.Nodes()
	default:
		return nil
	}
}

// Contact implements hub.Cluster; before Set there was none.
func (n *LateNode) Contact() time.Duration {
	select {
	case <-n.ready:
		return n.to.Contact()
	default:
		return math.MaxInt64
	}
}

// Now implements hub.Clock: the time by which the cluster acts, and before Set the machine's.
func (n *LateNode) Now() time.Time {
	select {
	case <-n.ready:
		return n.to.Clock().Now()
	default:
		return time.Now()
	}
}
