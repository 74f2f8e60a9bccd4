package hub

import "slices"

// TopicByName returns a copy of the topic; ok is false if it does not exist.
func (s *State) TopicByName(name string) (Topic, bool) {
	id, ok := s.topicByName[name]
	if !ok {
		return Topic{}, false
	}
	return s.TopicByID(id)
}

// TopicByID returns a copy of the topic; ok is false if it does not exist.
func (s *State) TopicByID(id TopicID) (Topic, bool) {
	t := s.topics[id]
	if t == nil {
		return Topic{}, false
	}
	return *t, true
}

// Head returns the offset of a topic's newest message, or 0 if there is none.
func (s *State) Head(id TopicID) uint64 {
	if t := s.topics[id]; t != nil {
		return t.Head
	}
	return 0
}

// Subscription returns a copy of an active subscription.
func (s *State) Subscription(id SubscriptionID) (Subscription, bool) {
	sub := s.subs[id]
	if sub == nil {
		return Subscription{}, false
	}
	return s.view(sub), true
}

// SubscriptionByKey finds an active subscription by topic name and normalised callback.
func (s *State) SubscriptionByKey(topicName, callbackKey string) (Subscription, bool) {
	id, ok := s.subByKey[subscriptionKey{s.topicByName[topicName], callbackKey}]
	if !ok {
		return Subscription{}, false
	}
	return s.view(s.subs[id]), true
}

// Request returns a copy of a pending request.
func (s *State) Request(id RequestID) (Request, bool) {
	r := s.requests[id]
	if r == nil {
		return Request{}, false
	}
	return *r, true
}

// Topics returns copies of at most max topics with an ID greater than after, in order of ID.
func (s *State) Topics(after TopicID, max int) []Topic {
	return page(s.topics, after, max, func(t *Topic) bool { return true })
}

// TopicsOf is Topics for those that belong to a principal.
func (s *State) TopicsOf(owner string, after TopicID, max int) []Topic {
	return page(s.topics, after, max, func(t *Topic) bool { return t.Belongs(owner) })
}

// Subscriptions returns copies of at most max active subscriptions with an ID greater than after that match, in order
// of ID. A nil match selects all.
func (s *State) Subscriptions(after SubscriptionID, max int, match func(*Subscription) bool) []Subscription {
	ids := pageIDs(s.subs, after, max, match)
	out := make([]Subscription, len(ids))
	for i, id := range ids {
		out[i] = s.view(s.subs[id])
	}
	return out
}

// SubscriptionsOf is Subscriptions for one topic, without visiting those of other topics.
func (s *State) SubscriptionsOf(topicName string, after SubscriptionID, max int) []Subscription {
	t := s.topics[s.topicByName[topicName]]
	if t == nil {
		return nil
	}
	first, found := slices.BinarySearch(t.subscriptions, after)
	if found {
		first++
	}
	ids := t.subscriptions[first:]
	if max > 0 && len(ids) > max {
		ids = ids[:max]
	}
	out := make([]Subscription, len(ids))
	for i, id := range ids {
		out[i] = s.view(s.subs[id])
	}
	return out
}

// Requests returns copies of at most max pending requests with an ID greater than after that match, in order of ID.
func (s *State) Requests(after RequestID, max int, match func(*Request) bool) []Request {
	return page(s.requests, after, max, match)
}

// Counts holds the number of items of each kind in the state.
type Counts struct {
	Topics, Subscriptions, Requests, DeadLetters, Sessions int
}

// Counts returns the number of items of each kind.
func (s *State) Counts() Counts {
	return Counts{len(s.topics), len(s.subs), len(s.requests), len(s.letters.byID), len(s.sessions.byID)}
}

func page[K ~uint64, V any](m map[K]*V, after K, max int, match func(*V) bool) []V {
	ids := pageIDs(m, after, max, match)
	out := make([]V, len(ids))
	for i, id := range ids {
		out[i] = *m[id]
	}
	return out
}

func pageIDs[K ~uint64, V any](m map[K]*V, after K, max int, match func(*V) bool) []K {
	var ids []K
	for id, v := range m {
		if id <= after || match != nil && !match(v) {
			continue
		}
		ids = append(ids, id)
		if max > 0 && len(ids) >= 4*max {
			// Only the lowest IDs are wanted. Sorting all of a large state would hold its lock for too long.
			slices.Sort(ids)
			ids = ids[:max]
		}
	}
	slices.Sort(ids)
	if max > 0 && len(ids) > max {
		ids = ids[:max]
	}
	return ids
}
