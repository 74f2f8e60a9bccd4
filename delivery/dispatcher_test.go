package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

func TestI1EverySubscriptionGetsEveryMessage(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		for i := range 20 {
			r.Subscribe(fake.Want{Topic: fmt.Sprint("t", i%2), Callback: fmt.Sprint("http://cb.example/", i)})
		}
		r.after(time.Second)
		for i := range 100 {
			r.Publish(fmt.Sprint("t", i%2), fmt.Sprint(i/2))
		}
		r.after(time.Second)
		for i := range 20 {
			got := r.net.To(fmt.Sprint("http://cb.example/", i))
			if len(got) != 50 || got[0].Body != "0" || got[49].Body != "49" {
				t.Errorf("subscription %d got %s", i, fake.Bodies(got))
			}
			for n, a := range got {
				if id := fmt.Sprint(i%2+1, "-", n+1); a.ID != id {
					t.Errorf("message id %s, want %s", a.ID, id)
				}
			}
		}
		if st := r.d.Stats(); st.Fast+st.Slow+st.Ready+st.Waiting != 0 || st.Lanes != 20 || st.Unsaved != 0 {
			t.Errorf("not at rest: %+v", st)
		}
	})
}

// TestNoGapAtTheStart: a message published between the verification request and the commit of its success is
// delivered, without waiting for the next one.
func TestNoGapAtTheStart(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		r.Publish("t", "before")
		r.Publish("t", "during")
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, From: 1})
		r.after(time.Second)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "during" {
			t.Errorf("got %q, want %q", got, "during")
		}
	})
}

// TestI2OrderDespiteFailures: a failed message holds back later ones; one message is in flight at a time.
func TestI2OrderDespiteFailures(t *testing.T) {
	flaky := func(_ string, nth int, _ string) fake.Answer {
		switch nth % 4 {
		case 1:
			return fake.Answer{Status: 503}
		case 2:
			return fake.Answer{Err: fake.ErrRefused, After: 30 * time.Millisecond}
		}
		return fake.Answer{After: 5 * time.Millisecond}
	}
	bubble(t, flaky, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for i := range 30 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(time.Hour)
		seen := -1
		for _, a := range r.net.To(fake.Callback) {
			var n int
			fmt.Sscan(a.Body, &n)
			if n != seen && n != seen+1 {
				t.Fatalf("%d after %d: %s", n, seen, fake.Bodies(r.net.To(fake.Callback)))
			}
			seen = n
		}
		if seen != 29 || r.net.Overlaps != 0 {
			t.Errorf("last was %d, %d overlaps", seen, r.net.Overlaps)
		}
	})
}

// TestSlowEndpointDelaysNobody: one of 10 callbacks takes 4 s; the other nine keep their latency even though there is
// room for only 2 attempts.
func TestSlowEndpointDelaysNobody(t *testing.T) {
	bubble(t, func(url string, _ int, _ string) fake.Answer {
		if strings.HasSuffix(url, "/0") {
			return fake.Answer{After: 4 * time.Second}
		}
		return fake.Answer{After: 2 * time.Millisecond}
	}, func(o *delivery.DispatcherOptions) { o.Concurrency = 2 }, func(r *rig) {
		for i := range 10 {
			r.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint("http://cb.example/", i), Lease: 10 * time.Hour})
		}
		published := map[string]time.Time{}
		for i := range 200 {
			r.after(50 * time.Millisecond)
			published[fmt.Sprint(i)] = time.Now()
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(time.Second)
		for c := 1; c < 10; c++ {
			got := r.net.To(fmt.Sprint("http://cb.example/", c))
			if len(got) != 200 {
				t.Fatalf("callback %d got %d messages", c, len(got))
			}
			for _, a := range got {
				// Until the slow callback is known, at the third message, it takes one of the two places.
				if d := a.At.Sub(published[a.Body]); d > 200*time.Millisecond || len(a.Body) > 1 && d > 10*time.Millisecond {
					t.Errorf("callback %d got message %s after %v", c, a.Body, d)
				}
			}
		}
		r.after(time.Hour)
		if got := r.net.To("http://cb.example/0"); len(got) != 200 || r.net.Overlaps != 0 {
			t.Errorf("the slow one got %d messages, %d overlaps", len(got), r.net.Overlaps)
		}
	})
}

