package hub_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func assigned(a ...*hubpb.Assignment) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionsAssigned{SubscriptionsAssigned: &hubpb.SubscriptionsAssigned{Assignments: a}}}
}

func (w *world) assign(id hub.SubscriptionID, node string, epoch uint64, drain bool) {
	w.Helper()
	w.apply(assigned(&hubpb.Assignment{Subscription: uint64(id), Node: node, Epoch: epoch, Drain: drain}))
}

func (w *world) owner(id hub.SubscriptionID, want hub.Assignment) {
	w.Helper()
	if got := w.sub(id).Assignment; got != want {
		w.Errorf("%s is assigned %+v, want %+v", id, got, want)
	}
	if back := reloaded(w, w.State); !bytes.Equal(rows(w, back), rows(w, w.State)) {
		w.Error("a restart changes the state")
	} else if sub, _ := back.Subscription(id); sub.Assignment != want {
		w.Errorf("after a restart %s is assigned %+v, want %+v", id, sub.Assignment, want)
	}
}

// reported returns the assignment that the last entry's effects report for a subscription.
func (w *world) reported(id hub.SubscriptionID) string {
	for _, s := range w.fx.Subscriptions {
		if s.ID == id {
			return fmt.Sprintf("%s/%d/%s", s.Assignment.Node, s.Assignment.Epoch, s.Assignment.Next)
		}
	}
	return ""
}

// Two deciders unaware of each other cannot undo one another's decisions.
func TestI4AssignmentFromOutdatedStateIsIgnored(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.owner(id, hub.Assignment{})
	w.assign(id, "node-1", 0, false)
	if got := w.reported(id); got != "node-1/1/" {
		t.Errorf("delivery gets %q", got)
	}
	w.assign(id, "node-2", 0, false)
	w.owner(id, hub.Assignment{Node: "node-1", Epoch: 1})
	w.assign(id, "node-1", 1, false)
	w.assign(id, "", 1, false)
	if got := w.reported(id); got != "" {
		t.Errorf("nothing changed, but delivery gets %q", got)
	}
	w.assign(id, "node-2", 1, false)
	w.owner(id, hub.Assignment{Node: "node-2", Epoch: 2})
	w.assign(99, "node-2", 1, false)
	if all, none := w.Owners(); all["node-2"] != 1 || len(all) != 1 || none != 0 || w.Owned("node-2") != 1 {
		t.Errorf("owners %v and %d", all, none)
	}
	w.apply(ended(hubpb.EndReason_END_UNSUBSCRIBED, id))
	if all, none := w.Owners(); len(all) != 0 || none != 0 {
		t.Errorf("owners %v and %d", all, none)
	}
}

// Writes of a former owner are ignored (hazard 13).
func TestI4StaleEpochIsIgnored(t *testing.T) {
	epoch := func(n uint64) func(*hubpb.Cursor) { return func(c *hubpb.Cursor) { c.Epoch = n } }
	gone := func(id hub.SubscriptionID, epoch uint64) *hubpb.Event {
		e := ended(hubpb.EndReason_END_GONE, id)
		e.GetSubscriptionsEnded().Epochs = []uint64{epoch}
		return e
	}
	letter := func(id hub.SubscriptionID, offset, epoch uint64) *hubpb.Event {
		e := deadLettered(id, offset)
		e.GetMessageDeadLettered().Epoch = epoch
		return e
	}
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.apply(published("news", "1"), published("news", "2"), published("news", "3"))
	w.assign(id, "node-1", 0, false)
	w.apply(advanced(id, 1, epoch(1)))
	w.assign(id, "node-2", 1, false)
	before := w.sub(id)
	for _, stale := range []uint64{0, 1, 3} {
		w.apply(advanced(id, 3, epoch(stale), func(c *hubpb.Cursor) { c.Released = true }))
		if r := w.apply(letter(id, 2, stale)); r.Outcome != hub.OutcomeStale {
			t.Errorf("a dead letter under epoch %d: %+v", stale, r)
		}
		w.apply(gone(id, stale))
		if got := w.sub(id); !reflect.DeepEqual(got.Cursor, before.Cursor) || got.Assignment != before.Assignment || w.Counts().DeadLetters != 0 {
			t.Errorf("a write under epoch %d took effect: %+v", stale, got)
		}
	}
	w.apply(advanced(id, 2, epoch(2)))
	if r := w.apply(letter(id, 3, 2)); r.Outcome != hub.OutcomeOK || w.sub(id).Cursor.Offset != 3 {
		t.Errorf("the owner's own dead letter: %+v, cursor %+v", r, w.sub(id).Cursor)
	}
	if w.apply(gone(id, 2)); w.Counts().Subscriptions != 0 {
		t.Error("the owner's own 410 does not end the subscription")
	}
}

