package hub

import (
	"slices"

	"quorumhub/hub/hubpb"
)

// refound begins a new cluster with the state of a former one. Nobody delivers anything any more until the new
// leader says who does, under new epochs: words of former owners change nothing. The answers kept for former
// origins go, for nobody asks for them any more, and so do the former nodes. Topics, messages, subscriptions, cursors and pending requests
// stay; leases go on running.
func (s *State) refound(e *hubpb.ClusterRefounded, fx *Effects) Result {
	if e.ClusterId == "" || e.FormerClusterId != s.meta.ClusterId || e.ClusterId == s.meta.ClusterId {
		return Result{Outcome: OutcomeStale}
	}
	s.meta.FormerClusterIds = append(s.meta.FormerClusterIds, s.meta.ClusterId)
	s.meta.ClusterId = e.ClusterId
	ids := make([]SubscriptionID, 0, len(s.subs))
	for id := range s.subs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		sub := s.subs[id]
		s.count(sub, -1)
		sub.Assignment = Assignment{Epoch: sub.Assignment.Epoch + 1}
		s.touch(TableSubscription, uint64(id))
		fx.Subscriptions = append(fx.Subscriptions, *sub)
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
