package delivery_test

import (
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// TestI5NothingAfterUnsubscribe: attempts in flight are cut off, and waiting messages are not sent.
func TestI5NothingAfterUnsubscribe(t *testing.T) {
	for _, name := range []string{"in flight", "waiting for a retry", "idle"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(string, int, string) fake.Answer {
				switch name {
				case "in flight":
					return fake.Answer{Hang: true}
				case "idle":
					return fake.Answer{}
				}
				return fake.Answer{Status: 500}
			}, nil, func(r *rig) {
				id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
				r.Publish("t", "1")
				r.Publish("t", "2")
				r.after(50 * time.Millisecond)
				n := len(r.net.To(fake.Callback))
				r.End(id, hubpb.EndReason_END_UNSUBSCRIBED)
				r.after(0)
				if name == "in flight" && !r.net.To(fake.Callback)[0].Cut {
					t.Error("the request in flight was not cut off at once")
				}
				r.Publish("t", "3")
				r.after(time.Hour)
				if got := r.net.To(fake.Callback); len(got) != n {
					t.Errorf("%d attempts after the end", len(got)-n)
				}
				if st := r.d.Stats(); st.Lanes+st.Fast+st.Slow+st.Ready+st.Waiting != 0 {
					t.Errorf("not cleaned up: %+v", st)
				}
			})
		})
	}
}

// TestI5NothingAfterLeaseExpiry: the lease is checked when sending, even for retries queued before it expired, and
// even if nothing has swept the subscription.
func TestI5NothingAfterLeaseExpiry(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 500} }, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 10 * time.Second})
		start := time.Now()
		r.Publish("t", "1")
		r.after(time.Hour)
		r.Publish("t", "2")
		r.after(time.Hour)
		got := r.net.To(fake.Callback)
		if len(got) < 3 {
			t.Fatalf("%d attempts within the lease", len(got))
		}
		if last := got[len(got)-1].At.Sub(start); last >= 10*time.Second {
			t.Errorf("an attempt %v after the lease of 10s began", last)
		}
		if s, ok := r.d.Lane(id); !ok || s.State != "expired" {
			t.Errorf("lane %+v", s)
		}
	})
}

// TestRenewalRevivesAndGoesOn: a renewal continues at the subscription's position, without a second delivery.
func TestRenewalRevivesAndGoesOn(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 10 * time.Second})
		r.Publish("t", "1")
		r.after(5 * time.Second)
		if again := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 60 * time.Second, From: 1}); again != id {
			t.Fatalf("renewal made subscription %v of %v", again, id)
		}
		r.after(20 * time.Second)
		r.Publish("t", "2")
		r.after(time.Second)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "1 2" {
			t.Errorf("got %q, want %q", got, "1 2")
		}
	})
}

// TestRenewalReplacesTheSecret, even for a retry already waiting; a renewal without a secret clears it.
func TestRenewalReplacesTheSecret(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer {
		if nth <= 2 {
			return fake.Answer{Status: 503}
		}
		return fake.Answer{}
	}, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "old"})
		r.Publish("t", "x")
		r.after(100 * time.Millisecond)
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "new"})
		r.after(2 * time.Second)
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.after(time.Minute)
		got := r.net.To(fake.Callback)
		if len(got) != 3 {
			t.Fatalf("%d attempts, want 3", len(got))
		}
		for i, secret := range []string{"old", "new"} {
			if !delivery.Verify(got[i].Header.Get("X-Hub-Signature"), []byte(secret), []byte("x")) {
				t.Errorf("attempt %d is not signed with %q", i+1, secret)
			}
		}
		if got[2].Header["X-Hub-Signature"] != nil {
			t.Error("signed after the secret was cleared")
		}
	})
}

// TestUnopenableSecretSendsNothing: an unsigned message would be worse than none.
func TestUnopenableSecretSendsNothing(t *testing.T) {
	bubble(t, fake.OK, func(o *delivery.DispatcherOptions) { o.Retry.MaxAge = 10 * time.Second }, func(r *rig) {
		req := r.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
			Mode: hub.ModeSubscribe, Topic: "t", Callback: fake.Callback, CallbackKey: fake.Callback, LeaseSeconds: 1000, SealedSecret: []byte("other key"), AutoRegister: true}}})
		r.Do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: req[0].ID, VerifiedFrom: time.Now().UnixNano(),
			Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
		r.Publish("t", "x")
		r.after(time.Minute)
		if got := r.net.To(fake.Callback); len(got) != 0 {
			t.Errorf("%d messages sent", len(got))
		}
		if dl := r.DeadLetters(); len(dl) != 1 || dl[0].Reason != string(egress.ReasonSecret) {
			t.Errorf("dead letters %+v", dl)
		}
	})
}

// Test410EndsTheSubscription (WebSub rule 50), without a retry.
func Test410EndsTheSubscription(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 410} }, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "1")
		r.Publish("t", "2")
		r.after(time.Hour)
		if got := r.net.To(fake.Callback); len(got) != 1 {
			t.Errorf("%d attempts, want 1", len(got))
		}
		if _, ok := r.Subscription(id); ok {
			t.Error("the subscription is still there")
		}
		if dl := r.DeadLetters(); len(dl) != 0 {
			t.Errorf("dead letters %+v", dl)
		}
	})
}

// TestI5NothingAfter410 even while the end cannot be recorded.
func TestI5NothingAfter410(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 410, After: 10 * time.Millisecond} }, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "1")
		r.Breakdown(hub.ErrNoLeader)
		r.after(time.Hour)
		r.Breakdown(nil)
		r.after(time.Minute)
		if got := r.net.To(fake.Callback); len(got) != 1 {
			t.Errorf("%d attempts, want 1", len(got))
		}
		if _, ok := r.Subscription(id); ok {
			t.Error("the end was not recorded")
		}
	})
}

// TestTopicDeregisteredStopsDelivery at once.
func TestTopicDeregisteredStopsDelivery(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Hang: true} }, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "1")
		r.after(time.Second)
		r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "t"}}})
		r.after(time.Hour)
		if got := r.net.To(fake.Callback); len(got) != 1 || !got[0].Cut || r.d.Stats().Lanes != 0 {
			t.Errorf("%+v, %+v", got, r.d.Stats())
		}
	})
}

// TestI5EndDuringTheStart: a subscription that ends while the state is being read does not return from the stale
// view.
func TestI5EndDuringTheStart(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.stop()
		r.Publish("t", "1")
		r.o.State = &fake.LateState{Engine: r.Engine, Once: func() {
			r.End(id, hubpb.EndReason_END_UNSUBSCRIBED)
			r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "new"})
		}}
		r.start()
		r.after(time.Minute)
		r.Publish("t", "2")
		r.after(time.Minute)
		if got := r.net.To(fake.Callback); len(got) != 0 || r.d.Stats().Lanes != 1 {
			t.Errorf("%d messages after the end; %+v", len(got), r.d.Stats())
		}
		if got := fake.Bodies(r.net.To(fake.Callback + "new")); got != "1 2" {
			t.Errorf("the subscription made meanwhile got %q", got)
		}
	})
}
