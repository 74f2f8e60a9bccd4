package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const cb = "http://cb.example/1"

func TestI1EverySubscriptionGetsEveryMessage(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		for i := range 20 {
			r.subscribe(want{topic: fmt.Sprint("t", i%2), callback: fmt.Sprint("http://cb.example/", i)})
		}
		r.after(time.Second)
		for i := range 100 {
			r.publish(fmt.Sprint("t", i%2), fmt.Sprint(i/2))
		}
		r.after(time.Second)
		for i := range 20 {
			got := r.net.to(fmt.Sprint("http://cb.example/", i))
			if len(got) != 50 || got[0].body != "0" || got[49].body != "49" {
				t.Errorf("subscription %d got %s", i, bodies(got))
			}
			for n, a := range got {
				if id := fmt.Sprint(i%2+1, "-", n+1); a.id != id {
					t.Errorf("message id %s, want %s", a.id, id)
				}
			}
		}
		if st := r.d.Stats(); st.Fast+st.Slow+st.Ready+st.Waiting != 0 || st.Lanes != 20 || st.Unsaved != 0 {
			t.Errorf("not at rest: %+v", st)
		}
	})
}

// TestNoGapAtTheStart: what is published between the verification request and the commit of its success is
// delivered, without waiting for the next message.
func TestNoGapAtTheStart(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		r.publish("t", "before")
		r.publish("t", "during")
		r.subscribe(want{topic: "t", callback: cb, from: 1})
		r.after(time.Second)
		if got := bodies(r.net.to(cb)); got != "during" {
			t.Errorf("got %q, want %q", got, "during")
		}
	})
}

// TestI2OrderDespiteFailures: a failed message holds back those behind it, one is under way at a time.
func TestI2OrderDespiteFailures(t *testing.T) {
	flaky := func(_ string, nth int, _ string) answer {
		switch nth % 4 {
		case 1:
			return answer{status: 503}
		case 2:
			return answer{err: errRefused, after: 30 * time.Millisecond}
		}
		return answer{after: 5 * time.Millisecond}
	}
	bubble(t, flaky, nil, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		for i := range 30 {
			r.publish("t", fmt.Sprint(i))
		}
		r.after(time.Hour)
		seen := -1
		for _, a := range r.net.to(cb) {
			var n int
			fmt.Sscan(a.body, &n)
			if n != seen && n != seen+1 {
				t.Fatalf("%d after %d: %s", n, seen, bodies(r.net.to(cb)))
			}
			seen = n
		}
		if seen != 29 || r.net.overlaps != 0 {
			t.Errorf("last was %d, %d overlaps", seen, r.net.overlaps)
		}
	})
}

// TestI3RetryKeepsTheMessageID, and a repetition differs in nothing.
func TestI3RetryKeepsTheMessageID(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) answer {
		if nth <= 3 {
			return answer{status: 500}
		}
		return answer{}
	}, nil, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb, secret: "s"})
		r.publish("t", "x")
		r.after(time.Minute)
		got := r.net.to(cb)
		if len(got) != 4 {
			t.Fatalf("%d attempts, want 4", len(got))
		}
		for _, a := range got {
			if fmt.Sprint(a.header) != fmt.Sprint(got[0].header) || a.body != got[0].body {
				t.Errorf("attempts differ: %v and %v", a.header, got[0].header)
			}
		}
	})
}

// TestI3RestartRepeatsOnlyWhatWasNotRecorded: a crash repeats at most what one cursor flush had not written, a
// graceful stop nothing.
func TestI3RestartRepeatsOnlyWhatWasNotRecorded(t *testing.T) {
	bubble(t, ok200, func(o *delivery.DispatcherOptions) { o.CursorFlush = 100 * time.Millisecond }, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		for i := range 5 {
			r.publish("t", fmt.Sprint("a", i))
		}
		r.after(time.Second) // recorded
		for i := range 5 {
			r.publish("t", fmt.Sprint("b", i))
		}
		r.after(10 * time.Millisecond) // delivered, not recorded
		r.crash()
		r.start()
		r.after(time.Second)
		if got, want := bodies(r.net.to(cb)), "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 b0 b1 b2 b3 b4"; got != want {
			t.Errorf("after a crash\n got %s\nwant %s", got, want)
		}
		r.publish("t", "c")
		r.after(10 * time.Millisecond)
		r.stop()
		r.start()
		r.after(time.Second)
		if got := r.net.to(cb); len(got) != 16 {
			t.Errorf("after a graceful stop: %s", bodies(got))
		}
	})
}

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
		r.do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: req[0].ID, VerifiedFrom: time.Now().UnixNano()}}})
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

