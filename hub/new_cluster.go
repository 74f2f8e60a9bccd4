package hub

import "quorumhub/hub/hubpb"

// forceNewCluster begins a new cluster with the state of a former one. Nobody delivers anything any more until the new
// leader says who does, under new epochs: words of former owners change nothing. The answers kept for former
// origins go, for nobody asks for them any more, and so do the former nodes. Topics, messages, subscriptions, cursors and pending requests
// stay; leases go on running.
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
		s.tell(u, fx)
	}
	// The new id keeps the former nodes out, so theirs are free.
	for id := range s.nodes {
		delete(s.nodes, id)
		s.touchName(TableNode, id)
	}
	s.nodesChanged++
	for name := range s.origins {
		delete(s.origins, name)
		s.touchName(TableOrigin, name)
	}
	return Result{}
}

// FormerClusterIDs are the ids that the cluster had before it was restored from a backup or recovered, oldest first.
// They are not to be changed.
func (s *State) FormerClusterIDs() []string { return s.meta.FormerClusterIds }
