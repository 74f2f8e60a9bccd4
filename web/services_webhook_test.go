package web_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"quorumhub/hub"
)

const hooks = `
version: 1
upstreams:
  ci: {urls: [UPSTREAM]}
verifiers:
  github-main: {scheme: github, secret: "${HOOK}"}
  slack-main: {scheme: slack, secret: "${HOOK}"}
  standard: {scheme: standard-webhooks, secret: "${STANDARD}"}
services:
  - {name: commits, uri: hooks/github, default: "1", versions: [{version: "1", target: "topic:commits", methods: [POST], auth: none, verifier: github-main, key: "header:X-GitHub-Delivery", carry_headers: [X-GitHub-Event]}]}
  - {name: chat, uri: hooks/slack, default: "1", versions: [{version: "1", target: "topic:chat", methods: [POST], auth: none, verifier: slack-main}]}
  - {name: ci, uri: hooks/ci, default: "1", versions: [{version: "1", target: "ci:/build", methods: [POST], auth: none, verifier: standard}]}
  - {name: reserved, uri: hooks/events, default: "1", versions: [{version: "1", target: "topic:hub.events", methods: [POST], auth: none, verifier: github-main}]}
`

const hookSecret = "whsec-0123456789abcdef"

func newHooks(t *testing.T) (*guarded, *behind) {
	t.Helper()
	b := newBehind(t)
	src, option := serving(b, strings.ReplaceAll(hooks, "  - {name: reserved", "#"), nil)
	src.active.Document.Secrets["STANDARD"] = "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	g := newGuarded(t, "", option)
	g.StartServices(t.Context())
	if errs := g.Serving().Errors; len(errs) > 0 {
		t.Fatal(errs)
	}
	return g, b
}

func mac(secret, text string) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(text))
	return m.Sum(nil)
}

func github(body, id string) []string {
	return []string{"X-Hub-Signature-256", "sha256=" + hex.EncodeToString(mac(hookSecret, body)), "X-GitHub-Delivery", id, "X-GitHub-Event", "push",
		"Content-Type", "application/json; charset=UTF-8"}
}

// A webhook becomes a message byte for byte, once for each delivery of its sender, whoever may publish to the topic otherwise.
func TestGatewayTakesWebhooksIntoATopic(t *testing.T) {
	g, _ := newHooks(t)
	body := "{\n  \"ref\" : \"refs/heads/main\"}\n"
	first := g.send("POST", "/gateway/hooks/github", body, github(body, "d-1")...)
	want(t, first, 202)
	id := first.Header().Get("X-Hub-Message-Id")
	again := g.send("POST", "/gateway/hooks/github", body, github(body, "d-1")...)
	want(t, again, 202)
	if id == "" || again.Header().Get("X-Hub-Message-Id") != id {
		t.Errorf("message IDs %q and %q, want the same for one delivery", id, again.Header().Get("X-Hub-Message-Id"))
	}
	other := g.send("POST", "/gateway/hooks/github", body, github(body, "d-2")...)
	if want(t, other, 202); other.Header().Get("X-Hub-Message-Id") == id {
		t.Error("two deliveries are one message")
	}
	var topic hub.Topic
	g.ledger.View(func(s *hub.State) { topic, _ = s.TopicByName("commits") })
	if topic.Owner != "webhook/github-main" {
		t.Errorf("the topic belongs to %q", topic.Owner)
	}
	msgs, err := g.ledger.Read(topic.ID, 1, 10, 1<<20)
	if err != nil || len(msgs) != 2 {
		t.Fatalf("%d messages, %v; want 2", len(msgs), err)
	}
	m := msgs[0]
	if string(m.Body) != body || m.ContentType != "application/json; charset=UTF-8" {
		t.Errorf("stored %q as %q", m.Body, m.ContentType)
	}
	if got := fmt.Sprint(m.Headers); got != "[{X-Github-Event push true} {X-Hub-Key d-1 false}]" {
		t.Errorf("kept with the message: %s", got)
	}
}

func TestGatewayRefusesForgedWebhooks(t *testing.T) {
	g, _ := newHooks(t)
	good := github("{}", "d-1")
	for name, change := range map[string]func(http.Header) string{
		"another body":   func(http.Header) string { return "{ }" },
		"no signature":   func(h http.Header) string { h.Del("X-Hub-Signature-256"); return "{}" },
		"two signatures": func(h http.Header) string { h.Add("X-Hub-Signature-256", h.Get("X-Hub-Signature-256")); return "{}" },
		"SHA-1 only": func(h http.Header) string {
			h.Del("X-Hub-Signature-256")
			h.Set("X-Hub-Signature", "sha1=00")
			return "{}"
		},
		"another secret": func(h http.Header) string {
			h.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac("other", "{}")))
			return "{}"
		},
		"compressed body": func(h http.Header) string { h.Set("Content-Encoding", "gzip"); return "{}" },
	} {
		h := http.Header{}
		for i := 0; i < len(good); i += 2 {
			h.Set(good[i], good[i+1])
		}
		body := change(h)
		var flat []string
		for k, vs := range h {
			for _, v := range vs {
				flat = append(flat, k, v)
			}
		}
		w := g.send("POST", "/gateway/hooks/github", body, flat...)
		if w.Code != 401 && w.Code != 415 || strings.Contains(w.Body.String(), "sha256") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	g.ledger.View(func(s *hub.State) {
		if _, ok := s.TopicByName("commits"); ok {
			t.Error("a forged webhook made a topic")
		}
	})
	want(t, g.send("GET", "/gateway/hooks/github", ""), 405)
}

func TestGatewayAnswersSlacksChallenge(t *testing.T) {
	g, _ := newHooks(t)
	body := `{"type":"url_verification","challenge":"3eZbrw1aB"}`
	at := strconv.FormatInt(g.clock.Now().Unix(), 10)
	w := g.send("POST", "/gateway/hooks/slack", body, "X-Slack-Request-Timestamp", at, "X-Slack-Signature", "v0="+hex.EncodeToString(mac(hookSecret, "v0:"+at+":"+body)))
	if got := want(t, w, 200); got != `{"challenge":"3eZbrw1aB"}` {
		t.Errorf("answers %q", got)
	}
	want(t, g.send("POST", "/gateway/hooks/slack", body, "X-Slack-Request-Timestamp", at, "X-Slack-Signature", "v0=00"), 401)
}

// A webhook for a service behind is passed on once.
func TestGatewayClaimsWebhooksForServices(t *testing.T) {
	g, b := newHooks(t)
	at := strconv.FormatInt(g.clock.Now().Unix(), 10)
	header := []string{"Webhook-Id", "msg_1", "Webhook-Timestamp", at, "Webhook-Signature",
		"v1," + base64.StdEncoding.EncodeToString(mac("0123456789abcdef0123456789abcdef", "msg_1."+at+".{}"))}
	want(t, g.send("POST", "/gateway/hooks/ci", "{}", header...), 200)
	if r, body := b.seen(t); body != "{}" || r.Header.Get("X-Principal-Subject") != "standard" {
		t.Errorf("the service got %q from %q", body, r.Header.Get("X-Principal-Subject"))
	}
	if body := want(t, g.send("POST", "/gateway/hooks/ci", "{}", append(header, "Accept", "application/json")...), 401); !strings.Contains(body, `"replayed"`) {
		t.Errorf("a copy gets %s", body)
	}
	if n := b.count(); n != 1 {
		t.Errorf("the service was called %d times", n)
	}
}
