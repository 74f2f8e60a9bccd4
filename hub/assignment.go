package hub

import (
	"cmp"
	"slices"

	"quorumhub/hub/hubpb"
)

// assign carries out placement decisions. One made on outdated state is ignored.
func (s *State) assign(e *hubpb.SubscriptionsAssigned, fx *Effects) Result {
	for _, a := range e.Assignments {
		u, ok := s.unit(SubscriptionID(a.Subscription), GroupID(a.Group))
		if !ok || a.Node == "" || a.Epoch != u.assignment.Epoch {
			continue
		}
		now := u.assignment
		switch {
		case a.Drain && now.Node != "":
			if a.Node == now.Node || a.Node == now.Next {
				continue
			}
			// With another Next before, the owner is draining already; the new target makes no difference to it.
			now.Next = a.Node
			u.touch(s)
		case a.Node == now.Node && now.Next == "":
			continue
		case now.Node != "" && a.Node != now.Node && a.Resumed != s.Resumptions(now.Node):
			continue // the owner was considered lost but has resumed since
		default:
			s.setOwnerIfAny(u, a.Node)
		}
		s.report(u, fx)
	}
	return Result{}
}

// resume counts that a node delivers again. The caller marks the meta row dirty.
func (s *State) resume(node string) {
	i, ok := s.resumedAt(node)
	if !ok {
		s.meta.Resumed = slices.Insert(s.meta.Resumed, i, &hubpb.NodeResumed{Node: node})
	}
	s.meta.Resumed[i].Times++
}

func (s *State) resumedAt(node string) (int, bool) {
	return slices.BinarySearchFunc(s.meta.Resumed, node, func(r *hubpb.NodeResumed, node string) int { return cmp.Compare(r.Node, node) })
}

// Resumptions returns how often a node has resumed delivery after it was out of contact. Whoever takes subscriptions away
// from a lost node must read this number before judging it lost and pass it on in hubpb.Assignment.
func (s *State) Resumptions(node string) uint64 {
	if i, ok := s.resumedAt(node); ok {
		return s.meta.Resumed[i].Times
	}
	return 0
}

// setOwnerIfAny assigns a unit to a node under a new epoch. Without a node it does nothing.
func (s *State) setOwnerIfAny(u unit, node string) {
	if node != "" {
		s.setOwner(u, node)
	}
}

// setOwner is setOwnerIfAny, except that an empty node leaves the unit without an owner.
func (s *State) setOwner(u unit, node string) {
	a := u.assignment
	s.count(u.topic, a.Node, -1)
	*a = Assignment{Node: node, Epoch: a.Epoch + 1, Rewound: a.Rewound}
	s.count(u.topic, node, 1)
	u.touch(s)
}

// count adds n to the number of units that a node owns. A consumer group counts as one.
func (s *State) count(t *Topic, node string, n int) {
	if node == "" {
		return
	}
	if t.owned == nil {
		t.owned = map[string]int{}
	}
	for _, m := range []map[string]int{s.owned, t.owned} {
		if m[node] += n; m[node] == 0 {
			delete(m, node)
		}
	}
}

// leastLoaded returns the candidate with the fewest subscriptions relative to its weight; ties are broken by the
// fewest of this topic, then by position. It returns "" without candidates.
func (s *State) leastLoaded(t *Topic, candidates []*hubpb.Candidate) string {
	best, node := &hubpb.Candidate{}, ""
	for i, c := range candidates {
		// compareLoad cross-multiplies: integers do not round.
		if all := compareLoad(s.owned[c.Node], c, s.owned[node], best); i == 0 || all < 0 ||
			all == 0 && compareLoad(t.owned[c.Node], c, t.owned[node], best) < 0 {
			best, node = c, c.Node
		}
	}
	return node
}

func compareLoad(a int, ca *hubpb.Candidate, b int, cb *hubpb.Candidate) int {
	return cmp.Compare(uint64(a)*uint64(max(cb.Weight, 1)), uint64(b)*uint64(max(ca.Weight, 1)))
}

// Owned returns the number of subscriptions that a node owns, including those being moved away. A consumer group
// counts as one.
func (s *State) Owned(node string) int { return s.owned[node] }

// OwnedOf is Owned for the subscriptions of one topic.
func (s *State) OwnedOf(topic TopicID, node string) int {
	if t := s.topics[topic]; t != nil {
		return t.owned[node]
	}
	return 0
}

// Owners returns the number of subscriptions by owner, and of those without one. A consumer group counts as one. The
// map is a copy.
func (s *State) Owners() (byNode map[string]int, unowned int) {
	byNode = make(map[string]int, len(s.owned))
	unowned = s.Units()
	for node, n := range s.owned {
		byNode[node] = n
		unowned -= n
	}
	return byNode, unowned
}

// Units returns the number of subscriptions to place. A consumer group counts as one.
func (s *State) Units() int { return len(s.subs) - s.grouped + len(s.groups) }

// Placement is a subscription, or a whole consumer group, and its owner.
type Placement struct {
	Subscription SubscriptionID // for a group, its first member
	Group        GroupID        // 0: no group
	Topic        TopicID
	Assignment   Assignment
}

// Placements returns all subscriptions and groups with their owners, in order of subscription ID.
func (s *State) Placements() []Placement {
	out := make([]Placement, 0, s.Units())
	for id, sub := range s.subs {
		if sub.Group == 0 {
			out = append(out, Placement{id, 0, sub.Topic, sub.Assignment})
		}
	}
	for _, g := range s.groups {
		out = append(out, Placement{g.members[0], g.id, g.topic, g.Assignment})
	}
	slices.SortFunc(out, func(a, b Placement) int { return cmp.Compare(a.Subscription, b.Subscription) })
	return out
}
