package hub

import (
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// request records a subscribe or unsubscribe request. It replaces a pending request for the same subscription. The
// subscription itself does not change (WebSub 5.1, invariant I7).
func (s *State) request(e *hubpb.SubscriptionRequested, fx *Effects) Result {
	if s.retiredKey(e.SealedSecret) || s.retiredKey(e.SealedHeaders) {
		return Result{Outcome: OutcomeKeyRetired}
	}
	if t := s.findTopic(e.Topic, false); t != nil && e.Mode == ModeSubscribe && t.Lifecycle.Retired() {
		return Result{Outcome: OutcomeRetired, Topic: t.ID}
	}
	r := requestFromPB(e)
	if s.foreign(&r, s.meta.Now) {
		// Nothing is asked of the callback: whatever it answered would be about a subscription of somebody else.
		s.numberRequest(&r)
		s.fail(&r, FailedNotOwner, 0, 0, fx)
		return Result{Outcome: OutcomeNotOwner, ID: uint64(r.ID)}
	}
	old, replaces := s.requestByKey[r.key()]
	if used := s.held(r.Owner).requests; !replaces && r.Owner != "" && reached(used, r.caller.GetMaxRequests()) {
		return quotaReached(QuotaRequests, used, r.caller.GetMaxRequests())
	}
	if replaces {
		s.settle(old, fx)
	}
	added := s.addRequest(r, fx)
	s.requestByKey[added.key()] = added.ID
	s.hold(added.Owner, func(h *holding) { h.requests++ })
	s.recordLimits(r.caller)
	return Result{ID: uint64(added.ID)}
}

func requestFromPB(e *hubpb.SubscriptionRequested) Request {
	return Request{
		Mode: e.Mode, TopicName: e.Topic, TopicRaw: e.TopicRaw, Callback: e.Callback, CallbackKey: e.CallbackKey,
		LeaseSeconds: e.LeaseSeconds, SealedSecret: e.SealedSecret, Signature: e.Signature, Scheme: e.Scheme, SecretGrace: e.SecretGrace,
		SealedHeaders: string(e.SealedHeaders), EncryptionKey: shared(e.EncryptionKey),
		VerifyToken: e.VerifyToken, AutoRegister: e.AutoRegister, Start: e.GetOptions().GetStart(), Options: optionsFromPB(e.Options),
		Extra: extraFromPB(e.Extra), Owner: e.GetCaller().GetPrincipal(), caller: e.Caller,
	}
}

// key identifies the request that a later one of the same principal replaces.
func (r *Request) key() requestKey { return requestKey{r.TopicName, r.CallbackKey, r.Owner} }

func (s *State) numberRequest(r *Request) {
	s.meta.NextRequest++
	r.ID = RequestID(s.meta.NextRequest)
	r.RequestedAt = timeOf(s.meta.Now)
}

func (s *State) addRequest(r Request, fx *Effects) *Request {
	s.numberRequest(&r)
	s.requests[r.ID] = &r
	s.touch(TableRequest, uint64(r.ID))
	fx.Requests = append(fx.Requests, r)
	return &r
}

// settle removes a request that needs no further action.
func (s *State) settle(id RequestID, fx *Effects) {
	r := s.requests[id]
	if key := r.key(); s.requestByKey[key] == id {
		delete(s.requestByKey, key)
		s.hold(r.Owner, func(h *holding) { h.requests-- })
	}
	delete(s.requests, id)
	s.touch(TableRequest, uint64(id))
	fx.Settled = append(fx.Settled, id)
}

// verified carries out a request whose verification succeeded (WebSub 5.3). A request that has been replaced is gone
// and changes nothing.
func (s *State) verified(e *hubpb.RequestVerified, fx *Effects) Result {
	r := s.requests[RequestID(e.Request)]
	if r == nil {
		return Result{Outcome: OutcomeStale}
	}
	s.settle(r.ID, fx)
	if s.foreign(r, e.VerifiedFrom) {
		s.fail(r, FailedNotOwner, 0, 0, fx)
		return Result{Outcome: OutcomeNotOwner, ID: e.Request}
	}
	switch r.Mode {
	case ModeSubscribe:
		t, res := s.subscribedTopic(r)
		if t != nil {
			res = s.subscribe(t, r, e, LifecycleVerified, fx)
		}
		switch res.Outcome { //nolint:exhaustive // the others are none of a refusal
		case OutcomeNoTopic:
			s.fail(r, FailedUnknownTopic, 0, 0, fx)
		case OutcomeGroupConflict:
			s.fail(r, FailedGroup, 0, 0, fx)
		case OutcomeQuota:
			s.fail(r, FailedQuota, 0, 0, fx)
		case OutcomeRetired:
			s.fail(r, FailedRetired, 0, 0, fx)
		}
		return res
	case ModeUnsubscribe:
		if id, ok := s.subByKey[subscriptionKey{s.topicByName[r.TopicName], r.CallbackKey}]; ok {
			s.endSubscription(id, hubpb.EndReason_END_UNSUBSCRIBED, fx)
			return Result{ID: uint64(id)}
		}
	default: // a denial notice changes no subscription
	}
	return Result{}
}

// subscribedTopic returns the topic of a request, and creates it if the request may. Without a topic the result tells
// why.
func (s *State) subscribedTopic(r *Request) (*Topic, Result) {
	if t := s.findTopic(r.TopicName, false); t != nil {
		return t, Result{}
	}
	if !r.AutoRegister {
		return nil, Result{Outcome: OutcomeNoTopic}
	}
	t, res := s.createOwned(r.TopicName, r.caller)
	if t != nil {
		t.Provisional = t.Owner != ""
	}
	return t, res
}

// subscribe creates or renews a subscription. created is the lifecycle type announced for a new one.
func (s *State) subscribe(t *Topic, r *Request, e *hubpb.RequestVerified, created string, fx *Effects) Result {
	if t.Lifecycle.Retired() {
		return Result{Outcome: OutcomeRetired, Topic: t.ID}
	}
	key := subscriptionKey{t.ID, r.CallbackKey}
	id, renewal := s.subByKey[key]
	if renewal && s.subs[id].Expired(timeOf(e.VerifiedFrom)) {
		// The lease expired before this request was verified: the old subscription is over, and the subscriber
		// has no claim to what was published since.
		s.endSubscription(id, hubpb.EndReason_END_EXPIRED, fx)
		renewal = false
	}
	if r.Options.Group != "" && !s.joins(t.ID, id, &r.Options) {
		return Result{Outcome: OutcomeGroupConflict, Topic: t.ID}
	}
	if used := len(s.held(r.Owner).subscriptions); !renewal && r.Owner != "" && reached(used, r.caller.GetMaxSubscriptions()) {
		return quotaReached(QuotaSubscriptions, used, r.caller.GetMaxSubscriptions())
	}
	var sub *Subscription
	if renewal {
		sub = s.subs[id]
	} else {
		s.meta.NextSubscription++
		sub = &Subscription{ID: SubscriptionID(s.meta.NextSubscription), Topic: t.ID, TopicName: t.Name,
			CallbackKey: r.CallbackKey, created: s.meta.Now, Options: r.Options.shared()}
		sub.Cursor.Offset = min(max(e.StartOffset, t.First-1), t.Head)
		s.subs[sub.ID] = sub
		s.subByKey[key] = sub.ID
		t.subscriptions = append(t.subscriptions, sub.ID) // IDs rise, so the list stays sorted
		if r.Options.Group == "" {
			s.setOwnerIfAny(s.unitOf(sub), s.leastLoaded(t, e.Candidates))
		}
	}
	// Everything in the request replaces what was there, even with a missing secret (WebSub 5.1).
	sub.TopicRaw, sub.Callback = r.TopicRaw, r.Callback
	s.shareStrings(sub, t)
	sub.Former = formerSecrets(sub, r, timeOf(e.VerifiedFrom))
	sub.SealedSecret, sub.Signature, sub.Scheme = r.SealedSecret, r.Signature, r.Scheme
	sub.SealedHeaders, sub.EncryptionKey = r.SealedHeaders, r.EncryptionKey
	s.setKeyNotice(sub, KeyNotSoon)
	sub.LeaseSeconds, sub.Extra = r.LeaseSeconds, r.Extra
	sub.ExpiresAt = timeOf(e.VerifiedFrom).Add(time.Duration(r.LeaseSeconds) * time.Second)
	sub.RenewedAt = timeOf(s.meta.Now)
	s.regroup(sub, r.Options, e.Candidates, r.Owner, fx)
	s.recordLimits(r.caller)
	if renewal {
		s.announce(LifecycleRenewed, sub, fx, nil)
		if sub.Paused && sub.PauseReason == PauseNotAllowed && r.Owner == sub.Owner {
			s.setPaused(sub, false, PauseOperator, fx) // whoever asked is allowed again
		}
	} else {
		s.announce(created, sub, fx, nil)
	}
	return Result{Topic: t.ID, ID: uint64(sub.ID)}
}

func (s *State) requestFailed(e *hubpb.RequestFailed, fx *Effects) Result {
	r := s.requests[RequestID(e.Request)]
	if r == nil {
		return Result{Outcome: OutcomeStale}
	}
	s.settle(r.ID, fx)
	s.fail(r, e.Reason, e.Status, e.Attempts, fx)
	return Result{}
}

// endSubscriptions ends subscriptions for a reason found by delivery or decided by the leader. Another event may have
// come first, so it checks again that the lease has expired, that the callback answered for the latest renewal, and
// that the sender still owns the subscription.
func (s *State) endSubscriptions(e *hubpb.SubscriptionsEnded, fx *Effects) Result {
	for i, raw := range e.Subscriptions {
		id := SubscriptionID(raw)
		sub := s.subs[id]
		if sub == nil || (e.Reason == hubpb.EndReason_END_EXPIRED && !sub.Expired(s.Now())) {
			continue
		}
		if i < len(e.RenewedAt) && nanos(sub.RenewedAt) != e.RenewedAt[i] {
			continue
		}
		if i < len(e.Epochs) && s.unitOf(sub).assignment.Epoch != e.Epochs[i] {
			continue
		}
		if e.Owner != "" && e.Owner != sub.Owner {
			continue
		}
		if e.Reason == hubpb.EndReason_END_TOPIC_RETIRED {
			if s.drained(sub) {
				s.endDrained(sub, fx)
			}
			continue
		}
		switch e.Reason { //nolint:exhaustive // the others are known to the callback, or found by it
		case hubpb.EndReason_END_OPERATOR:
			s.denyNotice(sub, "ended by the operator of the hub", fx)
		case hubpb.EndReason_END_OWNER:
			s.denyNotice(sub, "ended by its owner", fx)
		}
		s.endSubscription(id, e.Reason, fx)
	}
	return Result{}
}

func (s *State) endSubscription(id SubscriptionID, reason hubpb.EndReason, fx *Effects) {
	sub := s.subs[id]
	if sub.Group != 0 {
		s.leave(sub)
	} else {
		s.count(s.topics[sub.Topic], sub.Assignment.Node, -1)
	}
	delete(s.subs, id)
	delete(s.subByKey, subscriptionKey{sub.Topic, sub.CallbackKey})
	t := s.topics[sub.Topic]
	if i, ok := slices.BinarySearch(t.subscriptions, id); ok {
		t.subscriptions = slices.Delete(t.subscriptions, i, i+1)
	}
	s.touch(TableSubscription, uint64(id))
	s.touch(TableCursor, uint64(id))
	s.endReplays(id)
	s.forgetFetched(id)
	s.setKeyNotice(sub, KeyNotSoon)
	s.announceEnd(sub, reason, fx)
	s.disown(sub)
	fx.Ended = append(fx.Ended, Ended{id, reason})
}

// denyNotice records the request that notifies a callback of the end of its subscription (WebSub 5.2).
func (s *State) denyNotice(sub *Subscription, reason string, fx *Effects) {
	s.addRequest(Request{Mode: ModeDenied, TopicName: sub.TopicName, TopicRaw: sub.TopicRaw,
		Callback: sub.Callback, CallbackKey: sub.CallbackKey, Reason: reason}, fx)
}

// shareStrings makes a subscription share the memory of strings it usually has in common with others: a tenth of the
// memory of 100,000 subscriptions.
func (s *State) shareStrings(sub *Subscription, t *Topic) {
	if sub.CallbackKey == sub.Callback {
		sub.Callback = sub.CallbackKey
	}
	first := s.subs[t.subscriptions[0]]
	if sub.TopicRaw == first.TopicRaw {
		sub.TopicRaw = first.TopicRaw
	}
	if n := s.nodes[sub.Assignment.Node]; n != nil {
		sub.Assignment.Node = n.ID
	} else if sub.Assignment.Node == first.Assignment.Node {
		sub.Assignment.Node = first.Assignment.Node
	}
}
