package hub

import "slices"

// walkStep bounds the items that a walk visits under one hold of the state's lock, some 100 µs.
const walkStep = 500

// WalkTopics calls visit with every topic, in order of ID, until it returns false. It releases the state's lock every few hundred
// topics, so that what comes or goes meanwhile may be missing, and nobody waits for it. t is valid during the call only, and must not be changed.
func WalkTopics(r StateReader, visit func(t *Topic) bool) {
	more := true
	for ids := topicIDs(r); len(ids) > 0 && more; {
		n := min(len(ids), walkStep)
		r.View(func(s *State) {
			for _, id := range ids[:n] {
				if t := s.topics[id]; t != nil && more {
					more = visit(t)
				}
			}
		})
		ids = ids[n:]
	}
}

func topicIDs(r StateReader) (ids []TopicID) {
	r.View(func(s *State) {
		ids = make([]TopicID, 0, len(s.topics))
		for id := range s.topics {
			ids = append(ids, id)
		}
	})
	slices.Sort(ids)
	return ids
}

// WalkSubscriptions calls visit with every active subscription and the head of its topic until it returns false: topic by topic,
// and in order of ID within each. Between two holds of the state's lock it calls between, if it is not nil: what takes long
// belongs there. Otherwise it is as WalkTopics.
func WalkSubscriptions(r StateReader, visit func(sub *Subscription, head uint64) bool, between func()) {
	ids := topicIDs(r)
	after := SubscriptionID(0) // within ids[0]
	for more := true; len(ids) > 0 && more; {
		r.View(func(s *State) {
			for left := walkStep; len(ids) > 0 && left > 0 && more; left-- {
				t := s.topics[ids[0]]
				if t == nil {
					ids, after = ids[1:], 0
					continue
				}
				var last bool
				if after, last, more = s.walkTopic(t, after, left, visit); last {
					left -= len(t.subscriptions)
					ids, after = ids[1:], 0
					continue
				}
				return
			}
		})
		if between != nil {
			between()
		}
	}
}

// WalkSubscriptionsOf is WalkSubscriptions for one topic.
func WalkSubscriptionsOf(r StateReader, topic TopicID, visit func(sub *Subscription, head uint64) bool) {
	for after, last, more := SubscriptionID(0), false, true; !last && more; {
		r.View(func(s *State) {
			t := s.topics[topic]
			if t == nil {
				last = true
				return
			}
			after, last, more = s.walkTopic(t, after, walkStep, visit)
		})
	}
}

// walkTopic visits at most n subscriptions of a topic after one, and returns the last one visited and whether there are no others.
func (s *State) walkTopic(t *Topic, after SubscriptionID, n int, visit func(sub *Subscription, head uint64) bool) (_ SubscriptionID, last, more bool) {
	first, found := slices.BinarySearch(t.subscriptions, after)
	if found {
		first++
	}
	list := t.subscriptions[first:]
	last = len(list) <= n
	for _, id := range list[:min(n, len(list))] {
		sub := s.subs[id]
		if sub.Group != 0 {
			v := s.view(sub)
			sub = &v
		}
		if after = id; !visit(sub, t.Head) {
			return after, last, false
		}
	}
	return after, last, true
}

// WalkLetters calls visit with every dead letter, in order of ID, until it returns false. Otherwise it is as WalkSubscriptions.
func WalkLetters(r StateReader, visit func(d *DeadLetter) bool, between func()) {
	next, last := uint64(1), uint64(1)
	for more := true; next <= last && more; {
		r.View(func(s *State) {
			last = s.meta.NextDeadLetter
			next = max(next, last-min(last, maxDeadLetters)+1) // none is older
			for n := walkStep; n > 0 && next <= last && more && len(s.letters.byID) > 0; n-- {
				if d := s.letters.byID[next]; d != nil {
					more = visit(d)
				}
				next++
			}
			if len(s.letters.byID) == 0 {
				more = false
			}
		})
		if between != nil {
			between()
		}
	}
}
