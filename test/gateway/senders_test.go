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

// campaign is what one sender sends, and what its topic's subscriber gets.
type campaign struct {
	sender
	c      *trio
	bodies []string
	signed []http.Header
	ids    []string // of the messages
	sub    *hubtest.Subscriber
}

func (c *trio) campaign(t *testing.T, s sender, n int) *campaign {
	t.Helper()
	a := &campaign{sender: s, c: c, ids: make([]string, n), sub: hubtest.NewSubscriber(t)}
	for i := range n {
		a.bodies = append(a.bodies, s.body(i))
	}
	a.signed = s.sign(t, time.Now(), a.bodies)
	if _, err := a.deliver(0, 0); err != nil { // makes the topic
		t.Fatal(s.scheme, err)
	}
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.Nodes[0].TopicURL(s.scheme)}, "hub.callback": {a.sub.Callback("/cb")}, "hub.start": {"earliest"}}
	if reply := c.Nodes[0].Do(t, "POST", "/hub", http.Header{"X-Api-Key": {c.key}, "Content-Type": {hubtest.FormType}}, []byte(form.Encode())); reply.Status != http.StatusAccepted {
		t.Fatalf("subscribe: %v", reply)
	}
	a.sub.WaitIntent(t, "subscribe", 1)
	return a
}

// deliver sends a webhook as senders do, again and again until it is accepted, and returns the message ID.
func (a *campaign) deliver(n, at int) (string, error) {
	for k := range 600 {
		reply, err := a.c.Nodes[(at+k)%3].Send("POST", "/gateway/hooks/"+a.scheme, a.signed[n], strings.NewReader(a.bodies[n]))
		switch {
		case err != nil:
		case reply.Status == http.StatusAccepted:
			return reply.Header.Get("X-Hub-Message-Id"), nil
		case reply.Status < 500 && reply.Status != http.StatusTooManyRequests:
			return "", fmt.Errorf("%v", reply)
		}
		hubtest.Pause(50 * time.Millisecond)
	}
	return "", errors.New("not accepted for half a minute")
}

// send delivers each webhook twice, at different nodes; from the middle on once it may.
func (a *campaign) send(t *testing.T, goOn <-chan struct{}) {
	for n := range a.bodies {
		if n == len(a.bodies)/2 {
			<-goOn
		}
		first, err := a.deliver(n, n)
		again, err2 := a.deliver(n, n+1)
		if err := errors.Join(err, err2); err != nil || first == "" || again != first {
			t.Errorf("%s %d: message IDs %q and %q, %v; want the same for one delivery", a.scheme, n, first, again, err)
		}
		a.ids[n] = first
	}
}

// arrived waits until all are there, and fails the test if one is there under two message IDs or changed.
func (a *campaign) arrived(t *testing.T) {
	t.Helper()
	messages := func() map[string]string { // what a callback gets twice has the same message ID
		out := map[string]string{}
		for _, d := range a.sub.Deliveries() {
			out[d.Header.Get("X-Hub-Message-Id")] = string(d.Body)
		}
		return out
	}
	hubtest.EventuallyWithin(t, time.Minute, "all of "+a.scheme+" are delivered", func() error {
		if n := len(messages()); n < len(a.bodies) {
			return fmt.Errorf("%d of %d", n, len(a.bodies))
		}
		return nil
	})
	got := messages()
	for n, id := range a.ids {
		if got[id] != a.bodies[n] {
			t.Errorf("%s: message %s is %q, want %q", a.scheme, id, got[id], a.bodies[n])
		}
	}
	if len(got) != len(a.bodies) {
		t.Errorf("%s: %d messages, want %d", a.scheme, len(got), len(a.bodies))
	}
}

// Webhooks of their senders reach the subscribers of a topic while a node dies: each of them, once, and nothing that was changed.
func TestWebhooksOfTheirSendersThroughThreeNodes(t *testing.T) {
	t.Parallel()
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
	var campaigns []*campaign
	for _, s := range senders() {
		campaigns = append(campaigns, c.campaign(t, s, 12))
	}
	var sending sync.WaitGroup
	killed := make(chan struct{})
	for _, a := range campaigns {
		sending.Go(func() { a.send(t, killed) })
	}
	hubtest.Pause(200 * time.Millisecond)
	c.Kill(t, leader)
	close(killed)
	sending.Wait()
	for _, a := range campaigns {
		a.arrived(t)
		c.refuseWebhooks(t, a.sender, a.bodies[0])
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
