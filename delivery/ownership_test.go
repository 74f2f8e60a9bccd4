package delivery_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/placement"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// numbered publishes messages 1 to n at intervals of gap.
func (c *fleet) numbered(topic string, n int, gap time.Duration) {
	for i := range n {
		c.publish(topic, fmt.Sprint(i+1))
		c.after(gap)
	}
}

// faults describes violations in what arrived at a callback. Expected are messages 1 to n, once each and in order
// except for the given number of repetitions, one at a time, and never from a node that has lost the subscription.
func (c *fleet) faults(callback string, n, repeats int) (out []string) {
	got := c.net.To(callback)
	seen, repeated := 0, 0
	for _, a := range got {
		var m int
		fmt.Sscan(a.Body, &m)
		switch {
		case m == seen+1:
			seen = m
		case m <= seen:
			repeated++
		default:
			out = append(out, fmt.Sprintf("%d after %d", m, seen))
			seen = m
		}
	}
	if seen != n {
		out = append(out, fmt.Sprintf("got up to %d of %d", seen, n))
	}
	if repeated > repeats {
		out = append(out, fmt.Sprintf("%d repeated, at most %d allowed", repeated, repeats))
	}
	if c.foreign[callback] > 0 {
		out = append(out, fmt.Sprintf("%d sent by a node that did not own it", c.foreign[callback]))
	}
	if c.net.Overlaps > 0 {
		out = append(out, fmt.Sprintf("%d sent while another was in flight", c.net.Overlaps))
	}
	return out
}

func callback(i int) string { return fmt.Sprint("http://cb.example/", i) }

// TestI4EachSubscriptionHasOneOwner: shares differ by at most one, and every message is sent once.
func TestI4EachSubscriptionHasOneOwner(t *testing.T) {
	run := func(tune func(*fleet)) (faults []string) {
		fleetTest(t, 3, fake.OK, tune, func(c *fleet) {
			for i := range 20 {
				c.subscribe(fmt.Sprint("t", i%2), callback(i))
			}
			c.numbered("t0", 30, 10*time.Millisecond)
			c.numbered("t1", 30, 0)
			c.after(time.Second)
			for i := range 20 {
				faults = append(faults, c.faults(callback(i), 30, 0)...)
			}
			if shares, _ := c.shares(); slices.Max(shares)-slices.Min(shares) > 1 {
				t.Errorf("shares %v", shares)
			}
			for _, m := range c.nodes {
				if n := m.d.Stats().Lanes; n < 6 || n > 7 {
					t.Errorf("%s has %d lanes", m.id, n)
				}
			}
		})
		return faults
	}
	if f := run(nil); len(f) > 0 {
		t.Error(f)
	}
}

// TestI4GuardOwnership: without the check of the owner, everything is sent several times.
func TestI4GuardOwnership(t *testing.T) {
	fleetTest(t, 2, fake.OK, func(c *fleet) { c.listen = ownsAll }, func(c *fleet) {
		c.subscribe("t", fake.Callback)
		c.numbered("t", 3, time.Second)
		if f := c.faults(fake.Callback, 3, 0); len(f) == 0 {
			t.Error("not detected")
		}
	})
}

// plannedMove moves subscriptions under load to a node that joins.
func plannedMove(t *testing.T, tune func(*fleet)) (faults []string) {
	slow := func(string, int, string) fake.Answer { return fake.Answer{After: 90 * time.Millisecond} }
	fleetTest(t, 2, slow, tune, func(c *fleet) {
		for i := range 9 {
			c.subscribe(fmt.Sprint("t", i), callback(i))
		}
		for n := range 100 {
			if n == 20 {
				c.join()
			}
			for i := range 9 {
				c.publish(fmt.Sprint("t", i), fmt.Sprint(n+1))
			}
			c.after(75 * time.Millisecond)
		}
		c.after(5 * time.Second)
		if shares, moving := c.shares(); slices.Max(shares) != 3 || moving > 0 {
			t.Errorf("shares %v, %d moving", shares, moving)
		}
		moved := 0
		for i := range 9 {
			faults = append(faults, c.faults(callback(i), 100, 0)...)
			if got := c.net.To(callback(i)); sender(got[0]) != sender(got[len(got)-1]) {
				moved++
			}
		}
		if moved != 3 {
			t.Errorf("%d subscriptions moved, want 3", moved)
		}
	})
	return faults
}

