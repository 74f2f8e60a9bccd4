package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// lifecycleRig is a hub whose topics come to an end.
type lifecycleRig struct {
	*world
	service *hub.Service
	notices *hub.TopicNotices
}

func newLifecycleRig(t *testing.T) *lifecycleRig {
	w := newWorld(t)
	r := &lifecycleRig{world: w, service: hub.NewService(hub.Policy{Leases: leases, AutoRegister: true, MaxMessageBytes: 1 << 20, Clock: worldClock{w}},
		namer(t), single{w}, single{w}, nil)}
	w.applyEntry(w.entry(levelSet(hub.FeatureLevel)))
	w.apply(registered(hub.EventsTopic), registered("orders"), registered("orders/v2"))
	r.notices = hub.NewTopicNotices(single{w}, r.service.Namer())
	return r
}

func (r *lifecycleRig) mark(topic string, m *hub.TopicMark) {
	r.Helper()
	if err := r.service.SetTopicLifecycle(context.Background(), topic, m, "tester"); err != nil {
		r.Fatal(err)
	}
	r.notices.Applied(&hub.Effects{Marked: []hub.TopicID{r.topic(topic).ID}})
}

// events returns the types of the messages of hub.events about topics that the last entry wrote.
func (r *lifecycleRig) events() (out []string) {
	r.Helper()
	for _, m := range r.fx.Messages {
		if m.Topic != r.topic(hub.EventsTopic).ID {
			continue
		}
		var e map[string]any
		if err := json.Unmarshal(m.Body, &e); err != nil {
			r.Fatalf("%v in %s", err, m.Body)
		}
		if _, callback := e["callback"]; callback && strings.HasPrefix(e["type"].(string), "topic.") {
			r.Errorf("an event of a topic names a callback: %s", m.Body)
		}
		out = append(out, e["type"].(string))
	}
	return out
}

func wantRetired(t *testing.T, what string, err error) {
	t.Helper()
	var e *hub.Error
	if !errors.As(err, &e) || e.Code != hub.CodeRetired || e.Successor != "https://hub.example/topics/orders/v2" || !strings.Contains(e.Message, e.Successor) {
		t.Errorf("%s: %v, want retired with the successor", what, err)
	}
}

// A deprecated topic goes on, with a notice; when its sunset has passed it takes nothing new, its subscriptions get what is
// stored, and end then.
func TestTopicIsDeprecatedAndRetired(t *testing.T) {
	r := newLifecycleRig(t)
	sub := r.subscribed("orders", cb, hr, "")
	r.apply(published("orders", "1"), published("orders", "2"))
	sunset := r.now.Add(time.Hour)
	r.mark("orders", &hub.TopicMark{Successor: "orders/v2", SunsetAt: sunset})
	if got := r.events(); !slices.Equal(got, []string{hub.LifecycleTopicDeprecated}) {
		t.Errorf("events %v", got)
	}
	n := r.notices.Of(r.topic("orders").ID)
	if n == nil || !strings.HasPrefix(n.Deprecation, "@") || n.Sunset != sunset.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") ||
		n.Link != `<https://hub.example/topics/orders/v2>; rel="successor-version"` {
		t.Fatalf("the notice is %+v", n)
	}
	if r.notices.Of(r.topic("orders/v2").ID) != nil {
		t.Error("another topic has a notice, too")
	}
	if _, err := r.service.Publish(t.Context(), hub.Publication{Topic: "orders", ContentType: "text/plain", Body: []byte("3")}); err != nil {
		t.Errorf("publishing to a deprecated topic: %v", err)
	}
	r.State = reloaded(t, r.State)

	retire := func() []string {
		due := r.PastSunset(r.now)
		r.apply(&hubpb.Event{Kind: &hubpb.Event_TopicsRetired{TopicsRetired: &hubpb.TopicsRetired{Topics: []uint64{uint64(r.topic("orders").ID), 99}}}})
		if len(due) != len(r.fx.Marked) {
			t.Errorf("due: %v; retired: %v", due, r.fx.Marked)
		}
		return r.events()
	}
	if got := retire(); len(got) > 0 || r.topic("orders").Lifecycle.Retired() {
		t.Error("retired before its sunset")
	}
	r.now = sunset.Add(time.Second)
	if got := retire(); !slices.Equal(got, []string{hub.LifecycleTopicRetired}) {
		t.Errorf("at the sunset: events %v", got)
	}
	if got := retire(); len(got) > 0 {
		t.Error("retired twice")
	}

	_, err := r.service.Publish(t.Context(), hub.Publication{Topic: "orders", ContentType: "text/plain", Body: []byte("4")})
	wantRetired(t, "publish", err)
	_, err = r.service.PublishBatch(t.Context(), hub.Batch{Topic: "orders", Items: []hub.Item{{ContentType: "text/plain"}}})
	wantRetired(t, "batch", err)
	_, err = r.service.NewBlobWriter(t.Context(), "orders", "text/plain")
	wantRetired(t, "large message", err)
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"https://hub.example/topics/orders"}, "hub.callback": {cb + "2"}}
	_, err = r.service.Subscribe(t.Context(), form)
	wantRetired(t, "subscribe", err)
	form.Set("hub.mode", "unsubscribe")
	form.Set("hub.callback", cb)
	if _, err = r.service.Subscribe(t.Context(), form); err != nil {
		t.Errorf("unsubscribe: %v", err)
	}
	if head := r.topic("orders").Head; head != 3 {
		t.Errorf("the head is %d, want 3", head)
	}

	drained := ended(hubpb.EndReason_END_TOPIC_RETIRED, sub)
	r.apply(advanced(sub, 2))
	if ids := r.Drained(10); len(ids) > 0 {
		t.Errorf("%v have received everything, though one message is left", ids)
	}
	r.apply(drained)
	r.sub(sub) // still there
	r.apply(advanced(sub, 3))
	if ids := r.Drained(10); !slices.Equal(ids, []hub.SubscriptionID{sub}) {
		t.Errorf("drained are %v", ids)
	}
	r.apply(drained)
	if _, ok := r.Subscription(sub); ok || !slices.Contains(r.events(), hub.LifecycleEnded) {
		t.Errorf("the subscription goes on; events %v", r.events())
	}
	notice := r.Requests(0, 0, func(q *hub.Request) bool { return q.Mode == hub.ModeDenied })
	if len(notice) != 1 || !strings.Contains(notice[0].Reason, "orders/v2") {
		t.Errorf("the callback is told %+v", notice)
	}
}

