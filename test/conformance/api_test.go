package conformance_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// object parses a JSON object and asserts that it has these keys.
func object(t *testing.T, raw json.RawMessage, keys ...string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	for _, k := range keys {
		if _, ok := m[k]; !ok {
			t.Errorf("key %q is missing; got %v", k, slices.Sorted(maps.Keys(m)))
		}
	}
	return m
}

func list(t *testing.T, raw json.RawMessage) []json.RawMessage {
	t.Helper()
	var out []json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		t.Fatalf("got %s, want a list (%v)", raw, err)
	}
	return out
}

func value[T any](t *testing.T, m map[string]json.RawMessage, key string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(m[key], &v); err != nil {
		t.Errorf("%s: got %s: %v", key, m[key], err)
	}
	return v
}

func TestAPICluster(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	subscribed(t, n, topic)
	var raw json.RawMessage
	doc := object(t, n.GetJSON(t, "/v1/cluster", &raw), "leader", "nodes")
	if got := value[string](t, doc, "leader"); got != "node-1" {
		t.Errorf("leader %q, want node-1", got)
	}
	nodes := list(t, doc["nodes"])
	if len(nodes) != 1 {
		t.Fatalf("got %d nodes", len(nodes))
	}
	node := object(t, nodes[0], "id", "http_addr", "cluster_addr", "role", "applied_index", "state_hash", "subscriptions")
	for key, want := range map[string]string{"id": "node-1", "role": "leader", "http_addr": n.Addr, "cluster_addr": n.Settings["cluster.addr"].(string)} {
		if got := value[string](t, node, key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if value[uint64](t, node, "applied_index") == 0 || value[string](t, node, "state_hash") == "" || value[int](t, node, "subscriptions") < 1 {
		t.Errorf("got %s", nodes[0])
	}
	before := value[uint64](t, node, "applied_index")
	n.Publish(t, topic, "text/plain", []byte("x"))
	var after struct {
		Nodes []struct {
			AppliedIndex uint64 `json:"applied_index"`
		} `json:"nodes"`
	}
	n.GetJSON(t, "/v1/cluster", &after)
	if after.Nodes[0].AppliedIndex <= before {
		t.Errorf("applied_index is still %d after an acknowledged publish", before)
	}
}

func TestAPISubscriptions(t *testing.T) {
	n := shared(t)
	name := topicName(t)
	topic := n.TopicURL(name)
	s := hubtest.NewSubscriber(t)
	gate := make(chan struct{})
	s.OnIntent(func(r hubtest.Request) hubtest.Answer {
		return hubtest.Answer{Gate: gate, Body: []byte(r.Value("hub.challenge"))}
	})
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb?x=%41"), "hub.secret", "geheimnis-1"), 202)
	s.WaitIntent(t, "subscribe", 1)
	pending := n.WaitSubscription(t, topic, s.Callback("/cb?x=%41"), "a pending subscription", func(s hubtest.Subscription) bool { return true })
	if pending.State != "pending" {
		t.Errorf("before its confirmation the subscription is %+v, want it pending", pending)
	}
	close(gate)
	n.WaitActive(t, topic, s.Callback("/cb?x=%41"))
	n.Publish(t, topic, "text/plain", []byte("1"))
	n.Publish(t, topic, "text/plain", []byte("2"))
	n.WaitCursor(t, topic, s.Callback("/cb?x=%41"), 2)

	var raw json.RawMessage
	body := n.GetJSON(t, "/v1/subscriptions?"+hubtest.Form("topic", topic, "callback", s.Callback("/cb?x=%41")), &raw)
	doc := object(t, body, "items", "next")
	items := list(t, doc["items"])
	if len(items) != 1 {
		t.Fatalf("got %s", body)
	}
	item := object(t, items[0], "id", "topic", "callback", "state", "node", "lease_expires_at", "cursor", "lag", "mode")
	if got := value[string](t, item, "topic"); got != name && got != topic {
		t.Errorf("topic %q, want %q", got, name)
	}
	for key, want := range map[string]string{"callback": s.Callback("/cb?x=%41"), "state": "active", "node": "node-1"} {
		if got := value[string](t, item, key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if id := value[string](t, item, "id"); !strings.HasPrefix(id, "s-") {
		t.Errorf("id %q, want s-<n>", id)
	}
	if mode := value[string](t, item, "mode"); mode == "" {
		t.Error("mode is empty")
	}
	if got := value[time.Time](t, item, "lease_expires_at"); time.Until(got) < 239*time.Hour || time.Until(got) > 241*time.Hour {
		t.Errorf("lease_expires_at %v, want 240 hours from now", got)
	}
	if c, lag := value[uint64](t, item, "cursor"), value[uint64](t, item, "lag"); c != 2 || lag != 0 {
		t.Errorf("cursor %d, lag %d after two acknowledged messages, want 2 and 0", c, lag)
	}
	if strings.Contains(string(body), "geheimnis") {
		t.Errorf("the secret is shown: %s", body)
	}
}

func TestAPISubscriptionLag(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
	n.Subscribe(t, topic, s.Callback("/cb"))
	for i := range 3 {
		n.Publish(t, topic, "text/plain", fmt.Append(nil, i))
	}
	n.WaitSubscription(t, topic, s.Callback("/cb"), "a lag of 3", func(s hubtest.Subscription) bool { return s.Lag == 3 && s.Cursor == 0 })
	s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{} })
	n.WaitSubscription(t, topic, s.Callback("/cb"), "no lag", func(s hubtest.Subscription) bool { return s.Lag == 0 && s.Cursor == 3 })
}

func TestAPISubscriptionFilters(t *testing.T) {
	n := shared(t)
	a, b := newTopic(t, n), newTopic(t, n)
	s := hubtest.NewSubscriber(t)
	for _, topic := range []string{a, b} {
		n.Subscribe(t, topic, s.Callback("/1"))
		n.Subscribe(t, topic, s.Callback("/2"))
	}
	for _, tt := range []struct {
		topic, callback string
		want            int
	}{
		{a, "", 2}, {"", s.Callback("/1"), 2}, {a, s.Callback("/1"), 1}, {a, s.Callback("/3"), 0}, {newTopic(t, n), "", 0},
	} {
		if got := n.Subscriptions(t, tt.topic, tt.callback); len(got) != tt.want {
			t.Errorf("topic=%s callback=%s: got %d subscriptions, want %d: %+v", tt.topic, tt.callback, len(got), tt.want, got)
		}
	}
	var raw json.RawMessage
	body := n.GetJSON(t, "/v1/subscriptions?"+hubtest.Form("topic", newTopic(t, n)), &raw)
	if items := list(t, object(t, body, "items", "next")["items"]); len(items) != 0 {
		t.Errorf("got %s, want an empty list", body)
	}
}

func TestAPITopics(t *testing.T) {
	n := shared(t)
	name := topicName(t)
	topic := n.TopicURL(name)
	external := "https://publisher.example/" + name
	for i := range 3 {
		n.Publish(t, topic, "text/plain", fmt.Append(nil, i))
	}
	subscribed(t, n, topic)
	subscribed(t, n, topic)
	n.Publish(t, external, "text/plain", []byte("x"))
	var raw json.RawMessage
	doc := object(t, n.GetJSON(t, "/v1/topics", &raw), "items", "next")
	for _, item := range list(t, doc["items"]) {
		object(t, item, "name", "head_offset", "first_offset", "subscriptions")
	}
	if got, ok := n.TopicNamed(t, name); !ok || got.HeadOffset != 3 || got.FirstOffset != 1 || got.Subscriptions != 2 {
		t.Errorf("got %+v", got)
	}
	if got, ok := n.TopicNamed(t, external); !ok || got.HeadOffset != 1 {
		t.Errorf("the external topic is %+v, listed: %v", got, ok)
	}
}

func TestAPIHealth(t *testing.T) {
	n := shared(t)
	for _, path := range []string{"/health", "/health/live", "/health/ready"} {
		wantStatus(t, path, n.Do(t, "GET", path, nil, nil), 200)
	}
}

// The filters find a subscription by any spelling of its topic and callback.
func TestAPISubscriptionFilterTakesAnySpelling(t *testing.T) {
	n := shared(t)
	name := topicName(t)
	s := hubtest.NewSubscriber(t)
	wantStatus(t, "subscribe", n.Request(t, "subscribe", "HTTP://Publisher.Example:80/"+name+"/%7Ea", "HTTP"+s.Callback("/%7Ecb")[4:]), 202)
	n.WaitActive(t, "", s.Callback("/~cb"))
	for _, topic := range []string{"HTTP://Publisher.Example:80/" + name + "/%7Ea", "http://publisher.example/" + name + "/~a"} {
		for _, callback := range []string{"", "HTTP" + s.Callback("/%7Ecb")[4:], s.Callback("/~cb")} {
			got, err := n.ListSubscriptions(topic, callback)
			if err != nil || len(got) != 1 {
				t.Errorf("topic=%s callback=%s: got %+v (%v), want one subscription", topic, callback, got, err)
			}
		}
	}
}
