package intent_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery/intent"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

type verifierRig struct {
	*fake.Engine
	net *fake.Network
	v   *intent.Verifier
	o   intent.Options
}

func verifying(t *testing.T, behave func(url string, nth int, body string) fake.Answer, tune func(*intent.Options), f func(r *verifierRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &verifierRig{Engine: fake.NewEngine(t), net: fake.NewNetwork(behave)}
		r.o = intent.Options{
			Caller: &intent.Caller{Client: r.net, Clock: hub.SystemClock{}, UserAgent: "quorumhub/test", Timeout: 5 * time.Second},
			State:  r.Engine, Proposer: r.Engine, Leadership: r.Engine, Clock: hub.SystemClock{}, Log: fake.Discard(), Attempts: 3,
			Candidates: func() []*hubpb.Candidate { return nil },
		}
		if tune != nil {
			tune(&r.o)
		}
		r.start()
		f(r)
		r.v.Close()
	})
}

func (r *verifierRig) start() {
	r.v = intent.NewVerifier(r.o)
	r.Observe(r.v)
	r.v.Start(context.Background())
}

// subscribe makes a subscription without the verifier.
func (r *verifierRig) subscribe(w fake.Want) {
	r.Leader.Store(false)
	r.Engine.Subscribe(w)
	r.after(time.Second)
	r.Leader.Store(true)
}

func (r *verifierRig) stop() {
	r.v.Close()
	r.Forget()
}

func (r *verifierRig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *verifierRig) byKey(topic, callback string) (sub hub.Subscription, ok bool) {
	r.View(func(s *hub.State) { sub, ok = s.SubscriptionByKey(topic, callback) })
	return sub, ok
}

func (r *verifierRig) pending() (n int) {
	r.View(func(s *hub.State) { n = s.Counts().Requests })
	return n
}

func yes(string, int, string) fake.Answer { return fake.Answer{Echo: true} }

// TestI7NothingBeforeConsent: the request alone changes nothing; the confirmation does.
func TestI7NothingBeforeConsent(t *testing.T) {
	verifying(t, func(string, int, string) fake.Answer { return fake.Answer{Echo: true, After: 2 * time.Second} }, nil, func(r *verifierRig) {
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback})
		r.after(time.Second)
		if _, ok := r.byKey("t", fake.Callback); ok {
			t.Error("subscribed before the answer")
		}
		r.after(2 * time.Second)
		if _, ok := r.byKey("t", fake.Callback); !ok || r.pending() != 0 || r.v.Pending() != 0 {
			t.Error("not subscribed after the answer")
		}
	})
}

// TestLeaseCountsFromTheRequest is WebSub rule 40: the lease is the one announced to the subscriber, measured from
// the verification request; messages published from that moment are delivered.
func TestLeaseCountsFromTheRequest(t *testing.T) {
	verifying(t, func(string, int, string) fake.Answer { return fake.Answer{Echo: true, After: 3 * time.Second} }, nil, func(r *verifierRig) {
		r.Publish("t", "before")
		asked := time.Now()
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback, Lease: 300 * time.Second})
		r.after(time.Second)
		r.Publish("t", "during")
		r.after(10 * time.Second)
		sub, _ := r.byKey("t", fake.Callback)
		if !sub.ExpiresAt.Equal(asked.Add(300*time.Second)) || sub.Cursor.Offset != 1 {
			t.Errorf("expires %v after it was asked, cursor %d", sub.ExpiresAt.Sub(asked), sub.Cursor.Offset)
		}
		q, _ := url.Parse(r.net.Arrivals[0].URL)
		if got := q.Query().Get("hub.lease_seconds"); got != "300" {
			t.Errorf("hub.lease_seconds %s", got)
		}
	})
}

