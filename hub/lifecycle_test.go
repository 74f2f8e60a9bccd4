package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// lifecycle returns the lifecycle messages that the last apply published.
func (w *world) lifecycle() (out []hub.Lifecycle) {
	w.Helper()
	events, _ := w.TopicByName(hub.EventsTopic)
	for _, m := range w.fx.Messages {
		if m.Topic != events.ID {
			continue
		}
		var e hub.Lifecycle
		if err := json.Unmarshal(m.Body, &e); err != nil || m.ContentType != "application/json" || e.ID != m.ID() || e.Time != w.now.Format(time.RFC3339Nano) {
			w.Fatalf("message %s of %s is %s (%v)", m.ID(), m.ContentType, m.Body, err)
		}
		out = append(out, e)
	}
	return out
}

func (w *world) wantLifecycle(what ...string) []hub.Lifecycle {
	w.Helper()
	events := w.lifecycle()
	var got []string
	for _, e := range events {
		got = append(got, strings.TrimPrefix(e.Type, "subscription.")+" "+e.Subscription)
	}
	if strings.Join(got, ", ") != strings.Join(what, ", ") {
		w.Errorf("published %v, want %v", got, what)
	}
	return events
}

// Giving up a message out of order also advances the cursor and its failures, which are announced like those of any
// cursor.
func TestLifecycleOfAnOutOfOrderDeadLetter(t *testing.T) {
	w := newWorld(t)
	w.apply(registered(hub.EventsTopic))
	id := w.subscribed("news", cb, hr, "")
	w.published("news", 6)
	letter := deadLettered(id, 3)
	letter.GetMessageDeadLettered().Cursor = &hubpb.Cursor{Offset: 1, Through: 3, Open: []*hubpb.OpenMessage{{Offset: 2}}, Failures: 4, FailingSince: w.now.UnixNano()}
	w.apply(letter)
	w.wantLifecycle("failing s-1", "exhausted s-1")
	w.apply(advanced(id, 3))
	w.wantLifecycle("recovered s-1")
}

func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	w.subscribed("news", cb, hr, "")
	if len(w.lifecycle()) != 0 {
		t.Error("lifecycle messages were published without a topic for them")
	}
	w.apply(registered(hub.EventsTopic))
	id := w.subscribed("news", cb+"2", hr, "s3cret")
	e := w.wantLifecycle("verified s-2")
	if e[0].Topic != "news" || e[0].Callback != cb+"2" || e[0].LeaseEndsAt != w.now.Add(time.Hour).Format(time.RFC3339Nano) {
		t.Errorf("%+v", e[0])
	}
	w.subscribed("news", cb+"2", hr, "")
	w.wantLifecycle("renewed s-2")
	w.published("news", 10)

	fail := func(n uint64) func(*hubpb.Cursor) {
		return func(c *hubpb.Cursor) { c.Failures, c.FailingSince = n, w.now.UnixNano() }
	}
	w.apply(advanced(id, 1, fail(2)))
	w.wantLifecycle()
	w.apply(advanced(id, 1, fail(3)))
	if e := w.wantLifecycle("failing s-2"); len(e) == 1 && (e[0].Failures != 3 || e[0].FailingSince != w.now.Format(time.RFC3339Nano) || e[0].Cursor != 1) {
		t.Errorf("%+v", e[0])
	}
	w.apply(advanced(id, 1, fail(30)))
	w.wantLifecycle() // still failing
	w.apply(deadLettered(id, 2))
	if e := w.wantLifecycle("exhausted s-2"); len(e) == 1 && (e[0].DeadLetter != "d-1" || e[0].Attempts != 5 || e[0].Status != 500 || e[0].Reason != "status" || !strings.HasSuffix(e[0].MessageID, "-2")) {
		t.Errorf("%+v", e[0])
	}
	w.apply(advanced(id, 3, fail(1))) // one delivered, failing again
	w.wantLifecycle("recovered s-2")
	w.apply(advanced(id, 3, fail(9)))
	w.wantLifecycle("failing s-2")
	w.apply(advanced(id, 4))
	w.wantLifecycle("recovered s-2")
	w.apply(paused(id, true))
	w.wantLifecycle("paused s-2")
	w.apply(paused(id, true))
	w.wantLifecycle()
	w.apply(paused(id, false))
	w.wantLifecycle("resumed s-2")

	w.apply(trimmed(w.topic("news").ID, 7))
	if e := w.wantLifecycle("gap s-1", "gap s-2"); len(e) == 2 && (e[1].GapFrom != 5 || e[1].GapThrough != 7 || e[1].GapMessages != 3 || e[0].GapMessages != 7) {
		t.Errorf("%+v", e)
	}
	w.apply(w.verified(w.apply(requested(hub.ModeUnsubscribe, "news", cb+"2", 0, "")).ID))
	if e := w.wantLifecycle("ended s-2"); len(e) == 1 && e[0].Reason != "unsubscribed" {
		t.Errorf("%+v", e[0])
	}
	w.advance(2 * time.Hour)
	w.apply(ended(hubpb.EndReason_END_EXPIRED, 1))
	w.wantLifecycle("expired s-1")
	for reason, said := range map[hubpb.EndReason]string{hubpb.EndReason_END_GONE: "gone", hubpb.EndReason_END_OPERATOR: "operator"} {
		id := w.subscribed("news", cb, hr, "")
		w.apply(ended(reason, id))
		if e := w.wantLifecycle("ended " + id.String()); len(e) == 1 && e[0].Reason != said {
			t.Errorf("%+v", e[0])
		}
	}
	id = w.subscribed("news", cb, hr, "")
	w.apply(deregistered("news"))
	if e := w.wantLifecycle("ended " + id.String()); len(e) == 1 && e[0].Reason != "topic_deregistered" {
		t.Errorf("%+v", e[0])
	}
}

