package delivery_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
)

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

// TestRefusalBudgetSurvivesARestart: the refusals already counted are not forgotten with the process.
func TestRefusalBudgetSurvivesARestart(t *testing.T) {
	bubble(t, func(string, int, string) answer { return answer{status: 404} }, func(o *delivery.DispatcherOptions) {
		o.Retry.RefusedAttempts = 4
	}, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb, lease: 10 * time.Hour})
		r.publish("t", "x")
		r.after(4 * time.Second) // attempts after 0, 1 and 3 s
		r.stop()
		if len(r.net.to(cb)) != 3 {
			t.Fatalf("%d attempts before the restart, want 3", len(r.net.to(cb)))
		}
		r.start()
		r.after(time.Hour)
		if n := len(r.net.to(cb)); n != 4 || len(r.deadLetters()) != 1 {
			t.Errorf("%d attempts and %d dead letters, want 4 and 1", n, len(r.deadLetters()))
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
		for i, seconds := range []int{1, 2, 4, 100, 16, 32} {
			want := time.Duration(seconds) * time.Second
			if d := got[i+1].at.Sub(got[i].at); d < want || d > want+50*time.Millisecond {
				t.Errorf("wait %d was %v, want %v", i+1, d, want)
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
