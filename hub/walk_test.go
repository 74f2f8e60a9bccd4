package hub_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// holds is a state reader that counts how often, and for how long at most, it is held.
type holds struct {
	*world
	n    int
	most time.Duration
}

func (h *holds) View(f func(*hub.State)) {
	h.n++
	start := time.Now()
	f(h.State)
	h.most = max(h.most, time.Since(start))
}

// A walk meets everything once, in order, and lets others have the state in between.
func TestWalks(t *testing.T) {
	w := newOwners(t)
	const topics, each = 700, 3
	var events []*hubpb.Event
	for i := range topics {
		events = append(events, registered(fmt.Sprint("t", i)))
	}
	for i := range each * topics {
		events = append(events, imported(fmt.Sprint("t", i%topics), fmt.Sprint(cb, i), hr, time.Time{}))
	}
	for i := range 1300 { // one topic with more than fits into a step
		events = append(events, imported("big", fmt.Sprint(cb, "big", i), hr, time.Time{}))
	}
	w.apply(events...)
	w.published("big", 2)
	h := &holds{world: w}
	var names []hub.TopicID
	hub.WalkTopics(h, func(t *hub.Topic) bool { names = append(names, t.ID); return true })
	if len(names) != topics+1 || !slices.IsSorted(names) || h.n < 3 {
		t.Errorf("%d topics in %d holds", len(names), h.n)
	}
	seen, heads, pauses := map[hub.SubscriptionID]int{}, uint64(0), 0
	h.n = 0
	hub.WalkSubscriptions(h, func(sub *hub.Subscription, head uint64) bool { seen[sub.ID]++; heads += head; return true }, func() { pauses++ })
	if len(seen) != each*topics+1300 || heads != 2*1300 || h.n < 6 || pauses != h.n-1 {
		t.Errorf("%d subscriptions in %d holds, heads %d", len(seen), h.n, heads)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was met %d times", id, n)
		}
	}
	big, _ := w.TopicByName("big")
	n := 0
	hub.WalkSubscriptionsOf(h, big.ID, func(sub *hub.Subscription, _ uint64) bool { n++; return sub.TopicName == "big" && n < 900 })
	if n != 900 {
		t.Errorf("it went on to %d after it was told to stop", n)
	}
}

// Dead letters are met in order, the newest last, whatever was dropped in between.
func TestWalkLetters(t *testing.T) {
	w := newOwners(t)
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 1200)
	var events []*hubpb.Event
	for i := range uint64(1200) {
		events = append(events, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: uint64(id), Epoch: w.sub(id).Assignment.Epoch, Offset: i + 1, Attempts: 1}}})
	}
	w.apply(events...)
	var drop []uint64
	for i := uint64(1); i <= 1200; i += 2 {
		drop = append(drop, i)
	}
	w.apply(&hubpb.Event{Kind: &hubpb.Event_DeadLettersDropped{DeadLettersDropped: &hubpb.DeadLettersDropped{Letters: drop}}})
	h := &holds{world: w}
	var got []uint64
	hub.WalkLetters(h, func(d *hub.DeadLetter) bool { got = append(got, d.ID); return true }, nil)
	if len(got) != 600 || !slices.IsSorted(got) || got[0] != 2 || got[599] != 1200 || h.n < 3 {
		t.Errorf("%d letters in %d holds", len(got), h.n)
	}
	n := 0
	hub.WalkLetters(h, func(*hub.DeadLetter) bool { n++; return false }, nil)
	if n != 1 {
		t.Errorf("it went on to %d", n)
	}
	hub.WalkLetters(&holds{world: newOwners(t)}, func(*hub.DeadLetter) bool { t.Error("there is none"); return true }, nil)
}
