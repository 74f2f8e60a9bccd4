package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

// TestRewindFromAnyState: whatever the lane is doing, the next message is the one at the new cursor, followed by all
// later ones in order. The attempt in flight is not repeated and has no effect.
func TestRewindFromAnyState(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(nth int, body string) fake.Answer
		at     time.Duration // after the publishes
		to     uint64
		want   string
	}{
		"idle":                   {func(int, string) fake.Answer { return fake.Answer{} }, time.Second, 2, "0 1 2 3 4 5 2 3 4 5"},
		"idle, to the start":     {func(int, string) fake.Answer { return fake.Answer{} }, time.Second, 0, "0 1 2 3 4 5 0 1 2 3 4 5"},
		"in flight":              {func(int, string) fake.Answer { return fake.Answer{After: 10 * time.Millisecond} }, 35 * time.Millisecond, 1, "0 1 2 3 1 2 3 4 5"},
		"in flight, forward":     {func(int, string) fake.Answer { return fake.Answer{After: 10 * time.Millisecond} }, 15 * time.Millisecond, 4, "0 1 4 5"},
		"in flight, to the end":  {func(int, string) fake.Answer { return fake.Answer{After: 10 * time.Millisecond} }, 15 * time.Millisecond, 6, "0 1"},
		"waiting for a retry":    {func(nth int, _ string) fake.Answer { return fake.Answer{Status: failFor(nth == 4, 503)} }, 100 * time.Millisecond, 1, "0 1 2 3 1 2 3 4 5"},
		"a refused one, forward": {func(nth int, _ string) fake.Answer { return fake.Answer{Status: failFor(nth == 4, 404)} }, 100 * time.Millisecond, 5, "0 1 2 3 5"},
		"in flight, then refused": {func(nth int, _ string) fake.Answer {
			return fake.Answer{After: 10 * time.Millisecond, Status: failFor(nth == 4, 404)}
		}, 35 * time.Millisecond, 0, "0 1 2 3 0 1 2 3 4 5"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(_ string, nth int, body string) fake.Answer { return tc.answer(nth, body) }, nil, func(r *rig) {
				id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
				for i := range 6 {
					r.Publish("t", fmt.Sprint(i))
				}
				r.after(tc.at)
				r.Rewind(id, tc.to)
				r.after(time.Hour)
				if got := fake.Bodies(r.net.To(fake.Callback)); got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				if sub, _ := r.Subscription(id); sub.Cursor.Offset != 6 || r.net.Overlaps != 0 || len(r.DeadLetters()) != 0 {
					t.Errorf("cursor %d, %d overlaps, %d dead letters", sub.Cursor.Offset, r.net.Overlaps, len(r.DeadLetters()))
				}
			})
		})
	}
}

func failFor(fail bool, status int) int {
	if fail {
		return status
	}
	return 200
}

// TestRewindWhileAMessageIsGivenUp: a message given up at the old position does not count at the new one.
func TestRewindWhileAMessageIsGivenUp(t *testing.T) {
	refuse := func(_ string, nth int, body string) fake.Answer {
		return fake.Answer{After: 10 * time.Millisecond, Status: failFor(nth == 3, 404)}
	}
	bubble(t, refuse, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 1 }, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for i := range 4 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(25 * time.Millisecond)
		r.Breakdown(hub.ErrNoLeader) // giving up message 2 cannot be recorded yet
		r.after(10 * time.Millisecond)
		r.Breakdown(nil)
		r.Rewind(id, 0)
		r.after(time.Hour)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "0 1 2 0 1 2 3" || len(r.DeadLetters()) != 0 {
			t.Errorf("got %q and %d dead letters", got, len(r.DeadLetters()))
		}
	})
}

// TestRewindSurvivesARestart: the next owner begins at the rewound cursor.
func TestRewindSurvivesARestart(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for i := range 4 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(time.Second)
		r.crash()
		r.Rewind(id, 1)
		r.start()
		r.after(time.Second)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "0 1 2 3 1 2 3" {
			t.Errorf("got %q", got)
		}
	})
}

func TestPauseAndResume(t *testing.T) {
	for name, behave := range map[string]func(string, int, string) fake.Answer{
		"healthy": fake.OK,
		"slow":    func(string, int, string) fake.Answer { return fake.Answer{After: 10 * time.Millisecond} },
		"failing": func(_ string, nth int, _ string) fake.Answer { return fake.Answer{Status: failFor(nth == 3, 503)} },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, behave, nil, func(r *rig) {
				id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
				for i := range 6 {
					r.Publish("t", fmt.Sprint(i))
				}
				r.after(25 * time.Millisecond)
				r.Pause(id, true)
				r.after(20 * time.Millisecond) // the attempt in flight ends
				n := len(r.net.To(fake.Callback))
				r.Publish("t", "6")
				r.after(20 * time.Minute)
				if got := len(r.net.To(fake.Callback)); got != n {
					t.Errorf("%d attempts while paused", got-n)
				}
				if st, ok := r.d.Lane(id); !ok || st.State != "paused" {
					t.Errorf("the lane is %+v", st)
				}
				r.Pause(id, false)
				r.after(time.Minute)
				seen := ""
				for _, a := range r.net.To(fake.Callback) {
					if !strings.HasSuffix(seen, a.Body) {
						seen += a.Body
					}
				}
				if seen != "0123456" {
					t.Errorf("got %s", fake.Bodies(r.net.To(fake.Callback)))
				}
			})
		})
	}
}

// TestPausedLeaseRunsOut: a paused subscription still expires, and nothing is sent if it is resumed too late.
func TestPausedLeaseRunsOut(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: time.Minute})
		r.Pause(id, true)
		r.Publish("t", "x")
		r.after(2 * time.Minute)
		r.Pause(id, false)
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "" {
			t.Errorf("got %q after the lease", got)
		}
	})
}
