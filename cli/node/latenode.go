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
	Clock() hub.Clock
	DiskShort() bool
}

// LateNode stands in for the raft node until it is open. Observers of the log must be registered before the log is replayed, and they
// propose through the raft node that replays it.
type LateNode struct {
	ready chan struct{}
	to    raftNode // set before ready is closed
}

// NewLateNode returns a LateNode without a node.
func NewLateNode() *LateNode { return &LateNode{ready: make(chan struct{})} }

// Set makes every call go to a node from now on. It must be called once.
func (n *LateNode) Set(to raftNode) {
	n.to = to
	close(n.ready)
}

// Propose implements hub.Proposer. It waits for Set.
func (n *LateNode) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	select {
	case <-n.ready:
		return n.to.Propose(ctx, events...)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// IsLeader implements hub.Leadership. It returns false before Set.
func (n *LateNode) IsLeader() bool {
	select {
	case <-n.ready:
		return n.to.IsLeader()
	default:
		return false
	}
}

// Nodes implements hub.Cluster. It returns none before Set.
func (n *LateNode) Nodes() []hub.NodeStatus {
	select {
	case <-n.ready:
		return n.to.Nodes()
	default:
		return nil
	}
}

// Contact implements hub.Cluster. Before Set there has been no contact.
func (n *LateNode) Contact() time.Duration {
	select {
	case <-n.ready:
		return n.to.Contact()
	default:
		return math.MaxInt64
	}
}

// DiskShort reports whether the node's disk is short of space; false before Set.
func (n *LateNode) DiskShort() bool {
	select {
	case <-n.ready:
		return n.to.DiskShort()
	default:
		return false
	}
}

// Now implements hub.Clock. It returns the cluster's time, and before Set the machine's.
func (n *LateNode) Now() time.Time {
	select {
	case <-n.ready:
		return n.to.Clock().Now()
	default:
		return time.Now()
	}
}
