package hub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func rewound(id hub.SubscriptionID, offset uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionRewound{SubscriptionRewound: &hubpb.SubscriptionRewound{Subscription: uint64(id), Offset: offset}}}
}

func paused(id hub.SubscriptionID, yes bool) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{SubscriptionPaused: &hubpb.SubscriptionPaused{Subscription: uint64(id), Paused: yes}}}
}

// memory is a message log whose n-th message was published n seconds after start.
type memory struct {
	first, head uint64
	start       time.Time
}

func (m memory) OffsetAt(topic hub.TopicID, at time.Time) (uint64, error) {
	if topic == 0 {
		return 0, hub.ErrUnknownTopic
	}
	n := m.first
	for n <= m.head && m.start.Add(time.Duration(n)*time.Second).Before(at) {
		n++
	}
	return n, nil
}

func TestPositions(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	log := memory{first: 11, head: 50, start: now.Add(-time.Hour)}
	topic := hub.Topic{ID: 1, First: 11, Head: 50}
	at := func(d time.Duration) string { return log.start.Add(d).Format(time.RFC3339Nano) }
	for text, want := range map[string]uint64{
		"earliest": 10, "latest": 50, "11": 10, "0012": 11, "51": 50, at(time.Second): 10, at(20 * time.Second): 19,
		at(20*time.Second + 1): 20, at(19500 * time.Millisecond): 19, at(50 * time.Second): 49, at(51 * time.Second): 50,
		log.start.Add(30 * time.Second).In(time.FixedZone("", 7200)).Format(time.RFC3339): 29,
	} {
		p, err := hub.ParsePosition("hub.start", text)
		if err == nil {
			err = p.Check(topic, now)
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := p.Resolve(topic, log); err != nil || got != want {
			t.Errorf("%s: cursor %d (%v), want %d", text, got, err, want)
		}
	}
	for text, words := range map[string]string{
		"": "expected latest, earliest", "newest": "expected latest, earliest", "-1": "RFC 3339", "0": "count from 1", "000": "count from 1",
		"10": "from 11 to 51", "52": "from 11 to 51", strings.Repeat("9", 60): "from 11 to 51", strings.Repeat("9", 100): "expected latest",
		now.Add(time.Second).Format(time.RFC3339): "future", "2026-11-01": "expected latest",
		"0001-01-01T00:00:00Z": "in the years 1679 to 2261",
	} {
		p, err := hub.ParsePosition("hub.start", text)
		if err == nil {
			err = p.Check(topic, now)
		}
		if hub.CodeOf(err) != hub.CodeInvalid || !strings.HasPrefix(fmt.Sprint(err), "hub.start: ") {
			t.Errorf("%q: %v", text, err)
		}
		if !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%q: %v does not say %q", text, err, words)
		}
	}
	// An empty topic.
	for text, want := range map[string]uint64{"earliest": 0, "latest": 0, "1": 0, at(0): 0} {
		p, err := hub.ParsePosition("hub.start", text)
		if err == nil {
			err = p.Check(hub.Topic{}, now)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Resolve(hub.Topic{}, memory{}); got != want || err != nil {
			t.Errorf("%s in an empty topic: %d (%v)", text, got, err)
		}
	}
}

// A time resolves to the right offset wherever it is, even if retention drops messages in the meantime.
func TestPositionByTime(t *testing.T) {
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Uint64Range(1, 40).Draw(rt, "first")
		head := first - 1 + rapid.Uint64Range(0, 40).Draw(rt, "messages")
		dropped := rapid.Uint64Range(0, 5).Draw(rt, "dropped")
		second := rapid.Uint64Range(0, 90).Draw(rt, "second")
		p, err := hub.ParsePosition("to", start.Add(time.Duration(second)*time.Second).Format(time.RFC3339))
		if err != nil {
			rt.Fatal(err)
		}
		kept := min(first+dropped, head+1)
		got, err := p.Resolve(hub.Topic{ID: 1, First: first, Head: head}, memory{first: kept, head: head, start: start})
		want := min(max(second, kept), head+1) - 1
		if err != nil || got != want {
			rt.Fatalf("second %d of %d..%d (retained from %d): cursor %d (%v), want %d", second, first, head, kept, got, err, want)
		}
	})
}

