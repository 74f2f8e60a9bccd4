package web_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// A ready node may have warnings.
func TestReadyListsWarnings(t *testing.T) {
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) {
		o.Warnings = func() []string { return []string{"the clock is off"} }
	})
	if body := want(t, f.send("GET", "/health/ready", ""), http.StatusOK); !strings.Contains(body, `"warnings":["the clock is off"]`) {
		t.Error(body)
	}
}

func (f *fixture) set(change func(*node)) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	change(f.node)
}

func TestHealth(t *testing.T) {
	f := newFixture(t)
	f.set(func(n *node) { n.notReady, n.alive = []string{"no leader"}, errors.New("the log is stuck") })
	if body := want(t, f.send("GET", "/health", ""), 200); strings.TrimSpace(body) != `{"status":"active"}` {
		t.Errorf("GET /health: %s", body)
	}
}

func TestReadyFailsImmediately(t *testing.T) {
	f := newFixture(t)
	want(t, f.send("GET", "/health/ready", ""), 200)
	f.set(func(n *node) { n.notReady = []string{"no leader is known", "the disk is full"} })
	w := f.send("GET", "/health/ready", "")
	var body struct {
		Status  string
		Reasons []string
	}
	if err := json.Unmarshal([]byte(want(t, w, 503)), &body); err != nil {
		t.Fatal(err)
	}
	if body.Status != "not_ready" || len(body.Reasons) != 2 || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %+v with %v", body, w.Header())
	}
	f.set(func(n *node) { n.notReady = nil })
	want(t, f.send("GET", "/health/ready", ""), 200)
}

func TestLiveIsSlowToFail(t *testing.T) {
	f := newFixture(t)
	stuck := func(err error) { f.set(func(n *node) { n.alive = err }) }
	stuck(errors.New("the log is stuck"))
	if body := want(t, f.send("GET", "/health/live", ""), 200); !strings.Contains(body, "the log is stuck") {
		t.Errorf("the reason is missing: %s", body)
	}
	f.clock.advance(29 * time.Second)
	want(t, f.send("GET", "/health/live", ""), 200)
	stuck(nil) // a healthy moment restarts the clock
	want(t, f.send("GET", "/health/live", ""), 200)
	stuck(errors.New("the log is stuck"))
	f.clock.advance(time.Second)
	want(t, f.send("GET", "/health/live", ""), 200)
	f.clock.advance(30 * time.Second)
	want(t, f.send("GET", "/health/live", ""), 503)
	stuck(nil)
	want(t, f.send("GET", "/health/live", ""), 200)
}

func TestMetricsCountRequests(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		want(t, f.send("POST", publishURL(topicURL), "12345", "Idempotency-Key", "k"), 200)
	}
	want(t, f.send("POST", publishURL("x"), "1"), 400)
	f.subscribe(t, topicURL, callbackURL)
	want(t, f.form("hub.mode", "subscribe"), 400)
	want(t, f.form("hub.mode", "made-up"), 400)
	want(t, f.send("GET", "/nope/"+strings.Repeat("x", 30), ""), 404)
	body := want(t, f.send("GET", "/metrics", ""), 200)
	for _, line := range []string{
		`quorumhub_publishes_total{result="accepted"} 1`,
		`quorumhub_publishes_total{result="duplicate"} 2`,
		`quorumhub_publishes_total{result="refused"} 1`,
		`quorumhub_published_bytes_total 5`,
		`quorumhub_publish_seconds_count 1`,
		`quorumhub_hub_requests_total{mode="subscribe",result="accepted"} 1`,
		`quorumhub_hub_requests_total{mode="subscribe",result="refused"} 1`,
		`quorumhub_hub_requests_total{mode="none",result="refused"} 1`,
		`quorumhub_hub_request_seconds_count{mode="subscribe"} 1`,
		`quorumhub_http_requests_total{code="200",route="hub"} 3`,
		`quorumhub_http_requests_total{code="400",route="hub"} 3`,
		`quorumhub_http_requests_total{code="404",route="none"} 1`,
		`quorumhub_http_body_bytes 0`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if strings.Contains(body, "made-up") || strings.Contains(body, "/nope") {
		t.Error("clients can create labels")
	}
}
