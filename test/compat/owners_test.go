package compat_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// tenants are two principals with the same rights on a cluster of three.
type tenants struct {
	t          *testing.T
	nodes      []*hubtest.Node
	alice, bob string // keys
	rules      string // auth.file
}

func newTenants(t *testing.T) *tenants {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.yaml")
	rules := "rules:\n  - {name: tenants, may: [publish, subscribe, unsubscribe, read, topic.register], topics: [\"shared/*\"], who: [{scope: tenant}]}\n" +
		"  - {name: operate, may: [admin.*], who: [{role: viewer}]}"
	if err := os.WriteFile(path, []byte(rules+viewer()), 0o600); err != nil {
		t.Fatal(err)
	}
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	cluster := chaos.PrepareCluster(t, sites, hubtest.Settings{"auth.mode": "required", "auth.file": path, "topics.auto_register": true, "streams.heartbeat": "1s",
		"dead_letters.max_age": "4s"}) // so that retention looks every second
	cluster.Start(t)
	c := &tenants{t: t, nodes: cluster.Nodes, rules: path}
	hubtest.Eventually(t, "every member knows owners", func() error {
		var state struct {
			Level int `json:"feature_level"`
		}
		if err := json.Unmarshal(c.call(0, viewerKey, "GET", "/v1/cluster", "").Body, &state); err != nil || state.Level < 2 {
			return fmt.Errorf("level %d, %w", state.Level, err)
		}
		return nil
	})
	c.alice, c.bob = c.key("alice"), c.key("bob")
	return c
}

func (c *tenants) call(i int, key, method, target, body string, more ...string) *hubtest.Reply {
	c.t.Helper()
	return c.nodes[i].Do(c.t, method, target, hubtest.Headers(append(more, "X-API-Key", key)...), []byte(body))
}