// Lifecycle messages about a subscription to the events topic must not cause further ones.
func TestEventsTopicDoesNotFeedOnItself(t *testing.T) {
	w := newWorld(t)
	id := w.subscribed(hub.EventsTopic, cb, hr, "") // the first one creates the topic
	w.wantLifecycle("verified s-1")
	head := func() uint64 { return w.topic(hub.EventsTopic).Head }
	if head() != 1 {
		t.Fatalf("head %d", head())
	}
	for i := range uint64(5) {
		w.apply(advanced(id, 0, func(c *hubpb.Cursor) { c.Failures, c.FailingSince = 10*i, 1 }))
		w.wantLifecycle()
	}
	w.apply(deadLettered(id, 1))
	w.wantLifecycle()
	w.apply(advanced(id, 1))
	w.wantLifecycle()
	// A change from outside is announced, once.
	w.subscribed("news", cb, hr, "")
	w.wantLifecycle("verified s-2")
	w.apply(trimmed(w.topic(hub.EventsTopic).ID, 2))
	w.wantLifecycle("gap s-1")
	if head() != 3 {
		t.Errorf("head %d, want 3", head())
	}
	w.apply(deregistered(hub.EventsTopic))
	w.wantLifecycle()
	w.subscribed("news", cb+"2", hr, "")
	w.wantLifecycle()
	if _, ok := w.TopicByName(hub.EventsTopic); ok {
		t.Error("the topic was created again")
	}
}

// asked is a Proposer that records the proposed events.
type asked struct {
	*hub.State
	events []*hubpb.Event
}

func (a *asked) View(f func(*hub.State)) { f(a.State) }

func (a *asked) Propose(_ context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	a.events = append(a.events, events...)
	return make([]hub.Result, len(events)), nil
}

func TestReservedTopics(t *testing.T) {
	namer, err := hub.NewTopicNamer("https://hub.example")
	if err != nil {
		t.Fatal(err)
	}
	a := &asked{State: hub.NewState()}
	s := hub.NewService(hub.Policy{Leases: hub.LeasePolicy{Min: time.Second, Default: time.Hour, Max: time.Hour}, MaxMessageBytes: 100}, namer, a, a, nil)
	subscribe := func(topic string) error {
		_, err := s.Subscribe(t.Context(), url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"https://hub.example/topics/" + topic}, "hub.callback": {cb}})
		return err
	}
	publish := func(topic string) error {
		_, err := s.Publish(t.Context(), hub.Publication{Topic: topic, ContentType: "text/plain"})
		return err
	}
	_, ping := s.Ping(t.Context(), "", url.Values{"hub.url": {"https://hub.example/topics/hub.events"}})
	for what, err := range map[string]error{"publish": publish("hub.events"), "publish elsewhere": publish("hub.x"), "ping": ping,
		"register": s.Register(t.Context(), "hub.x"), "subscribe": subscribe("hub.x")} {
		if hub.CodeOf(err) != hub.CodeForbidden || !strings.Contains(fmt.Sprint(err), "hub.") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(a.events) != 0 {
		t.Errorf("proposed %v", a.events)
	}
	// The first subscriber creates it, even without AutoRegister.
	if err := subscribe("hub.events"); err != nil || len(a.events) != 1 || !a.events[0].GetSubscriptionRequested().AutoRegister {
		t.Errorf("%v, proposed %v", err, a.events)
	}
	for _, err := range []error{s.Register(t.Context(), "hub.events"), s.Deregister(t.Context(), "hub.events"), publish("hubx"), publish("news")} {
		if err != nil {
			t.Error(err)
		}
	}
}
