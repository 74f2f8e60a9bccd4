package cli

import (
	"sync/atomic"

	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
	"quorumhub/web"
)

// clusterView is the cluster as the web room shows it. This version's cluster has one node, which delivers
// everything.
type clusterView struct {
	httpAddr    string
	clusterAddr string
	node        *raftlog.Node
	store       *store.Store
	delivering  atomic.Bool // the delivery room has taken over the subscriptions
}

// ID implements web.Node.
func (v *clusterView) ID() string { return v.node.ID() }

// LeaderID implements web.Node.
func (v *clusterView) LeaderID() string {
	id, _ := v.node.Leader()
	return id
}

// Nodes implements web.Node.
func (v *clusterView) Nodes() []web.NodeView {
	n := web.NodeView{ID: v.node.ID(), HTTPAddr: v.httpAddr, ClusterAddr: v.clusterAddr, Role: web.RoleFollower}
	switch {
	case v.node.Err() != nil:
		n.Role = web.RoleDown
	case v.node.IsLeader():
		n.Role = web.RoleLeader
	}
	n.AppliedIndex = v.store.Applied().Index
	v.store.View(func(s *hub.State) {
		n.StateHash = s.Hash()
		n.Subscriptions = s.Counts().Subscriptions
	})
	return []web.NodeView{n}
}

// Owner implements web.Node.
func (v *clusterView) Owner(hub.SubscriptionID) string { return v.node.ID() }

// NotReady implements web.Node.
func (v *clusterView) NotReady() []string {
	var why []string
	if err := v.node.Err(); err != nil {
		why = append(why, "the node stopped: "+err.Error())
	}
	if !v.node.IsLeader() {
		why = append(why, "no leader")
	}
	if !v.delivering.Load() {
		why = append(why, "deliveries have not started")
	}
	if v.store.Overloaded() {
		why = append(why, hub.ErrOverloaded.Error())
	}
	if v.node.Stats().DiskFull {
		why = append(why, hub.ErrDiskFull.Error())
	}
	return why
}

// Alive implements web.Node.
func (v *clusterView) Alive() error { return v.node.Err() }
