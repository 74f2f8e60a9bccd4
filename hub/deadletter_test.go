package hub_test

import (
	"reflect"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func (w *world) letter(id uint64) hub.DeadLetter {
	w.Helper()
	d, ok := w.DeadLetter(id)
	if !ok {
		w.Fatalf("%s is gone", hub.DeadLetterID(id))
	}
	return d
}

func TestReplaysInTheFold(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	other := w.subscribed("news", cb+"2", hr, "")
	w.published("news", 4)
	for _, e := range []*hubpb.Event{deadLettered(id, 1), deadLettered(id, 2), deadLettered(other, 3)} {
		w.apply(e)
	}
	if w.DeadLetterBytes() != 60 {
		t.Errorf("%d bytes, want 60", w.DeadLetterBytes())
	}
	if r := w.apply(replaying(1, 2, 3, 99)); r.ID != 3 || len(w.fx.Replays) != 3 || w.fx.Replays[2] != (hub.Replay{Letter: 3, Subscription: other}) {
		t.Fatalf("%+v, effects %+v", r, w.fx.Replays)
	}
	if r := w.apply(replaying(1)); r.Outcome != hub.OutcomeStale || len(w.fx.Replays) != 0 {
		t.Errorf("a letter is replayed twice at once: %+v", r)
	}

	before := w.letter(2)
	w.apply(tried(1, 0))
	w.apply(tried(2, 1))
	if _, ok := w.DeadLetter(1); ok {
		t.Error("a delivered letter still exists")
	}
	d := w.letter(2)
	last := hub.Attempt{At: time.Unix(0, 11).UTC(), Status: 404, Latency: 2 * time.Millisecond, Reason: "http-status", Node: "node-2"}
	if !d.Replaying.IsZero() || d.Attempts != 6 || d.Status != 404 || d.Reason != "http-status" || len(d.Tries) != 3 || d.Tries[2] != last {
		t.Errorf("after a failed replay: %+v", d)
	}
	if len(before.Tries) != 2 {
		t.Error("a copy of the letter changed")
	}
	if sub := w.sub(id); sub.Cursor.Offset != 2 || sub.Cursor.DeadLetters != 2 {
		t.Errorf("replays moved the cursor: %+v", sub.Cursor)
	}
	for range 40 {
		w.apply(replaying(2))
		w.apply(tried(2, 1))
	}
	if d := w.letter(2); len(d.Tries) != 16 || d.Attempts != 46 {
		t.Errorf("%d attempts of %d are kept, want 16", len(d.Tries), d.Attempts)
	}
	w.apply(replaying(2))
	w.apply(tried(2, 2))
	if d := w.letter(2); !d.Replaying.IsZero() || d.Attempts != 46 {
		t.Errorf("a replay that was not made: %+v", d)
	}

	// When a subscription ends, its replays end with it; the letters stay.
	w.apply(ended(hubpb.EndReason_END_OPERATOR, other))
	if d := w.letter(3); !d.Replaying.IsZero() || len(w.Replays()) != 0 {
		t.Errorf("%+v", d)
	}
	if r := w.apply(replaying(3)); r.Outcome != hub.OutcomeStale {
		t.Errorf("a replay without a subscription: %+v", r)
	}
	w.State = reloaded(t, w.State)
	if r := w.apply(droppedLetters(2, 3, 77)); r.ID != 2 || w.DeadLetterBytes() != 0 || len(w.DeadLetters(0, 0, nil)) != 0 {
		t.Errorf("%+v, %d bytes are left", r, w.DeadLetterBytes())
	}
}

func TestSurplusLetters(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 5)
	for offset := range uint64(5) {
		w.apply(deadLettered(id, offset+1)) // of 10, 20, … 50 bytes
		w.advance(time.Hour)
	}
	for _, tc := range []struct {
		name    string
		age     time.Duration
		count   int
		bytes   int64
		limit   int
		surplus []uint64
	}{
		{name: "no bound", limit: 10},
		{name: "too many", count: 3, limit: 10, surplus: []uint64{1, 2}},
		{name: "too large", bytes: 120, limit: 10, surplus: []uint64{1, 2}},
		{name: "just large enough", bytes: 150, limit: 10},
		{name: "too old", age: 3*time.Hour + time.Minute, limit: 10, surplus: []uint64{1, 2}},
		{name: "limited", count: 1, limit: 3, surplus: []uint64{1, 2, 3}},
		{name: "all must go", bytes: 1, limit: 10, surplus: []uint64{1, 2, 3, 4, 5}},
	} {
		if got := w.SurplusLetters(tc.age, tc.count, tc.bytes, w.now, tc.limit); len(got)+len(tc.surplus) > 0 && !reflect.DeepEqual(got, tc.surplus) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.surplus)
		}
	}
}

func TestDeadLetterFilter(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	d := hub.DeadLetter{ID: 1, Subscription: 7, TopicName: "news", Callback: "https://CB.example/a", Status: 404, Reason: "http-status", At: at}
	status := func(s string) hub.StatusFilter {
		f, ok := hub.ParseStatusFilter(s)
		if !ok {
			t.Fatalf("status %q is refused", s)
		}
		return f
	}
	for _, tc := range []struct {
		f     hub.DeadLetterFilter
		match bool
	}{
		{hub.DeadLetterFilter{}, true},
		{hub.DeadLetterFilter{Topic: "news", Subscription: 7, Reason: "http-status", Status: status("404"), CallbackKey: "https://cb.example/a"}, true},
		{hub.DeadLetterFilter{Topic: "other"}, false},
		{hub.DeadLetterFilter{Subscription: 8}, false},
		{hub.DeadLetterFilter{Reason: "timeout"}, false},
		{hub.DeadLetterFilter{CallbackKey: "https://cb.example/b"}, false},
		{hub.DeadLetterFilter{Status: status("4xx")}, true},
		{hub.DeadLetterFilter{Status: status("")}, true},
		{hub.DeadLetterFilter{Status: status("5XX")}, false},
		{hub.DeadLetterFilter{Status: status("403")}, false},
		{hub.DeadLetterFilter{Status: status("none")}, false},
		{hub.DeadLetterFilter{Since: at, Until: at.Add(1)}, true},
		{hub.DeadLetterFilter{Since: at.Add(1)}, false},
		{hub.DeadLetterFilter{Until: at}, false},
	} {
		if tc.f.Match(&d) != tc.match {
			t.Errorf("%+v: want %v", tc.f, tc.match)
		}
	}
	for _, s := range []string{"6xx", "0xx", "xx", "40", "600", "-1", "4x", "ok"} {
		if _, ok := hub.ParseStatusFilter(s); ok {
			t.Errorf("status %q is accepted", s)
		}
	}
}