func TestI4PlannedMoveRepeatsNothing(t *testing.T) {
	if f := plannedMove(t, nil); len(f) > 0 {
		t.Error(f)
	}
}

func TestI4GuardDrain(t *testing.T) {
	if f := plannedMove(t, func(c *fleet) { c.listen = handsOverAtOnce }); len(f) == 0 {
		t.Error("not detected: owners did not finish their attempts in flight")
	}
}

// TestI4PlannedMoveOfAWaitingSubscription: it is handed over at once, with its failures.
func TestI4PlannedMoveOfAWaitingSubscription(t *testing.T) {
	fleetTest(t, 1, func(string, int, string) fake.Answer { return fake.Answer{Status: 503} }, func(c *fleet) {
		c.dispatcher = func(o *delivery.DispatcherOptions) {
			o.Retry.Backoff = retry.Backoff{Initial: time.Hour, Max: time.Hour, Random: func(n int64) int64 { return n - 1 }} // never short by chance
		}
	}, func(c *fleet) {
		c.subscribe("t", callback(1))
		c.subscribe("t", callback(2))
		c.publish("t", "1")
		c.after(time.Second)
		c.join()
		c.after(5 * time.Second)
		if shares, moving := c.shares(); !slices.Equal(shares, []int{1, 1}) || moving > 0 {
			t.Fatalf("shares %v, %d moving", shares, moving)
		}
		var failures []uint64
		c.View(func(s *hub.State) {
			for _, sub := range s.Subscriptions(0, 0, nil) {
				failures = append(failures, sub.Cursor.Failures)
			}
		})
		if !slices.Equal(failures, []uint64{1, 2}) { // the new owner made one more attempt
			t.Errorf("failures %v", failures)
		}
	})
}

// TestI4DeadOwnersShareResumesFromTheCursor within 4 s, repeating at most one cursor flush.
func TestI4DeadOwnersShareResumesFromTheCursor(t *testing.T) {
	for _, dead := range []int{0, 2} { // the leader, and a follower
		fleetTest(t, 3, fake.OK, nil, func(c *fleet) {
			for i := range 9 {
				c.subscribe("t", callback(i))
			}
			c.numbered("t", 100, 20*time.Millisecond)
			at := time.Now()
			c.nodes[dead].kill()
			for n := range 300 {
				c.publish("t", fmt.Sprint(n+101))
				c.after(20 * time.Millisecond)
			}
			moved := 0
			for i := range 9 {
				if f := c.faults(callback(i), 400, 13); len(f) > 0 { // 250 ms worth of messages
					t.Errorf("callback %d: %v", i, f)
				}
				got := c.net.To(callback(i))
				for k, a := range got {
					if k > 0 && sender(got[k-1]) == c.nodes[dead].id && sender(a) != sender(got[k-1]) {
						moved++
						if d := a.At.Sub(at); d > 4*time.Second || d < 2*time.Second {
							t.Errorf("callback %d resumes after %v", i, d)
						}
					}
				}
			}
			if moved != 3 {
				t.Errorf("%d moved, want 3", moved)
			}

			// Once back, it gets its share by planned moves.
			before := len(c.net.Arrivals)
			c.nodes[dead].start()
			c.nodes[dead].heal()
			c.numbered("u", 50, 100*time.Millisecond)
			c.after(time.Second)
			if shares, _ := c.shares(); !slices.Equal(shares, []int{3, 3, 3}) {
				t.Errorf("shares %v", shares)
			}
			if n := len(c.net.Arrivals); n != before {
				t.Errorf("%d messages repeated by its return", n-before)
			}
		})
	}
}

