package delivery_test

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// wantWaits fails unless the attempts, each answered after took, were the given waits apart.
func wantWaits(t *testing.T, as []fake.Arrival, took time.Duration, waits ...time.Duration) {
	t.Helper()
	if len(as) <= len(waits) {
		t.Fatalf("%d attempts, want more than %d", len(as), len(waits))
	}
	for i, want := range waits {
		if d := as[i+1].At.Sub(as[i].At) - took; d < want || d > want+100*time.Millisecond {
			t.Errorf("wait %d was %v, want %v", i+1, d, want)
		}
	}
}

// TestRetrySchedule: the waits of a schedule in order, a fifth longer here, the last one repeated; a subscription's
// own schedule replaces the hub's.
func TestRetrySchedule(t *testing.T) {
	down := func(string, int, string) fake.Answer { return fake.Answer{Status: 503} }
	for name, tc := range map[string]struct {
		schedule []uint32
		interval uint32
		waits    []time.Duration
	}{
		"the hub's":          {waits: []time.Duration{6 * time.Second, 6 * time.Minute, 36 * time.Minute, 36 * time.Minute}},
		"a subscription's":   {schedule: []uint32{10, 5}, waits: []time.Duration{12 * time.Second, 6 * time.Second, 6 * time.Second}},
		"bounded by another": {interval: 60, waits: []time.Duration{6 * time.Second, time.Minute, time.Minute}},
	} {
		for _, mode := range []hubpb.DeliveryMode{hub.DeliveryOrdered, hub.DeliveryParallel} {
			t.Run(fmt.Sprint(name, mode), func(t *testing.T) {
				bubble(t, down, func(o *delivery.DispatcherOptions) {
					o.Retry.Backoff.Schedule = []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute}
					o.Retry.Backoff.Max = 0
				}, func(r *rig) {
					r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 100 * time.Hour, Options: &hubpb.SubscriptionOptions{Mode: mode, Window: uint32(mode),
						RetryScheduleSeconds: tc.schedule, MaxIntervalSeconds: tc.interval}})
					r.Publish("t", "x")
					r.after(5 * time.Hour)
					wantWaits(t, r.net.To(fake.Callback), 0, tc.waits...)
				})
			})
		}
	}
}

// TestOverloadWaitsLonger: from the second 429 or timeout in a row, unless the endpoint sends Retry-After, and never
// longer than the longest wait.
func TestOverloadWaitsLonger(t *testing.T) {
	const timeout = 3 * time.Second
	long := 72 * time.Second // a minute and a fifth
	second := time.Second
	for name, tc := range map[string]struct {
		answers  []fake.Answer
		interval uint32
		took     time.Duration
		waits    []time.Duration
	}{
		"429":                  {answers: []fake.Answer{{Status: 429}, {Status: 429}, {Status: 429}}, waits: []time.Duration{second, long, long}},
		"no answer":            {answers: []fake.Answer{{Hang: true}, {Hang: true}}, took: timeout, waits: []time.Duration{second, long}},
		"no answer, once":      {answers: []fake.Answer{{Hang: true}}, took: timeout, waits: []time.Duration{second}},
		"broken":               {answers: []fake.Answer{{Status: 503}, {Status: 503}, {Status: 503}}, waits: []time.Duration{second, 2 * second, 4 * second}},
		"broken between":       {answers: []fake.Answer{{Status: 429}, {Status: 503}, {Status: 429}}, waits: []time.Duration{second, 2 * second, 4 * second}},
		"Retry-After":          {answers: []fake.Answer{{Status: 429}, {Status: 429, RetryAfter: "5"}}, waits: []time.Duration{second, 5 * second}},
		"a longer Retry-After": {answers: []fake.Answer{{Status: 429}, {Status: 429, RetryAfter: "500"}}, waits: []time.Duration{second, 500 * second}},
		"a short max_interval": {answers: []fake.Answer{{Status: 429}, {Status: 429}}, interval: 7, waits: []time.Duration{second, 7 * second}},
	} {
		for _, mode := range []hubpb.DeliveryMode{hub.DeliveryOrdered, hub.DeliveryParallel} {
			t.Run(fmt.Sprint(name, mode), func(t *testing.T) {
				bubble(t, func(_ string, nth int, _ string) fake.Answer {
					if nth <= len(tc.answers) {
						return tc.answers[nth-1]
					}
					return fake.Answer{}
				}, func(o *delivery.DispatcherOptions) {
					o.Timeout, o.Retry.Backoff.Max, o.Retry.OverloadWait = timeout, 10*time.Minute, time.Minute
				}, func(r *rig) {
					id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 100 * time.Hour,
						Options: &hubpb.SubscriptionOptions{Mode: mode, Window: uint32(mode), MaxIntervalSeconds: tc.interval}})
					r.Publish("t", "x")
					r.after(time.Hour)
					wantWaits(t, r.net.To(fake.Callback), tc.took, tc.waits...)
					if sub, _ := r.Subscription(id); sub.Cursor.Delivered != 1 {
						t.Errorf("delivered %d, want 1", sub.Cursor.Delivered)
					}
				})
			})
		}
	}
}

