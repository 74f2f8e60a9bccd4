package hub

import "slices"

// holding is what one principal owns, as far as the state counts it. It is an index: rows do not contain it.
type holding struct {
	topics        int
	subscriptions []SubscriptionID // sorted
	requests      int              // waiting for verification
	apiKeys       int
	letters       []uint64 // dead letters, sorted
	letterBytes   uint64
	stored        uint64 // bytes of the messages of its topics, and of its pending blobs
	uploads       int    // pending blobs

	limits         byteLimits
	lettersDropped uint64 // dead letters that its quota has dropped
}

func (h *holding) empty() bool {
	return h.topics == 0 && len(h.subscriptions) == 0 && h.requests == 0 && h.apiKeys == 0 && len(h.letters) == 0 && h.uploads == 0
}

// hold changes what a principal owns. An empty owner owns nothing.
func (s *State) hold(owner string, change func(*holding)) {
	if owner == "" {
		return
	}
	h := s.holdings[owner]
	if h == nil {
		h = &holding{}
		s.holdings[owner] = h
	}
	if change(h); h.empty() {
		delete(s.holdings, owner)
		if h.recorded() {
			s.touchName(TablePrincipal, owner)
		}
	}
}

// held returns a copy of what a principal owns.
func (s *State) held(owner string) holding {
	if h := s.holdings[owner]; h != nil {
		return *h
	}
	return holding{}
}

// own gives a subscription an owner. The caller marks its row dirty.
func (s *State) own(sub *Subscription, owner string) {
	if sub.Owner == owner {
		return
	}
	s.disown(sub)
	sub.Owner = shared(owner)
	s.hold(owner, func(h *holding) {
		at, _ := slices.BinarySearch(h.subscriptions, sub.ID)
		h.subscriptions = slices.Insert(h.subscriptions, at, sub.ID)
	})
}

func (s *State) disown(sub *Subscription) {
	s.hold(sub.Owner, func(h *holding) {
		if at, ok := slices.BinarySearch(h.subscriptions, sub.ID); ok {
			h.subscriptions = slices.Delete(h.subscriptions, at, at+1)
		}
	})
	sub.Owner = ""
}

// ownTopic gives a topic an owner. The caller marks its row dirty.
func (s *State) ownTopic(t *Topic, owner string) {
	if t.holder != nil {
		t.holder.stored -= t.stored.used()
	}
	s.hold(t.Owner, func(h *holding) { h.topics-- })
	t.Owner = shared(owner)
	s.linkTopic(t)
}

// linkTopic counts a topic among what its owner holds, and connects it with that.
func (s *State) linkTopic(t *Topic) {
	s.hold(t.Owner, func(h *holding) { h.topics++ })
	if t.holder = s.holdings[t.Owner]; t.holder != nil { // it stays as long as it counts the topic
		t.holder.stored += t.stored.used()
	}
}

// OwnsTopics reports whether a principal owns any topic.
func (s *State) OwnsTopics(principal string) bool {
	h := s.holdings[principal]
	return h != nil && h.topics > 0
}

// Usage is what a principal has, by the quota that limits it, and more.
type Usage struct {
	Topics, Subscriptions, PendingRequests, IdempotencyKeys, APIKeys int

	Nonces           int // claimed and not expired
	NoncesThisMinute int
	FailedRequests   int // kept to be asked for
	DeadLetters      int
	DeadLetterBytes  uint64
	// DeadLettersDropped counts those that its quota of bytes has dropped, since it last owned nothing.
	DeadLettersDropped uint64
	StoredBytes        uint64 // of the messages of its topics, as stored; never too low
}

// Usage returns what a principal has.
func (s *State) Usage(principal string) Usage {
	h := s.held(principal)
	u := Usage{Topics: h.topics, Subscriptions: len(h.subscriptions), PendingRequests: h.requests, APIKeys: h.apiKeys,
		IdempotencyKeys: s.idempotency.count(principal), FailedRequests: len(s.failed.of[principal]), DeadLetters: len(h.letters), DeadLetterBytes: h.letterBytes,
		DeadLettersDropped: h.lettersDropped, StoredBytes: h.stored}
	u.Nonces, u.NoncesThisMinute = s.access.nonceUse(principal, s.meta.Now)
	return u
}

// Principals returns, in order, the principals that own topics, subscriptions, requests (pending or failed), API keys or dead
// letters, or have published under idempotency keys.
func (s *State) Principals() []string {
	out := s.idempotency.principals()
	for p := range s.holdings {
		out = append(out, p)
	}
	for p := range s.failed.of {
		if p != "" {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// OwnedBy is Subscriptions for those of one owner, without visiting others.
func (s *State) OwnedBy(owner string, after SubscriptionID, max int) []Subscription {
	ids := s.held(owner).subscriptions
	first, found := slices.BinarySearch(ids, after)
	if found {
		first++
	}
	ids = ids[first:]
	if max > 0 && len(ids) > max {
		ids = ids[:max]
	}
	out := make([]Subscription, len(ids))
	for i, id := range ids {
		out[i] = s.view(s.subs[id])
	}
	return out
}
