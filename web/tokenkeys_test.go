package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"quorumhub/auth/keyring"
	"quorumhub/hub"
	"quorumhub/web"
)

const tokenServices = `
version: 1
upstreams:
  hr: {urls: [UPSTREAM], token: {audience: hr, ttl: 30s, accounts: accounts.json, claims: {roles: "{account.roles}"}}}
  erp: {urls: [UPSTREAM], token: {audience: erp, accounts: "topic:accounts"}}
  crm: {urls: [UPSTREAM], token: {audience: crm, accounts: "ACCOUNTS/of"}}
  all: {urls: [UPSTREAM], token: {audience: all}}
  plain: {urls: [UPSTREAM]}
services:
  - {name: hr, uri: hr, default: "1", versions: [{version: "1", target: "hr:/x", methods: [GET], auth: geo}]}
  - {name: erp, uri: erp, default: "1", versions: [{version: "1", target: "erp:/x", methods: [GET], auth: key}]}
  - {name: crm, uri: crm, default: "1", versions: [{version: "1", target: "crm:/x", methods: [GET], auth: key}]}
  - {name: all, uri: all, default: "1", versions: [{version: "1", target: "all:/x", methods: [GET], auth: default}]}
  - {name: anybody, uri: anybody, default: "1", versions: [{version: "1", target: "all:/x", methods: [GET], auth: none}]}
  - {name: plain, uri: plain, default: "1", versions: [{version: "1", target: "plain:/x", methods: [GET], auth: default}]}
`

func newTokenServing(t *testing.T) (g *guarded, b *behind, ring *keyring.Ring) {
	t.Helper()
	t.Setenv("GEO_SECRET", geoSecret)
	accounts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("subject") {
		case "reader":
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"account": "r.eader"}`))
		case "maker":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(accounts.Close)
	var err error
	if ring, err = keyring.New([]byte(strings.Repeat("k", 32))); err != nil {
		t.Fatal(err)
	}
	b = newBehind(t)
	files := map[string][]byte{"accounts.json": []byte(`{"accounts": [{"username": "geo", "target_system": "HRMS", "account": "G.EO", "claims": {"roles": ["clerk"]}}]}`)}
	_, option := serving(b, strings.ReplaceAll(tokenServices, "ACCOUNTS", accounts.URL), files)
	g = newGuarded(t, "\n  - {name: accounts, may: [publish, topic.register], topics: [accounts], who: [{role: root}]}"+guardedRules, option, func(_ *hub.Policy, o *web.Options) { o.Services.TokenKeys = ring })
	g.StartServices(t.Context())
	if errs := g.Serving().Errors; len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(func() { _ = g.Close(t.Context()) })
	return g, b, ring
}

// tokenOf verifies the token that the service behind got last, as the service would.
func tokenOf(t *testing.T, g *guarded, b *behind, audience string) map[string]any {
	t.Helper()
	r, _ := b.seen(t)
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		t.Fatalf("the service got no token: %v", r.Header)
	}
	w := g.send("GET", "/gateway/jwks.json", "")
	set, err := jwk.ParseString(want(t, w, 200))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := jwt.ParseString(text, jwt.WithKeySet(set), jwt.WithAudience(audience), jwt.WithIssuer(publicURL),
		jwt.WithClock(jwt.ClockFunc(g.clock.Now)))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(tok)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// put publishes a list of accounts.
func (g *guarded) put(t *testing.T, list string) {
	t.Helper()
	want(t, g.send("POST", "/topics/accounts", list, "X-Api-Key", g.root), 200)
}

func TestServiceGetsATokenForTheAccount(t *testing.T) {
	g, b, _ := newTokenServing(t)
	now := g.clock.Now()
	want(t, g.send("GET", geoGet(now, "/gateway/hr", "geo", nonce1), ""), 200)
	claims := tokenOf(t, g, b, "hr")
	for name, value := range map[string]any{"sub": "G.EO", "client_id": "signed:geo-auth/GEOSystem/geo", "source_system": "INT", "target_system": "HRMS", "username": "geo",
		"exp": float64(now.Unix() + 30)} {
		if claims[name] != value {
			t.Errorf("%s is %v, want %v", name, claims[name], value)
		}
	}
	if roles, _ := claims["roles"].([]any); len(roles) != 1 || roles[0] != "clerk" {
		t.Errorf("roles %v", claims["roles"])
	}
	calls := b.count()
	body := want(t, g.send("GET", geoGet(now, "/gateway/hr", "other", nonce2), "", "Accept", "application/json"), 403)
	if !strings.Contains(body, `"code":"no_account"`) || b.count() != calls {
		t.Errorf("without an account: %s, and the service was called %d times", body, b.count()-calls)
	}
	// A service without a token setting gets neither a token nor the caller's credential.
	want(t, g.send("GET", "/gateway/plain", "", "X-Api-Key", g.key(t, "reader")), 200)
	if r, _ := b.seen(t); r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "" {
		t.Errorf("got %v", r.Header)
	}
	// Nobody has no account, and a token that a client sends does not get through.
	calls = b.count()
	if body := want(t, g.send("GET", "/gateway/anybody", "", "Authorization", "Bearer x", "Accept", "application/json"), 403); !strings.Contains(body, "no_account") || b.count() != calls {
		t.Errorf("anonymous: %s", body)
	}
	want(t, g.send("GET", "/gateway/all", "", "X-Api-Key", g.key(t, "reader")), 200)
	if claims := tokenOf(t, g, b, "all"); claims["sub"] != "reader" || claims["username"] != nil {
		t.Errorf("claims %v", claims)
	}
}

func TestAccountsInATopicAndAtAURL(t *testing.T) {
	g, b, _ := newTokenServing(t)
	reader, maker := g.key(t, "reader"), g.key(t, "maker")
	get := func(path, key string, status int, code string) {
		t.Helper()
		calls := b.count()
		body := want(t, g.send("GET", path, "", "X-Api-Key", key, "Accept", "application/json"), status)
		if status != 200 && (!strings.Contains(body, `"code":"`+code+`"`) || b.count() != calls) {
			t.Errorf("%s: %s, want %s and no call", path, body, code)
		}
	}
	get("/gateway/erp", reader, 403, "no_account") // no list yet
	g.put(t, `{"accounts": [{"issuer": "", "subject": "reader", "account": "R1"}]}`)
	get("/gateway/erp", reader, 200, "")
	if claims := tokenOf(t, g, b, "erp"); claims["sub"] != "R1" {
		t.Errorf("claims %v", claims)
	}
	get("/gateway/erp", maker, 403, "no_account")
	g.put(t, `{"accounts": []}`)
	get("/gateway/erp", reader, 403, "no_account")
	g.put(t, `{`)
	get("/gateway/erp", reader, 503, "unavailable")

	get("/gateway/crm", reader, 200, "")
	if claims := tokenOf(t, g, b, "crm"); claims["sub"] != "r.eader" {
		t.Errorf("claims %v", claims)
	}
	get("/gateway/crm", maker, 503, "unavailable") // whether there is one cannot be said
}