// TestVerificationRetries: without a definite response, verification is repeated with a new challenge.
func TestVerificationRetries(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []fake.Answer
		asked   int
		active  bool
	}{
		{"503 then yes", []fake.Answer{{Status: 503}, {Echo: true}}, 2, true},
		{"timeout, refused, yes", []fake.Answer{{Hang: true}, {Err: fake.ErrRefused}, {Echo: true}}, 3, true},
		{"never", []fake.Answer{{Status: 500}}, 3, false},
		{"404", []fake.Answer{{Status: 404}}, 1, false},
		{"redirect", []fake.Answer{{Status: 302}}, 1, false},
		{"wrong body", []fake.Answer{{Body: "yes"}}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n atomic.Int32
			verifying(t, func(string, int, string) fake.Answer {
				return c.answers[min(int(n.Add(1)), len(c.answers))-1]
			}, nil, func(r *verifierRig) {
				r.Request(fake.Want{Topic: "t", Callback: fake.Callback})
				r.after(time.Hour)
				got := r.net.To(fake.Callback)
				challenges := map[string]bool{}
				for _, a := range got {
					u, _ := url.Parse(a.URL)
					challenges[u.Query().Get("hub.challenge")] = true
				}
				if len(got) != c.asked || len(challenges) != c.asked {
					t.Errorf("asked %d times with %d challenges, want %d", len(got), len(challenges), c.asked)
				}
				if _, ok := r.byKey("t", fake.Callback); ok != c.active || r.pending() != 0 {
					t.Errorf("active %v, want %v; %d pending", ok, c.active, r.pending())
				}
			})
		})
	}
}

// TestFailedRenewalChangesNothing is WebSub rule 21.
func TestFailedRenewalChangesNothing(t *testing.T) {
	verifying(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 404} }, nil, func(r *verifierRig) {
		r.subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "old"})
		before, _ := r.byKey("t", fake.Callback)
		for _, mode := range []hubpb.Mode{hub.ModeSubscribe, hub.ModeUnsubscribe} {
			r.Request(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "evil", Lease: time.Second, Mode: mode})
			r.after(time.Minute)
			if after, _ := r.byKey("t", fake.Callback); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("changed\n from %+v\n to   %+v", before, after)
			}
		}
	})
}

func TestUnsubscribeAfterConsent(t *testing.T) {
	verifying(t, yes, nil, func(r *verifierRig) {
		r.subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback, Mode: hub.ModeUnsubscribe})
		r.after(time.Second)
		if _, ok := r.byKey("t", fake.Callback); ok {
			t.Error("still subscribed")
		}
		// A request for a subscription that does not exist is verified all the same, and settled.
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback + "x", Mode: hub.ModeUnsubscribe})
		r.after(time.Second)
		if n := len(r.net.To(fake.Callback + "x")); n != 1 || r.pending() != 0 {
			t.Errorf("asked %d times, %d pending", n, r.pending())
		}
	})
}

// TestI7OlderRequestFinishingLateChangesNothing: the newer request wins, even if it is answered first.
func TestI7OlderRequestFinishingLateChangesNothing(t *testing.T) {
	var n atomic.Int32
	verifying(t, func(string, int, string) fake.Answer {
		if n.Add(1) == 1 {
			return fake.Answer{Echo: true, After: 4 * time.Second}
		}
		return fake.Answer{Echo: true}
	}, nil, func(r *verifierRig) {
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "old", Lease: time.Minute})
		r.after(time.Second)
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback, Lease: time.Hour})
		r.after(time.Minute)
		sub, _ := r.byKey("t", fake.Callback)
		if sub.LeaseSeconds != 3600 || len(sub.SealedSecret) != 0 {
			t.Errorf("%+v", sub)
		}
		if got := r.net.To(fake.Callback); !got[0].Cut {
			t.Error("the older verification was not cut off")
		}
	})
}

// TestPendingRequestsResumeAfterARestart: an acknowledged request is verified, crash or not.
func TestPendingRequestsResumeAfterARestart(t *testing.T) {
	var up atomic.Bool
	verifying(t, func(string, int, string) fake.Answer {
		if !up.Load() {
			return fake.Answer{Hang: true}
		}
		return fake.Answer{Echo: true}
	}, nil, func(r *verifierRig) {
		for i := range 5 {
			r.Request(fake.Want{Topic: "t", Callback: fmt.Sprint(fake.Callback, i)})
		}
		r.after(time.Second)
		r.stop()
		if r.pending() != 5 {
			t.Fatalf("%d pending after the stop", r.pending())
		}
		up.Store(true)
		r.start()
		r.after(time.Second)
		for i := range 5 {
			if _, ok := r.byKey("t", fmt.Sprint(fake.Callback, i)); !ok {
				t.Errorf("request %d was not resumed", i)
			}
		}
	})
}

