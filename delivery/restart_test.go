package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// restartBehind kills a node and starts it with its files as of entry before, as the flusher's interval allows. The rest of
// the log comes a moment after the start.
func (m *fleetNode) restartBehind(before int) {
	m.kill()
	m.own, m.next = fake.NewEngine(m.f.T), 0
	for ; m.next < before; m.next++ {
		if _, err := m.own.ProposeAt(m.f.times[m.next], m.f.log[m.next]...); err != nil {
			m.f.T.Fatal(err)
		}
	}
	m.hears()
	m.start()
	m.f.after(100 * time.Millisecond)
	m.heal()
}

// TestI3ARestartRepeatsNothingInAReplicatedCursor: a node whose files are older than the log sends nothing again that a
// cursor in the log covers.
func TestI3ARestartRepeatsNothingInAReplicatedCursor(t *testing.T) {
	fleetTest(t, 3, fake.OK, nil, func(c *fleet) {
		owner := c.subscribe("t", fake.Callback)
		before := len(c.log)
		c.numbered("t", 5, 0)
		c.after(2 * time.Second)
		owner.restartBehind(before)
		c.after(5 * time.Second)
		if faults := c.faults(fake.Callback, 5, 0); len(faults) > 0 {
			t.Error(faults)
		}
	})
}

// TestI3ARestartRepeatsNothingAcknowledgedAhead: nor what a window acknowledged ahead of a message that still fails, not
// even for a group, whose members share a cursor.
func TestI3ARestartRepeatsNothingAcknowledgedAhead(t *testing.T) {
	var down atomic.Bool
	behave := func(_ string, _ int, body string) fake.Answer {
		if body == "2" && down.Load() {
			return fake.Answer{Status: http.StatusServiceUnavailable}
		}
		return fake.Answer{}
	}
	for _, group := range []string{"", "g"} {
		down.Store(true)
		fleetTest(t, 3, behave, nil, func(c *fleet) {
			options := &hubpb.SubscriptionOptions{Mode: hub.DeliveryParallel, Window: 8, Group: group}
			owner := c.subscribeWith("t", callback(0), options)
			members := []string{callback(0)}
			if group != "" {
				c.subscribeWith("t", callback(1), options)
				members = append(members, callback(1))
			}
			before := len(c.log)
			c.numbered("t", 6, 0)
			c.after(3 * time.Second)
			owner.restartBehind(before)
			down.Store(false)
			c.after(time.Minute)
			times := map[string]int{}
			for _, m := range members {
				for _, a := range c.net.To(m) {
					times[a.Body]++
				}
			}
			for i := range 6 {
				body := fmt.Sprint(i + 1)
				if times[body] == 0 || body != "2" && times[body] > 1 {
					t.Errorf("group %q: message %s was sent %d times", group, body, times[body])
				}
			}
		})
	}
}

// slowLog takes marks, when it is slow, and does not answer before the caller gives up.
type slowLog struct {
	hub.Proposer
	slow *atomic.Bool
}

func (s slowLog) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if _, mark := events[0].Kind.(*hubpb.Event_DeliveryResumed); mark && s.slow.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Proposer.Propose(ctx, events...)
}

// TestI4AMarkDoesNotDelayTheCut: requests in flight are cut off a third of the lease after its end, to the moment, also
// while the mark that would renew it is on its way.
func TestI4AMarkDoesNotDelayTheCut(t *testing.T) {
	hang := func(string, int, string) fake.Answer { return fake.Answer{Hang: true} }
	var last atomic.Pointer[time.Time] // contact; nil: now
	var slow atomic.Bool
	bubble(t, hang, func(o *delivery.DispatcherOptions) {
		o.Timeout, o.Proposer = time.Minute, slowLog{o.Proposer, &slow}
		o.Contact = func() time.Duration {
			if at := last.Load(); at != nil {
				return time.Since(*at)
			}
			return 0
		}
	}, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback})
		r.after(time.Second)
		r.Publish("t", "1")
		r.after(time.Second)
		slow.Store(true)
		base := time.Now()
		last.Store(&base)
		r.after(hub.ContactLease)
		late := base.Add(time.Second) // known only now, when the lease has ended
		last.Store(&late)
		cut := base.Add(hub.ContactLease + hub.ContactLease/3)
		r.after(time.Until(cut) - time.Millisecond)
		if as := r.net.To(fake.Callback); len(as) != 1 || as[0].Cut {
			t.Fatalf("just before the cut: %+v", as)
		}
		r.after(2 * time.Millisecond)
		if !r.net.To(fake.Callback)[0].Cut {
			t.Error("the request was not cut off in time")
		}
	})
}
