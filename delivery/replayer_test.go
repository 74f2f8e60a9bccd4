package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// replayRig is a bubble with a replayer.
func replayRig(t *testing.T, behave func(url string, nth int, body string) fake.Answer, f func(r *rig, p *delivery.Replayer)) {
	bubble(t, behave, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 2 }, func(r *rig) {
		p := delivery.NewReplayer(r.d, r.Engine)
		r.Observe(p)
		p.Start(context.Background())
		defer p.Close()
		f(r, p)
	})
}

// A dead letter includes the attempts at its message, and no others.
func TestDeadLetterIncludesItsAttempts(t *testing.T) {
	bubble(t, func(_ string, nth int, body string) fake.Answer {
		if strings.HasPrefix(body, "bad") {
			return []fake.Answer{{Status: 400}, {Status: 404, After: 30 * time.Millisecond}, {Err: fake.ErrRefused}}[nth%3]
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.MaxAttempts = 3 }, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "good")
		r.Publish("t", "bad")
		r.after(time.Hour)
		letters := r.DeadLetters()
		if len(letters) != 1 || len(letters[0].Tries) != 3 {
			t.Fatalf("%+v", letters)
		}
		d := letters[0]
		if d.Size != 3 || d.ContentType != "text/plain" || d.PublishedAt.IsZero() || d.Attempts != 3 {
			t.Errorf("%+v", d)
		}
		var got []string
		for i, a := range d.Tries {
			got = append(got, fmt.Sprint(a.Status, " ", a.Reason, " ", a.Latency, " ", a.Node))
			if i > 0 && !a.At.After(d.Tries[i-1].At) {
				t.Errorf("attempts are not in order: %+v", d.Tries)
			}
		}
		if want := "0 protocol 0s node-1|400 http-status 0s node-1|404 http-status 30ms node-1"; strings.Join(got, "|") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
		}
		h, ok := r.d.History(id)
		if !ok || h.Total != 4 || h.Failed != 3 || len(h.Attempts) != 4 || h.Attempts[0].Offset != 2 || h.Attempts[3].Outcome != delivery.PushDelivered {
			t.Errorf("history %+v", h)
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for range 100 {
			r.Publish("t", "x")
		}
		r.after(time.Second)
		h, ok := r.d.History(id)
		if !ok || len(h.Attempts) != 32 || h.Attempts[0].Offset != 100 || h.Attempts[31].Offset != 69 || h.Total != 100 || h.Failed != 0 {
			t.Errorf("%d of %d attempts are kept, %d failed; newest %+v", len(h.Attempts), h.Total, h.Failed, h.Attempts[0])
		}
		if _, ok := r.d.History(99); ok {
			t.Error("there is a history of a subscription that this node does not deliver to")
		}
	})
}

func TestBacklog(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	bubble(t, func(string, int, string) fake.Answer {
		if down.Load() {
			return fake.Answer{Status: 503}
		}
		return fake.Answer{}
	}, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "2"})
		r.Subscribe(fake.Want{Topic: "idle", Callback: fake.Callback})
		begin := time.Now()
		for range 3 {
			r.Publish("t", "x")
			r.after(time.Second)
		}
		b := r.d.Backlog()
		if b.Messages != 6 || b.Behind != 2 || !b.Oldest.Equal(begin) {
			t.Errorf("%+v, the first message is from %v", b, begin)
		}
		if b.Failing != 2 || len(b.Worst) != 2 || b.Worst[0].Subscription != 1 || b.Worst[0].Status != 503 || b.Worst[0].Topic != "t" ||
			!b.Worst[0].Since.Equal(begin) || b.Worst[0].Failures == 0 || b.Worst[0].Lag != 3 {
			t.Errorf("failing: %+v", b)
		}
		down.Store(false)
		r.after(2 * time.Minute)
		if b := r.d.Backlog(); b.Messages != 0 || b.Behind != 0 || !b.Oldest.IsZero() || b.Failing != 0 || b.Worst != nil {
			t.Errorf("%+v although everything is delivered", b)
		}
	})
}

