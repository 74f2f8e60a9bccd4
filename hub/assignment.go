package hub

import (
	"slices"
	"strings"

	"quorumhub/hub/hubpb"
)

// assign carries out decisions about who delivers what. One that was made on an older picture changes nothing.
func (s *State) assign(e *hubpb.SubscriptionsAssigned, fx *Effects) Result {
	for _, a := range e.Assignments {
		sub := s.subs[SubscriptionID(a.Subscription)]
		if sub == nil || a.Node == "" || a.Epoch != sub.Assignment.Epoch {
			continue
		}
		now := &sub.Assignment
		switch {
		case a.Drain && now.Node != "":
			if a.Node == now.Node || a.Node == now.Next {
				continue
			}
			// The owner has been told to stop already when there was another Next; it makes no difference to it.
			now.Next = a.Node
			s.touch(TableSubscription, a.Subscription)
		case a.Node == now.Node && now.Next == "":
			continue
		case now.Node != "" && a.Node != now.Node && a.Resumed != s.Resumed(now.Node):
			continue // the owner was taken for lost, and has come back meanwhile
		default:
			s.hand(sub, a.Node)
		}
		fx.Subscriptions = append(fx.Subscriptions, *sub)
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

// hand gives a subscription to a node, under a new epoch. No node is no change.
func (s *State) hand(sub *Subscription, node string) {
	if node != "" {
		s.give(sub, node)
	}
}

// give is hand, also to no node.
func (s *State) give(sub *Subscription, node string) {
	s.count(sub, -1)
	sub.Assignment = Assignment{Node: node, Epoch: sub.Assignment.Epoch + 1, Rewound: sub.Assignment.Rewound}
	s.count(sub, 1)
	s.touch(TableSubscription, uint64(sub.ID))
}

// count keeps the numbers of subscriptions by node.
func (s *State) count(sub *Subscription, n int) {
	node := sub.Assignment.Node
	if node == "" {
		return
	}
	t := s.topics[sub.Topic]
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

// Owned is the number of subscriptions that a node delivers, those it is being relieved of included.
func (s *State) Owned(node string) int { return s.owned[node] }

// Owners is the number of subscriptions of each node that has any, and of those that no node has. The map is a
// copy.
func (s *State) Owners() (byNode map[string]int, unowned int) {
	byNode = make(map[string]int, len(s.owned))
	unowned = len(s.subs)
	for node, n := range s.owned {
		byNode[node] = n
		unowned -= n
	}
	return byNode, unowned
}

// Held is a subscription with who holds it.
type Held struct {
	Subscription SubscriptionID
	Topic        TopicID
	Assignment   Assignment
}

// Held returns all subscriptions with who holds them, in no order.
func (s *State) Held() []Held {
	out := make([]Held, 0, len(s.subs))
	for id, sub := range s.subs {
		out = append(out, Held{id, sub.Topic, sub.Assignment})
	}
	return out
}
