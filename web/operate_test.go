package web_test

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

func (f *fixture) publishMany(tb testing.TB, n int) {
	tb.Helper()
	for range n {
		want(tb, f.send("POST", publishURL(topicURL), "x", "Content-Type", "text/plain"), 200)
		f.clock.advance(time.Second)
	}
}

func TestRewindAPI(t *testing.T) {
	f := newFixture(t)
	f.subscribe(t, topicURL, callbackURL)
	f.ledger.verify(t)
	start := f.clock.Now()
	f.publishMany(t, 10)
	rewind := func(body string, status int) string {
		t.Helper()
		return want(t, f.send("POST", "/v1/subscriptions/s-1/rewind", body, "Content-Type", "application/json"), status)
	}
	cursor := func() (c uint64) {
		f.ledger.View(func(s *hub.State) {
			sub, _ := s.Subscription(1)
			c = sub.Cursor.Offset
		})
		return c
	}
	for _, tc := range []struct {
		body   string
		answer string
		cursor uint64
	}{
		{`{"to":"latest"}`, `{"id":"s-1","next_offset":11,"sent_again":0,"skipped":10,"dry_run":false}`, 10},
		{`{"to":"earliest","dry_run":true}`, `{"id":"s-1","next_offset":1,"sent_again":10,"skipped":0,"dry_run":true}`, 10},
		{`{"to":4}`, `{"id":"s-1","next_offset":4,"sent_again":7,"skipped":0,"dry_run":false}`, 3},
		{`{"to":"8"}`, `{"id":"s-1","next_offset":8,"sent_again":0,"skipped":4,"dry_run":false}`, 7},
		{`{"to":"` + start.Add(2*time.Second).Format(time.RFC3339Nano) + `"}`, `{"id":"s-1","next_offset":3,"sent_again":5,"skipped":0,"dry_run":false}`, 2},
	} {
		if got := strings.TrimSpace(rewind(tc.body, 200)); got != tc.answer || cursor() != tc.cursor {
			t.Errorf("%s: got %s and cursor %d, want %s and %d", tc.body, got, cursor(), tc.answer, tc.cursor)
		}
	}
	f.ledger.trim(t, 1, 4)
	for body, words := range map[string]string{
		`{"to":4}`: "to: 4 was dropped by retention; expected an offset from 5 to 11", `{"to":"12"}`: "from 5 to 11", `{"to":0}`: "count from 1",
		`{"to":"then"}`: "expected latest, earliest", `{"to":true}`: "expected latest, earliest", `{"to":["x"]}`: "expected latest",
		`{"to":"2036-01-01T00:00:00Z"}`: "future", `{}`: "to: is missing", ``: "body: cannot be decoded", `{"to":1}{`: "body: has data after",
		`{"too":1}`: "body: cannot be decoded", `[`: "body: cannot be decoded", `{"to":1,"dry_run":"yes"}`: "body: cannot be decoded",
	} {
		if got := rewind(body, 400); !strings.Contains(got, words) {
			t.Errorf("%s: got %s, want %q", body, got, words)
		}
	}
	rewind(strings.Repeat(" ", 5000), 413)
	for _, id := range []string{"s-2", "r-1", "x", "s-1x"} {
		want(t, f.send("POST", "/v1/subscriptions/"+id+"/rewind", `{"to":1}`), 404)
	}
}

