package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
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

func TestCloseWithoutStart(t *testing.T) {
	if err := delivery.NewDispatcher(options(newEngine(t))).Close(context.Background()); err != nil {
		t.Error(err)
	}
}