// TestUnknownTopicIsDenied if topics are not registered automatically (WebSub rule 37).
func TestUnknownTopicIsDenied(t *testing.T) {
	verifying(t, yes, nil, func(r *verifierRig) {
		r.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
			Mode: hub.ModeSubscribe, Topic: "nope", TopicRaw: "https://hub.example/topics/nope", Callback: fake.Callback + "?a=b", CallbackKey: fake.Callback, LeaseSeconds: 60}}})
		r.after(time.Second)
		got := r.net.To(fake.Callback + "?a=b")
		if len(got) != 1 || !strings.Contains(got[0].URL, "&hub.mode=denied&hub.topic=https%3A%2F%2Fhub.example%2Ftopics%2Fnope&hub.reason=") {
			t.Errorf("requests %+v", got)
		}
		if _, ok := r.byKey("nope", fake.Callback); ok || r.pending() != 0 || r.Topic("nope").ID != 0 {
			t.Error("subscribed, pending, or the topic was made")
		}
	})
}

// TestDeniedNoticeWhenATopicIsRemoved: its subscriptions' callbacks are notified.
func TestDeniedNoticeWhenATopicIsRemoved(t *testing.T) {
	verifying(t, func(string, int, string) fake.Answer { return fake.Answer{Status: 500} }, nil, func(r *verifierRig) {
		r.subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "t"}}})
		r.after(time.Minute)
		got := r.net.To(fake.Callback)
		if len(got) != 1 || !strings.Contains(got[0].URL, "hub.mode=denied&hub.topic=t&hub.reason=the%20topic%20was%20deregistered") || r.pending() != 0 {
			t.Errorf("requests %+v, %d pending", got, r.pending())
		}
	})
}

// TestOneHostIsNotFlooded, and does not delay the verification of others.
func TestOneHostIsNotFlooded(t *testing.T) {
	var mu sync.Mutex
	busy, most := 0, 0
	verifying(t, func(url string, _ int, _ string) fake.Answer {
		if !strings.Contains(url, "Victim") {
			return fake.Answer{Echo: true}
		}
		mu.Lock()
		busy++
		most = max(most, busy)
		mu.Unlock()
		time.AfterFunc(3999*time.Millisecond, func() {
			mu.Lock()
			busy--
			mu.Unlock()
		})
		return fake.Answer{Echo: true, After: 4 * time.Second}
	}, func(o *intent.Options) { o.Concurrency, o.PerHost = 10, 3 }, func(r *verifierRig) {
		for i := range 30 {
			r.Request(fake.Want{Topic: "t", Callback: fmt.Sprint("http://Victim.example/", i)})
		}
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback})
		r.after(10 * time.Millisecond)
		if _, ok := r.byKey("t", fake.Callback); !ok {
			t.Error("another host had to wait")
		}
		r.after(time.Minute)
		if most > 3 || r.pending() != 0 {
			t.Errorf("%d at once, want at most 3; %d pending", most, r.pending())
		}
	})
}

// TestOnlyTheLeaderVerifies, and a new leader takes over.
func TestOnlyTheLeaderVerifies(t *testing.T) {
	verifying(t, yes, nil, func(r *verifierRig) {
		r.Leader.Store(false)
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback})
		r.after(10 * time.Second)
		if n := len(r.net.To(fake.Callback)); n != 0 {
			t.Errorf("%d requests by a follower", n)
		}
		r.Leader.Store(true)
		r.after(time.Second)
		if _, ok := r.byKey("t", fake.Callback); !ok {
			t.Error("not taken over")
		}
	})
}

// TestOutcomeWaitsForALeader: a confirmation is not lost, and not requested twice.
func TestOutcomeWaitsForALeader(t *testing.T) {
	verifying(t, func(string, int, string) fake.Answer { return fake.Answer{Echo: true, After: time.Second} }, nil, func(r *verifierRig) {
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Breakdown(hub.ErrNoLeader)
		r.after(time.Minute)
		r.Breakdown(nil)
		r.after(10 * time.Second)
		if _, ok := r.byKey("t", fake.Callback); !ok || len(r.net.To(fake.Callback)) != 1 {
			t.Errorf("subscribed %v after %d requests", ok, len(r.net.To(fake.Callback)))
		}
	})
}

