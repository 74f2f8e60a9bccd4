package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// senderRig is a bubble with a sender.
func senderRig(t *testing.T, behave func(url string, nth int, body string) fake.Answer, f func(r *rig, s *delivery.Sender)) {
	bubble(t, behave, nil, func(r *rig) {
		s := delivery.NewSender(r.d)
		r.Observe(s)
		s.Start(context.Background())
		defer s.Close()
		f(r, s)
	})
}

// A message that is sent once more on request is the same message, and leaves cursor, failures and order alone, whatever becomes of it.
func TestSendOnceMore(t *testing.T) {
	fail := false
	senderRig(t, func(string, int, string) fake.Answer {
		if fail {
			return fake.Answer{Status: 503, After: 40 * time.Millisecond}
		}
		return fake.Answer{}
	}, func(r *rig, s *delivery.Sender) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "s3cret"})
		for _, b := range []string{"a", "b", "c"} {
			r.Publish("t", b)
		}
		r.after(time.Second)
		before, _ := r.Subscription(id)
		fail = true
		ticket, err := s.Send(delivery.Sending{Subscription: id, Offset: 2})
		if err != nil {
			t.Fatal(err)
		}
		if sent, ok := s.Sent(ticket); !ok || sent.Done {
			t.Errorf("it is done before it is answered: %+v", sent)
		}
		r.after(time.Second)
		sent, ok := s.Sent(ticket)
		if !ok || !sent.Done || sent.Result.Status != 503 || sent.Result.Outcome != delivery.PushDown || sent.MessageID != "1-2" || sent.Kind != delivery.KindReplay || sent.Result.Latency != 40*time.Millisecond {
			t.Errorf("%+v", sent)
		}
		all := r.net.To(fake.Callback)
		if last := all[len(all)-1]; len(all) != 4 || last.Body != "b" || last.ID != "1-2" || !delivery.Verify(last.Header.Get("X-Hub-Signature"), []byte("s3cret"), []byte("b")) {
			t.Errorf("%d requests, the last one %+v", len(all), last)
		}
		after, _ := r.Subscription(id)
		lane, _ := r.d.Lane(id)
		if after.Cursor.Offset != before.Cursor.Offset || lane.Failures != 0 || lane.State != "idle" || len(r.DeadLetters()) != 0 {
			t.Errorf("cursor %+v, lane %+v", after.Cursor, lane)
		}
		if h, _ := r.d.History(id); h.Total != 3 || h.Failed != 0 || h.Attempts[0].Kind != delivery.KindReplay || h.Attempts[0].Status != 503 || h.Attempts[1].Kind != delivery.KindDelivery {
			t.Errorf("history %+v", h)
		}
	})
}

// A test message is marked, signed, and has an ID of its own each time.
func TestSendTestMessage(t *testing.T) {
	senderRig(t, fake.OK, func(r *rig, s *delivery.Sender) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "s3cret"})
		for range 2 {
			if _, err := s.Send(delivery.Sending{Subscription: id, ContentType: "application/json", Body: []byte(`{"test":true}`)}); err != nil {
				t.Fatal(err)
			}
		}
		r.after(time.Second)
		all := r.net.To(fake.Callback)
		if len(all) != 2 || all[0].ID == all[1].ID {
			t.Fatalf("%+v", all)
		}
		for _, a := range all {
			if a.Body != `{"test":true}` || a.Header.Get("X-Hub-Test") != "true" || !strings.HasPrefix(a.ID, "test-") || a.Header.Get("Content-Type") != "application/json" ||
				!delivery.Verify(a.Header.Get("X-Hub-Signature"), []byte("s3cret"), []byte(a.Body)) {
				t.Errorf("%+v", a)
			}
		}
		if topic := r.Topic("t"); topic.Head != 0 {
			t.Errorf("a test message was published: %+v", topic)
		}
	})
}

