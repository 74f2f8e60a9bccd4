package hub

import (
	"context"
	"time"

	"quorumhub/hub/hubpb"
)

// Rewind is what moving a subscription in the log comes to.
type Rewind struct {
	From    uint64 // offset of the message that is sent next
	Again   uint64 // messages that were done with and are sent again
	Skipped uint64 // messages that were still owed and are not sent
}

// Rewind moves a subscription's place in its topic's log, back or forth; with dryRun it only says what would
// happen. An unknown subscription is CodeNotFound, a place outside of the log CodeInvalid.
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
	r := Rewind{From: cursor + 1, Again: sub.Cursor.doneAbove(cursor), Skipped: sub.Cursor.owedUpTo(cursor)}
	if dryRun {
		return r, nil
	}
	return r, s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionRewound{
		SubscriptionRewound: &hubpb.SubscriptionRewound{Subscription: uint64(id), Offset: cursor}}})
}

// Pause stops the deliveries of a subscription, or resumes them where they stopped. Its lease runs on. Pausing a
// paused one changes nothing; an unknown one is CodeNotFound.
func (s *Service) Pause(ctx context.Context, id SubscriptionID, paused bool) error {
	return s.operate(ctx, id, &hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{
		SubscriptionPaused: &hubpb.SubscriptionPaused{Subscription: uint64(id), Paused: paused}}})
}

// End ends a subscription by the hub's decision; its callback is told with hub.mode=denied (WebSub 5.2). An
// unknown one is CodeNotFound.
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
	res, err := s.proposer.Propose(ctx, ev)
	switch {
	case err != nil:
		return err
	case res[0].Outcome == OutcomeStale:
		return noSubscription(id)
	}
	return res[0].Err("")
}

func (s *Service) now() time.Time {
	if s.policy.Clock == nil {
		return time.Now()
	}
	return s.policy.Clock.Now()
}

func noSubscription(id SubscriptionID) error {
	return &Error{Code: CodeNotFound, Param: "id", Message: "\"" + id.String() + "\" is no subscription of this hub (any more); expected an id such as s-17"}
}

// rewind moves a subscription in its topic's log, a member of a group the whole group, under a new epoch: what was
// under way until now changes nothing any more (invariant I4).
func (s *State) rewind(e *hubpb.SubscriptionRewound, fx *Effects) Result {
	sub := s.subs[SubscriptionID(e.Subscription)]
	if sub == nil {
		return Result{Outcome: OutcomeStale}
	}
	u := s.unitOf(sub)
	u.cursor.place(min(max(e.Offset, u.topic.First-1), u.topic.Head))
	s.restart(u)
	s.tell(u, fx)
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
