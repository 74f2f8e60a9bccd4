package placement

import (
	"maps"
	"slices"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// maxLoose bounds looseUnits.ids; beyond it, all subscriptions are looked at.
const maxLoose = 100_000

// looseUnits are the subscriptions that were seen to have no owner, so that giving them one does not take a look at all
// others: an import into a large hub makes some again and again.
type looseUnits struct {
	ids  map[hub.SubscriptionID]bool
	more bool // there may be others
}

func (l *looseUnits) add(id hub.SubscriptionID) {
	if len(l.ids) >= maxLoose {
		l.ids, l.more = nil, true
	}
	if l.more {
		return
	}
	if l.ids == nil {
		l.ids = map[hub.SubscriptionID]bool{}
	}
	l.ids[id] = true
}

// decideLoose gives each of these subscriptions, and their groups, to the node that has the least then, and leaves all others alone.
// It returns false if others have no owner either.
func (p *Placer) decideLoose(m membership, loose looseUnits) (decided []*hubpb.Assignment, ok bool) {
	if loose.more {
		return nil, false
	}
	p.o.State.View(func(s *hub.State) {
		_, none := s.Owners()
		groups := map[hub.GroupID]bool{}
		given := map[string]int{}
		ofTopic := map[topicNode]int{}
		for _, id := range slices.Sorted(maps.Keys(loose.ids)) {
			sub, known := s.Subscription(id)
			if !known || sub.Assignment.Node != "" || sub.Assignment.Next != "" || sub.Group != 0 && groups[sub.Group] {
				continue
			}
			groups[sub.Group] = true
			var best Node
			for i, n := range m.nodes {
				here, there := topicNode{sub.Topic, n.ID}, topicNode{sub.Topic, best.ID}
				all := (s.Owned(n.ID)+given[n.ID])*max(best.Weight, 1) - (s.Owned(best.ID)+given[best.ID])*max(n.Weight, 1)
				if i == 0 || all < 0 || all == 0 && (s.OwnedOf(sub.Topic, n.ID)+ofTopic[here])*max(best.Weight, 1) <
					(s.OwnedOf(sub.Topic, best.ID)+ofTopic[there])*max(n.Weight, 1) {
					best = n
				}
			}
			given[best.ID]++
			ofTopic[topicNode{sub.Topic, best.ID}]++
			decided = append(decided, &hubpb.Assignment{Subscription: uint64(id), Group: uint64(sub.Group), Node: best.ID, Epoch: sub.Assignment.Epoch})
		}
		ok = len(decided) == none
	})
	return decided, ok
}

type topicNode struct {
	topic hub.TopicID
	node  string
}
