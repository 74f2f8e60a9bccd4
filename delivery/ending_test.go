package delivery_test

import (
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// TestI5NothingAfterUnsubscribe: what is under way is cut off, what waits is not sent.
func TestI5NothingAfterUnsubscribe(t *testing.T) {
	for _, name := range []string{"under way", "waiting for a retry", "idle"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(string, int, string) answer {
				switch name {
				case "under way":
					return answer{hang: true}
				case "idle":
					return answer{}
				}
				return answer{status: 500}
			}, nil, func(r *rig) {
				id := r.subscribe(want{topic: "t", callback: cb})
				r.publish("t", "1")
				r.publish("t", "2")
				r.after(50 * time.Millisecond)
				n := len(r.net.to(cb))
				r.end(id, hubpb.EndReason_END_UNSUBSCRIBED)
				r.after(0)
				if name == "under way" && !r.net.to(cb)[0].cut {
					t.Error("the request under way was not cut off at once")
				}
				r.publish("t", "3")
				r.after(time.Hour)
				if got := r.net.to(cb); len(got) != n {
					t.Errorf("%d attempts after the end", len(got)-n)
				}
				if st := r.d.Stats(); st.Lanes+st.Fast+st.Slow+st.Ready+st.Waiting != 0 {
					t.Errorf("left over: %+v", st)
				}
			})
		})
	}
}

// TestI5NothingAfterLeaseExpiry: the lease is checked when sending, also for retries queued before it ran out
// and although nothing has swept the subscription away.
func TestI5NothingAfterLeaseExpiry(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{status: 500} }, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb, lease: 10 * time.Second})
		start := time.Now()
		r.publish("t", "1")
		r.after(time.Hour)
		r.publish("t", "2")
		r.after(time.Hour)
		got := r.net.to(cb)
		if len(got) < 3 {
			t.Fatalf("%d attempts within the lease", len(got))
		}
		if last := got[len(got)-1].at.Sub(start); last >= 10*time.Second {
			t.Errorf("an attempt %v after the lease of 10s began", last)
		}
		if s, ok := r.d.Lane(id); !ok || s.State != "expired" {
			t.Errorf("lane %+v", s)
		}
	})
}

// TestRenewalRevivesAndGoesOn: a renewal goes on where the subscription was, with no second delivery.
func TestRenewalRevivesAndGoesOn(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb, lease: 10 * time.Second})
		r.publish("t", "1")
		r.after(5 * time.Second)
		if again := r.subscribe(want{topic: "t", callback: cb, lease: 60 * time.Second, from: 1}); again != id {
			t.Fatalf("renewal made subscription %v of %v", again, id)
		}
		r.after(20 * time.Second)
		r.publish("t", "2")
		r.after(time.Second)
		if got := bodies(r.net.to(cb)); got != "1 2" {
			t.Errorf("got %q, want %q", got, "1 2")
		}
	})
}

// TestRenewalReplacesTheSecret, for the retry that is already waiting too; renewing without one clears it.
func TestRenewalReplacesTheSecret(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) answer {
		if nth <= 2 {
			return answer{status: 503}
		}
		return answer{}
	}, nil, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb, secret: "old"})
		r.publish("t", "x")
		r.after(100 * time.Millisecond)
		r.subscribe(want{topic: "t", callback: cb, secret: "new"})
		r.after(2 * time.Second)
		r.subscribe(want{topic: "t", callback: cb})
		r.after(time.Minute)
		got := r.net.to(cb)
		if len(got) != 3 {
			t.Fatalf("%d attempts, want 3", len(got))
		}
		for i, secret := range []string{"old", "new"} {
			if !delivery.Verify(got[i].header.Get("X-Hub-Signature"), []byte(secret), []byte("x")) {
				t.Errorf("attempt %d is not signed with %q", i+1, secret)
			}
		}
		if got[2].header["X-Hub-Signature"] != nil {
			t.Error("signed after the secret was cleared")
		}
	})
}

// TestUnopenableSecretSendsNothing: an unsigned message would be worse than none.
func TestUnopenableSecretSendsNothing(t *testing.T) {
	bubble(t, ok200, func(o *delivery.DispatcherOptions) { o.Retry.MaxAge = 10 * time.Second }, func(r *rig) {
		req := r.do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
			Mode: hub.ModeSubscribe, Topic: "t", Callback: cb, CallbackKey: cb, LeaseSeconds: 1000, SealedSecret: []byte("other key"), AutoRegister: true}}})
		r.do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: req[0].ID, VerifiedFrom: time.Now().UnixNano(),
			Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
		r.publish("t", "x")
		r.after(time.Minute)
		if got := r.net.to(cb); len(got) != 0 {
			t.Errorf("%d messages sent", len(got))
		}
		if dl := r.deadLetters(); len(dl) != 1 || dl[0].Reason != string(delivery.ReasonSecret) {
			t.Errorf("dead letters %+v", dl)
		}
	})
}

// Test410EndsTheSubscription (WebSub rule 50), and it is not tried again.
func Test410EndsTheSubscription(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{status: 410} }, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "1")
		r.publish("t", "2")
		r.after(time.Hour)
		if got := r.net.to(cb); len(got) != 1 {
			t.Errorf("%d attempts, want 1", len(got))
		}
		if _, ok := r.subscription(id); ok {
			t.Error("the subscription is still there")
		}
		if dl := r.deadLetters(); len(dl) != 0 {
			t.Errorf("dead letters %+v", dl)
		}
	})
}

// TestI5NothingAfter410 even while the end cannot be recorded.
func TestI5NothingAfter410(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{status: 410, after: 10 * time.Millisecond} }, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "1")
		r.breakdown(hub.ErrNoLeader)
		r.after(time.Hour)
		r.breakdown(nil)
		r.after(time.Minute)
		if got := r.net.to(cb); len(got) != 1 {
			t.Errorf("%d attempts, want 1", len(got))
		}
		if _, ok := r.subscription(id); ok {
			t.Error("the end was not recorded")
		}
	})
}

// TestTopicDeregisteredStopsDelivery at once.
func TestTopicDeregisteredStopsDelivery(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{hang: true} }, nil, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "1")
		r.after(time.Second)
		r.do(&hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "t"}}})
		r.after(time.Hour)
		if got := r.net.to(cb); len(got) != 1 || !got[0].cut || r.d.Stats().Lanes != 0 {
			t.Errorf("%+v, %+v", got, r.d.Stats())
		}
	})
}

// lateState lets something happen right after the state was read.
type lateState struct {
	*engine
	once func()
}

func (l *lateState) View(f func(*hub.State)) {
	l.engine.View(f)
	if once := l.once; once != nil {
		l.once = nil
		once()
	}
}

// TestI5EndDuringTheStart: what ends while the state is being read does not come back from the older picture.
func TestI5EndDuringTheStart(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.stop()
		r.publish("t", "1")
		r.o.State = &lateState{r.engine, func() {
			r.end(id, hubpb.EndReason_END_UNSUBSCRIBED)
			r.subscribe(want{topic: "t", callback: cb + "new"})
		}}
		r.start()
		r.after(time.Minute)
		r.publish("t", "2")
		r.after(time.Minute)
		if got := r.net.to(cb); len(got) != 0 || r.d.Stats().Lanes != 1 {
			t.Errorf("%d messages after the end; %+v", len(got), r.d.Stats())
		}
		if got := bodies(r.net.to(cb + "new")); got != "1 2" {
			t.Errorf("the one that came meanwhile got %q", got)
		}
	})
}
