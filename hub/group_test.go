package hub_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// join creates or renews a subscription with options; nodes are the candidate owners.
func (w *world) join(callback string, start uint64, o *hubpb.SubscriptionOptions, nodes ...string) hub.Result {
	w.Helper()
	e := requested(hub.ModeSubscribe, "news", callback, hr, "")
	e.GetSubscriptionRequested().Options = o
	v := verifiedFrom(w.apply(e).ID, w.now, start)
	for _, n := range nodes {
		v.GetRequestVerified().Candidates = append(v.GetRequestVerified().Candidates, &hubpb.Candidate{Node: n})
	}
	return w.apply(v)
}

func in(group string, mode hub.DeliveryMode) *hubpb.SubscriptionOptions {
	o := &hubpb.SubscriptionOptions{Group: group, Mode: mode}
	if mode != hub.DeliveryOrdered {
		o.Window = 4
	}
	return o
}

func TestGroupsShareCursorAndOwner(t *testing.T) {
	w := newWorld(t)
	w.published("news", 10)
	a := hub.SubscriptionID(w.join(cb+"a", 3, in("g", hub.DeliveryParallel), "node-1", "node-2").ID)
	b := hub.SubscriptionID(w.join(cb+"b", 9, in("g", hub.DeliveryParallel), "node-1", "node-2").ID)
	if len(w.fx.Subscriptions) != 2 {
		t.Errorf("delivery gets %d members", len(w.fx.Subscriptions))
	}
	alone := hub.SubscriptionID(w.join(cb+"c", 0, nil, "node-1", "node-2").ID)
	// The group counts as one, so the single subscription goes to the other node.
	w.owner(a, hub.Assignment{Node: "node-1", Epoch: 1})
	w.owner(b, hub.Assignment{Node: "node-1", Epoch: 1})
	w.owner(alone, hub.Assignment{Node: "node-2", Epoch: 1})
	if w.Owned("node-1") != 1 || w.Units() != 2 || len(w.Placements()) != 2 {
		t.Errorf("node-1 owns %d of %d units: %+v", w.Owned("node-1"), w.Units(), w.Placements())
	}
	if got := w.sub(b).Cursor.Offset; got != 3 {
		t.Errorf("the later member has cursor %d instead of the group's", got)
	}
	g := uint64(w.sub(a).Group)
	w.apply(&hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Cursors: []*hubpb.Cursor{
		{Group: g, Offset: 5, Through: 8, Open: []*hubpb.OpenMessage{{Offset: 6, Attempts: 2}}, Epoch: 1},
		{Subscription: uint64(a), Delivered: 4, Epoch: 1},
		{Subscription: uint64(b), Delivered: 1, Failures: 2, Epoch: 1},
	}}}})
	ca, cbr := w.sub(a).Cursor, w.sub(b).Cursor
	if ca.Offset != 5 || ca.Ahead() != 2 || ca.Remaining(10) != 3 || ca.Delivered != 4 || cbr.Offset != 5 || cbr.Failures != 2 {
		t.Errorf("cursors %+v and %+v", ca, cbr)
	}
	// The group moves as a whole.
	w.apply(assigned(&hubpb.Assignment{Subscription: uint64(a), Group: g, Node: "node-2", Epoch: 1, Drain: true}))
	w.owner(b, hub.Assignment{Node: "node-1", Epoch: 1, Next: "node-2"})
	w.apply(&hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Cursors: []*hubpb.Cursor{
		{Group: g, Offset: 6, Epoch: 1, Released: true}}}}})
	w.owner(a, hub.Assignment{Node: "node-2", Epoch: 2})
	if w.apply(assigned(&hubpb.Assignment{Subscription: uint64(a), Node: "node-1", Epoch: 2})); w.sub(a).Assignment.Node != "node-2" {
		t.Error("a member was moved alone")
	}
	// Rewinding one rewinds all; the end of one does not affect the others; the last one takes the group with it.
	w.apply(rewound(b, 2))
	w.owner(a, hub.Assignment{Node: "node-2", Epoch: 3, Rewound: 3})
	if w.sub(a).Cursor.Offset != 2 {
		t.Errorf("cursor %+v", w.sub(a).Cursor)
	}
	w.apply(ended(hubpb.EndReason_END_UNSUBSCRIBED, a))
	w.owner(b, hub.Assignment{Node: "node-2", Epoch: 3, Rewound: 3})
	w.apply(ended(hubpb.EndReason_END_UNSUBSCRIBED, b))
	if w.Owned("node-2") != 1 || w.Units() != 1 {
		t.Errorf("the group is still counted: %d of %d", w.Owned("node-2"), w.Units())
	}
	if id := hub.SubscriptionID(w.join(cb+"a", 7, in("g", hub.DeliveryKeyed)).ID); w.sub(id).Cursor.Offset != 7 || uint64(w.sub(id).Group) == g {
		t.Errorf("a new group begins at %+v", w.sub(id).Cursor)
	}
}

