package view

import (
	"context"
	"time"

	"quorumhub/hub"
)

// Role is a node's role in its cluster, as GET /v1/cluster names it.
type Role string

// Roles.
const (
	RoleLeader   Role = "leader"
	RoleFollower Role = "follower"
	RoleNonvoter Role = "nonvoter"
	RoleDown     Role = "down"
)

// Node describes one node of the cluster.
type Node struct {
	ID            string
	HTTPAddr      string
	ClusterAddr   string
	Role          Role
	AppliedIndex  uint64
	StateHash     uint64 // rolling hash at AppliedIndex (invariant I6)
	Subscriptions int    // owned by the node

	Voter   bool
	Healthy bool // it answers and has caught up with the leader
	// LastContact is how long ago it heard from the leader; negative: never or unknown.
	LastContact  time.Duration
	Stopping     bool          // it is stopping, or stopped in an orderly way
	Leaving      bool          // it is being removed
	Drained      bool          // an operator wants it to deliver nothing
	Weight       int           // relative share of the subscriptions
	FeatureLevel uint32        // known to its program
	ClockOffset  time.Duration // of its clock from the cluster's time; positive: ahead
	Gateway      string        // hash of the registry that its gateway serves; empty: none
}

// Cluster is one node's view of the cluster. Safe for concurrent use; no method waits for other nodes.
type Cluster interface {
	// ID returns this node's ID.
	ID() string
	// LeaderID returns the leader's ID, empty while there is none.
	LeaderID() string
	// Nodes returns all nodes including this one, sorted by ID.
	Nodes() []Node
	// FeatureLevel returns the feature level all nodes support, 0 before they have agreed on one.
	FeatureLevel() uint32
	// Owner returns the ID of the node that delivers a subscription, empty if none does.
	Owner(hub.SubscriptionID) string
	// InTouch reports whether this node hears from a leader and has caught up with it.
	InTouch() bool
	// NotReady lists why this node cannot take requests now: no known leader, state not loaded, disk full. Empty: it can.
	NotReady() []string
	// Alive returns nil unless the node is stuck and only a restart helps.
	Alive() error
}

// Membership changes the members of the cluster. Methods work on any node and return when the change is done. Errors of type
// *hub.Error are for the client.
type Membership interface {
	// AddNode lets a node join from an address.
	AddNode(ctx context.Context, id, address string, voter bool) error
	// PromoteNode makes a node a voter.
	PromoteNode(ctx context.Context, id string) error
	// DemoteNode makes a node a non-voter.
	DemoteNode(ctx context.Context, id string) error
	// DrainNode lets other nodes deliver what a node does, until UndrainNode.
	DrainNode(ctx context.Context, id string) error
	// UndrainNode lets a node deliver again.
	UndrainNode(ctx context.Context, id string) error
	// RemoveNode removes a node permanently, after handing over its subscriptions.
	RemoveNode(ctx context.Context, id string) error
	// TransferLeadership makes a node the leader; an empty ID lets the cluster choose.
	TransferLeadership(ctx context.Context, id string) error
}
