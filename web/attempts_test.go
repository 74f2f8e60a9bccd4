package web_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/view"
)

// deliveries answers in place of the owner.
type deliveries struct {
	view view.Delivery
	err  error
	sent []view.Sending
}

func (d *deliveries) Send(_ context.Context, o view.Sending) (*view.Sent, error) {
	if d.err != nil {
		return nil, d.err
	}
	d.sent = append(d.sent, o)
	return &view.Sent{Node: "node-2", MessageID: "1-2", Attempt: view.Attempt{Outcome: "down", Status: 503, Reason: "http-status", Kind: "replay"}, Header: []view.Field{}}, nil
}

func (d *deliveries) Delivery(_ context.Context, id hub.SubscriptionID) (*view.Delivery, error) {
	if d.err != nil {
		return nil, d.err
	}
	v := d.view
	return &v, nil
}

func TestAttempts(t *testing.T) {
	d := &deliveries{}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Deliveries = d })
	f.subscribe(t, topicURL, callbackURL)
	want(t, f.send("POST", "/topics/news", "x"), 200)
	f.ledger.verify(t)
	show := func(path string) (out map[string]any) {
		t.Helper()
		if err := json.Unmarshal([]byte(want(t, f.send("GET", path, ""), 200)), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := show("/v1/subscriptions/s-1"); got["oldest_undelivered_at"] != nil || got["oldest_undelivered_seconds"] != 0.0 {
		t.Errorf("nothing is undelivered, but the oldest is from %v", got["oldest_undelivered_at"])
	}
	published := f.clock.Now()
	want(t, f.send("POST", "/topics/news", "x"), 200)
	f.clock.advance(90 * time.Second)
	want(t, f.send("POST", "/topics/news", "x"), 200)
	next := f.clock.Now().Add(time.Minute)
	d.view = view.Delivery{Node: "node-2", State: "waiting", NextAttempt: &next, Total: 40, Failed: 30, Attempts: []view.Attempt{
		{At: published, Offset: 2, Outcome: "cancelled"}, {At: published, Offset: 2, Outcome: "down", Status: 503, LatencyMS: 2.5, Reason: "http-status"},
		{At: published, Offset: 2, Outcome: "refused", Reason: "forbidden-address"}, {At: published, Offset: 2, Outcome: "down", Reason: "timeout"},
		{At: published, Offset: 1, Outcome: "delivered", Status: 204}}}

	got := show("/v1/subscriptions/s-1")
	if got["oldest_undelivered_at"] != published.Format(time.RFC3339Nano) || got["oldest_undelivered_seconds"] != 90.0 || got["delivery_error"] != nil {
		t.Errorf("%v", got)
	}
	delivery := got["delivery"].(map[string]any)
	if delivery["node"] != "node-2" || delivery["state"] != "waiting" || delivery["success_rate"] != 0.25 || len(delivery["attempts"].([]any)) != 5 {
		t.Errorf("delivery %v", delivery)
	}
	if delivery["progress"] != nil {
		t.Errorf("an older program's progress is %v", delivery["progress"])
	}

	// What the owner knows is shown beside what is replicated.
	d.view.Progress = &view.Progress{Acknowledged: 2, Ahead: 0, Lag: 1, Head: 3, Delivered: 2}
	got = show("/v1/subscriptions/s-1")
	progress := got["delivery"].(map[string]any)["progress"].(map[string]any)
	if got["cursor"] != 1.0 || got["delivered"] != 0.0 || progress["acknowledged"] != 2.0 || progress["lag"] != 1.0 || progress["head_offset"] != 3.0 || progress["delivered"] != 2.0 {
		t.Errorf("%v", got)
	}
	if got["oldest_undelivered_seconds"] != 0.0 {
		t.Errorf("the oldest message that is not acknowledged is %v s old", got["oldest_undelivered_seconds"])
	}
	d.view.Progress = nil
	got = show("/v1/subscriptions/s-1/attempts")
	if got["subscription"] != "s-1" || got["total"] != 40.0 || got["failed"] != 30.0 || got["next_attempt_at"] == nil {
		t.Errorf("%v", got)
	}
	if a := got["attempts"].([]any)[1].(map[string]any); a["offset"] != 2.0 || a["status"] != 503.0 || a["latency_ms"] != 2.5 || a["reason"] != "http-status" || len(a) != 7 {
		t.Errorf("attempt %v", a)
	}

	// Without the owner, the replicated state is still shown.
	d.err = hub.Errorf(hub.CodeUnavailable, "node-2 cannot be reached at the moment; try again shortly")
	got = show("/v1/subscriptions/s-1")
	if got["delivery"] != nil || !strings.Contains(got["delivery_error"].(string), "node-2 cannot be reached") || got["oldest_undelivered_seconds"] != 90.0 {
		t.Errorf("%v", got)
	}
	if body := want(t, f.send("GET", "/v1/subscriptions/s-1/attempts", ""), 503); !strings.Contains(body, "node-2 cannot be reached") {
		t.Errorf("the answer is %s", body)
	}
	for _, id := range []string{"s-2", "r-1", "x"} {
		want(t, f.send("GET", "/v1/subscriptions/"+id+"/attempts", ""), 404)
	}
	if items := f.items(t, "/v1/subscriptions", url.Values{}); items[0]["delivery"] != nil {
		t.Error("the list asks other nodes")
	}
}