// A planned move waits until the owner releases the subscription, with its last cursor.
func TestI4PlannedMoveHandsOverTheCursor(t *testing.T) {
	release := func(c *hubpb.Cursor) { c.Epoch, c.Released = 1, true }
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.apply(published("news", "1"), published("news", "2"))
	w.assign(id, "node-1", 0, false)
	w.apply(advanced(id, 1, release)) // no move is planned
	w.owner(id, hub.Assignment{Node: "node-1", Epoch: 1})
	w.assign(id, "node-2", 1, true)
	w.owner(id, hub.Assignment{Node: "node-1", Epoch: 1, Next: "node-2"})
	if got := w.reported(id); got != "node-1/1/node-2" {
		t.Errorf("delivery gets %q", got)
	}
	w.assign(id, "node-3", 1, true) // node-2 has left in the meantime
	w.assign(id, "node-1", 1, true) // a draining owner cannot drain to itself
	w.owner(id, hub.Assignment{Node: "node-1", Epoch: 1, Next: "node-3"})
	w.apply(advanced(id, 2, release))
	w.owner(id, hub.Assignment{Node: "node-3", Epoch: 2})
	if got := w.reported(id); got != "node-3/2/" || w.fx.Subscriptions[0].Cursor.Offset != 2 {
		t.Errorf("delivery gets %q, %+v", got, w.fx.Subscriptions)
	}

	w.assign(id, "node-1", 2, true)
	w.assign(id, "node-2", 2, false) // the owner died during the move
	w.apply(advanced(id, 2, func(c *hubpb.Cursor) { c.Epoch, c.Released = 2, true }))
	w.owner(id, hub.Assignment{Node: "node-2", Epoch: 3})
	w.assign(id, "node-1", 3, true)
	w.assign(id, "node-2", 3, false) // it stays after all
	w.owner(id, hub.Assignment{Node: "node-2", Epoch: 4})
}

// A new subscription has an owner at once: the least loaded node, counting those verified in the meantime.
func TestNewSubscriptionsGoToTheLeastLoaded(t *testing.T) {
	w := newWorld(t)
	three := []*hubpb.Candidate{{Node: "node-1"}, {Node: "node-2", Weight: 1}, {Node: "node-3"}}
	subscribe := func(topic string, i int, among []*hubpb.Candidate) hub.Assignment {
		r := w.apply(requested(hub.ModeSubscribe, topic, fmt.Sprint(cb, i), hr, ""))
		e := verifiedFrom(r.ID, w.now, 0)
		e.GetRequestVerified().Candidates = among
		return w.sub(hub.SubscriptionID(w.apply(e).ID)).Assignment
	}
	perTopic := map[string]map[string]int{}
	for i := range 30 {
		topic := fmt.Sprint("t", i%3)
		a := subscribe(topic, i, three)
		if a.Epoch != 1 {
			t.Fatalf("subscription %d: %+v", i, a)
		}
		if perTopic[topic] == nil {
			perTopic[topic] = map[string]int{}
		}
		perTopic[topic][a.Node]++
		all, _ := w.Owners()
		if most, least := max(all["node-1"], all["node-2"], all["node-3"]), min(all["node-1"], all["node-2"], all["node-3"]); most-least > 1 {
			t.Fatalf("after %d: %v", i+1, all)
		}
	}
	for topic, n := range perTopic {
		if len(n) != 3 || max(n["node-1"], n["node-2"], n["node-3"]) > 4 {
			t.Errorf("topic %s is spread %v", topic, n)
		}
	}
	w.advance(time.Second)
	if a := subscribe("t0", 0, []*hubpb.Candidate{{Node: "node-9"}}); a.Node == "node-9" || a.Epoch != 1 {
		t.Errorf("a renewal changed hands: %+v", a)
	}
	for i := range 12 {
		subscribe("heavy", 100+i, []*hubpb.Candidate{{Node: "big", Weight: 3}, {Node: "small", Weight: 1}})
	}
	if w.Owned("big") != 9 || w.Owned("small") != 3 {
		t.Errorf("big has %d, small %d", w.Owned("big"), w.Owned("small"))
	}
}

// A node considered lost keeps its subscriptions if it resumed before the decision was recorded
// (hubpb.Assignment.resumed).
func TestI4ResumedNodeKeepsItsSubscriptions(t *testing.T) {
	back := &hubpb.Event{Kind: &hubpb.Event_DeliveryResumed{DeliveryResumed: &hubpb.DeliveryResumed{Node: "node-1", Mark: 7}}}
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.assign(id, "node-1", 0, false)
	w.apply(back)
	w.assign(id, "node-2", 1, false) // decided before it resumed
	w.owner(id, hub.Assignment{Node: "node-1", Epoch: 1})
	if n := w.Resumptions("node-1"); n != 1 || w.Resumptions("node-2") != 0 {
		t.Errorf("node-1 has resumed %d times", n)
	}
	w.assign(id, "node-2", 1, true) // a planned move waits for the owner anyway
	w.owner(id, hub.Assignment{Node: "node-1", Epoch: 1, Next: "node-2"})
	w.apply(assigned(&hubpb.Assignment{Subscription: uint64(id), Node: "node-3", Epoch: 1, Resumed: 1}))
	w.owner(id, hub.Assignment{Node: "node-3", Epoch: 2})
	w.apply(back)
	w.assign(id, "node-1", 2, false) // node-3 was never out of contact
	w.owner(id, hub.Assignment{Node: "node-1", Epoch: 3})
}