func TestHubStart(t *testing.T) {
	f := newFixture(t)
	f.publishMany(t, 5)
	for _, start := range []string{"latest", "earliest", "1", "6", "2026-01-01T00:00:00Z"} {
		f.subscribe(t, topicURL, callbackURL, "hub.start", start)
	}
	f.subscribe(t, topicURL+"-new", callbackURL, "hub.start", "1")
	for start, words := range map[string]string{"": "expected latest", "0": "count from 1", "7": "expected an offset from 1 to 6", "first": "expected latest",
		"2036-01-01T00:00:00Z": "future"} {
		got := want(t, f.form("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL, "hub.start", start), 400)
		if !strings.HasPrefix(got, "hub.start: ") || !strings.Contains(got, words) {
			t.Errorf("%q: %s", start, got)
		}
	}
	want(t, f.form("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL, "hub.start", "1", "hub.start", "2"), 400)
	// Unsubscribe requests ignore it.
	want(t, f.form("hub.mode", "unsubscribe", "hub.topic", topicURL, "hub.callback", callbackURL, "hub.start", "nonsense"), 202)
}

func TestPauseResumeEndAPI(t *testing.T) {
	f := newFixture(t)
	f.subscribe(t, topicURL, callbackURL)
	f.ledger.verify(t)
	state := func(body string) string {
		var out struct{ State string }
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(err)
		}
		return out.State
	}
	for _, tc := range [][2]string{{"pause", "paused"}, {"pause", "paused"}, {"resume", "active"}, {"resume", "active"}, {"pause", "paused"}} {
		if got := state(want(t, f.send("POST", "/v1/subscriptions/s-1/"+tc[0], ""), 200)); got != tc[1] {
			t.Errorf("%s: state %q", tc[0], got)
		}
		if got := state(want(t, f.send("GET", "/v1/subscriptions/s-1", ""), 200)); got != tc[1] {
			t.Errorf("%s, shown later: state %q", tc[0], got)
		}
	}
	if items := f.items(t, "/v1/subscriptions", url.Values{}); len(items) != 1 || items[0]["state"] != "paused" {
		t.Errorf("listed %v", items)
	}
	want(t, f.send("GET", "/v1/subscriptions/s-1/pause", ""), 405)
	want(t, f.send("DELETE", "/v1/subscriptions/s-1", ""), 204)
	for _, tc := range [][2]string{{"DELETE", ""}, {"POST", "/pause"}, {"POST", "/resume"}, {"GET", ""}} {
		if got := want(t, f.send(tc[0], "/v1/subscriptions/s-1"+tc[1], ""), 404); !strings.Contains(got, "s-1") {
			t.Errorf("%v: %s", tc, got)
		}
	}
	f.ledger.View(func(s *hub.State) {
		if r := s.Requests(0, 0, nil); len(r) != 1 || r[0].Mode != hub.ModeDenied || r[0].Callback != callbackURL {
			t.Errorf("the callback will be notified of %+v", r)
		}
	})
}

func TestDeliveryOptions(t *testing.T) {
	f := newFixture(t, func(r *hub.Policy, _ *web.Options) { r.KeyHeaders = []string{"X-Hub-Key"} })
	f.subscribe(t, topicURL, callbackURL, "hub.delivery_key", "header:x-hub-key", "hub.delivery_window", "8", "consumerGroup", "g",
		"hub.rate", "2.5", "hub.retry.max_attempts", "7", "hub.retry.refused_attempts", "3", "hub.retry.max_age", "60", "hub.retry.max_interval", "5", "hub.unknown", "x")
	if items := f.items(t, "/v1/subscriptions", url.Values{}); len(items) != 1 || items[0]["mode"] != "keyed" || items[0]["state"] != "pending" {
		t.Errorf("pending: %v", items)
	}
	f.ledger.verify(t)
	var got struct {
		Mode    string
		Ahead   uint64
		Options map[string]any
	}
	if err := json.Unmarshal([]byte(want(t, f.send("GET", "/v1/subscriptions/s-1", ""), 200)), &got); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]any{"window": 8., "key": "header:X-Hub-Key", "consumer_group": "g", "rate": 2.5, "retry_max_attempts": 7.,
		"retry_refused_attempts": 3., "retry_max_age": 60., "retry_max_interval": 5., "retry_schedule": []any{}}
	if got.Mode != "keyed" || !reflect.DeepEqual(got.Options, wanted) {
		t.Errorf("got %+v, want %v", got, wanted)
	}
	for _, tc := range [][3]string{
		{"hub.delivery_window", "1025", "hub.delivery_window: is \"1025\"; expected messages from 1 to 1024"},
		{"hub.delivery_mode", "fast", "hub.delivery_mode: is \"fast\"; expected ordered, parallel or keyed"},
		{"hub.delivery_key", "header:X-Other", "hub.delivery_key: names the header"},
	} {
		if body := want(t, f.form("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL, tc[0], tc[1]), 400); !strings.Contains(body, tc[2]) {
			t.Errorf("%v: %s", tc, body)
		}
	}
	body := want(t, f.form("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL+"2", "hub.consumer_group", "g"), 409)
	if !strings.Contains(body, "hub.delivery_mode: is ordered, but the consumer group \"g\" has keyed") {
		t.Errorf("a group with different options: %s", body)
	}
	// Only headers that a delivery key may name are kept.
	want(t, f.send("POST", publishURL(topicURL), "x", "Content-Type", "text/plain", "X-Hub-Key", "k1", "X-Other", "o"), 200)
	m, err := f.ledger.Read(1, 1, 1, 1)
	if err != nil || len(m) != 1 || m[0].Header("X-Hub-Key") != "k1" || m[0].Header("X-Other") != "" || m[0].Header("Content-Type") != "text/plain" {
		t.Errorf("kept %+v (%v)", m, err)
	}
	want(t, f.send("POST", publishURL(topicURL), "x", "Content-Type", "text/plain", "X-Hub-Key", strings.Repeat("k", 256)), 400)
}