// TestI7RequestReplacedDuringTheStart: the older request is not resumed from the stale view.
func TestI7RequestReplacedDuringTheStart(t *testing.T) {
	verifying(t, yes, nil, func(r *verifierRig) {
		r.stop()
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback, Lease: time.Minute})
		r.o.State = &fake.LateState{Engine: r.Engine, Once: func() { r.Request(fake.Want{Topic: "t", Callback: fake.Callback, Lease: time.Hour}) }}
		r.start()
		r.after(time.Minute)
		if n := len(r.net.To(fake.Callback)); n != 1 || r.v.Pending() != 0 {
			t.Errorf("%d requests, %d pending", n, r.v.Pending())
		}
		if sub, _ := r.byKey("t", fake.Callback); sub.LeaseSeconds != 3600 {
			t.Errorf("%+v", sub)
		}
	})
}

// TestStart: a subscription begins at the requested position, as of its verification.
func TestStart(t *testing.T) {
	verifying(t, yes, nil, func(r *verifierRig) {
		r.o.Times = r.Engine
		r.stop()
		r.start()
		var times []time.Time
		for i := range 10 {
			times = append(times, time.Now())
			r.Publish("t", fmt.Sprint(i+1))
			r.after(time.Second)
		}
		for start, cursor := range map[string]uint64{"": 10, "latest": 10, "earliest": 0, "4": 3, "11": 10,
			times[6].Add(-time.Millisecond).Format(time.RFC3339Nano): 6, times[6].Add(time.Millisecond).Format(time.RFC3339Nano): 7} {
			callback := "http://cb.example/start" + start
			r.requestFrom(callback, start)
			r.after(time.Second)
			if sub, ok := r.byKey("t", callback); !ok || sub.Cursor.Offset != cursor {
				t.Errorf("%q: cursor %d (%v), want %d", start, sub.Cursor.Offset, ok, cursor)
			}
		}
		// A renewal keeps its position.
		r.requestFrom("http://cb.example/start", "earliest")
		r.after(time.Second)
		if sub, _ := r.byKey("t", "http://cb.example/start"); sub.Cursor.Offset != 10 {
			t.Errorf("a renewal went to %d", sub.Cursor.Offset)
		}
	})
}

func (r *verifierRig) requestFrom(callback, start string) {
	r.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: hub.ModeSubscribe, Topic: "t", TopicRaw: "t", Callback: callback, CallbackKey: callback, LeaseSeconds: 3600,
		Options: &hubpb.SubscriptionOptions{Start: start}}}})
}

func TestCloseWithoutStart(*testing.T) {
	intent.NewVerifier(intent.Options{}).Close()
}

// What came of a failed verification stays in the state with what the callback answered, and is a warning that names the
// callback without its query.
func TestFailedVerificationIsExplained(t *testing.T) {
	for name, tc := range map[string]struct {
		answer   fake.Answer
		reason   string
		status   int32
		attempts uint32
	}{
		"refused":         {fake.Answer{Status: 404}, "http-status", 404, 1},
		"broken":          {fake.Answer{Status: 503}, "http-status", 503, 3},
		"wrong challenge": {fake.Answer{Status: 200}, "wrong-challenge", 200, 1},
		"unreachable":     {fake.Answer{Err: io.EOF}, "unreachable", 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			tune := func(o *intent.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) }
			verifying(t, func(string, int, string) fake.Answer { return tc.answer }, tune, func(r *verifierRig) {
				if _, err := r.Propose(t.Context(), &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}}); err != nil {
					t.Fatal(err)
				}
				r.Request(fake.Want{Topic: "t", Callback: fake.Callback + "?token=hidden"})
				r.after(time.Minute)
				var failed []hub.FailedRequest
				r.View(func(s *hub.State) { failed = s.FailedRequests(hub.RequestFilter{All: true}, 0, 0) })
				if len(failed) != 1 || failed[0].Reason != tc.reason || failed[0].Status != tc.status || failed[0].Attempts != tc.attempts || failed[0].Callback != fake.Callback+"?token=hidden" {
					t.Errorf("%+v", failed)
				}
			})
			if text := log.String(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, "callback="+fake.Callback) || strings.Contains(text, "hidden") {
				t.Errorf("logged %s", text)
			}
		})
	}
}
