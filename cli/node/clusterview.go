package node

import (
	"context"
	"sync/atomic"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
	"quorumhub/web/view"
)

// contactLimit is how long a node keeps serving without contact to the leader.
const contactLimit = 2 * time.Second

// clusterView shows the cluster to the web room and changes its membership. It implements view.Cluster and view.Membership.
type clusterView struct {
	id          string
	httpAddr    string
	clusterAddr string
	node        *raftlog.Node // only describe may be called before it is set
	weight      int
	store       *store.Store
	issuers     func() []string // issuers whose tokens cannot be verified; nil without access control
	gateway     func() string   // hash of the registry that this node's gateway serves
	delivering  atomic.Bool     // deliveries have started
	stopping    atomic.Bool
}

// ID implements view.Cluster.
func (v *clusterView) ID() string { return v.id }

// LeaderID implements view.Cluster.
func (v *clusterView) LeaderID() string { return v.node.LeaderID() }

// describe returns what this node tells the others about itself.
func (v *clusterView) describe() raftlog.Description {
	return raftlog.Description{HTTPAddr: v.httpAddr, Weight: v.weight, Gateway: v.gateway()}
}

// Nodes implements view.Cluster.
func (v *clusterView) Nodes() []view.Node {
	var out []view.Node
	var owned map[string]int
	v.store.View(func(s *hub.State) { owned, _ = s.Owners() })
	for _, m := range v.node.Members() {
		n := view.Node{ID: m.ID, HTTPAddr: m.HTTPAddr, ClusterAddr: m.Address, Role: view.RoleFollower,
			AppliedIndex: m.AppliedIndex, StateHash: m.StateHash, Subscriptions: owned[m.ID], Voter: m.Voter, Healthy: m.Healthy,
			LastContact: m.Contact, Stopping: m.Stopping, Leaving: m.Leaving, Drained: m.Drained, Weight: max(1, m.Weight), ClockOffset: m.ClockOffset, FeatureLevel: m.FeatureLevel,
			Gateway: m.Gateway}
		if m.ID == v.node.ID() {
			n.HTTPAddr, n.ClusterAddr = v.httpAddr, v.clusterAddr
		}
		switch {
		case !m.Alive:
			n.Role = view.RoleDown
		case m.Leader:
			n.Role = view.RoleLeader
		case !m.Voter:
			n.Role = view.RoleNonvoter
		}
		out = append(out, n)
	}
	return out
}

// FeatureLevel implements view.Cluster.
func (v *clusterView) FeatureLevel() uint32 { return v.node.FeatureLevel() }

// Owner implements view.Cluster.
func (v *clusterView) Owner(id hub.SubscriptionID) (node string) {
	v.store.View(func(s *hub.State) {
		sub, _ := s.Subscription(id)
		node = sub.Assignment.Node
	})
	return node
}

func (v *clusterView) hearsLeader() bool {
	return v.node.LeaderID() != "" && v.node.Contact() <= contactLimit
}

// InTouch implements view.Cluster.
func (v *clusterView) InTouch() bool { return v.hearsLeader() && v.node.CaughtUp() }

// NotReady implements view.Cluster.
func (v *clusterView) NotReady() []string {
	var why []string
	if v.stopping.Load() {
		why = append(why, "this node is stopping")
	}
	if err := v.node.Err(); err != nil {
		why = append(why, "the node stopped: "+err.Error())
	}
	switch {
	case !v.hearsLeader():
		why = append(why, "no leader")
	case !v.node.CaughtUp():
		why = append(why, "this node has not caught up with the leader")
	}
	if v.node.URLsPending() {
		why = append(why, "the other nodes do not know the URLs of this one yet")
	}
	if !v.delivering.Load() {
		why = append(why, "deliveries have not started")
	}
	if v.issuers != nil {
		why = append(why, v.issuers()...)
	}
	if v.store.Overloaded() {
		why = append(why, hub.ErrOverloaded.Error())
	}
	if v.node.Stats().DiskFull {
		why = append(why, hub.ErrDiskFull.Error())
	}
	return why
}

// Alive implements view.Cluster.
func (v *clusterView) Alive() error { return v.node.Err() }

// leaveBound limits how long a membership change may take.
const leaveBound = 25 * time.Second

// AddNode implements view.Membership.
func (v *clusterView) AddNode(ctx context.Context, id, address string, voter bool) error {
	return v.change(ctx, raftlog.Change{Operation: raftlog.AddNode, Node: id, Address: address, Nonvoter: !voter})
}

// PromoteNode implements view.Membership.
func (v *clusterView) PromoteNode(ctx context.Context, id string) error {
	return v.change(ctx, raftlog.Change{Operation: raftlog.PromoteNode, Node: id})
}

// DemoteNode implements view.Membership.
func (v *clusterView) DemoteNode(ctx context.Context, id string) error {
	return v.change(ctx, raftlog.Change{Operation: raftlog.DemoteNode, Node: id})
}

// DrainNode implements view.Membership.
func (v *clusterView) DrainNode(ctx context.Context, id string) error {
	return v.change(ctx, raftlog.Change{Operation: raftlog.DrainNode, Node: id})
}

// UndrainNode implements view.Membership.
func (v *clusterView) UndrainNode(ctx context.Context, id string) error {
	return v.change(ctx, raftlog.Change{Operation: raftlog.UndrainNode, Node: id})
}

// RemoveNode implements view.Membership.
func (v *clusterView) RemoveNode(ctx context.Context, id string) error {
	if err := v.change(ctx, raftlog.Change{Operation: raftlog.RemoveNode, Node: id}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, leaveBound)
	defer cancel()
	return v.node.AwaitRemoval(ctx, id)
}

// TransferLeadership implements view.Membership.
func (v *clusterView) TransferLeadership(ctx context.Context, id string) error {
	return v.change(ctx, raftlog.Change{Operation: raftlog.TransferLeadership, Node: id})
}

func (v *clusterView) change(ctx context.Context, c raftlog.Change) error {
	ctx, cancel := context.WithTimeout(ctx, leaveBound)
	defer cancel()
	return v.node.Change(ctx, c)
}
