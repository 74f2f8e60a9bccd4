package web_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	httpsig "github.com/remitly-oss/httpsig-go"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web"
)

// guarded is a server with rules and an operator's API key from the settings.
type guarded struct {
	*fixture
	root string // the operator's key
}

const someRules = `
rules:
  - {name: root, may: [admin.*], who: [{role: root}]}
  - {name: writers, may: [publish, topic.register, topic.deregister], topics: ["orders/**"], who: [{scope: orders.write}]}
  - {name: readers, may: [subscribe, unsubscribe, read], topics: ["orders/*"], who: [{scope: orders.read}]}
  - {name: news, may: [read], topics: [news], who: [{anonymous: true}]}
`

func newGuarded(t *testing.T, more string, change ...func(*hub.Policy, *web.Options)) *guarded {
	t.Helper()
	return newGuardedAt(t, publicURL, more, change...)
}

func newGuardedAt(t *testing.T, at, more string, change ...func(*hub.Policy, *web.Options)) *guarded {
	t.Helper()
	guard, root, bind := guarding(t, more, change...)
	g := &guarded{root: root, fixture: newFixtureAt(t, at, guard)}
	bind(g.Service)
	return g
}

// guarding returns what makes a server ask for credentials, and the operator's key. Call bind with the server's service.
func guarding(t *testing.T, more string, change ...func(*hub.Policy, *web.Options)) (guard func(*hub.Policy, *web.Options), root string, bind func(*hub.Service)) {
	t.Helper()
	root, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	settings, err := auth.ParseSettings([]byte(someRules + more + "\napi_keys: [{id: '" + id + "', name: root, sha256: '" + hexOf(hash) + "', roles: [root]}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var service *hub.Service
	return func(r *hub.Policy, o *web.Options) {
		now := o.Clock.Now
		list := []auth.Authenticator{}
		if settings.SignedRequests != nil {
			list = append(list, auth.NewSignatures(*settings.SignedRequests, claims{&service}, time.Now))
		}
		if settings.GEOAuth != nil {
			list = append(list, auth.NewGEO(*settings.GEOAuth, claims{&service}, now))
		}
		o.Tickets = secrets{}
		for _, c := range change {
			c(r, o)
		}
		if settings.TokenService != nil {
			list = append(list, auth.NewRemoteTokens(*settings.TokenService, http.DefaultClient, o.Log, time.Now))
		}
		list = append(list, auth.NewAPIKeys(auth.NewAPIKeyLookup(settings.APIKeys, o.State), now))
		if len(settings.IdentityProviders) > 0 {
			list = append(list, sessionsOf(settings, o, &service).Authenticator())
		}
		o.Guard = auth.NewGuard(auth.NewGate(settings, list...), auth.NewRuleSet(settings, o.State, o.Log), auth.AuditAll, "node-1", o.Log)
		o.Guard.Apply(r)
	}, root, func(s *hub.Service) { service = s }
}

type claims struct{ service **hub.Service }

func (c claims) Claim(ctx context.Context, principal string, nonce [32]byte, until time.Time) (bool, error) {
	return (*c.service).ClaimNonce(ctx, principal, nonce, until)
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, c := range b {
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&15])
	}
	return out.String()
}

// key creates an API key through the API.
func (g *guarded) key(t *testing.T, name string, scopes ...string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"name": name, "scopes": scopes})
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Key string }
	if err := json.Unmarshal([]byte(want(t, g.send("POST", "/v1/auth/keys", string(body), "X-API-Key", g.root), 201)), &made); err != nil {
		t.Fatal(err)
	}
	return made.Key
}

// Every route requires credentials unless it is listed here.
func TestRoutesRequireCredentials(t *testing.T) {
	g := newGuarded(t, "")
	open := map[string]bool{"GET /": true, "GET /health": true, "GET /health/live": true, "GET /health/ready": true,
		"GET /v1/openapi.json": true, "GET /v1/auth/whoami": true, "GET /gateway/jwks.json": true, "GET /share/{id}": true,
		"POST /v1/stream-tickets": true, "POST /v1/auth/device": true}
	for _, rt := range g.Routes() {
		method, path, _ := strings.Cut(rt, " ")
		path = strings.NewReplacer("{id}", "s-1", "{name}", "x").Replace(path)
		body, header := "x", []string{}
		if path == "/hub" || path == "/hub/" {
			body, header = encode("hub.mode", "register", "hub.topic", topicURL), []string{"Content-Type", formType}
		}
		w := g.send(method, path, body, header...)
		if open[rt] {
			if w.Code == http.StatusUnauthorized {
				t.Errorf("%s: 401, want it public", rt)
			}
			continue
		}
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s without credentials: %d, want 401", rt, w.Code)
		}
	}
}

