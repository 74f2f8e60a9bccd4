package hub

import (
	"slices"
	"strings"

	"quorumhub/hub/hubpb"
)

// assign carries out decisions about who delivers what. One that was made on an older picture changes nothing.
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
			// The owner has been told to stop already when there was another Next; it makes no difference to it.
			now.Next = a.Node
			u.touch(s)
		case a.Node == now.Node && now.Next == "":
			continue
		case now.Node != "" && a.Node != now.Node && a.Resumed != s.Resumed(now.Node):
			continue // the owner was taken for lost, and has come back meanwhile
		default:
			s.hand(u, a.Node)
		}
		s.tell(u, fx)
	}
	return Result{}
}

// resume counts that a node delivers again. Callers touch the meta row.
func (s *State) resume(node string) {
	i, ok := s.resumedAt(node)
	if !ok {
		s.meta.Resumed = slices.Insert(s.meta.Resumed, i, &hubpb.NodeResumed{Node: node})
	}
	s.meta.Resumed[i].Times++
}

func (s *State) resumedAt(node string) (int, bool) {
	return slices.BinarySearchFunc(s.meta.Resumed, node, func(r *hubpb.NodeResumed, node string) int { return strings.Compare(r.Node, node) })
}

// Resumed is how often a node was out of touch and has taken up its deliveries again. Whoever gives a node's
// subscriptions to others because it is lost must have read the number before finding it lost, and pass it on
// in hubpb.Assignment.
func (s *State) Resumed(node string) uint64 {
	if i, ok := s.resumedAt(node); ok {
		return s.meta.Resumed[i].Times
	}
	return 0
}

// hand gives a subscription or group to a node, under a new epoch. No node is no change.
func (s *State) hand(u unit, node string) {
	if node != "" {
		s.give(u, node)
	}
}

// give is hand, also to no node.
func (s *State) give(u unit, node string) {
	a := u.assignment
	s.count(u.topic, a.Node, -1)
	*a = Assignment{Node: node, Epoch: a.Epoch + 1, Rewound: a.Rewound}
	s.count(u.topic, node, 1)
	u.touch(s)
}

// count keeps the numbers of subscriptions by node. A consumer group counts as one.
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

// leastLoaded is the candidate with the fewest subscriptions for its weight, among equals with the fewest of
// the topic, then the one named first. Empty without candidates.
func (s *State) leastLoaded(t *Topic, candidates []*hubpb.Candidate) string {
	best, node := &hubpb.Candidate{}, ""
	for i, c := range candidates {
		// Compared by cross-multiplication: fractions of whole numbers have no rounding.
		if all := compareLoad(s.owned[c.Node], c, s.owned[node], best); i == 0 || all < 0 ||
			all == 0 && compareLoad(t.owned[c.Node], c, t.owned[node], best) < 0 {
			best, node = c, c.Node
		}
	}
	return node
}

func compareLoad(a int, ca *hubpb.Candidate, b int, cb *hubpb.Candidate) int {
	l, r := uint64(a)*uint64(max(cb.Weight, 1)), uint64(b)*uint64(max(ca.Weight, 1))
	switch {
	case l < r:
		return -1
	case l > r:
		return 1
	}
	return 0
}

// Owned is the number of subscriptions that a node delivers, those it is being relieved of included. A consumer
// group counts as one.
func (s *State) Owned(node string) int { return s.owned[node] }

// Owners is the number of subscriptions of each node that has any, and of those that no node has. A consumer
// group counts as one. The map is a copy.
func (s *State) Owners() (byNode map[string]int, unowned int) {
	byNode = make(map[string]int, len(s.owned))
	unowned = s.Units()
	for node, n := range s.owned {
		byNode[node] = n
		unowned -= n
	}
	return byNode, unowned
}

// Units is the number of subscriptions to be placed on nodes. A consumer group counts as one.
func (s *State) Units() int { return len(s.subs) - s.grouped + len(s.groups) }

// Placement is a subscription, or a consumer group as a whole, with who holds it.
type Placement struct {
	Subscription SubscriptionID // of a group, its first member
	Group        GroupID        // 0: no group
	Topic        TopicID
	Assignment   Assignment
}

// Placements returns all subscriptions and groups with who holds them, in order of their subscriptions.
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
	slices.SortFunc(out, func(a, b Placement) int { return int(int64(a.Subscription) - int64(b.Subscription)) })
	return out
}
