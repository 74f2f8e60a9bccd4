package delivery_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// TestI3RetryKeepsTheMessageID, and retries are identical in every other respect.
func TestI3RetryKeepsTheMessageID(t *testing.T) {
	bubble(t, func(_ string, nth int, _ string) fake.Answer {
		if nth <= 3 {
			return fake.Answer{Status: 500}
		}
		return fake.Answer{}
	}, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "s"})
		r.Publish("t", "x")
		r.after(time.Minute)
		got := r.net.To(fake.Callback)
		if len(got) != 4 {
			t.Fatalf("%d attempts, want 4", len(got))
		}
		for _, a := range got {
			if fmt.Sprint(a.Header) != fmt.Sprint(got[0].Header) || a.Body != got[0].Body {
				t.Errorf("attempts differ: %v and %v", a.Header, got[0].Header)
			}
		}
	})
}

// TestI3RestartRepeatsOnlyWhatWasNotRecorded: a crash repeats at most what the last cursor flush missed, a graceful
// stop nothing.
func TestI3RestartRepeatsOnlyWhatWasNotRecorded(t *testing.T) {
	bubble(t, fake.OK, func(o *delivery.DispatcherOptions) { o.CursorFlush = 100 * time.Millisecond }, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for i := range 5 {
			r.Publish("t", fmt.Sprint("a", i))
		}
		r.after(time.Second) // recorded
		for i := range 5 {
			r.Publish("t", fmt.Sprint("b", i))
		}
		r.after(10 * time.Millisecond) // delivered, not recorded
		r.crash()
		r.start()
		r.after(time.Second)
		if got, want := fake.Bodies(r.net.To(fake.Callback)), "a0 a1 a2 a3 a4 b0 b1 b2 b3 b4 b0 b1 b2 b3 b4"; got != want {
			t.Errorf("after a crash\n got %s\nwant %s", got, want)
		}
		r.Publish("t", "c")
		r.after(10 * time.Millisecond)
		r.stop()
		r.start()
		r.after(time.Second)
		if got := r.net.To(fake.Callback); len(got) != 16 {
			t.Errorf("after a graceful stop: %s", fake.Bodies(got))
		}
	})
}

// TestCursorsAreCoalesced: one event per flush, with all cursors that moved.
func TestCursorsAreCoalesced(t *testing.T) {
	bubble(t, fake.OK, func(o *delivery.DispatcherOptions) { o.CursorFlush = time.Second }, func(r *rig) {
		for i := range 50 {
			r.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint("http://cb.example/", i)})
		}
		for range 20 {
			r.Publish("t", "x")
		}
		r.after(3 * time.Second)
		var flushes int
		for _, e := range r.Events() {
			if c := e.GetCursorsAdvanced(); c != nil {
				flushes++
				if c.Node != "node-1" || len(c.Cursors) != 50 || c.Cursors[0].Offset != 20 || c.Cursors[0].Delivered != 20 {
					t.Errorf("cursor event of %s with %d cursors: %v", c.Node, len(c.Cursors), c.Cursors[0])
				}
			}
		}
		if flushes != 1 {
			t.Errorf("%d cursor events, want 1", flushes)
		}
	})
}

// TestCursorsWaitForALeader: cursors that cannot be written are not lost, and delivery continues.
func TestCursorsWaitForALeader(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{After: time.Millisecond} }, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for i := range 10 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.Breakdown(hub.ErrNoLeader)
		r.after(time.Minute)
		if got := r.net.To(fake.Callback); len(got) != 10 {
			t.Errorf("%d messages delivered", len(got))
		}
		if sub, _ := r.Subscription(id); sub.Cursor.Offset != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
		r.Breakdown(nil)
		r.after(10 * time.Second)
		if sub, _ := r.Subscription(id); sub.Cursor.Offset != 10 || sub.Cursor.Delivered != 10 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestI9TrimMovesTheLane: a lane behind the retained log continues at its start; the gap is recorded.
func TestI9TrimMovesTheLane(t *testing.T) {
	var up atomic.Bool
	bubble(t, func(string, int, string) fake.Answer {
		if !up.Load() {
			return fake.Answer{Status: 503}
		}
		return fake.Answer{}
	}, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		for i := range 10 {
			r.Publish("t", fmt.Sprint(i+1))
		}
		r.after(2 * time.Second)
		n := len(r.net.To(fake.Callback))
		up.Store(true)
		r.Do(&hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
			Ranges: []*hubpb.LogTrimmed_Range{{Topic: 1, Through: 7}}}}})
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(fake.Callback)[n:]); got != "8 9 10" {
			t.Errorf("after the trim: %q, want %q", got, "8 9 10")
		}
		if sub, _ := r.Subscription(id); sub.Cursor.Gap != 7 || sub.Cursor.Offset != 10 || sub.Cursor.Delivered != 3 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestTrimDuringAttempt: retention may drop the message in flight, whatever its outcome.
