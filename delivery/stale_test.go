package delivery_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// lagging passes on what was applied once it is released, as on a node to which entries come late.
type lagging struct {
	to   hub.Observer
	mu   sync.Mutex
	held bool
	late []*hub.Effects
}

func (l *lagging) Applied(fx *hub.Effects) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		l.late = append(l.late, fx)
		return
	}
	l.to.Applied(fx)
}

func (l *lagging) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	for _, fx := range l.late {
		l.to.Applied(fx)
	}
}

// A node gives a message up while the log, unknown to it, has already renewed its ownership: nothing is recorded then, and the
// message is not passed over. Until the node knows, it does not call the endpoint all the time.
func TestI1ADeadLetterThatWasNotRecordedIsNoDeadLetter(t *testing.T) {
	for name, options := range map[string]*hubpb.SubscriptionOptions{"ordered": nil, "parallel": parallel(2), "keyed": keyed(2, "header:Key")} {
		t.Run(name, func(t *testing.T) {
			var well atomic.Bool
			answer := func(string, int, string) fake.Answer {
				return fake.Answer{After: time.Millisecond, Status: failFor(!well.Load(), http.StatusNotFound)}
			}
			bubble(t, answer, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 2 }, func(r *rig) {
				late := &lagging{to: r.d}
				r.Forget()
				r.Observe(late)
				id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: options})
				r.Publish("t", "first")
				r.after(100 * time.Millisecond)
				late.mu.Lock()
				late.held = true
				late.mu.Unlock()
				sub, _ := r.Subscription(id)
				for _, a := range []*hubpb.Assignment{{Node: "node-2", Drain: true}, {Node: "node-1"}} {
					a.Subscription, a.Epoch = uint64(id), sub.Assignment.Epoch
					r.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsAssigned{SubscriptionsAssigned: &hubpb.SubscriptionsAssigned{Assignments: []*hubpb.Assignment{a}}}})
				}
				r.after(8 * time.Second)
				if n := len(r.net.To(fake.Callback)); n < 2 || n > 12 {
					t.Errorf("%d attempts in 8 seconds, want two, after which the message is given up, and then one a second", n)
				}
				late.release()
				well.Store(true)
				r.after(time.Minute)
				sub, _ = r.Subscription(id)
				if got := r.net.To(fake.Callback); got[len(got)-1].Body != "first" || sub.Cursor.Offset != 1 || sub.Cursor.Delivered != 1 || len(r.DeadLetters()) != 0 {
					t.Errorf("the cursor is %+v, and there are %d dead letters; want the message delivered", sub.Cursor, len(r.DeadLetters()))
				}
			})
		})
	}
}
