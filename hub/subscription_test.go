package hub_test

import (
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Rules 20 and 21, invariant I7: a subscription does not change before its request is verified.
func TestNothingChangesBeforeVerificationI7(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "old")
	before := w.sub(id)
	for _, mode := range []hubpb.Mode{hub.ModeSubscribe, hub.ModeUnsubscribe} {
		w.advance(time.Second)
		r := w.apply(requested(mode, "news", cb, 2*hr, "stolen"))
		if got := w.sub(id); string(got.SealedSecret) != "old" || !got.ExpiresAt.Equal(before.ExpiresAt) {
			t.Fatalf("the request for %v alone changed the subscription: %+v", mode, got)
		}
		if len(w.fx.Requests) != 1 || w.fx.Requests[0].ID != hub.RequestID(r.ID) {
			t.Fatalf("no verification is requested: %+v", w.fx)
		}
		w.apply(failed(r.ID))
		if got := w.sub(id); string(got.SealedSecret) != "old" || !got.ExpiresAt.Equal(before.ExpiresAt) || got.LeaseSeconds != hr {
			t.Fatalf("a failed verification of %v changed the subscription: %+v", mode, got)
		}
	}
	if _, ok := w.SubscriptionByKey("other", cb); ok || w.Counts().Subscriptions != 1 || w.Counts().Requests != 0 {
		t.Errorf("left over: %+v", w.Counts())
	}
}

// A verification that finishes late must not override a newer request (invariant I7).
func TestLateVerificationOfReplacedRequestIsIgnoredI7(t *testing.T) {
	for _, order := range []string{"old answer first", "new answer first"} {
		t.Run(order, func(t *testing.T) {
			w := newWorld(t)
			older := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, "older"))
			newer := w.apply(requested(hub.ModeSubscribe, "news", cb, 2*hr, "newer"))
			if len(w.fx.Settled) != 1 || w.fx.Settled[0] != hub.RequestID(older.ID) {
				t.Errorf("the older verification is not cancelled: %+v", w.fx.Settled)
			}
			answers := []uint64{older.ID, newer.ID}
			if order == "new answer first" {
				answers = []uint64{newer.ID, older.ID}
			}
			for _, id := range answers {
				r := w.apply(verifiedFrom(id, w.now, 0))
				if stale := r.Outcome == hub.OutcomeStale; stale != (id == older.ID) {
					t.Errorf("answer to request %d: %+v", id, r)
				}
			}
			sub, ok := w.SubscriptionByKey("news", cb)
			if !ok || string(sub.SealedSecret) != "newer" || sub.LeaseSeconds != 2*hr {
				t.Errorf("the subscription is %+v", sub)
			}
			if r := w.apply(failed(older.ID)); r.Outcome != hub.OutcomeStale {
				t.Errorf("a late failure: %+v", r)
			}
		})
	}
	// An unsubscribe replaces a pending subscribe, and vice versa.
	w := newWorld(t)
	sub := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, ""))
	unsub := w.apply(requested(hub.ModeUnsubscribe, "news", cb, 0, ""))
	w.apply(w.verified(unsub.ID))
	if r := w.apply(w.verified(sub.ID)); r.Outcome != hub.OutcomeStale || w.Counts().Subscriptions != 0 {
		t.Errorf("a subscribe replaced by an unsubscribe: %+v, %+v", r, w.Counts())
	}
}

func TestRequestsForDifferentSubscriptionsAreIndependent(t *testing.T) {
	w := newWorld(t)
	a := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, ""))
	b := w.apply(requested(hub.ModeSubscribe, "news", cb+"2", hr, ""))
	c := w.apply(requested(hub.ModeSubscribe, "other", cb, hr, ""))
	for _, r := range []hub.Result{a, b, c} {
		if got := w.apply(w.verified(r.ID)); got.Outcome != hub.OutcomeOK {
			t.Errorf("%+v", got)
		}
	}
	if w.Counts().Subscriptions != 3 {
		t.Errorf("%+v", w.Counts())
	}
}

