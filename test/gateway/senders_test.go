package gateway_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// sender is a service that sends webhooks.
type sender struct {
	scheme, npm, secret string // npm: the library that signs
	body                func(n int) string
}

func senders() []sender {
	return []sender{
		{"github", "@octokit/webhooks-methods", "It's a Secret to Everybody", func(n int) string {
			return fmt.Sprintf("{\n  \"ref\" : \"refs/heads/häuschen-%d\"}\n", n)
		}},
		{"stripe", "stripe", "whsec_9f1e2d3c4b5a69788796a5b4c3d2e1f0", func(n int) string {
			return fmt.Sprintf(`{"id": "evt_%d", "object": "event", "type": "invoice.paid", "data": {"object": {"amount_paid": 1200}}}`, n)
		}},
		{"standard-webhooks", "standardwebhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", func(n int) string { return fmt.Sprintf(`{"type":"user.created","data":{"name":"Zoë %d"}}`, n) }},
		{"slack", "", "8f742231b10e8888abcd99yyyzzz85a5", func(n int) string {
			return fmt.Sprintf(`{"type":"event_callback","event_id":"Ev%d","event":{"type":"app_mention"}}`, n)
		}},
	}
}

// sign returns the header of each body, signed by the sender's own library; Slack has none for those who send.
func (s sender) sign(t *testing.T, at time.Time, bodies []string) []http.Header {
	t.Helper()
	out := make([]http.Header, len(bodies))
	if s.npm == "" {
		for i, body := range bodies {
			stamp := strconv.FormatInt(at.Unix(), 10)
			m := hmac.New(sha256.New, []byte(s.secret))
			m.Write([]byte("v0:" + stamp + ":" + body))
			out[i] = http.Header{"X-Slack-Request-Timestamp": {stamp}, "X-Slack-Signature": {"v0=" + hex.EncodeToString(m.Sum(nil))}, "Content-Type": {"application/json"}}
		}
		return out
	}
	clients := filepath.Join("..", "interop", "clients")
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(clients, "node_modules", s.npm))
	}
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatalf("%v and CI=true: npm ci in test/interop/clients", err)
	case err != nil:
		t.Skipf("%v: npm ci in test/interop/clients", err)
	}
	var in bytes.Buffer
	for i, body := range bodies {
		if err := json.NewEncoder(&in).Encode(map[string]any{"scheme": s.scheme, "secret": s.secret, "id": fmt.Sprintf("%s-%d", s.scheme, i), "timestamp": at.Unix(), "body": []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(node, "webhook-sender.mjs")
	cmd.Dir, cmd.Stdin, cmd.Env = clients, &in, append(os.Environ(), "NODE_NO_WARNINGS=1")
	text, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		errors.As(err, &failed)
		t.Fatalf("%v: %s", err, failed.Stderr)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var fields map[string]string
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		out[i] = http.Header{"Content-Type": {"application/json"}}
		for name, value := range fields {
			out[i].Set(name, value)
		}
	}
	return out
}

// Webhooks of their senders reach the subscribers of a topic while a node dies: each of them, once, and nothing that was changed.
func TestWebhooksOfTheirSendersThroughThreeNodes(t *testing.T) {
	t.Parallel()
	const each = 12
	var verifiers, services strings.Builder
	secrets := map[string]string{}
	for i, s := range senders() {
		name := fmt.Sprint("SECRET_", i)
		secrets[name] = s.secret
		fmt.Fprintf(&verifiers, "  of-%s: {scheme: %s, secret: \"${%s}\"}\n", s.scheme, s.scheme, name)
		fmt.Fprintf(&services, "  - {name: %[1]s, uri: hooks/%[1]s, versions: [{version: \"1\", target: \"topic:%[1]s\", methods: [POST], auth: none, verifier: of-%[1]s}]}\n", s.scheme)
	}
	c := newTrio(t)
	c.apply(t, 0, "version: 1\nverifiers:\n"+verifiers.String()+"services:\n"+services.String(), nil, secrets)
	leader := c.leads(t)
	var sending sync.WaitGroup
	killed := make(chan struct{})
	type result struct {
		bodies []string
		ids    []string // of the messages
		sub    *hubtest.Subscriber
	}
	results := make([]result, len(senders()))
	for i, s := range senders() {
		r := &results[i]
		for n := range each {
			r.bodies = append(r.bodies, s.body(n))
		}
		signed := s.sign(t, time.Now(), r.bodies)
		r.ids, r.sub = make([]string, each), hubtest.NewSubscriber(t)
		form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.Nodes[0].TopicURL(s.scheme)}, "hub.callback": {r.sub.Callback("/cb")}, "hub.start": {"earliest"}}
		deliver := func(n int, at int) (string, error) { // as senders do: again, until it is accepted
			for k := range 600 {
				reply, err := c.Nodes[(at+k)%3].Send("POST", "/gateway/hooks/"+s.scheme, signed[n], strings.NewReader(r.bodies[n]))
				if err == nil && reply.Status == http.StatusAccepted {
					return reply.Header.Get("X-Hub-Message-Id"), nil
				}
				if err == nil && reply.Status < 500 && reply.Status != http.StatusTooManyRequests {
					return "", fmt.Errorf("%v", reply)
				}
				time.Sleep(50 * time.Millisecond)
			}
			return "", errors.New("not accepted for half a minute")
		}
		var err error
		if r.ids[0], err = deliver(0, 0); err != nil { // makes the topic
			t.Fatal(s.scheme, err)
		}
		if reply := c.Nodes[0].Do(t, "POST", "/hub", http.Header{"X-Api-Key": {c.key}, "Content-Type": {hubtest.FormType}}, []byte(form.Encode())); reply.Status != http.StatusAccepted {
			t.Fatalf("subscribe: %v", reply)
		}
		r.sub.WaitIntent(t, "subscribe", 1)
		sending.Go(func() {
			for n := range each {
				if n == each/2 {
					<-killed
				}
				first, err := deliver(n, n)
				again, err2 := deliver(n, n+1)
				if err := errors.Join(err, err2); err != nil || first == "" || again != first || n == 0 && first != r.ids[0] {
					t.Errorf("%s %d: message IDs %q and %q, %v; want the same for one delivery", s.scheme, n, first, again, err)
				}
				r.ids[n] = first
			}
		})
	}
	hubtest.Pause(200 * time.Millisecond)
	c.Kill(t, leader)
	close(killed)
	sending.Wait()
	for i, s := range senders() {
		r := &results[i]
		messages := func() map[string]string { // what a callback gets twice has the same message ID
			out := map[string]string{}
			for _, d := range r.sub.Deliveries() {
				out[d.Header.Get("X-Hub-Message-Id")] = string(d.Body)
			}
			return out
		}
		hubtest.EventuallyWithin(t, time.Minute, "all of "+s.scheme+" are delivered", func() error {
			if n := len(messages()); n < each {
				return fmt.Errorf("%d of %d", n, each)
			}
			return nil
		})
		got := messages()
		for n, id := range r.ids {
			if got[id] != r.bodies[n] {
				t.Errorf("%s: message %s is %q, want %q", s.scheme, id, got[id], r.bodies[n])
			}
		}
		if len(got) != each {
			t.Errorf("%s: %d messages, want %d", s.scheme, len(got), each)
		}
		c.refuseWebhooks(t, s, r.bodies[0])
	}
}