func TestGroupMembersMustAgree(t *testing.T) {
	w := newWorld(t)
	w.published("news", 3)
	w.join(cb+"a", 0, in("g", hub.DeliveryParallel))
	// An only member may change the settings.
	if r := w.join(cb+"a", 0, in("g", hub.DeliveryOrdered)); r.Outcome != hub.OutcomeOK {
		t.Errorf("%+v", r)
	}
	w.join(cb+"b", 0, in("g", hub.DeliveryOrdered))
	before := rows(t, w.State)
	if r := w.join(cb+"c", 0, in("g", hub.DeliveryParallel)); r.Outcome != hub.OutcomeGroupConflict || w.Counts().Subscriptions != 2 {
		t.Errorf("%+v", r)
	}
	if r := w.join(cb+"b", 0, in("g", hub.DeliveryParallel)); r.Outcome != hub.OutcomeGroupConflict {
		t.Errorf("a renewal: %+v", r)
	}
	if len(rows(t, w.State)) < len(before) {
		t.Error("a refusal changed the state")
	}

	s := hub.NewService(hub.Policy{Leases: leases, KeyHeaders: []string{"X-Hub-Key"}, AutoRegister: true}, namer(t), single{w}, single{w}, nil)
	ask := func(more ...string) error {
		f := form("hub.mode", "subscribe", "hub.topic", "https://hub.example/topics/news", "hub.callback", "https://subscriber.example/cb")
		for i := 0; i < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		_, err := s.Subscribe(t.Context(), f)
		return err
	}
	w.join(cb+"k", 0, &hubpb.SubscriptionOptions{Group: "k", Mode: hub.DeliveryKeyed, Window: 4, Key: "json:/a"})
	for param, params := range map[string][]string{
		"hub.delivery_mode":   {"hub.consumer_group", "g", "hub.delivery_window", "4"},
		"hub.delivery_window": {"hub.consumer_group", "k", "hub.delivery_key", "json:/a", "hub.delivery_window", "5"},
		"hub.delivery_key":    {"hub.consumer_group", "k", "hub.delivery_key", "json:/b", "hub.delivery_window", "4"},
	} {
		if err := ask(params...); hub.CodeOf(err) != hub.CodeConflict || !strings.HasPrefix(fmt.Sprint(err), param+": ") {
			t.Errorf("%s: %v", param, err)
		}
	}
	if err := ask("hub.delivery_key", "header:X-Other"); hub.CodeOf(err) != hub.CodeInvalid || !strings.Contains(err.Error(), "Content-Type, X-Hub-Key") {
		t.Errorf("a header not kept with messages: %v", err)
	}
	for _, params := range [][]string{{"consumerGroup", "g"}, {"consumerGroup", "new", "hub.delivery_window", "9"}, {"hub.delivery_key", "header:x-hub-KEY"},
		{"hub.consumer_group", "k", "hub.delivery_key", "json:/a", "hub.delivery_window", "4"}} {
		if err := ask(params...); err != nil {
			t.Errorf("%v: %v", params, err)
		}
	}
}

// Joining, changing and leaving groups: members share the group's cursor, every change starts a new epoch, and no
// other subscription's cursor changes.
func TestRenewalsChangeGroupAndMode(t *testing.T) {
	w := newWorld(t)
	w.published("news", 10)
	id := hub.SubscriptionID(w.join(cb, 4, nil, "node-1").ID)
	epoch := uint64(0)
	check := func(what string, offset uint64, r hub.Result) {
		t.Helper()
		sub := w.sub(id)
		if r.Outcome != hub.OutcomeOK || hub.SubscriptionID(r.ID) != id || sub.Cursor.Offset != offset || sub.Assignment.Epoch <= epoch || sub.Assignment.Node != "node-1" {
			t.Errorf("%s: %+v, %+v", what, r, sub)
		}
		epoch = sub.Assignment.Epoch
	}
	check("alone", 4, hub.Result{ID: uint64(id)})
	check("parallel", 4, w.join(cb, 9, &hubpb.SubscriptionOptions{Mode: hub.DeliveryParallel, Window: 4}, "node-1"))
	w.apply(advanced(id, 5, func(c *hubpb.Cursor) { c.Epoch, c.Through, c.Open = epoch, 8, []*hubpb.OpenMessage{{Offset: 6}} }))
	if c := w.sub(id).Cursor; c.Ahead() != 2 {
		t.Errorf("cursor %+v", c)
	}
	check("another window", 5, w.join(cb, 9, &hubpb.SubscriptionOptions{Mode: hub.DeliveryParallel, Window: 5}, "node-1"))
	if w.join(cb, 9, &hubpb.SubscriptionOptions{Mode: hub.DeliveryParallel, Window: 5, Rate: 3}, "node-1"); w.sub(id).Assignment.Epoch != epoch {
		t.Error("a new rate starts a new epoch")
	}
	check("a new group", 5, w.join(cb, 9, in("g", hub.DeliveryOrdered), "node-1"))
	other := hub.SubscriptionID(w.join(cb+"o", 2, in("h", hub.DeliveryOrdered), "node-1").ID)
	check("another's group", 2, w.join(cb, 9, in("h", hub.DeliveryOrdered), "node-1"))
	w.owner(other, w.sub(id).Assignment)
	check("alone again", 2, w.join(cb, 9, nil, "node-1"))
	if w.sub(other).Cursor.Offset != 2 || w.GroupMembers(w.sub(other).Group) != 1 || w.sub(id).Group != 0 {
		t.Errorf("%+v and %+v", w.sub(other), w.sub(id))
	}
}

var anyGroup = rapid.SampledFrom([]uint64{0, 0, 1, 2})

// ahead draws out-of-order progress, some of it invalid.
func ahead(t *rapid.T, c *hubpb.Cursor) {
	c.Through = rapid.Uint64Range(0, 9).Draw(t, "through")
	for range rapid.IntRange(0, 4).Draw(t, "open") {
		c.Open = append(c.Open, &hubpb.OpenMessage{Offset: rapid.Uint64Range(0, 9).Draw(t, "open offset"), Attempts: 1})
	}
}