// outOfTouch cuts off the owner of a subscription with a backlog and lets it come back: first it hears only from the
// leader, then it gets the log.
func outOfTouch(t *testing.T, tune func(*fleet)) (faults []string) {
	slow := func(string, int, string) fake.Answer { return fake.Answer{After: 100 * time.Millisecond} }
	fleetTest(t, 2, slow, tune, func(c *fleet) {
		c.subscribe("t", callback(0))
		owner := c.subscribe("u", fake.Callback) // not the leader
		c.numbered("u", 200, 0)
		c.after(time.Second)
		owner.cut()
		c.after(6 * time.Second)
		owner.hears()
		c.after(4 * time.Second)
		owner.heal()
		c.after(20 * time.Second)
		// Cursors are recorded every 250 ms; after its last one, the owner sent for less than 2 s.
		faults = c.faults(fake.Callback, 200, 25)
		sub, _ := c.Subscription(2)
		if sub.Cursor.Offset != 200 {
			faults = append(faults, fmt.Sprintf("cursor %+v", sub.Cursor))
		}
		for _, m := range c.nodes {
			if m.d.Stats().OutOfTouch {
				faults = append(faults, m.id+" is out of touch at the end")
			}
		}
	})
	return faults
}

func TestI4ANodeOutOfTouchStopsSending(t *testing.T) {
	if f := outOfTouch(t, nil); len(f) > 0 {
		t.Error(f)
	}
}

func TestI4GuardLease(t *testing.T) {
	if f := outOfTouch(t, func(c *fleet) { c.dispatcher = func(o *delivery.DispatcherOptions) { o.Contact = nil } }); len(f) == 0 {
		t.Error("not detected: a node out of touch went on sending")
	}
}

func TestI4GuardCatchUp(t *testing.T) {
	if f := outOfTouch(t, func(c *fleet) { c.proposer = resumesAtOnce }); len(f) == 0 {
		t.Error("not detected: a node sent before it had caught up")
	}
}

func TestI4GuardMoveAfter(t *testing.T) {
	if f := outOfTouch(t, func(c *fleet) { c.placer = func(o *placement.Options) { o.MoveAfter = 1 } }); len(f) == 0 {
		t.Error("not detected: subscriptions moved while their owner still sent")
	}
}

// TestI4ANodeThatIsBackIsNotLost: after a partition, a node may hear from the leader and deliver before the leader's
// probes are answered again. It is not lost then, however long the answers have been missing.
func TestI4ANodeThatIsBackIsNotLost(t *testing.T) {
	fleetTest(t, 2, fake.OK, nil, func(c *fleet) {
		c.subscribe("t", callback(0))
		owner := c.subscribe("u", fake.Callback)
		c.numbered("u", 30, 0)
		for range 3 {
			owner.setMute(true)
			owner.cut()
			c.after(2 * time.Second)
			owner.heal()
			c.after(1500 * time.Millisecond)
			owner.setMute(false)
			c.after(2 * time.Second)
		}
		c.after(10 * time.Second)
		if f := c.faults(fake.Callback, 30, 0); len(f) > 0 {
			t.Error(f)
		}
		if sub, _ := c.Subscription(2); sub.Assignment.Epoch != 1 {
			t.Errorf("the subscription moved: %+v", sub.Assignment)
		}
	})
}

// TestI4AShortLossOfContactChangesNothing: no move and no repetition, not even of messages in flight.
func TestI4AShortLossOfContactChangesNothing(t *testing.T) {
	slow := func(string, int, string) fake.Answer { return fake.Answer{After: 300 * time.Millisecond} }
	fleetTest(t, 2, slow, nil, func(c *fleet) {
		c.subscribe("t", callback(0))
		owner := c.subscribe("u", fake.Callback)
		c.numbered("u", 30, 0)
		for range 4 {
			owner.cut()
			c.after(1800 * time.Millisecond)
			owner.heal()
			c.after(2 * time.Second)
		}
		c.after(10 * time.Second)
		if f := c.faults(fake.Callback, 30, 0); len(f) > 0 {
			t.Error(f)
		}
		if sub, _ := c.Subscription(2); sub.Assignment.Epoch != 1 {
			t.Errorf("the subscription moved: %+v", sub.Assignment)
		}
	})
}