// Nothing is sent to who must get nothing (I5), and a message that is not there cannot be sent.
func TestSendIsRefused(t *testing.T) {
	senderRig(t, fake.OK, func(r *rig, s *delivery.Sender) {
		paused, ended, late := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "1", Lease: 9 * time.Hour}), r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "2"}), r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "3", Lease: time.Hour})
		elsewhere := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "4", Lease: 9 * time.Hour})
		there := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "5", Lease: 9 * time.Hour})
		for range 3 {
			r.Publish("t", "x")
		}
		r.after(time.Second)
		r.Pause(paused, true)
		r.End(ended, hubpb.EndReason_END_OPERATOR)
		sub, _ := r.Subscription(elsewhere)
		r.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsAssigned{SubscriptionsAssigned: &hubpb.SubscriptionsAssigned{
			Assignments: []*hubpb.Assignment{{Subscription: uint64(elsewhere), Node: "node-2", Epoch: sub.Assignment.Epoch}}}}})
		r.Do(&hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{Ranges: []*hubpb.LogTrimmed_Range{{Topic: 1, Through: 1}}}}})
		r.after(2 * time.Hour)
		n := len(r.net.All())
		for name, c := range map[string]struct {
			id     hub.SubscriptionID
			offset uint64
			code   hub.Code
			words  string
		}{
			"a paused one": {paused, 2, hub.CodeConflict, "is paused"}, "a paused one, a test": {paused, 0, hub.CodeConflict, "is paused"},
			"one that ended": {ended, 2, hub.CodeNotFound, "has ended"}, "one whose lease ended": {late, 2, hub.CodeConflict, "lease of s-3 has ended"},
			"another node's": {elsewhere, 2, hub.CodeUnavailable, "changing its owner"}, "a dropped message": {there, 1, hub.CodeConflict, "retention has dropped"},
			"a message to come": {there, 4, hub.CodeInvalid, "the newest is 3"},
		} {
			if _, err := s.Send(delivery.Sending{Subscription: c.id, Offset: c.offset, ContentType: "text/plain"}); hub.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.words) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := r.net.All(); len(got) != n {
			t.Errorf("something was sent: %+v", got[n:])
		}
	})
}

// What is under way is cut off when its subscription ends (I5), and is bounded.
func TestSendIsCutOffAndBounded(t *testing.T) {
	senderRig(t, func(string, int, string) fake.Answer { return fake.Answer{Hang: true} }, func(r *rig, s *delivery.Sender) {
		id, other := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback}), r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "2", Lease: 9 * time.Hour})
		test := delivery.Sending{Subscription: id, ContentType: "text/plain"}
		first, err := s.Send(test)
		if err != nil {
			t.Fatal(err)
		}
		for range 7 {
			test.Subscription = other
			if _, err := s.Send(test); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Send(test); hub.CodeOf(err) != hub.CodeLimited {
			t.Errorf("the ninth at once: %v", err)
		}
		r.End(id, hubpb.EndReason_END_OPERATOR)
		r.after(10 * time.Millisecond)
		if sent, _ := s.Sent(first); !sent.Done || sent.Result.Outcome != delivery.PushCancelled {
			t.Errorf("it goes on after its subscription has ended: %+v", sent)
		}
		r.after(time.Minute)
		for range 300 {
			test.Subscription = other
			if _, err := s.Send(test); err != nil {
				t.Fatal(err)
			}
			r.after(time.Minute)
		}
		if _, known := s.Sent(first); known {
			t.Error("results are kept for ever")
		}
	})
}

// Over a real connection, the phases of the request are known and secrets are masked.
func TestSendTellsPhasesAndMasksSecrets(t *testing.T) {
	server := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		w.Header().Set("X-Internal", "s3cret answer")
		fmt.Fprint(w, "s3cret body")
	})
	e := fake.NewEngine(t)
	o := options(e)
	o.Pusher = &delivery.Pusher{Client: fake.DevClient(t), Clock: hub.SystemClock{}, UserAgent: "quorumhub/test"}
	d := delivery.NewDispatcher(o)
	e.Observe(d)
	d.Start(t.Context())
	s := delivery.NewSender(d)
	s.Start(t.Context())
	t.Cleanup(func() {
		s.Close()
		_ = d.Close(context.Background())
	})
	id := e.Subscribe(fake.Want{Topic: "t", Callback: server.URL + "/cb", Secret: "s3cret"})
	ticket, err := s.Send(delivery.Sending{Subscription: id, ContentType: "text/plain", Body: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	var sent delivery.Sent
	for deadline := time.Now().Add(10 * time.Second); !sent.Done && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		sent, _ = s.Sent(ticket)
	}
	text := fmt.Sprintf("%+v", sent)
	if sent.Result.Status != 200 || sent.Phases.Wait < 20*time.Millisecond || sent.Phases.Connect <= 0 || sent.Size != 5 {
		t.Errorf("%s", text)
	}
	if !strings.Contains(text, "{Name:X-Hub-Signature Value:sha256=••••}") || !strings.Contains(text, "{Name:Content-Type Value:text/plain}") || strings.Contains(text, "s3cret") {
		t.Errorf("%s", text)
	}
}
