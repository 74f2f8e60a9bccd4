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
)

// ReadLetter implements hub.DeadLetterReader.
func (e *engine) ReadLetter(ctx context.Context, d *hub.DeadLetter) (hub.Message, error) {
	if err := ctx.Err(); err != nil {
		return hub.Message{}, err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if _, ok := e.state.DeadLetter(d.ID); !ok {
		return hub.Message{}, hub.ErrTrimmed
	}
	return e.log[d.Topic][d.Offset-1], nil
}

func (e *engine) replay(ids ...uint64) {
	e.t.Helper()
	e.do(&hubpb.Event{Kind: &hubpb.Event_DeadLetterReplayRequested{DeadLetterReplayRequested: &hubpb.DeadLetterReplayRequested{Letters: ids}}})
}

// replayRig is a bubble with a replayer.
func replayRig(t *testing.T, behave func(url string, nth int, body string) answer, f func(r *rig, p *delivery.Replayer)) {
	bubble(t, behave, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 2 }, func(r *rig) {
		p := delivery.NewReplayer(r.d, r.engine)
		r.observe(p)
		p.Start(context.Background())
		defer p.Close()
		f(r, p)
	})
}

// Attempts about a message go with its dead letter; those about others do not.
func TestADeadLetterKnowsItsAttempts(t *testing.T) {
	bubble(t, func(_ string, nth int, body string) answer {
		if strings.HasPrefix(body, "bad") {
			return []answer{{status: 400}, {status: 404, after: 30 * time.Millisecond}, {err: errRefused}}[nth%3]
		}
		return answer{}
	}, func(o *delivery.DispatcherOptions) { o.Retry.MaxAttempts = 3 }, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "good")
		r.publish("t", "bad")
		r.after(time.Hour)
		letters := r.deadLetters()
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
		if !ok || h.Total != 4 || h.Failed != 3 || len(h.Tries) != 4 || h.Tries[0].Offset != 2 || h.Tries[3].Outcome != delivery.PushDelivered {
			t.Errorf("history %+v", h)
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	bubble(t, ok200, nil, func(r *rig) {
		id := r.subscribe(want{topic: "t", callback: cb})
		for range 100 {
			r.publish("t", "x")
		}
		r.after(time.Second)
		h, ok := r.d.History(id)
		if !ok || len(h.Tries) != 32 || h.Tries[0].Offset != 100 || h.Tries[31].Offset != 69 || h.Total != 100 || h.Failed != 0 {
			t.Errorf("%d of %d attempts are kept, %d failed; newest %+v", len(h.Tries), h.Total, h.Failed, h.Tries[0])
		}
		if _, ok := r.d.History(99); ok {
			t.Error("there is a history of a subscription that this node does not deliver to")
		}
	})
}

func TestBacklog(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	bubble(t, func(string, int, string) answer {
		if down.Load() {
			return answer{status: 503}
		}
		return answer{}
	}, nil, func(r *rig) {
		r.subscribe(want{topic: "t", callback: cb})
		r.subscribe(want{topic: "t", callback: cb + "2"})
		r.subscribe(want{topic: "idle", callback: cb})
		begin := time.Now()
		for range 3 {
			r.publish("t", "x")
			r.after(time.Second)
		}
		if b := r.d.Backlog(); b.Messages != 6 || b.Behind != 2 || !b.Oldest.Equal(begin) {
			t.Errorf("%+v, the first message is from %v", b, begin)
		}
		down.Store(false)
		r.after(2 * time.Minute)
		if b := r.d.Backlog(); b != (delivery.Backlog{}) {
			t.Errorf("%+v although everything is delivered", b)
		}
	})
}

// A replay is one request beside the subscription's own: same content, same id, no change of order or cursor.
func TestAReplayIsSentBesideTheLane(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	replayRig(t, func(_ string, _ int, body string) answer {
		switch {
		case refuse.Load() && strings.HasPrefix(body, "bad"):
			return answer{status: 422}
		case strings.HasPrefix(body, "wait"):
			return answer{hang: true} // the lane is busy with this one
		}
		return answer{}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.subscribe(want{topic: "t", callback: cb, secret: "s3cret"})
		for _, b := range []string{"good", "bad1", "bad2", "wait"} {
			r.publish("t", b)
		}
		r.after(5 * time.Second)
		if len(r.deadLetters()) != 2 {
			t.Fatalf("dead letters %+v", r.deadLetters())
		}
		before, _ := r.subscription(id)
		n := len(r.net.to(cb))

		r.replay(1)
		r.after(time.Second)
		if d := r.deadLetters(); len(d) != 2 || d[0].Attempts != 3 || len(d[0].Tries) != 3 || d[0].Status != 422 || !d[0].Replaying.IsZero() {
			t.Fatalf("after a replay that was refused: %+v", d)
		}
		refuse.Store(false)
		r.replay(1, 2)
		r.after(time.Second)
		if d := r.deadLetters(); len(d) != 0 {
			t.Fatalf("after a replay that was acknowledged: %+v", d)
		}
		if p.Stats() != (delivery.ReplayStats{Delivered: 2, Failed: 1}) {
			t.Errorf("%+v", p.Stats())
		}
		var replays []arrival
		for _, a := range r.net.to(cb)[n:] {
			if a.body != "wait" {
				replays = append(replays, a)
			}
		}
		if got := bodies(replays); got != "bad1 bad1 bad2" {
			t.Errorf("replayed %s", got)
		}
		for _, a := range replays {
			if a.id != "1-2" && a.id != "1-3" || !delivery.Verify(a.header.Get("X-Hub-Signature"), []byte("s3cret"), []byte(a.body)) ||
				!strings.Contains(a.header.Get("Link"), `rel="self"`) || a.header.Get("Content-Type") != "text/plain" {
				t.Errorf("id %s, header %v", a.id, a.header)
			}
		}
		if after, _ := r.subscription(id); after.Cursor.Offset != before.Cursor.Offset || after.Cursor.Offset != 3 {
			t.Errorf("the cursor moved from %d to %d", before.Cursor.Offset, after.Cursor.Offset)
		}
	})
}

// What is still to be replayed is replayed by whoever delivers the subscription, after a restart too, and not by others.
func TestReplaysGoWithTheSubscription(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	replayRig(t, func(string, int, string) answer {
		if refuse.Load() {
			return answer{status: 422}
		}
		return answer{}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "bad")
		r.after(time.Minute)
		give := func(node string) {
			sub, _ := r.subscription(id)
			r.do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsAssigned{SubscriptionsAssigned: &hubpb.SubscriptionsAssigned{
				Assignments: []*hubpb.Assignment{{Subscription: uint64(id), Node: node, Epoch: sub.Assignment.Epoch}}}}})
		}
		refuse.Store(false)
		n := len(r.net.to(cb))
		give("node-2")
		r.replay(1)
		r.after(time.Minute)
		if got := r.net.to(cb); len(got) != n || len(r.deadLetters()) != 1 {
			t.Errorf("a node replayed what another one owns")
		}
		give("node-1")
		r.after(time.Minute)
		if len(r.deadLetters()) != 0 || len(r.net.to(cb)) != n+1 {
			t.Errorf("the replay did not come with the subscription: %+v", r.deadLetters())
		}
	})
}

