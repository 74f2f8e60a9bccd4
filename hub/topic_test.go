package hub_test

import (
	"slices"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func TestPublishing(t *testing.T) {
	w := newWorld(t)
	unknown := published("news", "x")
	unknown.GetMessagePublished().AutoRegister = false
	if r := w.apply(unknown); r.Outcome != hub.OutcomeNoTopic || w.Counts().Topics != 0 {
		t.Errorf("to an unknown topic: %+v", r)
	}
	for i := uint64(1); i <= 3; i++ {
		w.advance(time.Second)
		r := w.apply(published("news", "body"))
		if r.Outcome != hub.OutcomeOK || r.Offset != i || r.Topic != 1 {
			t.Errorf("publish %d: %+v", i, r)
		}
		if len(w.fx.Messages) != 1 {
			t.Fatalf("effects %+v", w.fx)
		}
		m := w.fx.Messages[0]
		if m.Offset != i || m.Time != w.now.UnixNano() || string(m.Body) != "body" || m.ContentType != "text/plain" || m.ID() != "1-"+string(rune('0'+i)) {
			t.Errorf("message %+v", m)
		}
	}
	if r := w.apply(published("other", "x")); r.Offset != 1 || r.Topic != 2 {
		t.Errorf("offsets count per topic: %+v", r)
	}
	if n, b := w.Published(); n != 4 || b != 13 {
		t.Errorf("published %d messages, %d bytes", n, b)
	}
	if top := w.topic("news"); top.Head != 3 || top.First != 1 || !top.PublishedAt.Equal(w.now) {
		t.Errorf("topic %+v", top)
	}
}

// A new leader's clock may be behind; the log's time does not go back.
func TestLogTimeNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	w.published("news", 1)
	first := w.Now()
	w.advance(-time.Hour)
	w.published("news", 1)
	if !w.Now().Equal(first) || w.fx.Messages[0].Time != first.UnixNano() {
		t.Errorf("the time went from %v to %v", first, w.Now())
	}
}

func TestIdempotencyKeys(t *testing.T) {
	w := newWorld(t)
	check := func(what string, got hub.Result, outcome hub.Outcome, offset uint64) {
		t.Helper()
		if got.Outcome != outcome || got.Offset != offset {
			t.Errorf("%s: %+v, want outcome %d and offset %d", what, got, outcome, offset)
		}
	}
	check("first", w.apply(publishedOnce("news", "a", "k")), hub.OutcomeOK, 1)
	check("repetition", w.apply(publishedOnce("news", "a", "k")), hub.OutcomeDuplicate, 1)
	if len(w.fx.Messages) != 0 {
		t.Errorf("a repetition was delivered: %+v", w.fx.Messages)
	}
	check("other content", w.apply(publishedOnce("news", "b", "k")), hub.OutcomeKeyConflict, 0)
	check("other key", w.apply(publishedOnce("news", "a", "k2")), hub.OutcomeOK, 2)
	check("other topic", w.apply(publishedOnce("other", "b", "k")), hub.OutcomeOK, 1)
	check("no key", w.apply(published("news", "a")), hub.OutcomeOK, 3)
	w.advance(24*time.Hour - time.Nanosecond)
	check("just within a day", w.apply(publishedOnce("news", "a", "k")), hub.OutcomeDuplicate, 1)
	w.State = reloaded(t, w.State)
	check("after a restart", w.apply(publishedOnce("news", "a", "k")), hub.OutcomeDuplicate, 1)
	w.advance(time.Nanosecond)
	check("a day later", w.apply(publishedOnce("news", "b", "k")), hub.OutcomeOK, 4)
	w.apply(deregistered("news"))
	for k := range w.disk {
		if k.Table == hub.TableIdempotency && k.ID == 1 {
			t.Errorf("a key of a removed topic is kept")
		}
	}
	check("in a topic made anew", w.apply(publishedOnce("news", "c", "k")), hub.OutcomeOK, 1)
}

func TestRegistration(t *testing.T) {
	w := newWorld(t)
	if r := w.apply(registered("news")); r.Outcome != hub.OutcomeOK || r.Topic != 1 {
		t.Errorf("%+v", r)
	}
	if r := w.apply(registered("news")); r.Outcome != hub.OutcomeTopicExists {
		t.Errorf("twice: %+v", r)
	}
	if r := w.apply(deregistered("other")); r.Outcome != hub.OutcomeNoTopic {
		t.Errorf("unknown: %+v", r)
	}
	a, b := w.subscribed("news", cb, hr, ""), w.subscribed("news", cb+"2", hr, "")
	keep := w.subscribed("other", cb, hr, "")
	w.published("news", 2)
	w.apply(deregistered("news"))
	if _, ok := w.TopicByName("news"); ok || !slices.Equal(w.fx.RemovedTopics, []hub.TopicID{1}) {
		t.Errorf("effects %+v", w.fx)
	}
	if len(w.fx.Ended) != 2 || w.fx.Ended[0] != (hub.Ended{ID: a, Reason: hubpb.EndReason_END_TOPIC_DEREGISTERED}) || w.fx.Ended[1].ID != b {
		t.Errorf("ended %+v", w.fx.Ended)
	}
	if len(w.fx.Requests) != 2 || w.fx.Requests[0].Mode != hub.ModeDenied || w.fx.Requests[0].Callback != cb {
		t.Errorf("the callbacks are not notified: %+v", w.fx.Requests)
	}
	w.sub(keep)
	if r := w.apply(registered("news")); r.Topic == 1 {
		t.Error("a topic ID was reused: message IDs would repeat")
	}
	if got := w.topic("news"); got.Head != 0 || got.Subscribers() != 0 {
		t.Errorf("created again: %+v", got)
	}
}