// A replay is one request beside the lane: same content and ID, no change of order or cursor.
func TestReplayBypassesTheLane(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	replayRig(t, func(_ string, _ int, body string) fake.Answer {
		switch {
		case refuse.Load() && strings.HasPrefix(body, "bad"):
			return fake.Answer{Status: 422}
		case strings.HasPrefix(body, "wait"):
			return fake.Answer{Hang: true} // the lane is busy with this message
		}
		return fake.Answer{}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "s3cret"})
		for _, b := range []string{"good", "bad1", "bad2", "wait"} {
			r.Publish("t", b)
		}
		r.after(5 * time.Second)
		if len(r.DeadLetters()) != 2 {
			t.Fatalf("dead letters %+v", r.DeadLetters())
		}
		before, _ := r.Subscription(id)
		n := len(r.net.To(fake.Callback))

		r.Replay(1)
		r.after(time.Second)
		if d := r.DeadLetters(); len(d) != 2 || d[0].Attempts != 3 || len(d[0].Tries) != 3 || d[0].Status != 422 || !d[0].Replaying.IsZero() {
			t.Fatalf("after a replay that was refused: %+v", d)
		}
		refuse.Store(false)
		r.Replay(1, 2)
		r.after(time.Second)
		if d := r.DeadLetters(); len(d) != 0 {
			t.Fatalf("after a replay that was acknowledged: %+v", d)
		}
		if p.Stats() != (delivery.ReplayStats{Delivered: 2, Failed: 1}) {
			t.Errorf("%+v", p.Stats())
		}
		var replays []fake.Arrival
		for _, a := range r.net.To(fake.Callback)[n:] {
			if a.Body != "wait" {
				replays = append(replays, a)
			}
		}
		if got := fake.Bodies(replays); got != "bad1 bad1 bad2" {
			t.Errorf("replayed %s", got)
		}
		for _, a := range replays {
			if a.ID != "1-2" && a.ID != "1-3" || !delivery.Verify(a.Header.Get("X-Hub-Signature"), []byte("s3cret"), []byte(a.Body)) ||
				!strings.Contains(a.Header.Get("Link"), `rel="self"`) || a.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("id %s, header %v", a.ID, a.Header)
			}
		}
		if after, _ := r.Subscription(id); after.Cursor.Offset != before.Cursor.Offset || after.Cursor.Offset != 3 {
			t.Errorf("the cursor moved from %d to %d", before.Cursor.Offset, after.Cursor.Offset)
		}
	})
}

// Pending replays are made by the subscription's owner, even after a restart, and by nobody else.
func TestReplaysFollowTheOwner(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	replayRig(t, func(string, int, string) fake.Answer {
		if refuse.Load() {
			return fake.Answer{Status: 422}
		}
		return fake.Answer{}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "bad")
		r.after(time.Minute)
		give := func(node string) {
			sub, _ := r.Subscription(id)
			r.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsAssigned{SubscriptionsAssigned: &hubpb.SubscriptionsAssigned{
				Assignments: []*hubpb.Assignment{{Subscription: uint64(id), Node: node, Epoch: sub.Assignment.Epoch}}}}})
		}
		refuse.Store(false)
		n := len(r.net.To(fake.Callback))
		give("node-2")
		r.Replay(1)
		r.after(time.Minute)
		if got := r.net.To(fake.Callback); len(got) != n || len(r.DeadLetters()) != 1 {
			t.Errorf("a node replayed what another one owns")
		}
		give("node-1")
		r.after(time.Minute)
		if len(r.DeadLetters()) != 0 || len(r.net.To(fake.Callback)) != n+1 {
			t.Errorf("the replay did not come with the subscription: %+v", r.DeadLetters())
		}
	})
}