func TestAuthorization(t *testing.T) {
	g := newGuarded(t, "")
	writer, reader := g.key(t, "writer", "orders.write"), g.key(t, "reader", "orders.read")
	as := func(key string) []string {
		if key == "" {
			return []string{"Content-Type", formType}
		}
		return []string{"Content-Type", formType, "Authorization", "Bearer " + key}
	}
	form := func(key string, params ...string) int {
		return g.send("POST", "/hub", encode(params...), as(key)...).Code
	}
	topic := publicURL + "/topics/orders/eu"
	subscribe := []string{"hub.mode", "subscribe", "hub.topic", topic, "hub.callback", "https://s.example/cb"}
	for name, c := range map[string]struct{ got, want int }{
		"register, anonymous":        {form("", "hub.mode", "register", "hub.topic", topic), 401},
		"register, reader":           {form(reader, "hub.mode", "register", "hub.topic", topic), 403},
		"register, root":             {form(g.root, "hub.mode", "register", "hub.topic", topic), 403},
		"register, writer":           {form(writer, "hub.mode", "register", "hub.topic", topic), 200},
		"another topic, writer":      {form(writer, "hub.mode", "register", "hub.topic", publicURL+"/topics/secret"), 403},
		"subscribe, writer":          {form(writer, subscribe...), 403},
		"subscribe, reader":          {form(reader, subscribe...), 202},
		"publish, reader":            {g.send("POST", publishURL(topic), "x", as(reader)...).Code, 403},
		"publish, writer":            {g.send("POST", publishURL(topic), "x", as(writer)...).Code, 200},
		"publish by path, writer":    {g.send("POST", "/topics/orders/eu", "x", as(writer)...).Code, 200},
		"publish by path, anonymous": {g.send("POST", "/topics/orders/eu", "x").Code, 401},
		"read, writer":               {g.send("GET", "/topics/orders/eu", "", as(writer)...).Code, 403},
		"read, reader":               {g.send("GET", "/topics/orders/eu", "", as(reader)...).Code, 200},
		"read news, anonymous":       {g.send("GET", "/topics/news", "").Code, 404},
		"head, anonymous":            {g.send("HEAD", "/topics/orders/eu", "").Code, 401},
		"ping, writer":               {form(writer, "hub.mode", "publish", "hub.url", topic), 204},
		"ping of two, one not":       {form(writer, "hub.mode", "publish", "hub.url", topic, "hub.url", "https://other.example/"), 207},
		"lists, reader":              {g.send("GET", "/v1/subscriptions", "", as(reader)...).Code, 200},
		"lists, root":                {g.send("GET", "/v1/subscriptions", "", as(g.root)...).Code, 200},
		"metrics, anonymous":         {g.send("GET", "/metrics", "").Code, 401},
		"metrics, root":              {g.send("GET", "/metrics", "", as(g.root)...).Code, 200},
		"pause, reader":              {g.send("POST", "/v1/subscriptions/s-1/pause", "", as(reader)...).Code, 404},
		"keys, reader":               {g.send("POST", "/v1/auth/keys", `{"name":"x"}`, as(reader)...).Code, 403},
	} {
		_ = name
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
}

// A refusal must not reveal what exists.
func TestRefusalsDoNotRevealTopics(t *testing.T) {
	g := newGuarded(t, "")
	writer, stranger := g.key(t, "writer", "orders.write"), g.key(t, "stranger")
	want(t, g.send("POST", "/hub", encode("hub.mode", "register", "hub.topic", publicURL+"/topics/orders/eu"), "Content-Type", formType, "X-API-Key", writer), 200)
	strip := func(s string) string { return strings.NewReplacer("eu", "", "none", "").Replace(s) }
	for _, c := range []struct{ method, target, key string }{
		{"GET", "/topics/orders/%s", ""}, {"GET", "/topics/orders/%s", stranger}, {"POST", "/topics/orders/%s", stranger},
		{"GET", "/v1/subscriptions/s-1?x=%s", stranger},
	} {
		var answers []string
		for _, name := range []string{"eu", "none"} {
			w := g.send(c.method, strings.Replace(c.target, "%s", name, 1), "x", "X-API-Key", c.key, "X-Correlation-Id", "same")
			if c.key == "" {
				w = g.send(c.method, strings.Replace(c.target, "%s", name, 1), "x", "X-Correlation-Id", "same")
			}
			answers = append(answers, http.StatusText(w.Code)+strip(w.Body.String()))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s %s: an existing topic answers %q, a missing one %q", c.method, c.target, answers[0], answers[1])
		}
	}
}

func TestInvalidCredentialsGetOneAnswer(t *testing.T) {
	g := newGuarded(t, "")
	var bodies []string
	for _, header := range [][2]string{
		{"X-API-Key", "hello"}, {"X-API-Key", "qhk_000000000000_x"}, {"Authorization", "Bearer " + g.root + "x"},
	} {
		// A wrong key is refused even where no credentials are needed.
		w := g.send("GET", "/topics/news", "", header[0], header[1])
		bodies = append(bodies, want(t, w, 401))
	}
	if bodies[0] != bodies[1] || bodies[1] != bodies[2] {
		t.Errorf("different failures get different answers: %q", bodies)
	}
	w := g.send("GET", "/v1/topics", "")
	want(t, w, 401)
	if got := w.Header().Values("WWW-Authenticate"); len(got) != 1 || !strings.HasPrefix(got[0], "Bearer ") {
		t.Errorf("WWW-Authenticate: %q", got)
	}
	if text := g.logged.String(); !strings.Contains(text, "does not exist") || !strings.Contains(text, "its secret is wrong") || strings.Contains(text, g.root) {
		t.Errorf("the log lacks a reason, or shows a key: %s", text)
	}
}

func TestKeysAndRulesAPI(t *testing.T) {
	g := newGuarded(t, "")
	root := []string{"X-API-Key", g.root, "Content-Type", "application/json"}
	key := g.key(t, "meter", "orders.read")
	list := want(t, g.send("GET", "/v1/auth/keys", "", root...), 200)
	if !strings.Contains(list, `"name":"meter"`) || !strings.Contains(list, `"created_by":"api-key:root"`) || strings.Contains(list, key[17:]) {
		t.Errorf("list: %s", list)
	}
	if got := want(t, g.send("GET", "/v1/auth/whoami", "", "X-API-Key", key), 200); !strings.Contains(got, `"subject":"meter"`) {
		t.Errorf("whoami: %s", got)
	}
	read := func() int { return g.send("GET", "/topics/prices", "", "X-API-Key", key).Code }
	if got := read(); got != 403 {
		t.Fatalf("before the rule: %d", got)
	}
	explain := `{"action":"read","topic":"prices","principal":{"method":"api-key","subject":"meter"}}`
	if got := want(t, g.send("POST", "/v1/auth/explain", explain, root...), 200); !strings.Contains(got, `"allowed":false`) || !strings.Contains(got, "no rule") {
		t.Errorf("explain: %s", got)
	}
	want(t, g.send("PUT", "/v1/auth/rules/prices", `{"may":["read"],"topics":["prices"],"who":[{"subject":"meter"}]}`, root...), 200)
	if got := read(); got != 404 {
		t.Errorf("with the rule: %d, want 404 for a missing topic", got)
	}
	if got := want(t, g.send("POST", "/v1/auth/explain", explain, root...), 200); !strings.Contains(got, `"rule":"prices"`) {
		t.Errorf("explain: %s", got)
	}
	if got := want(t, g.send("GET", "/v1/auth/rules", "", root...), 200); !strings.Contains(got, `"source":"api"`) || !strings.Contains(got, `"set_by":"api-key:root"`) {
		t.Errorf("rules: %s", got)
	}
	want(t, g.send("DELETE", "/v1/auth/rules/prices", "", root...), 204)
	if got := read(); got != 403 {
		t.Errorf("after removing the rule: %d", got)
	}
	want(t, g.send("DELETE", "/v1/auth/keys/"+key[4:16], "", root...), 200)
	if got := read(); got != 401 {
		t.Errorf("with a revoked key: %d", got)
	}

	for target, c := range map[string]struct {
		method, body string
		status       int
		text         string
	}{
		"/v1/auth/rules/root":  {"PUT", `{"may":["*"],"topics":["**"],"who":[{"anonymous":true}]}`, 409, "auth.file"},
		"/v1/auth/rules/bad":   {"PUT", `{"may":["fly"],"topics":["**"],"who":[{"role":"x"}]}`, 400, "fly"},
		"/v1/auth/rules/b%20d": {"PUT", `{"may":["read"],"topics":["**"],"who":[{"role":"x"}]}`, 400, "name"},
		"/v1/auth/rules/name":  {"PUT", `{"name":"other","may":["read"],"topics":["**"],"who":[{"role":"x"}]}`, 400, "path"},
		"/v1/auth/rules/none":  {"DELETE", "", 404, "none"},
		"/v1/auth/keys/none":   {"DELETE", "", 404, "none"},
		"/v1/auth/keys":        {"POST", `{"name":"x","expires_in":"soon"}`, 400, "expires_in"},
		"/v1/auth/keys?":       {"POST", `{"name":""}`, 400, "name"},
		"/v1/auth/keys?2":      {"POST", `{"name":"x","scopes":["a b"]}`, 400, "scopes"},
		"/v1/auth/keys?3":      {"POST", `{"nme":"x"}`, 400, "nme"},
		"/v1/auth/explain":     {"POST", `{"action":"fly"}`, 400, "fly"},
	} {
		w := g.send(c.method, target, c.body, root...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s %s: %d %s; want %d and %q", c.method, target, w.Code, w.Body, c.status, c.text)
		}
	}
}

// Each audit line says who did what to what, with which outcome, and where to find the rest.
func TestAudit(t *testing.T) {
	g := newGuarded(t, "")
	writer, reader := g.key(t, "writer", "orders.write"), g.key(t, "reader", "orders.read")
	as := func(key, id string, more ...string) []string {
		return append(more, "X-API-Key", key, "X-Correlation-Id", id)
	}
	const callback = "https://s.example/cb?token=hidden"
	g.send("POST", "/topics/orders/eu", "x", as(writer, "publish-1")...)
	g.send("POST", "/topics/secret", "x", as(writer, "publish-2")...)
	g.send("POST", "/topics/orders/eu", "x", as(writer, "publish-3", "Content-Type", "a\x01b")...)
	for mode, id := range map[string]string{"subscribe": "sub-1", "unsubscribe": "sub-2"} {
		g.send("POST", "/hub", encode("hub.mode", mode, "hub.topic", publicURL+"/topics/orders/eu", "hub.callback", callback), as(reader, id, "Content-Type", formType)...)
	}
	made := g.send("POST", "/v1/auth/keys", `{"name":"meter"}`, as(g.root, "key-1")...).Body.String()
	_, id, _ := strings.Cut(made, `"id":"`)
	id = id[:12]
	g.send("DELETE", "/v1/auth/keys/"+id, "", as(g.root, "key-2")...)
	g.send("DELETE", "/v1/auth/keys/"+id, "", as(g.root, "key-3")...)
	g.send("PUT", "/v1/auth/rules/prices", `{"may":["read"],"topics":["prices"],"who":[{"role":"x"}]}`, as(g.root, "rule-1")...)
	g.send("POST", "/v1/subscriptions/s-7/pause", "", as(g.root, "pause-1")...)
	g.send("DELETE", "/v1/subscriptions/s-7", "", as(reader, "end-1")...)
	g.send("POST", "/v1/dead-letters/drop", `{"topic":"orders/eu","callback":"`+callback+`"}`, as(g.root, "drop-1", "Content-Type", "application/json")...)
	g.send("POST", "/v1/cluster/nodes", `{"node":"node-9","address":"10.0.0.9:1"}`, as(g.root, "node-1")...)
	g.send("POST", "/topics/orders/eu", "x", "X-Correlation-Id", "nobody-1")
	text := g.logged.String()
	for correlation, wants := range map[string][]string{
		"publish-1": {"actor=key/" + writer[4:16], "name=writer", "action=publish", "object.topic=orders/eu", "outcome=done", "status=200", "writers"},
		"publish-2": {"actor=key/" + writer[4:16], "action=publish", "object.topic=secret", "outcome=denied", "status=403"},
		"publish-3": {"action=publish", "object.topic=orders/eu", "outcome=failed", "status=400"},
		"sub-1":     {"actor=key/" + reader[4:16], "action=subscribe", "object.topic=orders/eu", "object.callback=https://s.example/cb?...", "outcome=done", "status=202"},
		"sub-2":     {"action=unsubscribe", "object.callback=https://s.example/cb?...", "outcome=done"},
		"key-1":     {"action=admin.auth", "object.key=" + id, "object.key_name=meter", "outcome=done", "status=201"},
		"key-2":     {"action=admin.auth", `object.request="DELETE /v1/auth/keys/` + id + `"`, "outcome=done", "status=200"},
		"key-3":     {"action=admin.auth", `object.request="DELETE /v1/auth/keys/` + id + `"`, "outcome=failed", "status=404"},
		"rule-1":    {"action=admin.auth", `object.request="PUT /v1/auth/rules/prices"`, "outcome=done"},
		"pause-1":   {"action=admin.subscriptions", `object.request="POST /v1/subscriptions/s-7/pause"`, "outcome=failed", "status=404"},
		"end-1":     {"action=admin.subscriptions", `object.request="DELETE /v1/subscriptions/s-7"`, `reason="its own"`, "outcome=failed", "status=404"},
		"drop-1":    {"action=admin.dead-letters", "object.topic=orders/eu", "object.callback=https://s.example/cb?..."},
		"node-1":    {"action=admin.cluster", `object.request="POST /v1/cluster/nodes"`},
		"nobody-1":  {"actor=anonymous", "action=publish", "object.topic=orders/eu", "outcome=denied", "status=401"},
	} {
		var line string
		for l := range strings.Lines(text) {
			if strings.Contains(l, "msg=audit") && strings.Contains(l, "correlation_id="+correlation+" ") {
				line += l
			}
		}
		for _, want := range append(wants, "node=node-1", "address=") {
			if !strings.Contains(line, want) {
				t.Errorf("%s: the audit line lacks %s: %s", correlation, want, line)
			}
		}
		if strings.Count(line, "\n") != 1 {
			t.Errorf("%s: %d audit lines, want one", correlation, strings.Count(line, "\n"))
		}
	}
	if strings.Contains(text, "hidden") {
		t.Error("the query of a callback is in the log")
	}
}

// signedWith makes a request signed by k1.
func signedWith(t *testing.T, secret, target, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Host = "hub.example.net"
	r.Header.Set("Content-Type", "application/json")
	if err := httpsig.Sign(r, httpsig.SigningProfile{Algorithm: httpsig.Algo_HMAC_SHA256, ExpiresDuration: time.Minute, Nonce: httpsig.NonceRandom32,
		Fields:   httpsig.Fields("@method", "@authority", "@path", "@query", "content-digest", "content-type"),
		Metadata: []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaExpires, httpsig.MetaNonce, httpsig.MetaKeyID, httpsig.MetaTag}},
		httpsig.SigningKey{Secret: []byte(secret), MetaKeyID: "k1", MetaTag: "websub-hub"}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSignedPublish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	const secret = "a secret of thirty-two bytes or more"
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuarded(t, "signed_requests: {keys: [{id: k1, algorithm: hmac-sha256, secret_file: "+path+", scopes: [orders.write]}]}")
	sign := func(body string) *http.Request {
		return signedWith(t, secret, publishURL(publicURL+"/topics/orders/eu"), body)
	}
	serve := func(r *http.Request) int {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return w.Code
	}
	g.clock.advance(time.Since(g.clock.Now()))
	r := sign(`{"n":1}`)
	again := r.Clone(t.Context())
	again.Body, again.ContentLength = http.NoBody, 0
	if got := serve(r); got != 200 {
		t.Fatalf("signed publish: %d, log %s", got, g.logged)
	}
	if got := want(t, g.send("GET", "/v1/topics", "", "X-API-Key", g.root), 200); !strings.Contains(got, `"head_offset":1`) {
		t.Errorf("the content was not published: %s", got)
	}
	if got := serve(again); got != 401 {
		t.Errorf("without the body: %d", got)
	}
	var accepted atomic.Int32
	one := sign(`{"n":2}`)
	copies := make([]*http.Request, 10)
	for i := range copies {
		copies[i] = httptest.NewRequest(one.Method, one.URL.String(), strings.NewReader(`{"n":2}`))
		copies[i].Header, copies[i].Host = one.Header, one.Host
	}
	done := make(chan struct{})
	for _, c := range copies {
		go func() {
			if serve(c) == 200 {
				accepted.Add(1)
			}
			done <- struct{}{}
		}()
	}
	for range copies {
		<-done
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d of 10 concurrent copies were accepted, want 1", n)
	}
	if metrics := want(t, g.send("GET", "/metrics", "", "X-API-Key", g.root), 200); !strings.Contains(metrics, "quorumhub_http_body_bytes 0\n") {
		t.Errorf("body bytes are still accounted for: %s", metrics)
	}
}

// A web page must not act on a hub that only its browser's machine can reach.
func TestCrossSiteRequestsAreRefused(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		method, target string
		header         []string
		want           int
	}{
		{"POST", "/topics/a", nil, 200},
		{"POST", "/topics/a", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		{"POST", "/topics/a", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://evil.example"}, 403},
		{"POST", "/topics/a", []string{"Origin", "https://evil.example"}, 403},
		{"POST", "/topics/a", []string{"Origin", "null"}, 403},
		{"POST", "/topics/a", []string{"Sec-Fetch-Site", "same-origin", "Origin", publicURL}, 200},
		{"POST", "/topics/a", []string{"Sec-Fetch-Site", "cross-site", "Origin", publicURL}, 200},
		{"POST", "/v1/subscriptions/s-1/pause", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"DELETE", "/v1/subscriptions/s-1", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"GET", "/topics/a", []string{"Sec-Fetch-Site", "cross-site"}, 200},
	} {
		if w := f.send(c.method, c.target, "x", c.header...); w.Code != c.want {
			t.Errorf("%s %s %v: %d %s, want %d", c.method, c.target, c.header, w.Code, w.Body, c.want)
		}
	}
}

// Principals have their own limits wherever they call from; requests with invalid credentials count for the address.
func TestLimitsByPrincipal(t *testing.T) {
	g := newGuarded(t, "")
	writer, other := g.key(t, "meter-1", "orders.write"), g.key(t, "meter-2", "orders.write")
	o := g.Options
	o.Limits, o.Registry = few(), nil
	srv, err := web.New(o)
	if err != nil {
		t.Fatal(err)
	}
	g.Server = srv
	publish := func(addr, key string) int {
		return g.from(addr, "POST", "/topics/orders/a", "x", "Authorization", "Bearer "+key).Code
	}
	for i := range 3 {
		if got := publish("203.0.113.7:1", writer); got != 200 {
			t.Fatalf("publish %d: got %d", i, got)
		}
	}
	if got := publish("198.51.100.1:1", writer); got != 429 {
		t.Errorf("from another address: got %d, want 429", got)
	}
	if got := publish("203.0.113.7:1", other); got != 200 {
		t.Errorf("another principal at the same address: got %d, want 200", got)
	}
	for i := range 6 {
		want := map[bool]int{true: 401, false: 429}[i < 3]
		if got := publish("203.0.113.7:1", "qhk_wrong"); got != want {
			t.Errorf("wrong key %d: got %d, want %d", i, got, want)
		}
	}
	if n := strings.Count(g.logged.String(), "credentials refused"); n != 3 {
		t.Errorf("%d refusals in the log, want 3", n)
	}
	if got := publish("203.0.113.7:1", other); got != 200 {
		t.Errorf("valid credentials from an address with invalid ones: got %d, want 200", got)
	}
	if w := g.from("203.0.113.9:1", "GET", "/v1/topics", ""); w.Code != 401 || w.Header().Get("RateLimit") == "" {
		t.Errorf("without credentials: got %d %v", w.Code, w.Header())
	}
}