// TestOneSlowResponseDoesNotStall: an ordered subscription whose endpoint times out now and then waits one second
// each time.
func TestOneSlowResponseDoesNotStall(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer { return fake.Answer{Hang: nth%2 == 1} }, func(o *delivery.DispatcherOptions) {
		o.Timeout, o.Retry.OverloadWait = time.Second, time.Minute
	}, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for i := range 10 {
			r.Publish("t", strconv.Itoa(i))
		}
		r.after(21 * time.Second)
		once(t, r.net.To(fake.Callback), 10, 10)
	})
}

// TestOverloadNarrowsTheWindow: by half each time, down to one, however many messages were refused together; it
// reopens step by step.
func TestOverloadNarrowsTheWindow(t *testing.T) {
	const window = 16
	for name, o := range map[string]*hubpb.SubscriptionOptions{"parallel": parallel(window), "keyed": keyed(window, "json:")} {
		t.Run(name, func(t *testing.T) {
			var full atomic.Bool
			full.Store(true)
			bubble(t, func(string, int, string) fake.Answer {
				return fake.Answer{Status: failFor(full.Load(), 429), After: 10 * time.Millisecond}
			}, nil, func(r *rig) {
				id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: o, Lease: 100 * time.Hour})
				now := func() int {
					l, _ := r.d.Lane(id)
					return l.Window
				}
				if n := now(); n != window {
					t.Fatalf("the window is %d, want %d", n, window)
				}
				for i := range window {
					r.Publish("t", strconv.Itoa(i))
				}
				r.after(500 * time.Millisecond)
				for _, want := range []int{8, 4, 2, 1, 1} { // the first 16 together, then a probe after 1, 2, 4 and 8 s
					if n := now(); n != want {
						t.Errorf("the window is %d after %d attempts, want %d", n, len(r.net.To(fake.Callback)), want)
					}
					r.after(time.Second << (4 - bitsOf(want)))
				}
				full.Store(false)
				r.after(time.Hour)
				// 1+2+…+5 successes widen it to 6; 16 were due.
				if n := now(); n != 6 {
					t.Errorf("the window is %d after %d successes, want 6", n, window)
				}
				for i := range 104 { // 6+…+15 = 105, of which one was left over
					r.Publish("t", strconv.Itoa(window+i))
				}
				r.after(time.Minute)
				if n := now(); n != window {
					t.Errorf("the window is %d after 120 successes, want %d", n, window)
				}
			})
		})
	}
}

// bitsOf returns how often a window can be halved.
func bitsOf(window int) (n int) {
	for ; window > 1; window /= 2 {
		n++
	}
	return n
}

// TestWindowAdaptsToTheEndpoint: the refusals in a wave with successes count once, and the endpoint is kept busy with
// few refusals.
func TestWindowAdaptsToTheEndpoint(t *testing.T) {
	const limit = 4
	var r *rig
	bubble(t, func(string, int, string) fake.Answer {
		r.net.Mu.Lock()
		defer r.net.Mu.Unlock()
		return fake.Answer{Status: failFor(r.net.InFlight[fake.Callback] > limit, 429), After: 10 * time.Millisecond}
	}, nil, func(bubbled *rig) {
		r = bubbled
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: parallel(64), Lease: 100 * time.Hour})
		for i := range 1000 {
			r.Publish("t", strconv.Itoa(i))
		}
		r.after(10 * time.Minute)
		once(t, r.net.To(fake.Callback), 1000, 1000) // about 350; without narrowing, 11,000
	})
}