// key makes a key and waits until all nodes know it.
func (c *tenants) key(name string) string {
	c.t.Helper()
	var out struct{ Key string }
	if err := json.Unmarshal(c.call(0, viewerKey, "POST", "/v1/auth/keys", `{"name":"`+name+`","scopes":["tenant"]}`, "Content-Type", "application/json").Body, &out); err != nil {
		c.t.Fatal(err)
	}
	for i := range c.nodes {
		hubtest.Eventually(c.t, "the node knows the key", func() error {
			if r := c.call(i, out.Key, "GET", "/v1/auth/whoami", ""); r.Status != 200 {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
	return out.Key
}

func (c *tenants) ask(i int, key, mode, callback, secret string) {
	c.t.Helper()
	body := url.Values{"hub.mode": {mode}, "hub.topic": {c.nodes[0].URL + "/topics/shared/news"}, "hub.callback": {callback}, "hub.secret": {secret}}
	if r := c.call(i, key, "POST", "/hub", body.Encode(), "Content-Type", formType); r.Status != 202 {
		c.t.Fatalf("%s: %s", mode, r)
	}
}

func (c *tenants) publish(i int, key, body string) {
	c.t.Helper()
	if r := c.call(i, key, "POST", "/topics/shared/news", body); r.Status != 200 {
		c.t.Fatal(r)
	}
}

// await waits until a node shows these subscriptions: state, owner and why they are paused.
func (c *tenants) await(i int, key, want string) {
	c.t.Helper()
	hubtest.Eventually(c.t, want, func() error {
		var page struct {
			Items []struct {
				State  string
				Owner  string
				Reason string `json:"pause_reason"`
			}
		}
		if err := json.Unmarshal(c.call(i, key, "GET", "/v1/subscriptions", "").Body, &page); err != nil {
			return err
		}
		if got := fmt.Sprint(page.Items); got != want {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

// One of two tenants with the same rights cannot take what the other has, through any node, and what one's key allowed ends on every
// node with the key.
func TestOwnersOnThreeNodes(t *testing.T) {
	c := newTenants(t)
	sub := hubtest.NewSubscriber(t)
	c.publish(0, c.alice, "m0")
	c.ask(0, c.alice, "subscribe", sub.Callback("/cb"), "alice's")
	sub.WaitIntent(t, "subscribe", 1)
	owner := "key/" + c.alice[4:16]
	for i := range c.nodes {
		c.await(i, c.alice, "[{active "+owner+" }]")
		c.await(i, c.bob, "[]")
		c.ask(i, c.bob, "subscribe", sub.Callback("/cb"), "bob's")
		c.ask(i, c.bob, "unsubscribe", sub.Callback("/cb"), "")
	}
	hubtest.Eventually(t, "bob's requests have failed", func() error {
		if got := strings.Count(string(c.call(2, c.bob, "GET", "/v1/requests?state=failed", "").Body), `"not_owner"`); got != 6 {
			return fmt.Errorf("%d of 6", got)
		}
		return nil
	})
	if n := sub.CountIntents(); n != 1 {
		t.Errorf("the callback was asked or told %d times, want once: for its owner", n)
	}
	c.publish(1, c.alice, "m1")
	sub.WaitBody(t, "m1")

	ends := make(chan string, len(c.nodes))
	for _, n := range c.nodes {
		go func() { ends <- streamEnd(t.Context(), n.URL+"/topics/shared/news", c.alice) }()
	}
	for i := range c.nodes {
		hubtest.Eventually(t, "the streams are open", func() error {
			if m := string(c.call(i, viewerKey, "GET", "/metrics", "").Body); !strings.Contains(m, "quorumhub_streams 1\n") {
				return fmt.Errorf("node %d has none", i+1)
			}
			return nil
		})
	}
	if r := c.call(1, viewerKey, "DELETE", "/v1/auth/keys/"+c.alice[4:16], ""); r.Status != 200 || !strings.Contains(string(r.Body), `"subscriptions_paused":1`) {
		t.Fatalf("revoke: %s", r)
	}
	for range c.nodes {
		if got := <-ends; !strings.Contains(got, "forbidden") {
			t.Errorf("a stream of the revoked key ended with %s", got)
		}
	}
	for i := range c.nodes {
		c.await(i, viewerKey, "[{paused "+owner+" owner_ended}]")
	}
}

// streamEnd reads a stream and returns the last that it says.
func streamEnd(ctx context.Context, target, key string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err.Error()
	}
	req.Header = hubtest.Headers("Accept", "text/event-stream", "X-API-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	text := string(all)
	return fmt.Sprint(text[max(0, len(text)-100):], err)
}

// A quota of bytes that is set at one node holds for what is published through all of them together, and what retention drops on all of
// them is given back.
func TestQuotasOnThreeNodes(t *testing.T) {
	c := newTenants(t)
	c.publish(0, c.alice, "m")
	owner := "key%2F" + c.alice[4:16]
	if r := c.call(1, viewerKey, "PUT", "/v1/auth/quotas/"+owner, `{"stored_bytes": "30kB"}`); r.Status != 200 {
		t.Fatal(r)
	}
	large := strings.Repeat("x", 9000)
	publish := func(i int, key string) int {
		return c.call(i, key, "POST", "/topics/shared/news", large).Status
	}
	for i, want := range []int{200, 200, 200, 403, 403, 403} {
		if got := publish(i%3, []string{c.alice, c.bob}[i%2]); got != want {
			t.Errorf("publication %d: %d, want %d", i+1, got, want)
		}
	}
	if r := c.call(2, c.bob, "POST", "/topics/shared/news", large, "Accept", "application/json"); !strings.Contains(string(r.Body), `"quota":{"name":"stored_bytes","limit":30000,"used":27`) {
		t.Errorf("%s", r)
	}
	if r := c.call(1, c.alice, "PUT", "/v1/topics/shared/news", `{"retention": {"max_bytes": 1}}`); r.Status != 200 {
		t.Fatalf("the owner sets its topic's limits: %s", r)
	}
	for i := range c.nodes {
		hubtest.Eventually(t, "there is room again", func() error {
			var page struct {
				Items []struct {
					Stored struct{ Used int } `json:"stored_bytes"`
				}
			}
			r := c.call(i, c.alice, "GET", "/v1/auth/usage", "")
			if err := json.Unmarshal(r.Body, &page); err != nil || len(page.Items) != 1 || page.Items[0].Stored.Used > 15_000 {
				return fmt.Errorf("%s, %w", r, err)
			}
			return nil
		})
	}
	if got := publish(2, c.bob); got != 200 {
		t.Errorf("with room again: %d", got)
	}
	// A large body is written in parts, of which the second does not fit; the first is given back.
	if r := c.call(1, viewerKey, "PUT", "/v1/auth/quotas/"+owner, `{"stored_bytes": "300kB"}`); r.Status != 200 {
		t.Fatal(r)
	}
	for range 2 {
		if r := c.call(0, c.alice, "POST", "/topics/shared/news", strings.Repeat("x", 400_000)); r.Status != 403 || !strings.Contains(string(r.Body), "stored_bytes") {
			t.Errorf("a large body: %s", r)
		}
	}
	if r := c.call(2, c.alice, "POST", "/topics/shared/news", strings.Repeat("x", 270_000)); r.Status != 200 {
		t.Errorf("a large body that fits: %s", r)
	}
}

// What a rule in auth.file allowed is paused once the rule is gone from the file.
func TestRulesThatLeaveTheFile(t *testing.T) {
	c := newTenants(t)
	sub := hubtest.NewSubscriber(t)
	c.publish(0, c.alice, "m0")
	c.ask(1, c.bob, "subscribe", sub.Callback("/cb"), "")
	owner := "key/" + c.bob[4:16]
	c.await(0, viewerKey, "[{active "+owner+" }]")
	text, err := os.ReadFile(c.rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.rules, []byte(strings.Replace(string(text), "publish, subscribe,", "publish,", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		n.Stop(t)
		n.Restart(t)
	}
	for i := range c.nodes {
		c.await(i, viewerKey, "[{paused "+owner+" not_allowed}]")
	}
}