// Rules 19, 22 and 61: a renewal keeps the subscription and replaces everything in it, even by nothing.
func TestRenewal(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "old")
	w.published("news", 3)
	w.apply(advanced(id, 2))
	first := w.sub(id)
	created := first.CreatedAt()
	w.advance(time.Minute)
	if again := w.subscribed("news", cb, 2*hr, "new"); again != id {
		t.Fatalf("the renewal turned %[2]s into %[1]s: deliveries would be duplicated", again, id)
	}
	got := w.sub(id)
	if string(got.SealedSecret) != "new" || !got.ExpiresAt.Equal(w.now.Add(2*time.Hour)) || got.Cursor.Offset != 2 || !got.CreatedAt().Equal(created) || !got.RenewedAt.Equal(w.now) {
		t.Errorf("after the renewal: %+v", got)
	}
	if len(w.fx.Subscriptions) != 1 || w.fx.Subscriptions[0].ID != id {
		t.Errorf("the effects do not report the renewal: %+v", w.fx)
	}
	w.subscribed("news", cb, hr, "")
	if got := w.sub(id); len(got.SealedSecret) != 0 {
		t.Errorf("a renewal without a secret kept the old one %q", got.SealedSecret)
	}
	if w.topic("news").Subscribers() != 1 {
		t.Errorf("the topic has %d subscribers", w.topic("news").Subscribers())
	}
}

// Rule 40: the lease counts from the moment of the verification request, not from the response or the log entry.
func TestLeaseCountsFromTheVerificationRequest(t *testing.T) {
	w := newWorld(t)
	r := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, ""))
	asked := w.now.Add(5 * time.Second)
	w.advance(20 * time.Second)
	id := hub.SubscriptionID(w.apply(verifiedFrom(r.ID, asked, 0)).ID)
	sub := w.sub(id)
	if !sub.ExpiresAt.Equal(asked.Add(time.Hour)) {
		t.Errorf("the lease ends at %v, want %v", sub.ExpiresAt, asked.Add(time.Hour))
	}
	if sub.Expired(sub.ExpiresAt.Add(-1)) || !sub.Expired(sub.ExpiresAt) {
		t.Error("a lease must expire exactly at its end")
	}
}

// The first delivery is the first message published after the verification request: no gap, nothing older.
func TestDeliveriesStartAtTheVerificationRequest(t *testing.T) {
	w := newWorld(t)
	w.published("news", 2)
	r := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, ""))
	start := w.topic("news").Head
	w.published("news", 3)
	id := hub.SubscriptionID(w.apply(verifiedFrom(r.ID, w.now, start)).ID)
	if got := w.sub(id).Cursor.Offset; got != 2 {
		t.Errorf("the cursor starts at %d, want 2", got)
	}
	// Retention may have dropped the start in the meantime, and a start beyond the head does not skip messages.
	w.apply(trimmed(w.topic("news").ID, 4))
	r = w.apply(requested(hub.ModeSubscribe, "news", cb+"2", hr, ""))
	if got := w.sub(hub.SubscriptionID(w.apply(verifiedFrom(r.ID, w.now, 1)).ID)).Cursor; got.Offset != 4 || got.Gap != 0 {
		t.Errorf("after the trim: %+v", got)
	}
	r = w.apply(requested(hub.ModeSubscribe, "news", cb+"3", hr, ""))
	if got := w.sub(hub.SubscriptionID(w.apply(verifiedFrom(r.ID, w.now, 99)).ID)).Cursor.Offset; got != 5 {
		t.Errorf("beyond the head: %d", got)
	}
}

// Rule 46: an expiry and a renewal may be decided at the same time; the order in the log decides.
func TestExpiryAgainstRenewal(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.advance(time.Hour - time.Second)
	w.apply(ended(hubpb.EndReason_END_EXPIRED, id))
	w.sub(id) // the leader's clock was fast: not expired in the log's time
	r := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, ""))
	renewal := w.verified(r.ID)
	w.advance(2 * time.Second)
	w.apply(renewal) // requested in time, recorded late
	w.apply(ended(hubpb.EndReason_END_EXPIRED, id))
	if got := w.sub(id); !got.ExpiresAt.After(w.now) {
		t.Errorf("after the renewal: %+v", got)
	}
	w.advance(time.Hour)
	w.apply(ended(hubpb.EndReason_END_EXPIRED, id))
	if _, ok := w.Subscription(id); ok {
		t.Error("an expired subscription did not end")
	}
	if len(w.fx.Ended) != 1 || w.fx.Ended[0] != (hub.Ended{ID: id, Reason: hubpb.EndReason_END_EXPIRED}) || len(w.fx.Requests) != 0 {
		t.Errorf("effects of an expiry: %+v", w.fx)
	}
}

