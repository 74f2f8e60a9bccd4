package hub

import (
	"slices"

	"quorumhub/hub/hubpb"
)

// forceNewCluster starts a new cluster from the state of a former one. Every subscription loses its owner and gets a
// new epoch, so nothing is delivered until the new leader places it and writes by former owners are stale. The former
// nodes and the results kept for their origins are dropped. Topics, messages, subscriptions, cursors and pending
// requests stay; leases keep running.
func (s *State) forceNewCluster(e *hubpb.NewClusterForced, fx *Effects) Result {
	if e.ClusterId == "" || e.FormerClusterId != s.meta.ClusterId || e.ClusterId == s.meta.ClusterId {
		return Result{Outcome: OutcomeStale}
	}
	s.meta.FormerClusterIds = append(s.meta.FormerClusterIds, s.meta.ClusterId)
	s.meta.ClusterId = e.ClusterId
	for _, h := range s.Placements() {
		u := s.unitOf(s.subs[h.Subscription])
		s.count(u.topic, u.assignment.Node, -1)
		*u.assignment = Assignment{Epoch: u.assignment.Epoch + 1}
		u.touch(s)
		s.report(u, fx)
	}
	// The new cluster ID keeps the former nodes out, so their IDs may be used again.
	for id := range s.nodes {
		delete(s.nodes, id)
		s.touchName(TableNode, id)
	}
	s.nodesChanged++
	for name := range s.origins {
		delete(s.origins, name)
		s.touchName(TableOrigin, name)
	}
	// What ended a session may be missing from this state.
	s.dropSessions(slices.Clone(s.sessions.byID), "new_cluster", fx)
	return Result{}
}

// FormerClusterIDs returns the IDs the cluster had before it was restored from a backup or recovered, oldest first.
// The caller must not modify the slice.
func (s *State) FormerClusterIDs() []string { return s.meta.FormerClusterIds }