// leads returns which node leads.
func (c *trio) leads(t *testing.T) int {
	t.Helper()
	for _, n := range c.Nodes {
		n.Key = c.key // for this question only: the gateway's routes take other credentials
		defer func() { n.Key = "" }()
	}
	return c.Leader(t)
}

// refuseWebhooks sends what the sender has not signed, or long ago.
func (c *trio) refuseWebhooks(t *testing.T, s sender, body string) {
	t.Helper()
	fresh, late := s.sign(t, time.Now(), []string{body})[0], s.sign(t, time.Now().Add(-10*time.Minute), []string{body})[0]
	renamed := fresh.Clone()
	for _, name := range []string{"Webhook-Id", "X-Slack-Request-Timestamp"} {
		if renamed.Get(name) != "" {
			renamed.Set(name, "1"+renamed.Get(name)[1:]+"0")
		}
	}
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		for name, r := range map[string]struct {
			header http.Header
			body   string
			valid  bool
		}{
			"changed":             {fresh, strings.Replace(body, "a", "b", 1), false},
			"longer":              {fresh, body + " ", false},
			"empty":               {fresh, "", false},
			"late":                {late, body, s.scheme == "github"}, // which signs no time; its id makes it the same message
			"under another id":    {renamed, body, s.scheme == "github" || s.scheme == "stripe"},
			"of nobody":           {http.Header{"Content-Type": {"application/json"}}, body, false},
			"of another's secret": {sender{s.scheme, s.npm, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", s.body}.sign(t, time.Now(), []string{body})[0], body, false},
		} {
			reply := n.Do(t, "POST", "/gateway/hooks/"+s.scheme, r.header, []byte(r.body))
			if r.valid != (reply.Status == http.StatusAccepted) || !r.valid && reply.Status != http.StatusUnauthorized && reply.Status != http.StatusBadRequest {
				t.Errorf("%s, %s: %v", s.scheme, name, reply)
			}
		}
	}
}