// A subscription whose lease expired before the new request was verified is over: the new one does not inherit what
// was published in between.
func TestSubscribeAfterExpiry(t *testing.T) {
	w := newWorld(t)
	old := w.subscribed("news", cb, hr, "")
	w.advance(2 * time.Hour)
	w.published("news", 2)
	fresh := w.subscribed("news", cb, hr, "")
	if fresh == old {
		t.Fatal("an expired subscription was revived")
	}
	if _, ok := w.Subscription(old); ok {
		t.Error("the old one still exists")
	}
	if got := w.sub(fresh).Cursor; got.Offset != 2 {
		t.Errorf("the new one starts at %d, want 2", got.Offset)
	}
	if sub, ok := w.SubscriptionByKey("news", cb); !ok || sub.ID != fresh {
		t.Errorf("found %+v by its key", sub)
	}
}

func TestUnsubscribe(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	r := w.apply(requested(hub.ModeUnsubscribe, "news", cb, 0, ""))
	w.apply(w.verified(r.ID))
	if _, ok := w.Subscription(id); ok || w.topic("news").Subscribers() != 0 {
		t.Error("the subscription still exists")
	}
	if len(w.fx.Ended) != 1 || w.fx.Ended[0].Reason != hubpb.EndReason_END_UNSUBSCRIBED {
		t.Errorf("effects: %+v", w.fx)
	}
	// Without a subscription: verified as well, without any effect and without creating the topic.
	r = w.apply(requested(hub.ModeUnsubscribe, "unknown", cb, 0, ""))
	if got := w.apply(w.verified(r.ID)); got.Outcome != hub.OutcomeOK {
		t.Errorf("%+v", got)
	}
	if _, ok := w.TopicByName("unknown"); ok {
		t.Error("an unsubscribe created a topic")
	}
}

func TestSubscribeToRemovedTopic(t *testing.T) {
	w := newWorld(t)
	e := requested(hub.ModeSubscribe, "news", cb, hr, "")
	e.GetSubscriptionRequested().AutoRegister = false
	r := w.apply(e)
	if got := w.apply(w.verified(r.ID)); got.Outcome != hub.OutcomeNoTopic || w.Counts() != (hub.Counts{}) {
		t.Errorf("%+v, %+v", got, w.Counts())
	}
}

// Rule 38: a subscriber is notified if the hub ends the subscription, and only then.
func TestEndNotices(t *testing.T) {
	for reason, told := range map[hubpb.EndReason]bool{hubpb.EndReason_END_OPERATOR: true, hubpb.EndReason_END_GONE: false} {
		w := newWorld(t)
		id := w.subscribed("news", cb, hr, "s")
		w.apply(ended(reason, id, 99))
		if _, ok := w.Subscription(id); ok {
			t.Errorf("%v did not end it", reason)
		}
		if got := len(w.fx.Requests) == 1; got != told {
			t.Errorf("%v: notified %v, want %v", reason, got, told)
		}
		if told {
			n := w.fx.Requests[0]
			if n.Mode != hub.ModeDenied || n.Callback != cb || n.TopicRaw != "raw:news" || n.Reason == "" || len(n.SealedSecret) != 0 {
				t.Errorf("the notice is %+v", n)
			}
			// The notice and a pending request for the same subscription are independent.
			again := w.apply(requested(hub.ModeSubscribe, "news", cb, hr, ""))
			if _, ok := w.Request(n.ID); !ok {
				t.Error("a new request dropped the notice")
			}
			w.apply(w.verified(uint64(n.ID)))
			if _, ok := w.Request(hub.RequestID(again.ID)); !ok {
				t.Error("the notice removed the new request")
			}
		}
	}
}

