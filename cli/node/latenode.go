package node

import (
	"context"
	"math"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// raftNode is the part of the raft node that the delivery room needs.
type raftNode interface {
	hub.Proposer
	hub.Cluster
}

// timedNode is a raftNode with the cluster's clock.
type timedNode interface {
	raftNode
	Clock() hub.Clock
}

// lateNode stands in for the raft node until it is open. Observers of the log must be registered before the log is replayed, and they
// propose through the raft node that replays it.
type lateNode struct {
	ready chan struct{}
	to    timedNode // set before ready is closed
}

func newLateNode() *lateNode { return &lateNode{ready: make(chan struct{})} }

// set makes every call go to a node from now on. It must be called once.
func (n *lateNode) set(to timedNode) {
	n.to = to
	close(n.ready)
}

// Propose implements hub.Proposer. It waits for set.
func (n *lateNode) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	select {
	case <-n.ready:
		return n.to.Propose(ctx, events...)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// IsLeader implements hub.Leadership. It returns false before set.
func (n *lateNode) IsLeader() bool {
	select {
	case <-n.ready:
		return n.to.IsLeader()
	default:
		return false
	}
}

// Nodes implements hub.Cluster. It returns none before set.
func (n *lateNode) Nodes() []hub.NodeStatus {
	select {
	case <-n.ready:
		return n.to.Nodes()
	default:
		return nil
	}
}

// Contact implements hub.Cluster. Before set there has been no contact.
func (n *lateNode) Contact() time.Duration {
	select {
	case <-n.ready:
		return n.to.Contact()
	default:
		return math.MaxInt64
	}
}

// Now implements hub.Clock. It returns the cluster's time, and before set the machine's.
func (n *lateNode) Now() time.Time {
	select {
	case <-n.ready:
		return n.to.Clock().Now()
	default:
		return time.Now()
	}
}
