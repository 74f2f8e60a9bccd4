package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/topics"
)

// provers are topics.Callers on a guard.
type provers struct{ guard **auth.Guard }

func (p provers) Way(name string, _ []registry.Step) (func(context.Context) error, error) {
	d, err := (*p.guard).Demand(name, nil)
	return func(ctx context.Context) error {
		c := auth.CallerOf(ctx)
		return c.Prove(ctx, d)
	}, err
}

func (provers) Key(ctx context.Context) string {
	c := auth.CallerOf(ctx)
	return c.Name()
}

// A topic may ask its callers to prove themselves otherwise than the hub does, for a content, at a rate and for callbacks of its own;
// what is refused is told apart from what the rules refuse.
func TestTopicPolicies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	const secret = "a secret of thirty-two bytes or more"
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var guard *auth.Guard
	policies := topics.New(topics.Options{Callers: provers{&guard}, MaxBytes: 4096})
	g := newGuarded(t, "  - {name: open, may: [publish, subscribe], topics: [\"open/**\"], who: [{anonymous: true}]}\n"+
		"signed_requests: {keys: [{id: k1, algorithm: hmac-sha256, secret_file: "+path+", scopes: [orders.write, orders.read]}]}",
		func(p *hub.Policy, _ *web.Options) { p.Topics = policies })
	guard = g.Guard
	reg, mistakes := registry.Read(registry.Document{Files: map[string][]byte{"s.json": []byte(`{"type": "object", "required": ["id"]}`)}, Text: []byte(`
version: 1
services: []
topics:
  - {match: "open/key", publish: {auth: key}, subscribe: {auth: key}}
  - {match: "open/slow", publish: {limits: {rate: 2/1h}}}
  - {match: "open/**", publish: {body: {schema: s.json}}, subscribe: {callback_hosts: ["*.partner.example"], require_https: true}}
  - {match: "orders/signed", publish: {auth: signature}}
`)}, nil)
	if reg == nil {
		t.Fatal(mistakes)
	}
	if problems := policies.Load(reg); len(problems) > 0 {
		t.Fatal(problems)
	}
	key := g.key(t, "writer", "orders.write")
	post := func(topic, body string, header ...string) *httptest.ResponseRecorder {
		return g.send("POST", "/topics/"+topic, body, append(header, "Content-Type", "application/json", "Accept", "application/json")...)
	}
	w := post("open/key", "{}")
	if body := want(t, w, 401); !strings.Contains(body, "prove themselves otherwise") || len(w.Header()["Www-Authenticate"]) == 0 {
		t.Errorf("without a key: %s %v", body, w.Header())
	}
	want(t, post("open/key", "{}", "X-API-Key", key), 200)

	// The hub takes the key, the topic does not; the signature satisfies both, once.
	want(t, post("orders/signed", "{}", "X-API-Key", key), 401)
	signed := func() *http.Request { return signedWith(t, secret, "/topics/orders/signed", `{"id": 1}`) }
	first := signed()
	serve := func(r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return w
	}
	again := first.Clone(context.Background())
	again.Body = signed().Body
	want(t, serve(first), 200)
	want(t, serve(again), 401) // its nonce is used

	want(t, post("open/any", `{"id": 1}`), 200)
	if body := want(t, post("open/any", `{"name": 1}`), 400); !strings.Contains(body, "id") {
		t.Errorf("content that breaks the schema: %s", body)
	}
	want(t, g.send("POST", "/topics/open/any", `{"id": 1}`, "Content-Type", "text/plain"), 415)
	batch := g.send("POST", "/topics/open/any?hub.batch=true", "{\"id\": 1}\n{\"name\": 1}\n", "Content-Type", "application/x-ndjson")
	if body := want(t, batch, 400); !strings.Contains(body, "message 2") {
		t.Errorf("a batch with one bad message: %s", body)
	}
	if head := g.head("open/any"); head != 1 {
		t.Errorf("%d messages were stored, want the one that fits", head)
	}
	want(t, post("open/slow", "{}"), 200)
	want(t, post("open/slow", "{}"), 200)
	if w := post("open/slow", "{}"); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("over the topic's rate: %d %v", w.Code, w.Header())
	}

	for callback, status := range map[string]int{"https://a.partner.example/cb": 202, "http://a.partner.example/cb": 403, "https://else.example/cb": 403} {
		want(t, g.form("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/open/any", "hub.callback", callback), status)
	}
	want(t, g.form("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/open/key", "hub.callback", "https://else.example/cb"), 401)
}

// A subscriber's key is checked when it is given, kept with the subscription, and gone with a renewal without it; a topic that encrypts
// takes nobody without one.
func TestSubscribersGiveAKey(t *testing.T) {
	policies := topics.New(topics.Options{Callers: provers{}, MaxBytes: 4096})
	f := newFixture(t, func(p *hub.Policy, _ *web.Options) { p.Topics = policies })
	f.atLevel(t, hub.FeatureLevel)
	reg, mistakes := registry.Read(registry.Document{Text: []byte("version: 1\nservices: []\ntopics:\n  - {match: secret, deliver: {protect: {encrypt: recipient}}}\n")}, nil)
	if reg == nil {
		t.Fatal(mistakes)
	}
	policies.Load(reg)
	const key = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	subscribe := func(topic, key string, status int) string {
		form := []string{"hub.mode", "subscribe", "hub.topic", publicURL + "/topics/" + topic, "hub.callback", "https://a.example/" + topic}
		if key != "" {
			form = append(form, "hub.encryption_key", key)
		}
		body := want(t, f.form(form...), status)
		if status == 202 {
			f.ledger.verify(t)
		}
		return body
	}
	if body := subscribe("secret", "", 400); !strings.Contains(body, "hub.encryption_key: is missing") {
		t.Errorf("without a key: %s", body)
	}
	subscribe("secret", "nonsense", 400)
	subscribe("secret", strings.Repeat("x", 17<<10), 400)
	subscribe("secret", key, 202)
	subscribe("news", key, 202)
	encrypted := func(id string) bool {
		return strings.Contains(want(t, f.send("GET", "/v1/subscriptions/"+id, ""), 200), `"encrypted":true`)
	}
	if sub, _ := f.ledger.state.Subscription(1); sub.EncryptionKey != key || !encrypted("s-1") || !encrypted("s-2") {
		t.Errorf("the key is %q", sub.EncryptionKey)
	}
	subscribe("news", "", 202)
	if encrypted("s-2") {
		t.Error("a renewal without a key keeps it")
	}
}

// head returns the number of messages of a topic.
func (g *guarded) head(topic string) uint64 {
	t, _ := g.ledger.state.TopicByName(topic)
	return t.Head
}
