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
// subscription, and one that the caller may not manage, is CodeNotFound, a position outside the topic's range
// CodeInvalid.
func (s *Service) Rewind(ctx context.Context, times TimeIndex, id SubscriptionID, to Position, dryRun bool) (Rewind, error) {
	var sub Subscription
	var t Topic
	known := false
	s.state.View(func(st *State) {
		if sub, known = st.Subscription(id); known {
			t, _ = st.TopicByID(sub.Topic)
		}
	})
	if !known || !s.MayManage(ctx, sub.Owner) {
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
		SubscriptionRewound: &hubpb.SubscriptionRewound{Subscription: uint64(id), Offset: cursor, Owner: s.guard(ctx)}}})
}

// Pause stops the deliveries of a subscription, or resumes them where they stopped. Its lease keeps running. Pausing
// a paused subscription changes nothing; an unknown one, and one that the caller may not manage, is CodeNotFound. An
// owner who is no operator resumes only what it has paused itself; anything else is CodeForbidden.
func (s *Service) Pause(ctx context.Context, id SubscriptionID, paused bool) error {
	sub, err := s.managed(ctx, id)
	if err != nil {
		return err
	}
	ev := &hubpb.SubscriptionPaused{Subscription: uint64(id), Paused: paused, Owner: s.guard(ctx)}
	if ev.Owner != "" {
		if ev.Reason = PauseOwner; !paused {
			ev.Reason = PauseOperator
		}
		if !paused && sub.Paused && sub.PauseReason != PauseOwner {
			return notYours(id, sub.PauseReason)
		}
	}
	return s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{SubscriptionPaused: ev}})
}

func notYours(id SubscriptionID, reason PauseReason) error {
	return Errorf(CodeForbidden, "%s is paused (%s), and only an operator of the hub can resume it", id, PauseReasonName(reason))
}

// End ends a subscription; its callback is notified with hub.mode=denied (WebSub 5.2). An unknown subscription, and
// one that the caller may not manage, is CodeNotFound.
func (s *Service) End(ctx context.Context, id SubscriptionID) error {
	if _, err := s.managed(ctx, id); err != nil {
		return err
	}
	ev := &hubpb.SubscriptionsEnded{Subscriptions: []uint64{uint64(id)}, Reason: hubpb.EndReason_END_OPERATOR, Owner: s.guard(ctx)}
	if ev.Owner != "" {
		ev.Reason = hubpb.EndReason_END_OWNER
	}
	return s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: ev}})
}

// CheckManaged returns nil if the caller of ctx may manage a subscription, and else CodeNotFound.
func (s *Service) CheckManaged(ctx context.Context, id SubscriptionID) error {
	_, err := s.managed(ctx, id)
	return err
}

// managed returns a subscription that the caller of ctx may manage. Any other is CodeNotFound.
func (s *Service) managed(ctx context.Context, id SubscriptionID) (sub Subscription, err error) {
	known := false
	s.state.View(func(st *State) { sub, known = st.Subscription(id) })
	if !known || !s.MayManage(ctx, sub.Owner) {
		return Subscription{}, noSubscription(id)
	}
	return sub, nil
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
	if sub == nil || e.Owner != "" && e.Owner != sub.Owner {
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
	if e.Owner != "" && e.Owner != sub.Owner {
		return Result{Outcome: OutcomeStale}
	}
	if e.Owner != "" && sub.Paused && sub.PauseReason != PauseOwner && !e.Paused {
		return Result{Outcome: OutcomeNotOwner}
	}
	s.setPaused(sub, e.Paused, e.Reason, fx)
	return Result{ID: e.Subscription}
}

// setPaused stops or resumes a subscription. The reason of a pause that is already there gives way only to that of a
// decision by the hub.
func (s *State) setPaused(sub *Subscription, paused bool, reason PauseReason, fx *Effects) {
	if !paused {
		reason = PauseOperator
	}
	if sub.Paused == paused && (reason == sub.PauseReason || reason <= PauseOwner) {
		return
	}
	sub.Paused, sub.PauseReason = paused, reason
	s.touch(TableSubscription, uint64(sub.ID))
	fx.Subscriptions = append(fx.Subscriptions, s.view(sub))
	if !paused {
		s.announce(LifecycleResumed, sub, fx, nil)
		return
	}
	s.announce(LifecyclePaused, sub, fx, func(e *Lifecycle) {
		if reason != PauseOperator {
			e.Reason = PauseReasonName(reason)
		}
	})
}