// TestSubscriptionOutlivesItsFailures is WebSub rule 53: what is given up is the message, never the subscription.
func TestSubscriptionOutlivesItsFailures(t *testing.T) {
	bubble(t, func(_ string, _ int, body string) answer {
		if strings.HasPrefix(body, "bad") {
			return answer{status: 422}
		}
		return answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 3 }, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		for _, b := range []string{"good1", "bad1", "good2", "bad2", "good3"} {
			r.publish("t", b)
		}
		r.after(time.Hour)
		if got, want := bodies(r.net.to(cb)), "good1 bad1 bad1 bad1 good2 bad2 bad2 bad2 good3"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		dl := r.deadLetters()
		if len(dl) != 2 || dl[0].Offset != 2 || dl[0].Attempts != 3 || dl[0].Status != 422 || dl[0].Reason != "http-status" || dl[1].Offset != 4 {
			t.Errorf("dead letters %+v", dl)
		}
		if sub, ok := r.subscription(id); !ok || sub.Cursor.Offset != 5 || sub.Cursor.Delivered != 3 || sub.Cursor.DeadLetters != 2 || sub.Cursor.Failures != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestRefusalsAndOutagesHaveSeparateBudgets: an outage does not use up the patience for refusals.
func TestRefusalsAndOutagesHaveSeparateBudgets(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) answer {
		switch {
		case nth <= 8:
			return answer{status: 503}
		case nth <= 10:
			return answer{status: 400}
		}
		return answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 3 }, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "x")
		r.after(50 * time.Minute)
		if got := r.net.to(cb); len(got) != 11 || len(r.deadLetters()) != 0 {
			t.Errorf("%d attempts, %d dead letters; want 11 and 0", len(got), len(r.deadLetters()))
		}
	})
}

func TestMaxAttemptsBoundsAnyFailure(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) answer {
		return []answer{{err: errRefused}, {status: 500}, {status: 404}, {hang: true}}[nth%4]
	}, func(o *delivery.DispatcherOptions) { o.Retry.MaxAttempts = 5 }, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "1")
		r.publish("t", "2")
		r.after(55 * time.Minute)
		if got, want := bodies(r.net.to(cb)), "1 1 1 1 1 2 2 2 2 2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if dl := r.deadLetters(); len(dl) != 2 || dl[0].Attempts != 5 {
			t.Errorf("dead letters %+v", dl)
		}
	})
}

// TestMaxAgeOfABacklog: behind a dead endpoint messages are given up as they come of age, each after at least
// one attempt; the subscription then gets what is new.
func TestMaxAgeOfABacklog(t *testing.T) {
	var alive atomic.Bool
	bubble(t, func(string, int, string) answer {
		if !alive.Load() {
			return answer{err: errRefused}
		}
		return answer{}
	}, func(o *delivery.DispatcherOptions) {
		o.Retry.MaxAge = 10 * time.Minute
		o.Retry.Backoff.Max = 10 * time.Second
	}, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb, lease: 10 * time.Hour})
		start := time.Now()
		for i := range 5 {
			r.publish("t", fmt.Sprint(i))
		}
		r.after(9 * time.Minute)
		if dl := r.deadLetters(); len(dl) != 0 {
			t.Errorf("given up before its time: %+v", dl)
		}
		r.publish("t", "late")
		r.after(3 * time.Minute)
		dl := r.deadLetters()
		if len(dl) != 5 {
			t.Fatalf("%d dead letters, want 5", len(dl))
		}
		for i, l := range dl {
			if l.Offset != uint64(i+1) || l.Attempts < 1 || l.At.Sub(start) < 10*time.Minute {
				t.Errorf("dead letter %+v after %v", l, l.At.Sub(start))
			}
		}
		alive.Store(true)
		r.after(time.Minute)
		got := r.net.to(cb)
		if last := got[len(got)-1]; last.body != "late" || len(r.deadLetters()) != 5 {
			t.Errorf("last was %q, %d dead letters", last.body, len(r.deadLetters()))
		}
	})
}

