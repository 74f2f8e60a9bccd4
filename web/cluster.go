package web

import (
	"fmt"
	"math"
	"net/http"

	"quorumhub/auth"
	"quorumhub/web/view"
)

// clusterRoutes are those about the nodes.
func (s *Server) clusterRoutes() []*route {
	read := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}
	}
	post := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodPost: h}
	}
	nodes := access{changes: auth.ActionCluster}
	return []*route{
		{name: "cluster", paths: []string{"/v1/cluster"}, methods: read(s.getCluster)},
		{name: "figures", paths: []string{"/v1/figures"}, methods: read(s.getFigures)},
		{name: "cluster_nodes", paths: []string{"/v1/cluster/nodes"}, methods: post(s.addNode), access: nodes},
		{name: "cluster_node", paths: []string{"/v1/cluster/nodes/:id"}, methods: map[string]http.HandlerFunc{http.MethodDelete: s.removeNode}, access: nodes},
		{name: "promote", paths: []string{"/v1/cluster/nodes/:id/promote"}, methods: post(s.promoteNode), access: nodes},
		{name: "demote", paths: []string{"/v1/cluster/nodes/:id/demote"}, methods: post(s.demoteNode), access: nodes},
		{name: "drain", paths: []string{"/v1/cluster/nodes/:id/drain"}, methods: post(s.drainNode), access: nodes},
		{name: "undrain", paths: []string{"/v1/cluster/nodes/:id/undrain"}, methods: post(s.undrainNode), access: nodes},
		{name: "transfer_leadership", paths: []string{"/v1/cluster/transfer-leadership"}, methods: post(s.transferLeadership), access: nodes},
		{name: "leave", paths: []string{"/v1/cluster/leave"}, methods: post(s.leave), access: nodes},
	}
}

type clusterBody struct {
	Leader       string     `json:"leader"`
	FeatureLevel uint32     `json:"feature_level"` // known to all nodes
	Nodes        []nodeItem `json:"nodes"`
}

type nodeItem struct {
	ID            string    `json:"id"`
	HTTPAddr      string    `json:"http_addr"`
	ClusterAddr   string    `json:"cluster_addr"`
	Role          view.Role `json:"role"`
	AppliedIndex  uint64    `json:"applied_index"`
	StateHash     string    `json:"state_hash"` // in hex: JSON numbers cannot hold 64 bits
	Subscriptions int       `json:"subscriptions"`

	Voter        bool    `json:"voter"`
	Healthy      bool    `json:"healthy"`
	LastContact  *int64  `json:"last_contact_ms"` // null: never or unknown
	Stopping     bool    `json:"stopping"`
	Leaving      bool    `json:"leaving"`
	Drained      bool    `json:"drained"`
	Weight       int     `json:"weight"`
	FeatureLevel uint32  `json:"feature_level"` // known to its program
	ClockOffset  float64 `json:"clock_offset"`  // seconds
	Gateway      string  `json:"gateway_hash"`  // of the registry that its gateway serves; empty: none
}

// getCluster shows this node's view of the cluster.
func (s *Server) getCluster(w http.ResponseWriter, _ *http.Request) {
	out := clusterBody{Leader: s.Node.LeaderID(), FeatureLevel: s.Node.FeatureLevel(), Nodes: []nodeItem{}}
	for _, n := range s.Node.Nodes() {
		item := nodeItem{ID: n.ID, HTTPAddr: n.HTTPAddr, ClusterAddr: n.ClusterAddr, Role: n.Role, AppliedIndex: n.AppliedIndex,
			StateHash: fmt.Sprintf("%016x", n.StateHash), Subscriptions: n.Subscriptions,
			Voter: n.Voter, Healthy: n.Healthy, Stopping: n.Stopping, Leaving: n.Leaving, Drained: n.Drained, Weight: n.Weight,
			FeatureLevel: n.FeatureLevel, ClockOffset: math.Round(1000*n.ClockOffset.Seconds()) / 1000, Gateway: n.Gateway}
		if n.LastContact >= 0 {
			ms := n.LastContact.Milliseconds()
			item.LastContact = &ms
		}
		out.Nodes = append(out.Nodes, item)
	}
	writeJSON(w, http.StatusOK, out)
}
