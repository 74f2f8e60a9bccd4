package web_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub/hubpb"
)

// items fetches all pages of a list and returns the items.
func (f *fixture) items(tb testing.TB, path string, query url.Values) []map[string]any {
	tb.Helper()
	var all []map[string]any
	for range 100 {
		var page map[string]json.RawMessage
		body := want(tb, f.send("GET", path+"?"+query.Encode(), ""), 200)
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			tb.Fatal(err)
		}
		if len(page) != 2 || page["items"] == nil || page["next"] == nil {
			tb.Fatalf("page is %s, want items and next", body)
		}
		var items []map[string]any
		var next string
		if err := json.Unmarshal(page["items"], &items); err != nil || string(page["items"]) == "null" {
			tb.Fatalf("items is %s (%v)", page["items"], err)
		}
		if err := json.Unmarshal(page["next"], &next); err != nil {
			tb.Fatal(err)
		}
		all = append(all, items...)
		if next == "" {
			return all
		}
		query.Set("cursor", next)
	}
	tb.Fatal("the pages do not end")
	return nil
}

func (f *fixture) subscribe(tb testing.TB, topic, callback string, more ...string) {
	tb.Helper()
	want(tb, f.form(append([]string{"hub.mode", "subscribe", "hub.topic", topic, "hub.callback", callback}, more...)...), 202)
}

func ids(items []map[string]any) []string {
	var out []string
	for _, it := range items {
		out = append(out, fmt.Sprint(it["id"]))
	}
	return out
}

func TestSubscriptionListFields(t *testing.T) {
	f := newFixture(t)
	f.subscribe(t, topicURL, callbackURL, "hub.secret", "top-secret", "hub.lease_seconds", "3600")
	keys := []string{"callback", "cursor", "id", "lag", "lease_expires_at", "mode", "node", "state", "topic"}
	check := func(want map[string]any) {
		t.Helper()
		got := f.items(t, "/v1/subscriptions", url.Values{})
		if len(got) != 1 {
			t.Fatalf("listed %v", got)
		}
		if have := slices.Sorted(maps.Keys(got[0])); !slices.Equal(have, keys) {
			t.Errorf("keys are %v, want %v", have, keys)
		}
		for k, v := range want {
			if got[0][k] != v {
				t.Errorf("%s is %v, want %v", k, got[0][k], v)
			}
		}
	}
	check(map[string]any{"id": "r-1", "topic": "news", "callback": callbackURL, "state": "pending", "node": "",
		"lease_expires_at": nil, "cursor": 0.0, "lag": 0.0, "mode": "ordered"})
	want(t, f.send("POST", "/topics/news", "x"), 200)
	f.ledger.verify(t)
	want(t, f.send("POST", "/topics/news", "y"), 200)
	check(map[string]any{"id": "s-1", "topic": "news", "callback": callbackURL, "state": "active", "node": "node-1",
		"lease_expires_at": "2026-11-01T13:00:00.25Z", "cursor": 1.0, "lag": 1.0, "mode": "ordered"})
	f.subscribe(t, topicURL, callbackURL) // a pending renewal is not a second subscription
	check(map[string]any{"id": "s-1", "state": "active"})
	want(t, f.form("hub.mode", "unsubscribe", "hub.topic", topicURL, "hub.callback", callbackURL), 202)
	check(map[string]any{"id": "s-1", "state": "active"})
	f.clock.advance(time.Hour)
	check(map[string]any{"id": "s-1", "state": "expired", "node": ""})
}

func TestSecretsAreNeverShownI10(t *testing.T) {
	f := newFixture(t)
	f.subscribe(t, topicURL, callbackURL, "hub.secret", "top-secret")
	f.ledger.verify(t)
	f.subscribe(t, topicURL, callbackURL+"2", "hub.secret", "top-secret")
	for _, path := range []string{"/v1/subscriptions", "/v1/subscriptions/s-1", "/v1/subscriptions/r-2", "/v1/topics", "/metrics", "/"} {
		body := want(t, f.send("GET", path, ""), 200)
		if strings.Contains(body, "top-secret") || strings.Contains(body, sealedMark) || strings.Contains(body, "dG9wLXNlY3JldA") {
			t.Errorf("GET %s shows the secret: %s", path, body)
		}
	}
	if strings.Contains(f.logged.String(), "top-secret") {
		t.Errorf("the log shows the secret: %s", f.logged)
	}
}