// TestMaxAgeDoesNotCountTheHubsOwnAbsence: a message that could not be tried before has its full time when it can.
func TestMaxAgeDoesNotCountTheHubsOwnAbsence(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) answer {
		if nth == 1 {
			return answer{status: 503}
		}
		return answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.MaxAge = 10 * time.Minute }, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb, lease: 100 * time.Hour})
		r.stop()
		r.publish("t", "x")
		r.after(10 * time.Hour)
		r.start()
		r.after(time.Minute)
		if got := r.net.to(cb); len(got) != 2 || len(r.deadLetters()) != 0 {
			t.Errorf("%d attempts, dead letters %+v", len(got), r.deadLetters())
		}
	})
}

// TestDeadEndpointIsNotHammered: giving messages up does not make the hub try the next ones faster.
func TestDeadEndpointIsNotHammered(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{err: errRefused} }, func(o *delivery.DispatcherOptions) {
		o.Retry.MaxAttempts = 1
	}, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb, lease: 10 * time.Hour})
		for i := range 100 {
			r.publish("t", fmt.Sprint(i))
		}
		r.after(10 * time.Minute)
		got := r.net.to(cb)
		for i := 7; i < len(got); i++ { // 1, 2, 4, ... 64 > 1 min
			if d := got[i].at.Sub(got[i-1].at); d < time.Minute {
				t.Errorf("attempt %d came %v after the one before", i+1, d)
			}
		}
		if len(got) < 10 || len(r.deadLetters()) != len(got) {
			t.Errorf("%d attempts, %d dead letters", len(got), len(r.deadLetters()))
		}
	})
}

// TestRetryBudgetSurvivesARestart: the attempts already made count.
func TestRetryBudgetSurvivesARestart(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{status: 500} }, func(o *delivery.DispatcherOptions) {
		o.Retry.MaxAttempts = 6
	}, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb, lease: 10 * time.Hour})
		r.publish("t", "x")
		r.after(4 * time.Second) // attempts after 0, 1 and 3 s
		r.stop()
		sub, _ := r.subscription(id)
		if sub.Cursor.Attempts != 3 || sub.Cursor.FailingSince == 0 || sub.Cursor.Failures != 3 {
			t.Fatalf("cursor %+v", sub.Cursor)
		}
		r.start()
		r.after(time.Hour)
		if dl := r.deadLetters(); len(dl) != 1 || dl[0].Attempts != 6 || len(r.net.to(cb)) != 6 {
			t.Errorf("%d attempts, dead letters %+v", len(r.net.to(cb)), dl)
		}
	})
}

// TestBackoffGrowsAndRetryAfterIsHonoured: waits of 1, 2, 4 s by schedule, and what the endpoint asks for when
// it is more.
func TestBackoffGrowsAndRetryAfterIsHonoured(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) answer {
		if nth == 4 {
			return answer{status: 429, retryAfter: "100"}
		}
		if nth == 5 {
			return answer{status: 503, retryAfter: "1"}
		}
		return answer{status: 503}
	}, nil, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "x")
		r.after(5 * time.Minute)
		got := r.net.to(cb)
		for i, want := range []time.Duration{1, 2, 4, 100, 16, 32} {
			if d := got[i+1].at.Sub(got[i].at); d < want*time.Second || d > want*time.Second+50*time.Millisecond {
				t.Errorf("wait %d was %v, want %v", i+1, d, want*time.Second)
			}
		}
	})
}

func TestTimeoutCountsAsDown(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) answer { return answer{hang: nth == 1} }, func(o *delivery.DispatcherOptions) {
		o.Timeout = 3 * time.Second
	}, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "x")
		r.after(time.Minute)
		got := r.net.to(cb)
		if len(got) != 2 || !got[0].cut {
			t.Fatalf("%+v", got)
		}
		if d := got[1].at.Sub(got[0].at); d < 4*time.Second || d > 4100*time.Millisecond {
			t.Errorf("second attempt %v after the first, want 3s of timeout and 1s of wait", d)
		}
	})
}