func TestTrimDuringAttempt(t *testing.T) {
	for _, status := range []int{200, 500, 400} {
		bubble(t, func(_ string, nth int, _ string) fake.Answer {
			if nth == 1 {
				return fake.Answer{Status: status, After: time.Second}
			}
			return fake.Answer{}
		}, nil, func(r *rig) {
			id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
			for i := range 5 {
				r.Publish("t", fmt.Sprint(i+1))
			}
			r.after(500 * time.Millisecond)
			r.Do(&hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
				Ranges: []*hubpb.LogTrimmed_Range{{Topic: 1, Through: 3}}}}})
			r.after(time.Minute)
			if got := fake.Bodies(r.net.To(fake.Callback)); got != "1 4 5" {
				t.Errorf("status %d: got %q, want %q", status, got, "1 4 5")
			}
			if sub, _ := r.Subscription(id); sub.Cursor.Offset != 5 || sub.Cursor.Attempts != 0 {
				t.Errorf("status %d: cursor %+v", status, sub.Cursor)
			}
		})
	}
}

// TestCloseLetsRequestsFinish within its context, and records them.
func TestCloseLetsRequestsFinish(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{After: 3 * time.Second} }, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "1")
		r.Publish("t", "2")
		r.after(time.Second)
		r.stop()
		if got := r.net.To(fake.Callback); len(got) != 1 || got[0].Cut {
			t.Errorf("%+v", got)
		}
		if sub, _ := r.Subscription(id); sub.Cursor.Offset != 1 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
		r.start()
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "1 2" {
			t.Errorf("got %q", got)
		}
	})
}

// TestTrimBeforeItIsKnown: the log may be trimmed just before the dispatcher hears of it.
func TestTrimBeforeItIsKnown(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.stop()
		for i := range 5 {
			r.Publish("t", fmt.Sprint(i+1))
		}
		r.o.State = &fake.LateState{Engine: r.Engine, Once: func() {
			r.Forget()
			r.Do(&hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
				Ranges: []*hubpb.LogTrimmed_Range{{Topic: 1, Through: 3}}}}})
			r.Observe(r.d)
		}}
		r.start()
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "4 5" {
			t.Errorf("got %q, want %q", got, "4 5")
		}
	})
}

type flakyLog struct {
	*fake.Engine
	bad atomic.Int32
}

func (f *flakyLog) Read(topic hub.TopicID, from uint64, max, maxBytes int) ([]hub.Message, error) {
	if f.bad.Add(-1) >= 0 {
		return nil, fake.ErrRefused
	}
	return f.Engine.Read(topic, from, max, maxBytes)
}

// TestUnreadableLogOnlyDelays: nothing is skipped, and no attempt is counted.
func TestUnreadableLogOnlyDelays(t *testing.T) {
	bubble(t, fake.OK, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.stop()
		log := &flakyLog{Engine: r.Engine}
		log.bad.Store(3)
		r.o.Messages = log
		r.start()
		r.Publish("t", "1")
		r.Publish("t", "2")
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(fake.Callback)); got != "1 2" {
			t.Errorf("got %q, want %q", got, "1 2")
		}
		if sub, _ := r.Subscription(id); sub.Cursor.Failures != 0 || sub.Cursor.Attempts != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestAbortByContext: when the process shuts down, nothing hangs and deliveries made are still recorded.
func TestAbortByContext(t *testing.T) {
	bubble(t, func(_ string, _ int, body string) fake.Answer { return fake.Answer{Hang: body == "2"} }, func(o *delivery.DispatcherOptions) {
		o.CursorFlush = time.Hour
	}, func(r *rig) {
		r.stop()
		ctx, cancel := context.WithCancel(context.Background())
		r.d = delivery.NewDispatcher(r.o)
		r.Observe(r.d)
		r.d.Start(ctx)
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.Publish("t", "1")
		r.Publish("t", "2")
		r.after(time.Second)
		cancel()
		r.after(time.Second)
		if got := r.net.To(fake.Callback); len(got) != 2 || !got[1].Cut || r.d.Stats().Fast+r.d.Stats().Slow != 0 {
			t.Errorf("%+v, %+v", got, r.d.Stats())
		}
		if err := r.d.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if sub, _ := r.Subscription(id); sub.Cursor.Offset != 1 || sub.Cursor.Attempts != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// What the dispatcher knows of a subscription's progress is there at once, ahead of the recorded cursor.
func TestProgressIsKnownBeforeItIsRecorded(t *testing.T) {
	for name, o := range map[string]*hubpb.SubscriptionOptions{"ordered": nil, "parallel": parallel(4)} {
		t.Run(name, func(t *testing.T) {
			stuck := func(_ string, _ int, body string) fake.Answer { return fake.Answer{Status: failFor(body == "m2", 422)} }
			bubble(t, stuck, func(o *delivery.DispatcherOptions) { o.CursorFlush = time.Hour }, func(r *rig) {
				id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: o})
				for i := range 5 {
					r.Publish("t", fmt.Sprint("m", i))
				}
				r.after(time.Millisecond)
				got, _ := r.d.Lane(id)
				want := delivery.LaneStatus{Offset: 2, Ahead: 0, Remaining: 3, Head: 5, Delivered: 2}
				if o != nil {
					want = delivery.LaneStatus{Offset: 2, Ahead: 2, Remaining: 1, Head: 5, Delivered: 4}
				}
				if (delivery.LaneStatus{Offset: got.Offset, Ahead: got.Ahead, Remaining: got.Remaining, Head: got.Head, Delivered: got.Delivered}) != want {
					t.Errorf("progress %+v, want %+v", got, want)
				}
				if sub, _ := r.Subscription(id); sub.Cursor.Offset != 0 || sub.Cursor.Delivered != 0 {
					t.Errorf("recorded already: %+v", sub.Cursor)
				}
			})
		})
	}
}