// A request that was asked before the retirement and is confirmed after it comes to nothing.
func TestRetiredBetweenRequestAndVerification(t *testing.T) {
	r := newLifecycleRig(t)
	r.apply(requested(hub.ModeSubscribe, "orders", cb, hr, ""))
	id := r.Requests(0, 1, nil)[0].ID
	r.mark("orders", &hub.TopicMark{Retire: true})
	r.apply(verifiedFrom(uint64(id), r.now, 0))
	if fx := &r.fx; len(fx.Subscriptions) > 0 || len(fx.Failed) != 1 || fx.Failed[0].Reason != hub.FailedRetired {
		t.Errorf("effects %+v", fx)
	}
	if _, err := r.service.Ping(t.Context(), "hub.example", url.Values{"hub.url": {"https://foreign.example/feed"}}); err != nil {
		t.Error(err)
	}
}

// What the mark says is checked, kept where it is not given again, and can be taken back.
func TestTopicMarks(t *testing.T) {
	r := newLifecycleRig(t)
	for name, c := range map[string]struct {
		topic string
		mark  hub.TopicMark
		says  string
	}{
		"unknown topic":      {"none", hub.TopicMark{}, "not registered"},
		"the hub's own":      {hub.EventsTopic, hub.TopicMark{}, "the hub's own"},
		"itself":             {"orders", hub.TopicMark{Successor: "orders"}, "is the topic itself"},
		"unknown successor":  {"orders", hub.TopicMark{Successor: "none"}, "no topic of this hub"},
		"sunset in the past": {"orders", hub.TopicMark{SunsetAt: r.now.Add(-time.Hour)}, "before the topic is deprecated"},
		"sunset before":      {"orders", hub.TopicMark{DeprecatedAt: r.now.Add(2 * time.Hour), SunsetAt: r.now.Add(time.Hour)}, "before the topic is deprecated"},
		"far away":           {"orders", hub.TopicMark{SunsetAt: r.now.AddDate(500, 0, 0)}, "from 1970 to 2200"},
	} {
		if err := r.service.SetTopicLifecycle(t.Context(), c.topic, &c.mark, ""); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q in it", name, err, c.says)
		}
	}
	r.mark("orders/v2", &hub.TopicMark{Successor: "orders"})
	if err := r.service.SetTopicLifecycle(t.Context(), "orders", &hub.TopicMark{Successor: "orders/v2"}, ""); err == nil || !strings.Contains(err.Error(), "leads back") {
		t.Errorf("two topics name each other: %v", err)
	}
	r.mark("orders/v2", nil)
	since := r.now.Add(-24 * time.Hour)
	r.mark("orders", &hub.TopicMark{DeprecatedAt: since, Successor: "orders/v2"})
	r.mark("orders", &hub.TopicMark{Successor: "orders/v2", SunsetAt: r.now.Add(time.Hour)})
	if l := r.topic("orders").Lifecycle; !l.DeprecatedAt.Equal(since) {
		t.Errorf("marked again: %+v", l)
	}
	r.mark("orders", &hub.TopicMark{Retire: true})
	if l := r.topic("orders").Lifecycle; l.Successor != "orders/v2" || !l.Retired() || l.SunsetAt.IsZero() {
		t.Errorf("retired: %+v", l)
	}
	r.mark("orders", nil)
	if r.topic("orders").Lifecycle != nil || r.notices.Any() {
		t.Error("the mark is still there")
	}
	if _, err := r.service.Publish(t.Context(), hub.Publication{Topic: "orders", ContentType: "text/plain", Body: []byte("x")}); err != nil {
		t.Errorf("publishing after the mark was taken back: %v", err)
	}
	r.mark("orders", &hub.TopicMark{Retire: true})
	r.apply(deregistered("orders"))
	r.State = reloaded(t, r.State)
	if ids := r.Drained(9); len(ids)+len(r.PastSunset(r.now)) > 0 {
		t.Error("a removed topic is still marked")
	}
}
