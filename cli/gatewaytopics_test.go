package cli_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func postForm(t *testing.T, target string, form url.Values) (int, http.Header, string) {
	t.Helper()
	resp, err := http.PostForm(target, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func postJSON(t *testing.T, target, body string) (int, http.Header) {
	t.Helper()
	resp, err := http.Post(target, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// The registry's policies on a topic hold from the moment that it is applied, and after a restart before anything is sent; a topic that
// is retired on the way ends its subscription after the last message.
func TestPoliciesAndTheEndOfATopic(t *testing.T) {
	c := startDevCluster(t, 1)
	hub := []string{"--hub", c.urls[0] + "/hub"}
	do := func(args ...string) result { return run(t, "", append(args, hub...)...) }
	file := registryFile(t, "version: 1\nservices: []\ntopics:\n- match: orders\n  publish: {body: {schema: address.schema.json}}\n"+
		"  subscribe: {callback_hosts: [127.0.0.1, localhost]}\n  deliver: {headers: {X-Env: test}, strip: [/internal]}\n")
	gateway(t, "", append([]string{"apply", file}, hub...)...).says(t, 0, "applied")
	var down atomic.Bool
	cb := newCallbacks(t, func(w http.ResponseWriter, _ arrival) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	subscribe := func(callback string) (int, http.Header, string) {
		return postForm(t, c.urls[0]+"/hub", url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.urls[0] + "/topics/orders"}, "hub.callback": {callback}})
	}
	if status, _, body := subscribe("http://127.0.0.2:9/cb"); status != 403 || !strings.Contains(body, "hub.callback") {
		t.Errorf("a callback elsewhere: %d %s", status, body)
	}
	if status, _, body := subscribe(cb.URL + "/cb"); status != 202 {
		t.Fatalf("subscribe: %d %s", status, body)
	}
	eventually(t, "the subscription is active", func() bool { return strings.Contains(do("subscriptions").out, "active") })
	publish := func(body string) (int, http.Header) { return postJSON(t, c.urls[0]+"/topics/orders", body) }
	if status, _ := publish(`["no object"]`); status != 400 {
		t.Errorf("content that breaks the schema: %d", status)
	}
	if status, _ := publish(`{"id":1,"internal":"secret"}`); status != 200 {
		t.Errorf("content that fits: %d", status)
	}
	eventually(t, "the message arrives", func() bool { return len(cb.at("/cb")) == 1 })
	if a := cb.at("/cb")[0]; a.body != `{"id":1}` || a.header.Get("X-Env") != "test" {
		t.Errorf("delivered %q with %v", a.body, a.header)
	}

	down.Store(true)
	if status, _ := publish(`{"id":"before","internal":"secret"}`); status != 200 {
		t.Errorf("publish: %d", status)
	}
	eventually(t, "the message is tried", func() bool { return len(cb.at("/cb")) > 1 })
	c.kill(0)
	tried := len(cb.at("/cb"))
	serveAgain(t, c, 0, 0)
	down.Store(false)
	eventually(t, "the restarted node sends it", func() bool { return len(cb.at("/cb")) > tried && isReady(c.urls[0]) })
	for _, a := range cb.at("/cb") {
		if strings.Contains(a.body, "secret") {
			t.Fatalf("sent as it is: %s", a.body)
		}
	}
	sent := len(cb.at("/cb"))

	do("topics", "register", "orders/v2").says(t, 0, "registered")
	sunset := time.Now().Add(24 * time.Hour).UTC().Format(time.DateOnly)
	do("topics", "content", "orders", "offer", "--uses", "1", "--for", "10m").says(t, 0, "orders gives out its content in the deliveries, or by reference for those who ask (uses: 1, within 10m0s, by whoever has the reference)")
	do("topics", "revoke", "orders").says(t, 0, "the references to all messages of orders up to the newest are revoked")
	do("topics", "revoke", "orders", "--message", "9999").says(t, 4, "offset")
	do("topics", "revoke", "orders", "--message", "x").says(t, 2, "expected a message ID such as 12-34")
	do("topics", "content", "orders", "reference", "--require-encryption").says(t, 0, "orders gives out its content encrypted, by reference (uses: 3, within 1d, by whoever has the reference)")
	do("topics", "content", "orders", "body", "--require-encryption=false").says(t, 0, "orders gives out its content in the deliveries\n")
	do("topics", "deprecate", "orders", "--successor", "orders/v2", "--sunset", sunset).says(t, 0, "orders is deprecated until "+sunset+"T00:00:00Z, use orders/v2")
	do("topics").says(t, 0, "deprecated until")
	if _, h := publish(`{"id":2,"internal":"secret"}`); h.Get("Deprecation") == "" || !strings.Contains(h.Get("Link"), "/topics/orders/v2") {
		t.Errorf("the publisher is not told: %v", h)
	}
	eventually(t, "the next message arrives", func() bool { return len(cb.at("/cb")) > sent })
	if h := cb.at("/cb")[sent].header; !strings.HasPrefix(h.Get("Deprecation"), "@") || h.Get("Sunset") == "" || !strings.Contains(h.Get("Link"), `rel="successor-version"`) {
		t.Errorf("the subscriber is not told: %v", h)
	}
	do("topics", "retire", "orders").says(t, 0, "orders is retired, use orders/v2")
	if status, h := publish(`{"id":3}`); status != 410 || !strings.Contains(h.Get("Link"), "/topics/orders/v2") {
		t.Errorf("publishing to a retired topic: %d %v", status, h)
	}
	eventually(t, "the subscription has ended", func() bool { return !strings.Contains(do("subscriptions").out, cb.URL) })
	eventually(t, "its callback is told", func() bool { return strings.Contains(cb.denial("/cb").Get("hub.reason"), "orders/v2") })
	do("topics", "reinstate", "orders").says(t, 0, "orders is active")
}
