package delivery_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// TestRate: a subscription receives messages no faster than its rate, in every mode, and all of them.
func TestRate(t *testing.T) {
	for name, o := range map[string]*hubpb.SubscriptionOptions{"ordered": {Rate: 20}, "parallel": {Rate: 20, Mode: 1, Window: 8}, "slow": {Rate: 0.5}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, fake.OK, nil, func(r *rig) {
				r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: o, Lease: 10 * time.Hour})
				for i := range 60 {
					r.Publish("t", fmt.Sprint(i))
				}
				r.after(3 * time.Minute)
				got := r.net.To(fake.Callback)
				once(t, got, 60, 0)
				for i, a := range got {
					// No more than the rate in any second, plus a burst of a tenth of a second's worth.
					n := 0
					for _, b := range got[i:] {
						if b.At.Sub(a.At) < time.Second {
							n++
						}
					}
					if limit := int(o.Rate*1.1) + 2; n > limit {
						t.Fatalf("%d within a second of message %d, at most %d are allowed", n, i, limit)
					}
				}
				if took := got[59].At.Sub(got[0].At); o.Rate == 20 && took > 3200*time.Millisecond {
					t.Errorf("60 messages at 20/s took %v", took)
				}
			})
		})
	}
}

// TestHostLimit: attempts in flight to one host are bounded, none of its subscriptions starves, and other hosts do
// not wait for it.
func TestHostLimit(t *testing.T) {
	var mu sync.Mutex
	busy, most := 0, 0
	behave := func(url string, _ int, _ string) fake.Answer {
		if strings.HasPrefix(url, "http://other.example/") {
			return fake.Answer{}
		}
		mu.Lock()
		busy++
		most = max(most, busy)
		mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		mu.Lock()
		busy--
		mu.Unlock()
		return fake.Answer{}
	}
	bubble(t, behave, func(o *delivery.DispatcherOptions) { o.PerHost = 3 }, func(r *rig) {
		for i := range 20 {
			o := &hubpb.SubscriptionOptions{}
			if i%2 == 1 {
				o = parallel(4)
			}
			r.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint("http://cb.example/", i), Options: o})
		}
		r.Subscribe(fake.Want{Topic: "t", Callback: "http://other.example/"})
		for i := range 12 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(5 * time.Millisecond)
		once(t, r.net.To("http://other.example/"), 12, 0)
		r.after(10 * time.Second)
		for i := range 20 {
			once(t, r.net.To(fmt.Sprint("http://cb.example/", i)), 12, 0)
		}
		if most != 3 {
			t.Errorf("%d in flight at once, want 3", most)
		}
		if st := r.d.Stats(); st.Fast+st.Slow+st.Ready+st.Waiting != 0 {
			t.Errorf("not at rest: %+v", st)
		}
	})
}

// TestFairTopics: a topic with many subscribers and a long backlog does not delay another topic's message, in any
// mode.
func TestFairTopics(t *testing.T) {
	for _, window := range []uint32{0, 16} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			slow := func(string, int, string) fake.Answer { return fake.Answer{After: time.Millisecond} }
			bubble(t, slow, func(o *delivery.DispatcherOptions) { o.Concurrency = 4 }, func(r *rig) {
				for i := range 40 {
					w := fake.Want{Topic: "busy", Callback: fmt.Sprint("http://cb.example/", i)}
					if window > 0 {
						w.Options = parallel(window)
					}
					r.Subscribe(w)
				}
				r.Subscribe(fake.Want{Topic: "quiet", Callback: "http://quiet.example/"})
				for i := range 200 {
					r.Publish("busy", fmt.Sprint(i))
				}
				r.after(200 * time.Millisecond)
				at := time.Now()
				r.Publish("quiet", "now")
				r.after(time.Second)
				got := r.net.To("http://quiet.example/")
				// One of four workers finishes its turn of 64 messages within 64 ms.
				if len(got) != 1 || got[0].At.Sub(at) > 70*time.Millisecond {
					t.Errorf("the quiet topic's message was late: %+v, published %v", got, at)
				}
				r.after(time.Minute)
				for i := range 40 {
					once(t, r.net.To(fmt.Sprint("http://cb.example/", i)), 200, 0)
				}
			})
		})
	}
}

// TestRetryLimitsOfASubscription: a subscription's own limits replace the hub's.
func TestRetryLimitsOfASubscription(t *testing.T) {
	for name, tc := range map[string]struct {
		options  *hubpb.SubscriptionOptions
		status   int
		attempts uint32
	}{
		"attempts": {&hubpb.SubscriptionOptions{MaxAttempts: 4}, 503, 4},
		"refusals": {&hubpb.SubscriptionOptions{RefusedAttempts: 2}, 404, 2},
		"age":      {&hubpb.SubscriptionOptions{MaxAgeSeconds: 10, MaxIntervalSeconds: 2}, 503, 7}, // after 1, 2, 2, 2, 2 and 2 s
	} {
		for _, mode := range []hubpb.DeliveryMode{0, 1} {
			t.Run(fmt.Sprint(name, mode), func(t *testing.T) {
				bubble(t, func(string, int, string) fake.Answer { return fake.Answer{Status: tc.status} }, nil, func(r *rig) {
					o := &hubpb.SubscriptionOptions{MaxAttempts: tc.options.MaxAttempts, RefusedAttempts: tc.options.RefusedAttempts,
						MaxAgeSeconds: tc.options.MaxAgeSeconds, MaxIntervalSeconds: tc.options.MaxIntervalSeconds, Mode: mode, Window: uint32(mode)}
					r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: o, Lease: 100 * time.Hour})
					r.Publish("t", "x")
					r.after(time.Hour)
					if l := r.DeadLetters(); len(l) != 1 || l[0].Attempts != tc.attempts {
						t.Errorf("dead letters %+v, want one after %d attempts", l, tc.attempts)
					}
				})
			})
		}
	}
}
