package gateway_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

const hookSecret = "a webhook secret of some length"

const hooks = `
version: 1
verifiers:
  github-main: {scheme: github, secret: "${GITHUB_SECRET}"}
services:
  - name: commits
    uri: hooks/github
    versions:
      - {version: "1", target: "topic:commits", methods: [POST], auth: none, verifier: github-main, key: "header:X-GitHub-Delivery", carry_headers: [X-GitHub-Event]}
`

func delivery(id, body string) http.Header {
	m := hmac.New(sha256.New, []byte(hookSecret))
	m.Write([]byte(body))
	return http.Header{"X-Hub-Signature-256": {"sha256=" + hex.EncodeToString(m.Sum(nil))}, "X-Github-Delivery": {id}, "X-Github-Event": {"push"},
		"Content-Type": {"application/json"}}
}

// A webhook reaches the topic's subscribers byte for byte, once for each delivery, whichever nodes get it, and a node may die in between.
func TestWebhooksThroughThreeNodes(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.apply(t, 2, hooks, nil, map[string]string{"GITHUB_SECRET": hookSecret})
	s := hubtest.NewSubscriber(t)
	send := func(at int, id, body string) *hubtest.Reply {
		t.Helper()
		var reply *hubtest.Reply
		hubtest.Eventually(t, "delivery "+id+" is accepted", func() (err error) {
			reply, err = c.Nodes[at].Send("POST", "/gateway/hooks/github", delivery(id, body), strings.NewReader(body))
			if err == nil && reply.Status != http.StatusAccepted {
				err = fmt.Errorf("%v", reply)
			}
			return err
		})
		return reply
	}
	send(0, "d-0", `{"n": 0}`) // makes the topic
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.Nodes[0].TopicURL("commits")}, "hub.callback": {s.Callback("/cb")}, "hub.start": {"earliest"}}
	reply := c.Nodes[0].Do(t, "POST", "/hub", http.Header{"X-Api-Key": {c.key}, "Content-Type": {hubtest.FormType}}, []byte(form.Encode()))
	if reply.Status != http.StatusAccepted {
		t.Fatalf("subscribe: %v", reply)
	}
	first := send(1, "d-1", "{\n \"n\" :1}")
	again := send(2, "d-1", "{\n \"n\" :1}") // the sender tries again, at another node
	if id := first.Header.Get("X-Hub-Message-Id"); id == "" || again.Header.Get("X-Hub-Message-Id") != id {
		t.Errorf("message IDs %q and %q, want the same for one delivery", id, again.Header.Get("X-Hub-Message-Id"))
	}
	c.Kill(t, 0)
	for i, n := range c.Nodes {
		if n.Running() {
			send(i, "d-1", "{\n \"n\" :1}")
			send(i, "d-2", `{"n": 2}`)
		}
	}
	// The node that died may have delivered what it could not note; a repetition has the same message ID.
	distinct := func() (out []hubtest.Request) {
		seen := map[string]bool{}
		for _, r := range s.Deliveries() {
			if id := r.Header.Get("X-Hub-Message-Id"); !seen[id] {
				seen[id] = true
				out = append(out, r)
			}
		}
		return out
	}
	want := []string{`{"n": 0}`, "{\n \"n\" :1}", `{"n": 2}`}
	hubtest.Eventually(t, "all are delivered", func() error {
		if n := len(distinct()); n < len(want) {
			return fmt.Errorf("%d deliveries", n)
		}
		return nil
	})
	hubtest.Quiet(t, 500*time.Millisecond, "another message", func() int { return len(distinct()) })
	for i, r := range distinct() {
		if i >= len(want) || string(r.Body) != want[i] || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Github-Event") != "push" {
			t.Errorf("message %d is %q with %v", i, r.Body, r.Header)
		}
	}
	if reply := c.Nodes[1].Do(t, "POST", "/gateway/hooks/github", delivery("d-3", "{}"), []byte("{ }")); reply.Status != 401 {
		t.Errorf("a forged webhook: %v", reply)
	}
}