// A rewind starts a new epoch: cursors, dead letters and ends from before it are ignored (invariant I4).
func TestRewindFencesDeliveriesInFlightI4(t *testing.T) {
	w := newWorld(t)
	w.published("news", 5)
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 5)
	w.apply(assigned(&hubpb.Assignment{Subscription: uint64(id), Node: "node-1"}))
	w.apply(advanced(id, 9, func(c *hubpb.Cursor) { c.Epoch, c.Attempts = 1, 3 }))
	if r := w.apply(rewound(id, 2)); r.Outcome != hub.OutcomeOK || r.Offset != 2 {
		t.Fatalf("%+v", r)
	}
	sub := w.sub(id)
	if sub.Cursor.Offset != 2 || sub.Cursor.Attempts != 0 || sub.Assignment != (hub.Assignment{Node: "node-1", Epoch: 2, Rewound: 2}) {
		t.Errorf("%+v, %+v", sub.Cursor, sub.Assignment)
	}
	if len(w.fx.Subscriptions) != 1 || w.fx.Subscriptions[0].Cursor.Offset != 2 {
		t.Errorf("delivery gets %+v", w.fx.Subscriptions)
	}
	letter := deadLettered(id, 10)
	letter.GetMessageDeadLettered().Epoch = 1
	w.apply(advanced(id, 10, func(c *hubpb.Cursor) { c.Epoch = 1 }), letter)
	if got := w.sub(id).Cursor; got.Offset != 2 || got.DeadLetters != 0 {
		t.Errorf("events from before the rewind moved the cursor: %+v", got)
	}
	w.apply(advanced(id, 4, func(c *hubpb.Cursor) { c.Epoch = 2 }))
	if w.sub(id).Cursor.Offset != 4 {
		t.Error("events from after the rewind are ignored")
	}
	// A planned move continues, and the subscription keeps the epoch of the rewind.
	w.apply(assigned(&hubpb.Assignment{Subscription: uint64(id), Node: "node-2", Epoch: 2, Drain: true}))
	w.apply(rewound(id, 100))
	if sub = w.sub(id); sub.Cursor.Offset != 10 || sub.Assignment != (hub.Assignment{Node: "node-1", Epoch: 3, Next: "node-2", Rewound: 3}) {
		t.Errorf("%+v, %+v", sub.Cursor, sub.Assignment)
	}
	w.apply(advanced(id, 10, func(c *hubpb.Cursor) { c.Epoch, c.Released = 3, true }))
	if sub = w.sub(id); sub.Assignment != (hub.Assignment{Node: "node-2", Epoch: 4, Rewound: 3}) {
		t.Errorf("%+v", sub.Assignment)
	}
	// Not before the oldest retained message.
	w.apply(trimmed(1, 5))
	if r := w.apply(rewound(id, 0)); r.Offset != 5 || w.sub(id).Cursor.Gap != 0 {
		t.Errorf("%+v, %+v", r, w.sub(id).Cursor)
	}
	if r := w.apply(rewound(id+1, 0)); r.Outcome != hub.OutcomeStale {
		t.Errorf("an unknown subscription: %+v", r)
	}
}

func TestPauseKeepsCursorAndLease(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 3)
	before := w.sub(id)
	w.apply(paused(id, true))
	before.Paused = true
	if got := w.sub(id); fmt.Sprint(got) != fmt.Sprint(before) || len(w.fx.Subscriptions) != 1 {
		t.Errorf("got %+v", got)
	}
	if w.apply(paused(id, true)); len(w.fx.Subscriptions) != 0 {
		t.Error("pausing a paused subscription was reported")
	}
	// A renewal does not resume a paused subscription, and its lease still expires.
	if w.subscribed("news", cb, 60, "") != id || !w.sub(id).Paused {
		t.Error("a renewal resumed it")
	}
	w.advance(time.Hour)
	w.apply(ended(hubpb.EndReason_END_EXPIRED, id))
	if _, ok := w.Subscription(id); ok {
		t.Error("the subscription outlived its lease")
	}
	if r := w.apply(paused(id, false)); r.Outcome != hub.OutcomeStale {
		t.Errorf("an ended subscription: %+v", r)
	}
}

// single is a Proposer and StateReader on a world.
type single struct{ *world }

func (s single) Propose(_ context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	return s.applyEntry(s.entry(events...))[0].Proposals[0], nil
}
func (s single) View(f func(*hub.State)) { f(s.State) }

func TestOperatorActions(t *testing.T) {
	w := newWorld(t)
	namer, err := hub.NewTopicNamer("https://hub.example.com")
	if err != nil {
		t.Fatal(err)
	}
	s := hub.NewService(hub.Policy{}, namer, single{w}, single{w}, nil)
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 10)
	w.apply(advanced(id, 6))
	rewind := func(to string, dry bool) (hub.Rewind, error) {
		p, err := hub.ParsePosition("to", to)
		if err != nil {
			t.Fatal(err)
		}
		return s.Rewind(t.Context(), memory{first: 1, head: 10}, id, p, dry)
	}
	for to, want := range map[string]hub.Rewind{"earliest": {From: 1, Again: 6}, "3": {From: 3, Again: 4}, "7": {From: 7}, "9": {From: 9, Skipped: 2}, "latest": {From: 11, Skipped: 4}} {
		if got, err := rewind(to, true); err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", to, got, err, want)
		}
	}
	if w.sub(id).Cursor.Offset != 6 {
		t.Error("a dry run moved it")
	}
	if got, err := rewind("3", false); err != nil || got.Again != 4 || w.sub(id).Cursor.Offset != 2 {
		t.Errorf("%+v (%v), cursor %d", got, err, w.sub(id).Cursor.Offset)
	}
	if _, err := rewind("12", false); hub.CodeOf(err) != hub.CodeInvalid {
		t.Errorf("past the end: %v", err)
	}
	if err := s.End(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	pending := w.Requests(0, 0, nil)
	if len(pending) != 1 || pending[0].Mode != hub.ModeDenied || pending[0].Callback != cb {
		t.Errorf("the callback is not notified: %+v", pending)
	}
	for name, err := range map[string]error{"end": s.End(t.Context(), id), "pause": s.Pause(t.Context(), id, true)} {
		if hub.CodeOf(err) != hub.CodeNotFound {
			t.Errorf("%s of an ended subscription: %v", name, err)
		}
	}
	if _, err := rewind("1", false); hub.CodeOf(err) != hub.CodeNotFound {
		t.Errorf("rewind of an ended subscription: %v", err)
	}
}
