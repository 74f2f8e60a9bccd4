package delivery_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

// TestSubscriptionOutlivesItsFailures is WebSub rule 53: the hub gives up messages, never the subscription.
func TestSubscriptionOutlivesItsFailures(t *testing.T) {
	bubble(t, func(_ string, _ int, body string) fake.Answer {
		if strings.HasPrefix(body, "bad") {
			return fake.Answer{Status: 422}
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 3 }, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for _, b := range []string{"good1", "bad1", "good2", "bad2", "good3"} {
			r.Publish("t", b)
		}
		r.after(time.Hour)
		if got, want := fake.Bodies(r.net.To(fake.Callback)), "good1 bad1 bad1 bad1 good2 bad2 bad2 bad2 good3"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		dl := r.DeadLetters()
		if len(dl) != 2 || dl[0].Offset != 2 || dl[0].Attempts != 3 || dl[0].Status != 422 || dl[0].Reason != "http-status" || dl[1].Offset != 4 {
			t.Errorf("dead letters %+v", dl)
		}
		if sub, ok := r.Subscription(id); !ok || sub.Cursor.Offset != 5 || sub.Cursor.Delivered != 3 || sub.Cursor.DeadLetters != 2 || sub.Cursor.Failures != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestRefusalsAndOutagesHaveSeparateBudgets: an outage does not use up the attempts for refusals.
func TestRefusalsAndOutagesHaveSeparateBudgets(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer {
		switch {
		case nth <= 8:
			return fake.Answer{Status: 503}
		case nth <= 10:
			return fake.Answer{Status: 400}
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 3 }, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "x")
		r.after(50 * time.Minute)
		if got := r.net.To(fake.Callback); len(got) != 11 || len(r.DeadLetters()) != 0 {
			t.Errorf("%d attempts, %d dead letters; want 11 and 0", len(got), len(r.DeadLetters()))
		}
	})
}

func TestMaxAttemptsBoundsAnyFailure(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer {
		return []fake.Answer{{Err: fake.ErrRefused}, {Status: 500}, {Status: 404}, {Hang: true}}[nth%4]
	}, func(o *delivery.DispatcherOptions) { o.Retry.MaxAttempts = 5 }, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "1")
		r.Publish("t", "2")
		r.after(55 * time.Minute)
		if got, want := fake.Bodies(r.net.To(fake.Callback)), "1 1 1 1 1 2 2 2 2 2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if dl := r.DeadLetters(); len(dl) != 2 || dl[0].Attempts != 5 {
			t.Errorf("dead letters %+v", dl)
		}
	})
}

// TestMaxAgeOfABacklog: behind a dead endpoint, messages are given up as they come of age, each after at least one
// attempt. The subscription then receives new messages.
func TestMaxAgeOfABacklog(t *testing.T) {
	var alive atomic.Bool
	bubble(t, func(string, int, string) fake.Answer {
		if !alive.Load() {
			return fake.Answer{Err: fake.ErrRefused}
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) {
		o.Retry.MaxAge = 10 * time.Minute
		o.Retry.Backoff.Max = 10 * time.Second
	}, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 10 * time.Hour})
		start := time.Now()
		for i := range 5 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(9 * time.Minute)
		if dl := r.DeadLetters(); len(dl) != 0 {
			t.Errorf("given up before its time: %+v", dl)
		}
		r.Publish("t", "late")
		r.after(3 * time.Minute)
		dl := r.DeadLetters()
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
		got := r.net.To(fake.Callback)
		if last := got[len(got)-1]; last.Body != "late" || len(r.DeadLetters()) != 5 {
			t.Errorf("last was %q, %d dead letters", last.Body, len(r.DeadLetters()))
		}
	})
}

// TestMaxAgeExcludesTheHubsDowntime: a message that could not be attempted before has its full time once it can.
func TestMaxAgeExcludesTheHubsDowntime(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer {
		if nth == 1 {
			return fake.Answer{Status: 503}
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.MaxAge = 10 * time.Minute }, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 100 * time.Hour})
		r.stop()
		r.Publish("t", "x")
		r.after(10 * time.Hour)
		r.start()
		r.after(time.Minute)
		if got := r.net.To(fake.Callback); len(got) != 2 || len(r.DeadLetters()) != 0 {
			t.Errorf("%d attempts, dead letters %+v", len(got), r.DeadLetters())
		}
	})
}