// Invariant I5 holds for replays: nothing is sent once the subscription has ended.
func TestI5NoReplayAfterTheEnd(t *testing.T) {
	var replaying atomic.Bool
	replayRig(t, func(string, int, string) fake.Answer {
		if replaying.Load() {
			return fake.Answer{Hang: true}
		}
		return fake.Answer{Status: 422}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "bad1")
		r.Publish("t", "bad2")
		r.after(time.Minute)
		n := len(r.net.To(fake.Callback))
		replaying.Store(true)
		r.Replay(1, 2)
		r.after(time.Second)
		r.End(id, hubpb.EndReason_END_UNSUBSCRIBED)
		ended := time.Now()
		r.after(time.Hour)
		got := r.net.To(fake.Callback)[n:]
		if len(got) != 1 || !got[0].Cut || got[0].At.After(ended) {
			t.Errorf("%+v", got)
		}
		for _, d := range r.DeadLetters() {
			if !d.Replaying.IsZero() {
				t.Errorf("%+v waits for a replay", d)
			}
		}
		if p.Stats().Waiting != 0 {
			t.Errorf("%+v", p.Stats())
		}
	})
}

func TestReplayAnswered410EndsTheSubscription(t *testing.T) {
	var gone atomic.Bool
	replayRig(t, func(string, int, string) fake.Answer {
		if gone.Load() {
			return fake.Answer{Status: 410}
		}
		return fake.Answer{Status: 422}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "bad")
		r.after(time.Minute)
		gone.Store(true)
		r.Replay(1)
		r.after(time.Minute)
		if _, ok := r.Subscription(id); ok || len(r.DeadLetters()) != 1 || r.DeadLetters()[0].Status != 410 {
			t.Errorf("the subscription is there: %v; letters %+v", ok, r.DeadLetters())
		}
	})
}

// A down endpoint is not hammered with all of its replays.
func TestReplaysStopAtAnEndpointThatIsDown(t *testing.T) {
	var down atomic.Bool
	replayRig(t, func(url string, _ int, body string) fake.Answer {
		switch {
		case !down.Load() && strings.HasPrefix(body, "bad"):
			return fake.Answer{Status: 422}
		case down.Load() && url == fake.Callback:
			return fake.Answer{Status: 503}
		}
		return fake.Answer{}
	}, func(r *rig, p *delivery.Replayer) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "2"})
		for i := range 10 {
			r.Publish("t", fmt.Sprint("bad", i))
		}
		r.after(10 * time.Minute)
		if len(r.DeadLetters()) != 20 {
			t.Fatalf("%d dead letters, want 20", len(r.DeadLetters()))
		}
		down.Store(true)
		n, m := len(r.net.To(fake.Callback)), len(r.net.To(fake.Callback+"2"))
		var all []uint64
		for _, d := range r.DeadLetters() {
			all = append(all, d.ID)
		}
		r.Replay(all...)
		r.after(time.Minute)
		if sick, well := len(r.net.To(fake.Callback))-n, len(r.net.To(fake.Callback+"2"))-m; sick != 3 || well != 10 {
			t.Errorf("%d replays to the endpoint that is down and %d to the other, want 3 and 10", sick, well)
		}
		left := r.DeadLetters()
		if len(left) != 10 {
			t.Errorf("%d letters are left, want 10", len(left))
		}
		for _, d := range left {
			if !d.Replaying.IsZero() {
				t.Errorf("%s still waits for its replay", hub.DeadLetterID(d.ID))
			}
		}
	})
}

// The messages of a consumer group count once, and those that were delivered do not count, whoever got them.
func TestBacklogOfAConsumerGroup(t *testing.T) {
	var down atomic.Bool
	bubble(t, func(string, int, string) fake.Answer {
		if down.Load() {
			return fake.Answer{Status: 503}
		}
		return fake.Answer{}
	}, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: &hubpb.SubscriptionOptions{Group: "g"}})
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback + "2", Options: &hubpb.SubscriptionOptions{Group: "g"}})
		for range 5 {
			r.Publish("t", "x")
		}
		r.after(time.Second)
		if b := r.d.Backlog(); b.Messages != 0 || b.Behind != 0 {
			t.Errorf("%+v although everything is delivered", b)
		}
		down.Store(true)
		for range 3 {
			r.Publish("t", "y")
		}
		r.after(time.Second)
		if b := r.d.Backlog(); b.Messages != 3 || b.Behind != 1 || b.Oldest.IsZero() {
			t.Errorf("%+v, want 3 messages", b)
		}
	})
}
