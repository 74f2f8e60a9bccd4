package hub

import (
	"context"

	"quorumhub/hub/hubpb"
)

// Rewind describes the effect of moving a subscription's cursor.
type Rewind struct {
	From    uint64 // offset of the next message to be sent
	Again   uint64 // messages already handled that are sent again
	Skipped uint64 // messages not yet handled that are skipped
}

// Rewind moves a subscription's cursor back or forward; with dryRun it only computes the effect. An unknown
// subscription is CodeNotFound, a position outside the topic's range CodeInvalid.
func (s *Service) Rewind(ctx context.Context, times TimeIndex, id SubscriptionID, to Position, dryRun bool) (Rewind, error) {
	var sub Subscription
	var t Topic
	known := false
	s.state.View(func(st *State) {
		if sub, known = st.Subscription(id); known {
			t, _ = st.TopicByID(sub.Topic)
		}
	})
	if !known {
		return Rewind{}, noSubscription(id)
	}
	if err := to.Check(t, s.now()); err != nil {
		return Rewind{}, err
	}
	cursor, err := to.Resolve(t, times)
	if err != nil {
		return Rewind{}, err
	}
	r := Rewind{From: cursor + 1, Again: sub.Cursor.doneAfter(cursor), Skipped: sub.Cursor.remainingUpTo(cursor)}
	if dryRun {
		return r, nil
	}
	return r, s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionRewound{
		SubscriptionRewound: &hubpb.SubscriptionRewound{Subscription: uint64(id), Offset: cursor}}})
}

// Pause stops the deliveries of a subscription, or resumes them where they stopped. Its lease keeps running. Pausing
// a paused subscription changes nothing; an unknown one is CodeNotFound.
func (s *Service) Pause(ctx context.Context, id SubscriptionID, paused bool) error {
	return s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{
		SubscriptionPaused: &hubpb.SubscriptionPaused{Subscription: uint64(id), Paused: paused}}})
}

// End ends a subscription by decision of the hub; its callback is notified with hub.mode=denied (WebSub 5.2). An
// unknown subscription is CodeNotFound.
func (s *Service) End(ctx context.Context, id SubscriptionID) error {
	known := false
	s.state.View(func(st *State) { _, known = st.Subscription(id) })
	if !known {
		return noSubscription(id)
	}
	return s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{uint64(id)}, Reason: hubpb.EndReason_END_OPERATOR}}})
}

func (s *Service) operate(ctx context.Context, id SubscriptionID, ev *hubpb.Event) error {
	res, err := s.propose(ctx, "", ev)
	if res.Outcome == OutcomeStale {
		return noSubscription(id)
	}
	return err
}

func noSubscription(id SubscriptionID) error {
	return &Error{Code: CodeNotFound, Param: "id", Message: "\"" + id.String() + "\" is not a subscription of this hub; expected an ID such as s-17"}
}

// rewind moves the cursor of a subscription, or of its whole group, under a new epoch, so that deliveries in flight
// can no longer change it (invariant I4).
func (s *State) rewind(e *hubpb.SubscriptionRewound, fx *Effects) Result {
	sub := s.subs[SubscriptionID(e.Subscription)]
	if sub == nil {
		return Result{Outcome: OutcomeStale}
	}
	u := s.unitOf(sub)
	u.cursor.place(min(max(e.Offset, u.topic.First-1), u.topic.Head))
	s.restart(u)
	s.report(u, fx)
	return Result{ID: e.Subscription, Offset: u.cursor.Offset}
}

// pause stops or resumes a subscription.
func (s *State) pause(e *hubpb.SubscriptionPaused, fx *Effects) Result {
	sub := s.subs[SubscriptionID(e.Subscription)]
	if sub == nil {
		return Result{Outcome: OutcomeStale}
	}
	if sub.Paused != e.Paused {
		sub.Paused = e.Paused
		s.touch(TableSubscription, e.Subscription)
		fx.Subscriptions = append(fx.Subscriptions, s.view(sub))
		kind := LifecycleResumed
		if sub.Paused {
			kind = LifecyclePaused
		}
		s.announce(kind, sub, fx, nil)
	}
	return Result{ID: e.Subscription}
}