// TestSlowEndpointDelaysNobody: 10 callbacks, one of which takes 4 s; the nine keep their latency although
// there is room for 2 attempts only.
func TestSlowEndpointDelaysNobody(t *testing.T) {
	bubble(t, func(url string, _ int, _ string) answer {
		if strings.HasSuffix(url, "/0") {
			return answer{after: 4 * time.Second}
		}
		return answer{after: 2 * time.Millisecond}
	}, func(o *delivery.DispatcherOptions) { o.Concurrency = 2 }, func(r *rig) {
		for i := range 10 {
			r.subscribe(want{topic: "t", callback: fmt.Sprint("http://cb.example/", i), lease: 10 * time.Hour})
		}
		published := map[string]time.Time{}
		for i := range 200 {
			r.after(50 * time.Millisecond)
			published[fmt.Sprint(i)] = time.Now()
			r.publish("t", fmt.Sprint(i))
		}
		r.after(time.Second)
		for c := 1; c < 10; c++ {
			got := r.net.to(fmt.Sprint("http://cb.example/", c))
			if len(got) != 200 {
				t.Fatalf("callback %d got %d messages", c, len(got))
			}
			for _, a := range got {
				// Until the slow one is known, at the third message, it takes one of the two places.
				if d := a.at.Sub(published[a.body]); d > 200*time.Millisecond || len(a.body) > 1 && d > 10*time.Millisecond {
					t.Errorf("callback %d got message %s after %v", c, a.body, d)
				}
			}
		}
		r.after(time.Hour)
		if got := r.net.to("http://cb.example/0"); len(got) != 200 || r.net.overlaps != 0 {
			t.Errorf("the slow one got %d messages, %d overlaps", len(got), r.net.overlaps)
		}
	})
}

// TestHangingEndpointsDelayNobody: many endpoints that never answer, far more than there is room for.
func TestHangingEndpointsDelayNobody(t *testing.T) {
	bubble(t, func(url string, _ int, _ string) answer { return answer{hang: strings.Contains(url, "hang")} },
		func(o *delivery.DispatcherOptions) {
			o.Concurrency, o.MaxInFlight = 4, 64
			o.Retry.MaxAge = time.Hour
		}, func(r *rig) {
			for i := range 200 {
				r.subscribe(want{topic: "bad", callback: fmt.Sprint("http://hang.example/", i), lease: 100 * time.Hour})
			}
			r.subscribe(want{topic: "good", callback: cb, lease: 100 * time.Hour})
			r.publish("bad", "x")
			r.after(2 * time.Minute) // each of them has been met once
			for i := range 500 {
				at := time.Now()
				r.publish("bad", "y")
				r.publish("good", fmt.Sprint(i))
				r.after(0)
				got := r.net.to(cb)
				if len(got) != i+1 || got[i].at.Sub(at) > 10*time.Millisecond {
					t.Fatalf("message %d: %d arrived", i, len(got))
				}
				r.after(173 * time.Millisecond)
			}
			if st := r.d.Stats(); st.Fast+st.Slow > 64 || st.Slow > 32 {
				t.Errorf("too many under way: %+v", st)
			}
		})
}

// TestIdleSubscriptionsHaveNoGoroutine, and waiting ones neither.
func TestIdleSubscriptionsHaveNoGoroutine(t *testing.T) {
	bubble(t, func(url string, _ int, _ string) answer {
		if strings.HasSuffix(url, "7") {
			return answer{status: 500}
		}
		return answer{}
	}, func(o *delivery.DispatcherOptions) {
		o.Retry.Backoff.Initial = time.Hour
		o.Retry.Backoff.Max = time.Hour
	}, func(r *rig) {
		for i := range 1000 {
			r.subscribe(want{topic: "t", callback: fmt.Sprint("http://cb.example/", i)})
		}
		r.publish("t", "x")
		r.after(time.Minute)
		if st := r.d.Stats(); st.Fast+st.Slow != 0 || st.Waiting != 100 || st.Delivered != 900 {
			t.Errorf("%+v", st)
		}
	})
}

// TestCursorsAreCoalesced: one event a flush, with all cursors that moved.
func TestCursorsAreCoalesced(t *testing.T) {
	bubble(t, ok200, func(o *delivery.DispatcherOptions) { o.CursorFlush = time.Second }, func(r *rig) {
		for i := range 50 {
			r.subscribe(want{topic: "t", callback: fmt.Sprint("http://cb.example/", i)})
		}
		for range 20 {
			r.publish("t", "x")
		}
		r.after(3 * time.Second)
		var flushes int
		for _, e := range r.events {
			if c := e.GetCursorsAdvanced(); c != nil {
				flushes++
				if c.Node != "node-1" || len(c.Cursors) != 50 || c.Cursors[0].Offset != 20 || c.Cursors[0].Delivered != 20 {
					t.Errorf("cursor event of %s with %d cursors: %v", c.Node, len(c.Cursors), c.Cursors[0])
				}
			}
		}
		if flushes != 1 {
			t.Errorf("%d cursor events, want 1", flushes)
		}
	})
}

