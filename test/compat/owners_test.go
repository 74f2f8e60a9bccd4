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
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// Two tenants with the same rights on a cluster of three: one cannot take what the other has, through any node, and what one's key
// allowed ends on every node with the key.
func TestOwnersOnThreeNodes(t *testing.T) {
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
	cluster := chaos.PrepareCluster(t, sites, hubtest.Settings{"auth.mode": "required", "auth.file": path, "topics.auto_register": true, "streams.heartbeat": "1s"})
	cluster.Start(t)
	nodes := cluster.Nodes
	call := func(i int, key, method, target, body string, more ...string) *hubtest.Reply {
		t.Helper()
		return nodes[i].Do(t, method, target, hubtest.Headers(append(more, "X-API-Key", key)...), []byte(body))
	}
	hubtest.Eventually(t, "every member knows owners", func() error {
		var state struct {
			Level int `json:"feature_level"`
		}
		if err := json.Unmarshal(call(0, viewerKey, "GET", "/v1/cluster", "").Body, &state); err != nil || state.Level < 2 {
			return fmt.Errorf("level %d, %w", state.Level, err)
		}
		return nil
	})
	made := func(name string) string {
		var out struct{ Key string }
		if err := json.Unmarshal(call(0, viewerKey, "POST", "/v1/auth/keys", `{"name":"`+name+`","scopes":["tenant"]}`, "Content-Type", "application/json").Body, &out); err != nil {
			t.Fatal(err)
		}
		return out.Key
	}
	alice, bob := made("alice"), made("bob")
	for i := range nodes {
		hubtest.Eventually(t, "the node knows both keys", func() error {
			for _, key := range []string{alice, bob} {
				if r := call(i, key, "GET", "/v1/auth/whoami", ""); r.Status != 200 {
					return fmt.Errorf("%s", r)
				}
			}
			return nil
		})
	}
	sub := hubtest.NewSubscriber(t)
	ask := func(i int, key, mode, secret string) {
		t.Helper()
		body := url.Values{"hub.mode": {mode}, "hub.topic": {nodes[0].URL + "/topics/shared/news"}, "hub.callback": {sub.Callback("/cb")}, "hub.secret": {secret}}
		if r := call(i, key, "POST", "/hub", body.Encode(), "Content-Type", formType); r.Status != 202 {
			t.Fatalf("%s by another node: %s", mode, r)
		}
	}
	if r := call(0, alice, "POST", "/topics/shared/news", "m0"); r.Status != 200 {
		t.Fatal(r)
	}
	ask(0, alice, "subscribe", "alice's")
	sub.WaitIntent(t, "subscribe", 1)
	states := func(i int, key string) string {
		var page struct {
			Items []struct {
				State  string
				Owner  string
				Reason string `json:"pause_reason"`
			}
		}
		if err := json.Unmarshal(call(i, key, "GET", "/v1/subscriptions", "").Body, &page); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(page.Items)
	}
	await := func(i int, key, want string) {
		t.Helper()
		hubtest.Eventually(t, want, func() error {
			if got := states(i, key); got != want {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	owner := "key/" + alice[4:16]
	for i := range nodes {
		await(i, alice, "[{active "+owner+" }]")
		await(i, bob, "[]")
		ask(i, bob, "subscribe", "bob's")
		ask(i, bob, "unsubscribe", "")
	}
	hubtest.Eventually(t, "bob's requests have failed", func() error {
		if got := strings.Count(string(call(2, bob, "GET", "/v1/requests?state=failed", "").Body), `"not_owner"`); got != 6 {
			return fmt.Errorf("%d of 6", got)
		}
		return nil
	})
	if n := sub.CountIntents(); n != 1 {
		t.Errorf("the callback was asked or told %d times, want once: for its owner", n)
	}
	if r := call(1, alice, "POST", "/topics/shared/news", "m1"); r.Status != 200 {
		t.Fatal(r)
	}
	sub.WaitBody(t, "m1")

	ends := make(chan string, len(nodes))
	for i := range nodes {
		go func() { ends <- streamEnd(t.Context(), nodes[i].URL+"/topics/shared/news", alice) }()
	}
	hubtest.Eventually(t, "the streams are open", func() error {
		for i := range nodes {
			if m := string(call(i, viewerKey, "GET", "/metrics", "").Body); !strings.Contains(m, "quorumhub_streams 1\n") {
				return fmt.Errorf("node %d has none", i+1)
			}
		}
		return nil
	})
	if r := call(1, viewerKey, "DELETE", "/v1/auth/keys/"+alice[4:16], ""); r.Status != 200 || !strings.Contains(string(r.Body), `"subscriptions_paused":1`) {
		t.Fatalf("revoke: %s", r)
	}
	begin := time.Now()
	for range nodes {
		if got := <-ends; !strings.Contains(got, "forbidden") {
			t.Errorf("a stream of the revoked key ended with %s", got)
		}
	}
	t.Logf("all streams ended within %s", time.Since(begin))
	for i := range nodes {
		await(i, viewerKey, "[{paused "+owner+" owner_ended}]")
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
