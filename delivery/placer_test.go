package delivery_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// unowned makes subscriptions without an owner, as in a hub that never had a second node.
func (c *fleet) unowned(topic string, n int) {
	for i := range n {
		url := fmt.Sprint("http://", topic, ".example/", i)
		id := c.propose(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
			Mode: hub.ModeSubscribe, Topic: topic, TopicRaw: topic, Callback: url, CallbackKey: url, LeaseSeconds: 36000, AutoRegister: true}}}).ID
		c.propose(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: id, VerifiedFrom: time.Now().UnixNano()}}})
	}
}

// assignments returns the number of subscriptions in each assignment event.
func (c *fleet) assignments() (out []int) {
	c.logMu.Lock()
	defer c.logMu.Unlock()
	for _, events := range c.log {
		for _, e := range events {
			if a := e.GetSubscriptionsAssigned(); a != nil {
				out = append(out, len(a.Assignments))
			}
		}
	}
	return out
}

// TestPlacerGivesOwnersAtOnce, in events of bounded size, and then rests.
func TestPlacerGivesOwnersAtOnce(t *testing.T) {
	fleetTest(t, 3, fake.OK, nil, func(c *fleet) {
		c.nodes[0].cut() // nobody decides for a moment: node-2 leads, and node-1 may still be sending
		c.unowned("t", 2500)
		c.after(300 * time.Millisecond)
		if _, moving := c.shares(); moving != 0 {
			t.Errorf("%d moving", moving)
		}
		c.nodes[0].heal()
		c.after(time.Minute)
		if shares, moving := c.shares(); moving != 0 || slices.Max(shares)-slices.Min(shares) > 1 || slices.Min(shares) != 833 {
			t.Errorf("shares %v, %d moving", shares, moving)
		}
		events := c.assignments()
		if len(events) < 3 || slices.Max(events) > 1000 {
			t.Errorf("assigned in events of %v", events)
		}
		c.after(time.Hour)
		if again := c.assignments(); len(again) != len(events) {
			t.Errorf("assigned again without a change, in events of %v", again[len(events):])
		}
	})
}

// TestPlacerKeepsSharesEven when subscriptions end, once things have settled.
func TestPlacerKeepsSharesEven(t *testing.T) {
	fleetTest(t, 3, fake.OK, nil, func(c *fleet) {
		var first []uint64
		for i := range 30 {
			if c.subscribe(fmt.Sprint("t", i%4), callback(i)) == c.nodes[0] {
				first = append(first, uint64(i+1))
			}
		}
		c.propose(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
			Subscriptions: first, Reason: hubpb.EndReason_END_OPERATOR}}})
		c.after(time.Second)
		if shares, moving := c.shares(); !slices.Equal(shares, []int{0, 10, 10}) || moving > 0 {
			t.Errorf("moved before things settled: %v, %d", shares, moving)
		}
		c.after(3 * time.Second)
		if shares, moving := c.shares(); slices.Max(shares) != 7 || slices.Min(shares) != 6 || moving > 0 {
			t.Errorf("shares %v, %d moving", shares, moving)
		}
	})
}

// TestPlacerTakesAMoveBack if the new owner is lost during the move: the old owner, which had stopped, continues and
// repeats nothing.
func TestPlacerTakesAMoveBack(t *testing.T) {
	var slow bool
	fleetTest(t, 1, func(string, int, string) fake.Answer {
		if slow {
			return fake.Answer{After: 9 * time.Second}
		}
		return fake.Answer{}
	}, nil, func(c *fleet) {
		c.subscribe("t", callback(0))
		c.subscribe("u", fake.Callback)
		slow = true
		c.publish("t", "1")
		c.publish("u", "1")
		joined := c.join()
		c.after(3 * time.Second)
		if _, moving := c.shares(); moving != 1 {
			t.Fatalf("%d moving, want 1 that waits for its attempt in flight", moving)
		}
		slow = false
		joined.kill()
		c.publish("t", "2")
		c.publish("u", "2")
		c.after(20 * time.Second)
		for _, url := range []string{callback(0), fake.Callback} {
			if f := c.faults(url, 2, 0); len(f) > 0 {
				t.Errorf("%s: %v", url, f)
			}
		}
		if shares, moving := c.shares(); !slices.Equal(shares, []int{2, 0}) || moving > 0 {
			t.Errorf("shares %v, %d moving", shares, moving)
		}
	})
}

// TestPlacerReassignsRemovedMembers: the subscriptions of a removed node go to the others.
func TestPlacerReassignsRemovedMembers(t *testing.T) {
	fleetTest(t, 3, fake.OK, nil, func(c *fleet) {
		for i := range 9 {
			c.subscribe("t", callback(i))
		}
		c.nodes[2].cut()
		c.logMu.Lock()
		c.nodes[2].member = false
		c.logMu.Unlock()
		c.after(2 * time.Second)
		if shares, _ := c.shares(); shares[2] != 3 {
			t.Errorf("moved before the owner has surely stopped: %v", shares)
		}
		c.after(2 * time.Second)
		if shares, _ := c.shares(); shares[2] != 0 || slices.Max(shares) != 5 {
			t.Errorf("shares %v", shares)
		}
	})
}