func TestCursorsNeverGoBack(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 5)
	w.apply(advanced(id, 3, func(c *hubpb.Cursor) { c.Delivered = 3 }))
	for _, offset := range []uint64{0, 2, 6, 1 << 60} {
		w.apply(advanced(id, offset, func(c *hubpb.Cursor) { c.Attempts = 9 }))
		if got := w.sub(id).Cursor; got.Offset != 3 || got.Attempts != 0 || got.Delivered != 3 {
			t.Errorf("after %d: %+v", offset, got)
		}
	}
	w.apply(advanced(id, 3, func(c *hubpb.Cursor) { c.Attempts, c.Failures, c.FailingSince = 2, 7, 1234 }))
	if got := w.sub(id).Cursor; got.Attempts != 2 || got.Failures != 7 || got.FailingSince != 1234 || got.Delivered != 3 {
		t.Errorf("attempts are not kept: %+v", got)
	}
	w.apply(advanced(99, 1)) // of a subscription that has ended
}

func TestDeadLetterAdvancesTheCursor(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 3)
	w.apply(advanced(id, 1, func(c *hubpb.Cursor) { c.Attempts, c.FailingSince, c.Failures, c.Refused = 4, 99, 4, 2 }))
	r := w.apply(deadLettered(id, 2))
	if r.Outcome != hub.OutcomeOK {
		t.Fatalf("%+v", r)
	}
	if c := w.sub(id).Cursor; c.Offset != 2 || c.Attempts != 0 || c.Refused != 0 || c.FailingSince != 99 || c.DeadLetters != 1 {
		t.Errorf("cursor %+v", c)
	}
	for _, offset := range []uint64{1, 2, 4} { // a repetition, and a message that does not exist
		if r := w.apply(deadLettered(id, offset)); r.Outcome != hub.OutcomeStale {
			t.Errorf("offset %d: %+v", offset, r)
		}
	}
	// Rule 53: the subscription stays, and the dead letter outlives it.
	w.apply(ended(hubpb.EndReason_END_GONE, id))
	got := w.DeadLetters(0, 10, nil)
	if len(got) != 1 || got[0].Offset != 2 || got[0].TopicName != "news" || got[0].Callback != cb || got[0].Attempts != 5 || got[0].Status != 500 {
		t.Errorf("dead letters %+v", got)
	}
}

// A callback's 410 concerns the subscription it knew; a subscription renewed since then stays.
func TestGoneFromBeforeARenewalIsIgnored(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	before := w.sub(id).RenewedAt.UnixNano()
	gone := func(renewed int64) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
			Subscriptions: []uint64{uint64(id)}, Reason: hubpb.EndReason_END_GONE, RenewedAt: []int64{renewed}}}}
	}
	w.advance(time.Second)
	w.subscribed("news", cb, hr, "")
	after := w.sub(id).RenewedAt.UnixNano()
	if before == after {
		t.Fatal("the renewal cannot be distinguished from the renewed subscription")
	}
	w.apply(gone(before))
	if _, ok := w.Subscription(id); !ok {
		t.Fatal("a response for the older subscription ended the renewed one")
	}
	w.apply(gone(after))
	if _, ok := w.Subscription(id); ok {
		t.Error("the subscription survived a 410 from its callback")
	}
}

func TestListsAreInOrderAndBounded(t *testing.T) {
	w := newWorld(t)
	for i := range 50 {
		w.subscribed("news", cb+string(rune('A'+i)), hr, "")
	}
	for _, max := range []int{1, 3, 7, 49, 50, 51, 0} {
		var after hub.SubscriptionID
		var all, ofTopic []hub.SubscriptionID
		for {
			page := w.Subscriptions(after, max, nil)
			same := w.SubscriptionsOf("news", after, max)
			if len(page) != len(same) {
				t.Fatalf("max %d after %d: %d and %d", max, after, len(page), len(same))
			}
			for i := range page {
				all, ofTopic = append(all, page[i].ID), append(ofTopic, same[i].ID)
				after = page[i].ID
			}
			if len(page) == 0 || max == 0 {
				break
			}
		}
		for i := range all {
			if all[i] != hub.SubscriptionID(i+1) || ofTopic[i] != all[i] {
				t.Fatalf("max %d: item %d is %s and %s", max, i, all[i], ofTopic[i])
			}
		}
		if len(all) != 50 {
			t.Errorf("max %d: %d items", max, len(all))
		}
	}
	if got := w.SubscriptionsOf("unknown", 0, 10); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