func TestListPagesAndFilters(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.subscribe(t, topicURL, fmt.Sprintf("https://subscriber.example/%d", i))
		f.ledger.verify(t)
	}
	f.subscribe(t, "https://example.com/feed", "https://subscriber.example/0")
	f.ledger.verify(t)
	f.subscribe(t, topicURL, "https://subscriber.example/7")
	f.subscribe(t, "https://example.com/feed", "https://subscriber.example/8")
	all := []string{"s-1", "s-2", "s-3", "s-4", "s-5", "s-6", "r-7", "r-8"}
	for limit := 1; limit <= 9; limit++ {
		if got := ids(f.items(t, "/v1/subscriptions", url.Values{"limit": {fmt.Sprint(limit)}})); !slices.Equal(got, all) {
			t.Errorf("limit %d: got %v, want %v", limit, got, all)
		}
	}
	for query, want := range map[string][]string{
		"topic=news":                                                  {"s-1", "s-2", "s-3", "s-4", "s-5", "r-7"},
		"topic=news&limit=2":                                          {"s-1", "s-2", "s-3", "s-4", "s-5", "r-7"},
		"topic=" + topicURL:                                           {"s-1", "s-2", "s-3", "s-4", "s-5", "r-7"},
		"topic=http://127.0.0.1:8080/topics/news":                     {"s-1", "s-2", "s-3", "s-4", "s-5", "r-7"},
		"topic=https://EXAMPLE.com:443/feed":                          {"s-6", "r-8"},
		"callback=https://subscriber.example/0":                       {"s-1", "s-6"},
		"callback=https://SUBSCRIBER.example/%2530":                   {"s-1", "s-6"}, // %30 is another spelling of 0
		"callback=https://subscriber.example/8":                       {"r-8"},
		"topic=news&callback=https://subscriber.example/0":            {"s-1"},
		"topic=news&callback=https://subscriber.example/7":            {"r-7"},
		"topic=news&callback=https://subscriber.example/0&cursor=s-1": nil,
		"topic=unknown":                                               nil,
		"topic=":                                                      all,
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(f.items(t, "/v1/subscriptions", q)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	topics := f.items(t, "/v1/topics", url.Values{"limit": {"1"}})
	if len(topics) != 2 || topics[0]["name"] != "news" || topics[0]["subscriptions"] != 5.0 || topics[1]["name"] != "https://example.com/feed" {
		t.Errorf("topics are %v", topics)
	}
	if have := slices.Sorted(maps.Keys(topics[0])); !slices.Equal(have, []string{"first_offset", "head_offset", "name", "subscriptions"}) {
		t.Errorf("keys of a topic are %v", have)
	}
	if got := f.items(t, "/v1/topics", url.Values{"topic": {"https://example.com/feed"}}); len(got) != 1 {
		t.Errorf("one topic by its URL: %v", got)
	}
}

func TestInvalidListQueries(t *testing.T) {
	f := newFixture(t)
	for target, param := range map[string]string{
		"/v1/subscriptions?limit=0":             "limit",
		"/v1/subscriptions?limit=1001":          "limit",
		"/v1/subscriptions?limit=x":             "limit",
		"/v1/subscriptions?limit=1&limit=2":     "limit",
		"/v1/subscriptions?cursor=x":            "cursor",
		"/v1/subscriptions?cursor=t-1":          "cursor",
		"/v1/subscriptions?cursor=s-":           "cursor",
		"/v1/subscriptions?cursor=s--1":         "cursor",
		"/v1/subscriptions?callback=x":          "callback",
		"/v1/subscriptions?topic=/x":            "topic",
		"/v1/subscriptions?topic=https://u@a/x": "topic",
		"/v1/subscriptions?state=active":        `"state"`,
		"/v1/subscriptions?a=%zz":               "query",
		"/v1/topics?callback=https://a/":        `"callback"`,
		"/v1/topics?cursor=s-1":                 "cursor",
		"/v1/dead-letters?subscription=17":      "subscription",
		"/v1/dead-letters?cursor=s-1":           "cursor",
	} {
		w := f.send("GET", target, "")
		checkProblem(t, w, want(t, w, 400), "invalid", param)
	}
}

func TestOneSubscription(t *testing.T) {
	f := newFixture(t)
	f.subscribe(t, topicURL, callbackURL, "hub.secret", "x", "hub.hash_algorithms", "sha1,sha512")
	f.ledger.verify(t)
	f.subscribe(t, topicURL, callbackURL+"2")
	want(t, f.form("hub.mode", "unsubscribe", "hub.topic", topicURL, "hub.callback", callbackURL), 202)
	var got map[string]any
	if err := json.Unmarshal([]byte(want(t, f.send("GET", "/v1/subscriptions/s-1", ""), 200)), &got); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]any{"id": "s-1", "state": "active", "topic_url": topicURL, "signed": true, "signature": "sha512",
		"created_at": "2026-11-01T12:00:00.25Z", "failing_since": nil, "lease_seconds": 864000.0, "delivered": 0.0} {
		if got[k] != v {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
	want(t, f.send("GET", "/v1/subscriptions/r-2", ""), 200)
	for _, id := range []string{"s-2", "r-1", "r-3", "s-0", "s-01", "x", "s-1/x", "s-%31x", "s-99999999999999999999"} {
		w := f.send("GET", "/v1/subscriptions/"+id, "")
		want(t, w, 404)
	}
}

func TestDeadLetters(t *testing.T) {
	f := newFixture(t)
	f.subscribe(t, topicURL, callbackURL)
	want(t, f.send("POST", "/topics/other", "x"), 200)
	want(t, f.send("POST", "/topics/news", "x"), 200)
	f.ledger.verify(t)
	for range 3 {
		want(t, f.send("POST", "/topics/news", "x"), 200)
	}
	for offset := uint64(2); offset <= 4; offset++ {
		f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
			Subscription: 1, Offset: offset, Attempts: 3, Status: 400, Reason: "refused"}}})
	}
	got := f.items(t, "/v1/dead-letters", url.Values{"limit": {"2"}})
	if len(got) != 3 {
		t.Fatalf("listed %v", got)
	}
	for k, v := range map[string]any{"id": "d-1", "subscription": "s-1", "topic": "news", "callback": callbackURL, "offset": 2.0,
		"message_id": "2-2", "attempts": 3.0, "status": 400.0, "reason": "refused", "at": "2026-11-01T12:00:00.25Z"} {
		if got[0][k] != v {
			t.Errorf("%s is %v, want %v", k, got[0][k], v)
		}
	}
	for query, n := range map[string]int{"topic=news": 3, "topic=other": 0, "callback=" + url.QueryEscape(callbackURL): 3,
		"callback=https://a/": 0, "subscription=s-1": 3, "subscription=s-2": 0} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.items(t, "/v1/dead-letters", q); len(got) != n {
			t.Errorf("%s: %d dead letters, want %d", query, len(got), n)
		}
	}
}

func TestCluster(t *testing.T) {
	f := newFixture(t)
	body := want(t, f.send("GET", "/v1/cluster", ""), 200)
	const expected = `{"leader":"node-1","feature_level":1,"nodes":[{"id":"node-1","http_addr":"127.0.0.1:8080","cluster_addr":"127.0.0.1:8180",` +
		`"role":"leader","applied_index":7,"state_hash":"0000000000000abc","subscriptions":3,"voter":true,"healthy":true,"last_contact_ms":null,"stopping":false,"leaving":false,"drained":false,"weight":2,"feature_level":0,"clock_offset":0,"gateway_hash":""}]}`
	if strings.TrimSpace(body) != expected {
		t.Errorf("got  %s\nwant %s", body, expected)
	}
	f.node.leader, f.node.nodes = "", nil
	if body := want(t, f.send("GET", "/v1/cluster", ""), 200); strings.TrimSpace(body) != `{"leader":"","feature_level":1,"nodes":[]}` {
		t.Errorf("without a leader: %s", body)
	}
}