// TestHangingEndpointsDelayNobody: many endpoints that never answer, far more than there is room for.
func TestHangingEndpointsDelayNobody(t *testing.T) {
	bubble(t, func(url string, _ int, _ string) fake.Answer { return fake.Answer{Hang: strings.Contains(url, "hang")} },
		func(o *delivery.DispatcherOptions) {
			o.Concurrency, o.MaxInFlight = 4, 64
			o.Retry.MaxAge = time.Hour
		}, func(r *rig) {
			for i := range 200 {
				r.Subscribe(fake.Want{Topic: "bad", Callback: fmt.Sprint("http://hang.example/", i), Lease: 100 * time.Hour})
			}
			r.Subscribe(fake.Want{Topic: "good", Callback: fake.Callback, Lease: 100 * time.Hour})
			r.Publish("bad", "x")
			r.after(2 * time.Minute) // each of them has been attempted once
			for i := range 500 {
				at := time.Now()
				r.Publish("bad", "y")
				r.Publish("good", fmt.Sprint(i))
				r.after(0)
				got := r.net.To(fake.Callback)
				if len(got) != i+1 || got[i].At.Sub(at) > 10*time.Millisecond {
					t.Fatalf("message %d: %d arrived", i, len(got))
				}
				r.after(173 * time.Millisecond)
			}
			if st := r.d.Stats(); st.Fast+st.Slow > 64 || st.Slow > 32 {
				t.Errorf("too many in flight: %+v", st)
			}
		})
}

// TestIdleSubscriptionsHaveNoGoroutine, nor do waiting ones.
func TestIdleSubscriptionsHaveNoGoroutine(t *testing.T) {
	bubble(t, func(url string, _ int, _ string) fake.Answer {
		if strings.HasSuffix(url, "7") {
			return fake.Answer{Status: 500}
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) {
		o.Retry.Backoff.Initial = time.Hour
		o.Retry.Backoff.Max = time.Hour
	}, func(r *rig) {
		for i := range 1000 {
			r.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint("http://cb.example/", i)})
		}
		r.Publish("t", "x")
		r.after(time.Minute)
		if st := r.d.Stats(); st.Fast+st.Slow != 0 || st.Waiting != 100 || st.Delivered != 900 {
			t.Errorf("%+v", st)
		}
	})
}

// TestLinkSelf: a message with its own rel=self keeps it.
func TestLinkSelf(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "https://t.example/feed", Callback: fake.Callback})
		r.Subscribe(fake.Want{Topic: "a b/c", Callback: fake.Callback})
		r.Publish("https://t.example/feed", "1")
		r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: "https://t.example/feed"}}},
			&hubpb.Event{Kind: &hubpb.Event_TopicFetched{TopicFetched: &hubpb.TopicFetched{Topic: 1, Ping: 1,
				Outcome: hubpb.FetchOutcome_FETCH_CHANGED, ContentHash: []byte("x"), Body: []byte("2"), LinkSelf: "https://t.example/new"}}})
		r.Publish("a b/c", "3")
		r.after(time.Second)
		got := map[string]string{}
		for _, a := range r.net.To(fake.Callback) {
			got[a.Body] = strings.Join(a.Header["Link"], "|")
		}
		for body, self := range map[string]string{"1": "https://t.example/feed", "2": "https://t.example/new", "3": "https://hub.example/topics/a%20b/c"} {
			if want := `<https://hub.example/hub>; rel="hub", <` + self + `>; rel="self"`; got[body] != want {
				t.Errorf("message %s: Link %s, want %s", body, got[body], want)
			}
		}
	})
}

// A foreign topic has the URL by which its subscriber called it, and not the form that identifies it (WebSub section 7).
func TestLinkSelfIsTheURLOfTheSubscriber(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		for i, tc := range []struct{ topic, raw, self string }{
			{"http://host/", "http://host", "http://host"},
			{"https://t.example/feed?a=%C3%A9", "HTTPS://T.example:443/feed?a=%c3%a9", "HTTPS://T.example:443/feed?a=%c3%a9"},
			{"https://t.example/~a", "https://t.example/%7Ea", "https://t.example/%7Ea"},
			{"https://u.example/%C3%A9", "https://u.example/\u00e9", "https://u.example/%C3%A9"},
			{"https://v.example/", "https://elsewhere.example/", "https://v.example/"},
			{"news", "https://hub.example/topics/n%65ws", "https://hub.example/topics/news"},
		} {
			callback := fake.Callback + fmt.Sprint("/", i)
			r.Subscribe(fake.Want{Topic: tc.topic, Raw: tc.raw, Callback: callback})
			r.Publish(tc.topic, "m")
			r.after(time.Second)
			want := `<https://hub.example/hub>; rel="hub", <` + tc.self + `>; rel="self"`
			got := r.net.To(callback)
			if len(got) != 1 || strings.Join(got[0].Header["Link"], "|") != want {
				t.Errorf("%s: %d deliveries, Link %v, want %s", tc.raw, len(got), got[0].Header["Link"], want)
			}
		}
	})
}

func TestCloseWithoutStart(t *testing.T) {
	if err := delivery.NewDispatcher(options(fake.NewEngine(t))).Close(context.Background()); err != nil {
		t.Error(err)
	}
}