// TestCursorsWaitForALeader: what cannot be written is not lost, and delivery goes on meanwhile.
func TestCursorsWaitForALeader(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{after: time.Millisecond} }, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		for i := range 10 {
			r.publish("t", fmt.Sprint(i))
		}
		r.breakdown(hub.ErrNoLeader)
		r.after(time.Minute)
		if got := r.net.to(cb); len(got) != 10 {
			t.Errorf("%d messages delivered", len(got))
		}
		if sub, _ := r.subscription(id); sub.Cursor.Offset != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
		r.breakdown(nil)
		r.after(10 * time.Second)
		if sub, _ := r.subscription(id); sub.Cursor.Offset != 10 || sub.Cursor.Delivered != 10 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestDeadLetterIsRecordedBeforeTheNextMessage: else a crash would lose it without a trace.
func TestDeadLetterIsRecordedBeforeTheNextMessage(t *testing.T) {
	bubble(t, func(_ string, _ int, body string) answer {
		if body == "1" {
			return answer{status: 400, after: 10 * time.Millisecond}
		}
		return answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 1 }, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "1")
		r.publish("t", "2")
		r.breakdown(hub.ErrNoLeader)
		r.after(time.Minute)
		if got := bodies(r.net.to(cb)); got != "1" {
			t.Errorf("got %q before the dead letter was recorded", got)
		}
		r.breakdown(nil)
		r.after(time.Minute)
		if got := bodies(r.net.to(cb)); got != "1 2" || len(r.deadLetters()) != 1 {
			t.Errorf("got %q, dead letters %+v", got, r.deadLetters())
		}
	})
}

// TestI9TrimMovesTheLane: a lane behind the retained log goes on at its beginning; the gap is recorded.
func TestI9TrimMovesTheLane(t *testing.T) {
	var up atomic.Bool
	bubble(t, func(string, int, string) answer {
		if !up.Load() {
			return answer{status: 503}
		}
		return answer{}
	}, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		for i := range 10 {
			r.publish("t", fmt.Sprint(i+1))
		}
		r.after(2 * time.Second)
		n := len(r.net.to(cb))
		up.Store(true)
		r.do(&hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
			Ranges: []*hubpb.LogTrimmed_Range{{Topic: 1, Through: 7}}}}})
		r.after(time.Minute)
		if got := bodies(r.net.to(cb)[n:]); got != "8 9 10" {
			t.Errorf("after the trim: %q, want %q", got, "8 9 10")
		}
		if sub, _ := r.subscription(id); sub.Cursor.Gap != 7 || sub.Cursor.Offset != 10 || sub.Cursor.Delivered != 3 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestTrimUnderway: the message being sent may be dropped meanwhile, whatever comes of it.
func TestTrimUnderway(t *testing.T) {
	for _, status := range []int{200, 500, 400} {
		bubble(t, func(_ string, nth int, _ string) answer {
			if nth == 1 {
				return answer{status: status, after: time.Second}
			}
			return answer{}
		}, nil, func(r *rig) {
			id := r.subscribe(want{topic: "t", callback: cb})
			for i := range 5 {
				r.publish("t", fmt.Sprint(i+1))
			}
			r.after(500 * time.Millisecond)
			r.do(&hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
				Ranges: []*hubpb.LogTrimmed_Range{{Topic: 1, Through: 3}}}}})
			r.after(time.Minute)
			if got := bodies(r.net.to(cb)); got != "1 4 5" {
				t.Errorf("status %d: got %q, want %q", status, got, "1 4 5")
			}
			if sub, _ := r.subscription(id); sub.Cursor.Offset != 5 || sub.Cursor.Attempts != 0 {
				t.Errorf("status %d: cursor %+v", status, sub.Cursor)
			}
		})
	}
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