// TestI4ARestartedNodeAsksBeforeItSends: its files may claim subscriptions that others were given meanwhile.
func TestI4ARestartedNodeAsksBeforeItSends(t *testing.T) {
	var down bool
	fleetTest(t, 2, func(string, int, string) fake.Answer {
		if down {
			return fake.Answer{Status: 503}
		}
		return fake.Answer{}
	}, nil, func(c *fleet) {
		c.subscribe("t", callback(0))
		owner := c.subscribe("u", fake.Callback)
		down = true
		c.numbered("u", 5, 0)
		c.after(time.Second)
		owner.kill()
		c.after(10 * time.Second)
		down = false
		owner.start() // without contact
		c.after(2 * time.Second)
		owner.hears()
		c.after(2 * time.Second)
		owner.heal()
		c.after(time.Minute)
		for _, a := range c.net.To(fake.Callback)[1:] {
			if sender(a) == owner.id && c.owner(2) != owner {
				t.Errorf("%s sent message %s at %v", owner.id, a.Body, a.At)
			}
		}
		if sub, _ := c.Subscription(2); sub.Cursor.Offset != 5 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestI4EventsOfAStaleOwnerAreIgnored: dead letters and 410s that it records once it is back.
func TestI4EventsOfAStaleOwnerAreIgnored(t *testing.T) {
	for _, status := range []int{410, 400} {
		var bad bool
		fleetTest(t, 2, func(string, int, string) fake.Answer {
			if bad {
				return fake.Answer{Status: status}
			}
			return fake.Answer{}
		}, func(c *fleet) { c.dispatcher = func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 1 } }, func(c *fleet) {
			c.subscribe("t", callback(0))
			owner := c.subscribe("u", fake.Callback)
			owner.own.Breakdown(nil)
			bad = true
			owner.cut()
			// The message reaches the owner, but its outcome no longer reaches the log.
			owner.own.Do(&hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{Topic: "u", Body: []byte("1")}}})
			c.after(100 * time.Millisecond)
			if len(c.net.To(fake.Callback)) != 1 {
				t.Fatalf("%d attempts", len(c.net.To(fake.Callback)))
			}
			bad = false
			c.after(5 * time.Second)
			c.publish("u", "1")
			c.after(time.Second)
			owner.heal()
			c.after(30 * time.Second)
			sub, ok := c.Subscription(2)
			if !ok || sub.Cursor.Offset != 1 || sub.Cursor.Delivered != 1 || len(c.DeadLetters()) != 0 || sub.Assignment.Epoch < 2 {
				t.Errorf("status %d: %+v, dead letters %v", status, sub, c.DeadLetters())
			}
		})
	}
}

// TestReload: after a snapshot was installed, everything matches the state.
func TestReload(t *testing.T) {
	fleetTest(t, 2, fake.OK, nil, func(c *fleet) {
		c.subscribe("t", callback(0))
		for i := range 4 {
			c.subscribe("u", callback(i+1))
		}
		m := c.nodes[1]
		m.cut()
		c.publish("u", "1")
		c.propose(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
			Subscriptions: []uint64{2}, Reason: hubpb.EndReason_END_OPERATOR}}})
		c.after(10 * time.Second)
		if shares, _ := c.shares(); shares[1] != 0 {
			t.Fatalf("shares %v", shares)
		}
		// The snapshot: the state changes without the dispatcher seeing the entries.
		m.own.Forget()
		m.heal()
		m.d.Reload()
		m.p.Reload()
		m.own.Observe(m.d)
		m.own.Observe(m.p)
		if n := m.d.Stats().Lanes; n != 0 {
			t.Errorf("%d lanes", n)
		}
		c.after(10 * time.Second)
		c.publish("u", "2")
		c.after(time.Second)
		for i := range 3 {
			if f := c.faults(callback(i+2), 2, 0); len(f) > 0 {
				t.Errorf("callback %d: %v", i+2, f)
			}
		}
		if shares, _ := c.shares(); shares[0] != 2 || shares[1] != 2 || m.d.Stats().Lanes != 2 {
			t.Errorf("shares %v, %d lanes", shares, m.d.Stats().Lanes)
		}
	})
}
