package intent_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/intent"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

func parsed(t testing.TB, callback string) *url.URL {
	t.Helper()
	u, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// wantLimited fails the test unless err is CodeLimited with a time to retry.
func wantLimited(t testing.TB, what string, err error) {
	t.Helper()
	var e *hub.Error
	if !errors.As(err, &e) || e.Code != hub.CodeLimited || e.RetryAfter <= 0 {
		t.Errorf("%s: got %v, want a refusal with the time to come back", what, err)
	}
}

func TestOneCallbackHostIsBoundedInRate(t *testing.T) {
	verifying(t, yes, func(o *intent.Options) {
		o.Limits.Rate = hub.Rate{Requests: 4, Per: time.Minute}
	}, func(r *verifierRig) {
		admit := func(callback string, known bool) error { return r.v.Admit("me", parsed(t, callback), known) }
		for i, callback := range []string{"https://victim.example/a", "http://VICTIM.example:8080/b", "https://victim.example./c", "https://victim.example/d?x=1"} {
			if err := admit(callback, false); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		wantLimited(t, "the fifth", admit("https://victim.example:999/e", false))
		if err := admit("https://other.example/", false); err != nil {
			t.Errorf("another host: %v", err)
		}
		if err := admit("https://victim.example/a", true); err != nil {
			t.Errorf("a subscriber of that host that renews: %v", err)
		}
		r.after(15 * time.Second)
		if err := admit("https://victim.example/f", false); err != nil {
			t.Errorf("a quarter of the time later: %v", err)
		}
		for i, same := range []string{"http://203.0.113.7/", "http://203.0.113.7:81/", "http://[::ffff:203.0.113.7]/", "http://203.0.113.7/x"} {
			if err := admit(same, false); err != nil {
				t.Fatalf("address %d: %v", i, err)
			}
		}
		wantLimited(t, "an address in two notations", admit("http://[::ffff:cb00:7107]/", false))
	})
}

func TestPendingRequestsAreBounded(t *testing.T) {
	verifying(t, func(url string, _ int, _ string) fake.Answer { return fake.Answer{Echo: true, After: 4 * time.Second} }, func(o *intent.Options) {
		o.Limits.Pending = 5
	}, func(r *verifierRig) {
		ask := func(caller, topic, callback string) error {
			if err := r.v.Admit(caller, parsed(t, callback), false); err != nil {
				return err
			}
			r.v.Taken(caller, r.Request(fake.Want{Topic: topic, Callback: callback}))
			return nil
		}
		for i := range 5 {
			if err := ask("a", fmt.Sprint("t", i), "http://victim.example/"); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		wantLimited(t, "the sixth of its host", ask("b", "t6", "http://victim.example/"))
		wantLimited(t, "the sixth of its caller", ask("a", "t6", "http://elsewhere.example/"))
		if err := ask("b", "t6", "http://elsewhere.example/"); err != nil {
			t.Errorf("another caller for another host: %v", err)
		}
		if err := r.v.Admit("a", parsed(t, "http://victim.example/"), true); err != nil {
			t.Errorf("a renewal: %v", err)
		}
		r.after(time.Minute)
		if r.pending() != 0 {
			t.Fatalf("%d requests still wait", r.pending())
		}
		for i := range 5 {
			if err := ask("a", fmt.Sprint("u", i), "http://victim.example/"); err != nil {
				t.Errorf("after they are done with, request %d: %v", i, err)
			}
		}
	})
}

// A repeated request replaces itself: it counts once, and its callback is asked one request at a time.
func TestRepeatedRequestsCountOnce(t *testing.T) {
	verifying(t, func(string, int, string) fake.Answer { return fake.Answer{Hang: true} }, func(o *intent.Options) {
		o.Limits.Pending = 2
	}, func(r *verifierRig) {
		for i := range 50 {
			if err := r.v.Admit("a", parsed(t, fake.Callback), false); err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			r.v.Taken("a", r.Request(fake.Want{Topic: "t", Callback: fake.Callback}))
			r.after(time.Millisecond)
			if r.pending() != 1 || r.v.Pending() != 1 {
				t.Fatalf("%d requests wait in the state, %d in the verifier, want 1", r.pending(), r.v.Pending())
			}
		}
	})
}

// TestManyTopicsAtOneHost: a thousand requests with different topics are not a thousand concurrent requests to the
// callback's host, and nobody else waits for them.
func TestManyTopicsAtOneHost(t *testing.T) {
	var mu sync.Mutex
	busy, most := 0, 0
	verifying(t, func(url string, _ int, _ string) fake.Answer {
		if parsed(t, url).Host != "victim.example" {
			return fake.Answer{Echo: true}
		}
		mu.Lock()
		busy++
		most = max(most, busy)
		mu.Unlock()
		time.AfterFunc(999*time.Millisecond, func() {
			mu.Lock()
			busy--
			mu.Unlock()
		})
		return fake.Answer{Echo: true, After: time.Second}
	}, nil, func(r *verifierRig) {
		for i := range 1000 {
			r.Request(fake.Want{Topic: fmt.Sprint("t", i), Callback: "http://victim.example/"})
		}
		r.Request(fake.Want{Topic: "t", Callback: fake.Callback})
		r.after(10 * time.Millisecond)
		if _, ok := r.byKey("t", fake.Callback); !ok {
			t.Error("another host had to wait")
		}
		r.after(10 * time.Minute)
		if most > 8 || r.pending() != 0 {
			t.Errorf("%d at once, want at most 8; %d pending", most, r.pending())
		}
	})
}

// TestNamesDoNotHideTheNetwork: callbacks under many names that resolve to one network are bounded by the network.
func TestNamesDoNotHideTheNetwork(t *testing.T) {
	var mu sync.Mutex
	busy, most, all := 0, 0, 0
	held := make(chan struct{})
	victim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		busy++
		all++
		most = max(most, busy)
		mu.Unlock()
		<-held
		mu.Lock()
		busy--
		mu.Unlock()
		_, _ = w.Write([]byte(r.URL.Query().Get("hub.challenge")))
	}))
	defer victim.Close()
	release := sync.OnceFunc(func() { close(held) })
	defer release()
	_, port, err := net.SplitHostPort(victim.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dns := &fake.DNS{Answers: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	dns.Install(t)
	client := egress.NewClient(fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowCIDRs: fake.Prefixes(t, "127.0.0.0/8")}), egress.ClientOptions{})
	defer client.Close()
	e := fake.NewEngine(t)
	v := intent.NewVerifier(intent.Options{
		Caller: &intent.Caller{Client: client, Clock: hub.SystemClock{}, UserAgent: "quorumhub/test", Timeout: 30 * time.Second},
		State:  e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard(),
		Backoff: retry.Backoff{Initial: time.Millisecond, Max: time.Millisecond}, PerNetwork: 3,
		Candidates: func() []*hubpb.Candidate { return nil },
	})
	e.Observe(v)
	const names = 9
	for i := range names {
		e.Request(fake.Want{Topic: "t", Callback: fmt.Sprintf("http://n%d.attacker.example:%s/", i, port)})
	}
	v.Start(context.Background())
	defer v.Close()
	fake.Eventually(t, "three are in flight", func() bool { mu.Lock(); defer mu.Unlock(); return busy == 3 })
	release()
	fake.Eventually(t, "all are verified", func() bool { return v.Pending() == 0 })
	if most > 3 || all != names {
		t.Errorf("%d at once, want at most 3; %d in all, want each of %d once", most, all, names)
	}
}