// TestCloseLetsRequestsFinish within its context, and books them.
func TestCloseLetsRequestsFinish(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{after: 3 * time.Second} }, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "1")
		r.publish("t", "2")
		r.after(time.Second)
		r.stop()
		if got := r.net.to(cb); len(got) != 1 || got[0].cut {
			t.Errorf("%+v", got)
		}
		if sub, _ := r.subscription(id); sub.Cursor.Offset != 1 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
		r.start()
		r.after(time.Minute)
		if got := bodies(r.net.to(cb)); got != "1 2" {
			t.Errorf("got %q", got)
		}
	})
}

// TestLinkSelf: a message with a rel=self of its own carries that one.
func TestLinkSelf(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		r.subscribe(want{topic: "https://t.example/feed", callback: cb})
		r.subscribe(want{topic: "a b/c", callback: cb})
		r.publish("https://t.example/feed", "1")
		r.do(&hubpb.Event{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: "https://t.example/feed"}}},
			&hubpb.Event{Kind: &hubpb.Event_TopicFetched{TopicFetched: &hubpb.TopicFetched{Topic: 1, Ping: 1,
				Outcome: hubpb.FetchOutcome_FETCH_CHANGED, ContentHash: []byte("x"), Body: []byte("2"), LinkSelf: "https://t.example/new"}}})
		r.publish("a b/c", "3")
		r.after(time.Second)
		got := map[string]string{}
		for _, a := range r.net.to(cb) {
			got[a.body] = strings.Join(a.header["Link"], "|")
		}
		for body, self := range map[string]string{"1": "https://t.example/feed", "2": "https://t.example/new", "3": "https://hub.example/topics/a%20b/c"} {
			if want := `<https://hub.example/hub>; rel="hub", <` + self + `>; rel="self"`; got[body] != want {
				t.Errorf("message %s: Link %s, want %s", body, got[body], want)
			}
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

// TestTrimBeforeItIsKnown: the log may be trimmed a moment before the dispatcher hears of it.
func TestTrimBeforeItIsKnown(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.stop()
		for i := range 5 {
			r.publish("t", fmt.Sprint(i+1))
		}
		r.o.State = &lateState{r.engine, func() {
			r.forget()
			r.do(&hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
				Ranges: []*hubpb.LogTrimmed_Range{{Topic: 1, Through: 3}}}}})
			r.observe(r.d)
		}}
		r.start()
		r.after(time.Minute)
		if got := bodies(r.net.to(cb)); got != "4 5" {
			t.Errorf("got %q, want %q", got, "4 5")
		}
	})
}

type flakyLog struct {
	*engine
	bad atomic.Int32
}

func (f *flakyLog) Read(topic hub.TopicID, from uint64, max, maxBytes int) ([]hub.Message, error) {
	if f.bad.Add(-1) >= 0 {
		return nil, errRefused
	}
	return f.engine.Read(topic, from, max, maxBytes)
}

// TestUnreadableLogDelaysOnly: nothing is skipped and no attempt counted.
func TestUnreadableLogDelaysOnly(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.stop()
		log := &flakyLog{engine: r.engine}
		log.bad.Store(3)
		r.o.Messages = log
		r.start()
		r.publish("t", "1")
		r.publish("t", "2")
		r.after(time.Minute)
		if got := bodies(r.net.to(cb)); got != "1 2" {
			t.Errorf("got %q, want %q", got, "1 2")
		}
		if sub, _ := r.subscription(id); sub.Cursor.Failures != 0 || sub.Cursor.Attempts != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestAbortByContext: when the whole process goes down nothing hangs, and what was delivered is still recorded.
func TestAbortByContext(t *testing.T) {
	bubble(t, func(_ string, _ int, body string) answer { return answer{hang: body == "2"} }, func(o *delivery.DispatcherOptions) {
		o.CursorFlush = time.Hour
	}, func(r *rig) {
		r.stop()
		ctx, cancel := context.WithCancel(context.Background())
		r.d = delivery.NewDispatcher(r.o)
		r.observe(r.d)
		r.d.Start(ctx)
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "1")
		r.publish("t", "2")
		r.after(time.Second)
		cancel()
		r.after(time.Second)
		if got := r.net.to(cb); len(got) != 2 || !got[1].cut || r.d.Stats().Fast+r.d.Stats().Slow != 0 {
			t.Errorf("%+v, %+v", got, r.d.Stats())
		}
		if err := r.d.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if sub, _ := r.subscription(id); sub.Cursor.Offset != 1 || sub.Cursor.Attempts != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}
