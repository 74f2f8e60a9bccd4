package web

import (
	"fmt"
	"math"
	"net/http"
)

type clusterBody struct {
	Leader string     `json:"leader"`
	Nodes  []nodeItem `json:"nodes"`
}

type nodeItem struct {
	ID            string  `json:"id"`
	HTTPAddr      string  `json:"http_addr"`
	ClusterAddr   string  `json:"cluster_addr"`
	Role          Role    `json:"role"`
	AppliedIndex  uint64  `json:"applied_index"`
	StateHash     string  `json:"state_hash"` // in hex: JSON's numbers do not hold 64 bits
	Subscriptions int     `json:"subscriptions"`
	ClockOffset   float64 `json:"clock_offset"` // seconds
}

// getCluster shows the cluster as this node sees it.
func (s *Server) getCluster(w http.ResponseWriter, _ *http.Request) {
	out := clusterBody{Leader: s.Node.LeaderID(), Nodes: []nodeItem{}}
	for _, n := range s.Node.Nodes() {
		out.Nodes = append(out.Nodes, nodeItem{n.ID, n.HTTPAddr, n.ClusterAddr, n.Role, n.AppliedIndex,
			fmt.Sprintf("%016x", n.StateHash), n.Subscriptions, math.Round(1000*n.ClockOffset.Seconds()) / 1000})
	}
	writeJSON(w, http.StatusOK, out)
}