// TestDeadEndpointIsNotHammered: after giving up a message, the hub does not attempt the next ones faster.
func TestDeadEndpointIsNotHammered(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Err: fake.ErrRefused} }, func(o *delivery.DispatcherOptions) {
		o.Retry.MaxAttempts = 1
	}, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 10 * time.Hour})
		for i := range 100 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(10 * time.Minute)
		got := r.net.To(fake.Callback)
		for i := 7; i < len(got); i++ { // 1, 2, 4, ... 64 > 1 min
			if d := got[i].At.Sub(got[i-1].At); d < time.Minute {
				t.Errorf("attempt %d followed after %v", i+1, d)
			}
		}
		if len(got) < 10 || len(r.DeadLetters()) != len(got) {
			t.Errorf("%d attempts, %d dead letters", len(got), len(r.DeadLetters()))
		}
	})
}

// TestRetryBudgetSurvivesARestart: attempts already made count.
func TestRetryBudgetSurvivesARestart(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 500} }, func(o *delivery.DispatcherOptions) {
		o.Retry.MaxAttempts = 6
	}, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 10 * time.Hour})
		r.Publish("t", "x")
		r.after(4 * time.Second) // attempts after 0, 1 and 3 s
		r.stop()
		sub, _ := r.Subscription(id)
		if sub.Cursor.Attempts != 3 || sub.Cursor.FailingSince == 0 || sub.Cursor.Failures != 3 {
			t.Fatalf("cursor %+v", sub.Cursor)
		}
		r.start()
		r.after(time.Hour)
		if dl := r.DeadLetters(); len(dl) != 1 || dl[0].Attempts != 6 || len(r.net.To(fake.Callback)) != 6 {
			t.Errorf("%d attempts, dead letters %+v", len(r.net.To(fake.Callback)), dl)
		}
	})
}

// TestRefusalBudgetSurvivesARestart: refusals already counted still count.
func TestRefusalBudgetSurvivesARestart(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 404} }, func(o *delivery.DispatcherOptions) {
		o.Retry.RefusedAttempts = 4
	}, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 10 * time.Hour})
		r.Publish("t", "x")
		r.after(4 * time.Second) // attempts after 0, 1 and 3 s
		r.stop()
		if len(r.net.To(fake.Callback)) != 3 {
			t.Fatalf("%d attempts before the restart, want 3", len(r.net.To(fake.Callback)))
		}
		r.start()
		r.after(time.Hour)
		if n := len(r.net.To(fake.Callback)); n != 4 || len(r.DeadLetters()) != 1 {
			t.Errorf("%d attempts and %d dead letters, want 4 and 1", n, len(r.DeadLetters()))
		}
	})
}

// TestBackoffGrowsAndRetryAfterIsHonoured: waits of 1, 2 and 4 s, or what the endpoint asks for if that is longer.
func TestBackoffGrowsAndRetryAfterIsHonoured(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer {
		if nth == 4 {
			return fake.Answer{Status: 429, RetryAfter: "100"}
		}
		if nth == 5 {
			return fake.Answer{Status: 503, RetryAfter: "1"}
		}
		return fake.Answer{Status: 503}
	}, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "x")
		r.after(5 * time.Minute)
		got := r.net.To(fake.Callback)
		for i, seconds := range []int{1, 2, 4, 100, 16, 32} {
			want := time.Duration(seconds) * time.Second
			if d := got[i+1].At.Sub(got[i].At); d < want || d > want+50*time.Millisecond {
				t.Errorf("wait %d was %v, want %v", i+1, d, want)
			}
		}
	})
}

func TestTimeoutCountsAsDown(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer { return fake.Answer{Hang: nth == 1} }, func(o *delivery.DispatcherOptions) {
		o.Timeout = 3 * time.Second
	}, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "x")
		r.after(time.Minute)
		got := r.net.To(fake.Callback)
		if len(got) != 2 || !got[0].Cut {
			t.Fatalf("%+v", got)
		}
		if d := got[1].At.Sub(got[0].At); d < 4*time.Second || d > 4100*time.Millisecond {
			t.Errorf("second attempt %v after the first, want 3s of timeout and 1s of wait", d)
		}
	})
}

// TestDeadLetterIsRecordedBeforeTheNextMessage: otherwise a crash would lose it without a trace.
func TestDeadLetterIsRecordedBeforeTheNextMessage(t *testing.T) {
	bubble(t, func(_ string, _ int, body string) fake.Answer {
		if body == "1" {
			return fake.Answer{Status: 400, After: 10 * time.Millisecond}
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 1 }, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "1")
		r.Publish("t", "2")
		r.Breakdown(hub.ErrNoLeader)
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "1" {
			t.Errorf("got %q before the dead letter was recorded", got)
		}
		r.Breakdown(nil)
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "1 2" || len(r.DeadLetters()) != 1 {
			t.Errorf("got %q, dead letters %+v", got, r.DeadLetters())
		}
	})
}