// Invariant I5 holds for replays: nothing is sent to a subscription that has ended.
func TestI5NoReplayAfterTheEnd(t *testing.T) {
	var replaying atomic.Bool
	replayRig(t, func(string, int, string) answer {
		if replaying.Load() {
			return answer{hang: true}
		}
		return answer{status: 422}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "bad1")
		r.publish("t", "bad2")
		r.after(time.Minute)
		n := len(r.net.to(cb))
		replaying.Store(true)
		r.replay(1, 2)
		r.after(time.Second)
		r.end(id, hubpb.EndReason_END_UNSUBSCRIBED)
		ended := time.Now()
		r.after(time.Hour)
		got := r.net.to(cb)[n:]
		if len(got) != 1 || !got[0].cut || got[0].at.After(ended) {
			t.Errorf("%+v", got)
		}
		for _, d := range r.deadLetters() {
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
	replayRig(t, func(string, int, string) answer {
		if gone.Load() {
			return answer{status: 410}
		}
		return answer{status: 422}
	}, func(r *rig, p *delivery.Replayer) {
		id := r.subscribe(want{topic: "t", callback: cb})
		r.publish("t", "bad")
		r.after(time.Minute)
		gone.Store(true)
		r.replay(1)
		r.after(time.Minute)
		if _, ok := r.subscription(id); ok || len(r.deadLetters()) != 1 || r.deadLetters()[0].Status != 410 {
			t.Errorf("the subscription is there: %v; letters %+v", ok, r.deadLetters())
		}
	})
}

// An endpoint that is down is not hammered with all of its letters.
func TestReplaysStopAtAnEndpointThatIsDown(t *testing.T) {
	var down atomic.Bool
	replayRig(t, func(url string, _ int, body string) answer {
		switch {
		case !down.Load() && strings.HasPrefix(body, "bad"):
			return answer{status: 422}
		case down.Load() && url == cb:
			return answer{status: 503}
		}
		return answer{}
	}, func(r *rig, p *delivery.Replayer) {
		r.subscribe(want{topic: "t", callback: cb})
		r.subscribe(want{topic: "t", callback: cb + "2"})
		for i := range 10 {
			r.publish("t", fmt.Sprint("bad", i))
		}
		r.after(10 * time.Minute)
		if len(r.deadLetters()) != 20 {
			t.Fatalf("%d dead letters, want 20", len(r.deadLetters()))
		}
		down.Store(true)
		n, m := len(r.net.to(cb)), len(r.net.to(cb+"2"))
		var all []uint64
		for _, d := range r.deadLetters() {
			all = append(all, d.ID)
		}
		r.replay(all...)
		r.after(time.Minute)
		if sick, well := len(r.net.to(cb))-n, len(r.net.to(cb+"2"))-m; sick != 3 || well != 10 {
			t.Errorf("%d replays to the endpoint that is down and %d to the other, want 3 and 10", sick, well)
		}
		left := r.deadLetters()
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