// Invariant I9: messages that retention takes from a subscription are counted, per subscription and in total.
func TestTrimmingLeavesNoSilentGapI9(t *testing.T) {
	w := newWorld(t)
	behind, ahead := w.subscribed("news", cb, hr, ""), w.subscribed("news", cb+"2", hr, "")
	w.published("news", 10)
	w.apply(advanced(behind, 2, func(c *hubpb.Cursor) { c.Attempts, c.FailingSince = 3, 99 }))
	w.apply(advanced(ahead, 8))
	id := w.topic("news").ID
	w.apply(trimmed(id, 6))
	if c := w.sub(behind).Cursor; c.Offset != 6 || c.Gap != 4 || c.Attempts != 0 || c.FailingSince != 99 {
		t.Errorf("the lagging subscription: %+v", c)
	}
	if c := w.sub(ahead).Cursor; c.Offset != 8 || c.Gap != 0 {
		t.Errorf("the subscription without lag: %+v", c)
	}
	if w.GapMessages() != 4 || !slices.Equal(w.fx.Moved, []hub.SubscriptionID{behind}) || !slices.Equal(w.fx.Trims, []hub.Trim{{Topic: id, Through: 6}}) {
		t.Errorf("%d missed, effects %+v", w.GapMessages(), w.fx)
	}
	w.apply(advanced(behind, 4)) // a cursor from before the trim
	if c := w.sub(behind).Cursor; c.Offset != 6 {
		t.Errorf("the cursor went back into the gap: %+v", c)
	}
	for _, through := range []uint64{0, 3, 6} { // already dropped
		w.apply(trimmed(id, through))
		if len(w.fx.Trims) != 0 || w.GapMessages() != 4 {
			t.Errorf("trim through %d once more: %+v", through, w.fx)
		}
	}
	w.apply(trimmed(id, 1<<62)) // beyond the head: all existing messages, none to come
	if top := w.topic("news"); top.First != 11 || top.Head != 10 {
		t.Errorf("topic %+v", top)
	}
	if w.GapMessages() != 4+4+2 {
		t.Errorf("%d missed in total, want 10", w.GapMessages())
	}
	w.published("news", 1)
	if m := w.fx.Messages[0]; m.Offset != 11 {
		t.Errorf("offsets restart at %d", m.Offset)
	}
	w.apply(trimmed(99, 5)) // a deregistered topic
}

func TestPingsAndFetches(t *testing.T) {
	w := newWorld(t)
	const feed = "https://example.com/feed"
	w.apply(pinged(feed))
	if top := w.topic(feed); top.Ping != 1 || top.FetchedPing != 1 || len(w.fx.Pinged) != 0 {
		t.Errorf("a fetch is due without subscribers: %+v", top)
	}
	w.subscribed(feed, cb, hr, "")
	w.apply(pinged(feed))
	id := w.topic(feed).ID
	if top := w.topic(feed); top.Ping != 2 || top.FetchedPing != 1 || !slices.Equal(w.fx.Pinged, []hub.TopicID{id}) {
		t.Errorf("no fetch is due despite a subscriber: %+v", top)
	}
	w.apply(pinged(feed)) // arrives during the fetch for ping 2 and may announce newer content
	r := w.apply(fetched(id, 2, hubpb.FetchOutcome_FETCH_CHANGED, "one"))
	if r.Offset != 1 || len(w.fx.Messages) != 1 || w.fx.Messages[0].LinkSelf != "https://example.com/self" || !slices.Equal(w.fx.Pinged, []hub.TopicID{id}) {
		t.Errorf("%+v, effects %+v", r, w.fx)
	}
	if r := w.apply(fetched(id, 2, hubpb.FetchOutcome_FETCH_CHANGED, "late")); r.Outcome != hub.OutcomeStale || w.topic(feed).Head != 1 {
		t.Errorf("a second answer to the same ping: %+v", r)
	}
	w.apply(fetched(id, 3, hubpb.FetchOutcome_FETCH_FAILED, ""))
	if top := w.topic(feed); top.FetchError != "timeout" || top.ETag != `"one"` || top.Head != 1 || top.FetchedPing != 3 {
		t.Errorf("after a failure: %+v", top)
	}
	w.apply(pinged(feed))
	w.apply(fetched(id, 4, hubpb.FetchOutcome_FETCH_CHANGED, "one"))
	if top := w.topic(feed); top.Head != 1 || top.FetchError != "" || len(w.fx.Messages) != 0 {
		t.Errorf("unchanged content was distributed: %+v", top)
	}
	w.apply(pinged(feed))
	w.apply(fetched(id, 99, hubpb.FetchOutcome_FETCH_CHANGED, "two"))
	if top := w.topic(feed); top.Head != 2 || top.FetchedPing != 5 {
		t.Errorf("%+v", top)
	}
	w.apply(pinged(feed))
	if top := w.topic(feed); top.FetchedPing >= top.Ping {
		t.Errorf("a later ping counts as fetched: %+v", top)
	}
	if r := w.apply(fetched(99, 1, hubpb.FetchOutcome_FETCH_CHANGED, "x")); r.Outcome != hub.OutcomeNoTopic {
		t.Errorf("%+v", r)
	}
	unknown := pinged("https://example.com/other")
	unknown.GetTopicPinged().AutoRegister = false
	if r := w.apply(unknown); r.Outcome != hub.OutcomeNoTopic {
		t.Errorf("%+v", r)
	}
}
