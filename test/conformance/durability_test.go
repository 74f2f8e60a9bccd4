package conformance_test

import (
	"fmt"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// A request answered with 202 is verified even if the hub dies right after.
func TestPendingRequestSurvivesAKill(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.verification.timeout": "60s", "hub.verification.attempts": 5}})
	topic := newTopic(t, n)
	gone := hubtest.NewSubscriber(t)
	n.Subscribe(t, topic, gone.Callback("/cb"))

	hang := make(chan struct{})
	defer close(hang)
	hangs := func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Gate: hang} }
	s := hubtest.NewSubscriber(t).OnIntent(hangs)
	gone.OnIntent(hangs)
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb"), "hub.secret", "kept", "hub.lease_seconds", "4321", "hub.verify_token", "t"), 202)
	wantStatus(t, "unsubscribe", n.Request(t, "unsubscribe", topic, gone.Callback("/cb")), 202)
	first := s.WaitIntent(t, "subscribe", 1)
	gone.WaitIntent(t, "unsubscribe", 1)
	n.Kill(t)
	s.OnIntent(hubtest.Echo)
	gone.OnIntent(hubtest.Echo)
	n.Restart(t)
	n.WaitActive(t, topic, s.Callback("/cb"))
	n.WaitGone(t, topic, gone.Callback("/cb"))
	second := s.WaitIntent(t, "subscribe", 2)
	if second.Value("hub.lease_seconds") != "4321" || second.Value("hub.topic") != topic || second.Value("hub.verify_token") != "t" {
		t.Errorf("the request was resumed as %s", second.URI)
	}
	if second.Value("hub.challenge") == first.Value("hub.challenge") {
		t.Error("the challenge was used before the restart too")
	}
	n.Publish(t, topic, "text/plain", []byte("x"))
	if d := s.WaitBody(t, "x"); !d.SignedBy("kept") {
		t.Errorf("the secret was lost: %q", d.Header.Values("X-Hub-Signature"))
	}
	if got := gone.CountDeliveries(); got != 0 {
		t.Errorf("the unsubscribed callback got %d deliveries", got)
	}
}

func TestAcknowledgedMessagesSurviveAKill(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{})
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
	n.Subscribe(t, topic, s.Callback("/cb"), "hub.secret", "kept")
	ledger := hubtest.NewLedger()
	ledger.Subscribed(s.URL, topic, 0)
	const messages = 30
	for i := range messages {
		ledger.Acknowledged(n.Publish(t, topic, "text/plain", fmt.Appendf(nil, "message %d", i)))
		if i%10 == 9 {
			n.Kill(t)
			n.Restart(t)
		}
	}
	refused := s.CountDeliveries()
	s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{} })
	n.WaitCursor(t, topic, s.Callback("/cb"), messages)
	for _, d := range s.Deliveries()[refused:] {
		ledger.Delivered(s.URL, d)
		if !d.SignedBy("kept") {
			t.Errorf("%v is not signed with the secret", d)
		}
	}
	if err := ledger.Balance(); err != nil {
		t.Error(err)
	}
	if r := n.Do(t, "GET", topic, nil, nil); string(r.Body) != "message 29" {
		t.Errorf("the topic shows %v", r)
	}
}

// Deliveries that subscribers acknowledged are not repeated after a graceful stop.
func TestStopLosesNoProgress(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"delivery.cursor_flush": "30s"}})
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic)
	for i := range 5 {
		n.Publish(t, topic, "text/plain", fmt.Append(nil, "m", i))
	}
	s.WaitBody(t, "m4")
	// What was acknowledged shows at once, although the cursor is not recorded yet.
	hubtest.Eventually(t, "the progress shows", func() error {
		var shown struct {
			Cursor   uint64
			Delivery struct {
				Progress struct{ Acknowledged, Lag, Delivered uint64 }
			}
		}
		body := n.GetJSON(t, "/v1/subscriptions/"+n.WaitActive(t, topic, callback).ID, &shown)
		if p := shown.Delivery.Progress; p.Acknowledged != 5 || p.Lag != 0 || p.Delivered != 5 || shown.Cursor != 0 {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
	if code := n.Stop(t); code != 0 {
		t.Errorf("SIGTERM ended the hub with exit code %d", code)
	}
	n.Restart(t)
	n.WaitActive(t, topic, callback)
	n.Publish(t, topic, "text/plain", []byte("end"))
	s.WaitBody(t, "end")
	if got := s.CountDeliveries(); got > 7 { // the last one may have been in flight
		t.Errorf("got %d deliveries of 6 messages", got)
	}
	seen := map[string]int{}
	for _, d := range s.Deliveries() {
		seen[string(d.Body)]++
	}
	for i := range 4 {
		if body := fmt.Sprint("m", i); seen[body] != 1 {
			t.Errorf("%s was delivered %d times, want once", body, seen[body])
		}
	}
}

// A ping answered with 204 leads to a fetch even if the hub dies right after.
func TestAnsweredPingSurvivesAKill(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"fetch.timeout": "60s"}})
	origin := hubtest.NewOrigin(t)
	hang := make(chan struct{})
	defer close(hang)
	topic := origin.Put("/feed", hubtest.Page{Body: []byte("pinged")})
	origin.Script(func(hubtest.Request) (hubtest.Answer, bool) { return hubtest.Answer{Gate: hang}, true })
	s, _ := subscribed(t, n, topic)
	n.Ping(t, topic)
	origin.WaitFetches(t, "/feed", 1)
	n.Kill(t)
	origin.Script(nil)
	n.Restart(t)
	s.WaitBody(t, "pinged")
}

// Leases end at a fixed time, even while the hub is down.
func TestLeaseEndsWhileTheHubIsDown(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{})
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
	n.Subscribe(t, topic, s.Callback("/cb"), "hub.lease_seconds", "2")
	end := leaseEnd(t, s.WaitIntent(t, "subscribe", 1))
	n.Publish(t, topic, "text/plain", []byte("owed"))
	n.Kill(t)
	hubtest.Until(t, end.Add(leaseGrace))
	n.Restart(t)
	other, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("x"))
	other.WaitBody(t, "x")
	quietly(t, "deliveries after the lease", s.CountDeliveries)
	for _, d := range s.Deliveries() {
		if d.At.After(end.Add(leaseGrace)) {
			t.Errorf("%v arrived %v after the end of the lease", d, d.At.Sub(end))
		}
	}
	n.WaitGone(t, topic, s.Callback("/cb"))
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]hubtest.Settings{
		"delivery.timeout": {"delivery.timeout": "5 apples"},
		"delivery.retry":   {"delivery.retrry.initial": "1s"}, // the error names the closest known key
		"auth.mode":        {"http.addr": "0.0.0.0:0"},
	} {
		n, err := hubtest.PrepareNode(hubtest.Options{Dir: t.TempDir(), Binary: hubtest.Binary(t), Settings: nil, ReadyIn: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		n.Settings = n.Settings.With(settings)
		wantRefusedStart(t, n, name)
	}
}
