package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// events is a subscriber to hub.events.
type events struct {
	*httptest.Server
	mu  sync.Mutex
	got []map[string]any
}

func newEvents(t *testing.T) *events {
	e := &events{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		var m map[string]any
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || m["id"] != r.Header.Get("X-Hub-Message-Id") {
			t.Errorf("event %v (%v) with %v", m, err, r.Header)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.got = append(e.got, m)
	}))
	t.Cleanup(e.Close)
	return e
}

// of returns the kinds of events about one subscription, in order, without duplicate deliveries.
func (e *events) of(subscription string) (kinds string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := map[any]bool{}
	for _, m := range e.got {
		if m["subscription"] == subscription && !seen[m["id"]] {
			seen[m["id"]] = true
			kinds += " " + strings.TrimPrefix(fmt.Sprint(m["type"]), "subscription.")
		}
	}
	return strings.TrimSpace(kinds)
}

func (e *events) sum(field string) (sum float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := map[any]bool{}
	for _, m := range e.got {
		if n, ok := m[field].(float64); ok && !seen[m["id"]] {
			seen[m["id"]] = true
			sum += n
		}
	}
	return sum
}

// Invariant I9 with real nodes: messages that retention drops before a subscription received them appear as an event, in a metric and in
// the API of every node. The test also sees the other events in a subscription's life.
func TestI9NoSilentGapInACluster(t *testing.T) {
	c := startDevCluster(t, 3, "delivery.retry.initial=5ms", "delivery.retry.max_interval=100ms", "storage.segment_bytes=64KiB", "retention.max_age=1s")
	told, callback := newEvents(t), newTroubled(t, http.StatusNoContent)
	if got := run(t, "", "publish", c.urls[0]+"/topics/hub.events", "--data", "x", "--hub", c.urls[1]); got.code != 4 || !strings.Contains(got.err, "is reserved") {
		t.Errorf("a client can publish to hub.events: %+v", got)
	}
	c.subscribe(0, "hub.events", told.URL)
	eventually(t, "the subscription to the events is active", func() bool { return told.of("s-1") == "verified" })
	c.subscribe(1, "news", callback.URL)
	eventually(t, "the verification is reported", func() bool { return told.of("s-2") == "verified" })

	callback.answer(http.StatusServiceUnavailable)
	content := strings.Repeat("x", 20<<10)
	for range 20 {
		if status, _ := c.publish(2, content); status != http.StatusOK {
			t.Fatalf("publish: %d", status)
		}
	}
	eventually(t, "the failures are reported", func() bool { return strings.HasPrefix(told.of("s-2"), "verified failing") })
	eventually(t, "the gap is reported", func() bool { return told.sum("gap_messages") > 0 })
	callback.answer(http.StatusNoContent)
	c.publish(0, "one more, should all the others have been dropped")
	eventually(t, "the recovery is reported", func() bool { return strings.HasSuffix(told.of("s-2"), " recovered") })

	// Wait until nothing moves, to compare the figures: every message was delivered or is in the gap.
	type subscription struct{ Cursor, Delivered, Gap float64 }
	for i := range c.urls {
		var sub subscription
		eventually(t, "everything is delivered or dropped", func() bool {
			return c.get(i, "/v1/subscriptions/s-2", &sub) && sub.Cursor == 21 && sub.Delivered+sub.Gap >= 21 && told.sum("gap_messages") == sub.Gap &&
				c.metric("quorumhub_gap_messages_total") == 3*sub.Gap
		})
		if sub.Gap == 0 || sub.Gap != told.sum("gap_messages") {
			t.Errorf("node-%d shows a gap of %v, but %v was reported", i+1, sub.Gap, told.sum("gap_messages"))
		}
	}
	if got := run(t, "", "subscriptions", "show", "s-2", "--hub", c.urls[2]); !strings.Contains(got.out, "dropped by retention") {
		t.Errorf("%+v", got)
	}

	if got := run(t, "", "subscriptions", "end", "s-2", "--hub", c.urls[0]); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	eventually(t, "the end is reported", func() bool { return strings.HasSuffix(told.of("s-2"), " ended") })
	if kinds := told.of("s-1"); kinds != "verified" {
		t.Errorf("the events of the events' own subscription are %s", kinds)
	}
}
