package web_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/login"
	"quorumhub/web/login/broker"
	"quorumhub/web/login/forward"
	"quorumhub/web/login/pages"
)

// The document describes every route and method of the server, and nothing else.
func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	f := newFixture(t)
	w := f.send("GET", "/v1/openapi.json", "")
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			PathItems map[string]map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(want(t, w, 200)), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("openapi is %q, want 3.1.x", doc.OpenAPI)
	}
	described := map[string]bool{}
	for path, item := range doc.Paths {
		if ref, ok := item["$ref"]; ok {
			var name string
			if err := json.Unmarshal(ref, &name); err != nil {
				t.Fatal(err)
			}
			item = doc.Components.PathItems[strings.TrimPrefix(name, "#/components/pathItems/")]
			if item == nil {
				t.Errorf("%s refers to %s, which does not exist", path, name)
			}
		}
		for _, m := range []string{"get", "put", "post", "delete", "patch"} {
			if _, ok := item[m]; ok {
				described[strings.ToUpper(m)+" "+path] = true
			}
		}
	}
	for name, routes := range map[string][]string{"without logins": f.Routes(), "with logins": newGuarded(t, "", withLogins(t)).Routes()} {
		for _, rt := range routes {
			if !described[rt] {
				t.Errorf("%s: %s is served but not described", name, rt)
			}
		}
		for rt := range described {
			if !slices.Contains(routes, rt) {
				t.Errorf("%s: %s is described but not served", name, rt)
			}
		}
	}
}

// withLogins gives a server all protocols for logging in. They have routes, and cannot serve.
func withLogins(t *testing.T) func(*hub.Policy, *web.Options) {
	t.Helper()
	own, err := pages.New(pages.Options{PublicURL: publicURL})
	if err != nil {
		t.Fatal(err)
	}
	applications, err := broker.New(broker.Options{PublicURL: publicURL, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	h, err := login.New(login.Options{PublicURL: publicURL, Protocols: []login.Protocol{own, forward.New(forward.Options{PublicURL: publicURL}), applications}})
	if err != nil {
		t.Fatal(err)
	}
	return func(_ *hub.Policy, o *web.Options) { o.Login = h }
}

// Every $ref in the document resolves.
func TestOpenAPIReferences(t *testing.T) {
	f := newFixture(t)
	body := want(t, f.send("GET", "/v1/openapi.json", ""), 200)
	var doc any
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	for _, ref := range regexp.MustCompile(`"\$ref": *"#/([^"]+)"`).FindAllStringSubmatch(body, -1) {
		at := doc
		for key := range strings.SplitSeq(ref[1], "/") {
			m, _ := at.(map[string]any)
			if at = m[key]; at == nil {
				t.Errorf("#/%s does not resolve", ref[1])
				break
			}
		}
	}
}

func TestMethodNotAllowed(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/", "/health", "/health/live", "/health/ready", "/metrics", "/v1/cluster", "/v1/topics",
		"/v1/subscriptions", "/v1/dead-letters", "/v1/openapi.json"} {
		want(t, f.send("GET", path, ""), 200)
		want(t, f.send("HEAD", path, ""), 200)
		w := f.send("POST", path, "x")
		want(t, w, 405)
		if got := w.Header().Get("Allow"); got != "GET, HEAD, OPTIONS" {
			t.Errorf("POST %s: Allow is %q", path, got)
		}
	}
	for _, path := range []string{"/nope", "/hub/x", "/v1", "/v1/", "/v1/nope", "/topics", "/debug/pprof/", "/v1/subscriptions/"} {
		want(t, f.send("GET", path, ""), 404)
	}
}

func TestProfilingIsOptional(t *testing.T) {
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Profiling = true })
	if body := want(t, f.send("GET", "/debug/pprof/", ""), 200); !strings.Contains(body, "goroutine") {
		t.Errorf("the index of profiles is %q", body)
	}
	want(t, f.send("GET", "/debug/pprof/goroutine?debug=1", ""), 200)
}

func TestLandingPage(t *testing.T) {
	body := want(t, newFixture(t).send("GET", "/", "", "Host", "evil.example"), 200)
	for _, s := range []string{publicURL + "/hub", publicURL + "/topics/", "/v1/openapi.json", "/health"} {
		if !strings.Contains(body, s) {
			t.Errorf("the landing page does not name %s:\n%s", s, body)
		}
	}
}

func TestCorrelationID(t *testing.T) {
	f := newFixture(t)
	const header = "X-Correlation-ID"
	minted := regexp.MustCompile(`^[0-9a-f]{16}$`)
	for _, tc := range []struct {
		given string
		kept  bool
	}{{"", false}, {"abc-1.2_Z", true}, {strings.Repeat("a", 64), true}, {strings.Repeat("a", 65), false}, {"a b", false}, {"<script>", false}, {"é", false}} {
		for _, target := range []string{"/health", "/nope", "/v1/subscriptions?limit=x"} {
			got := f.send("GET", target, "", header, tc.given).Header()[http.CanonicalHeaderKey(header)]
			if len(got) != 1 || tc.kept && got[0] != tc.given || !tc.kept && !minted.MatchString(got[0]) {
				t.Errorf("GET %s with %q: got %q", target, tc.given, got)
			}
		}
	}
}

func TestErrorsFollowAccept(t *testing.T) {
	f := newFixture(t)
	for _, tc := range []struct {
		accept string
		json   bool
	}{
		{"", false}, {"*/*", false}, {"text/plain", false}, {"text/html, */*;q=0.1", false}, {"application/json", true},
		{"application/problem+json", true}, {"application/problem+json;q=0.5, text/plain", false},
		{"text/plain;q=0.2, application/json;q=0.9", true}, {"application/json, */*", false}, {"application/json;q=0", false},
		{"application/json;q=0.9, */*;q=0.1", true}, {"application/*, text/*;q=0.5", true}, {"nonsense;;q=x,,", false},
	} {
		w := f.send("POST", "/hub", "hub.mode=x", "Content-Type", formType, "Accept", tc.accept)
		body := want(t, w, 400)
		if !tc.json {
			if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Errorf("Accept %q: got %s", tc.accept, got)
			}
			continue
		}
		checkProblem(t, w, body, "invalid", "hub.mode")
	}
	w := f.send("GET", "/v1/subscriptions?limit=0", "")
	checkProblem(t, w, want(t, w, 400), "invalid", "limit")
	w = f.send("GET", "/v1/nope", "")
	checkProblem(t, w, want(t, w, 404), "not_found", "path")
}

func checkProblem(tb testing.TB, w interface{ Header() http.Header }, body, code, param string) {
	tb.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		tb.Fatalf("%v in %q", err, body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		tb.Errorf("Content-Type is %s", got)
	}
	for _, key := range []string{"type", "title", "status", "detail", "code", "correlation_id"} {
		if p[key] == nil || p[key] == "" {
			tb.Errorf("%s is missing in %s", key, body)
		}
	}
	if p["code"] != code || p["param"] != param || p["type"] != "urn:quorumhub:problem:"+code || p["correlation_id"] != w.Header().Get("X-Correlation-Id") {
		tb.Errorf("problem is %s, want code %s, param %s and the header's correlation id", body, code, param)
	}
}

// Internal errors go to the log only, under the correlation ID the client got.
func TestInternalErrorsAreNotShown(t *testing.T) {
	f := newFixture(t)
	f.ledger.refuse = errWithPath
	w := f.send("POST", publishURL(topicURL), "x")
	body := want(t, w, 500)
	id := w.Header().Get("X-Correlation-Id")
	if strings.Contains(body, "/var/lib") || !strings.Contains(body, id) {
		t.Errorf("the answer is %q", body)
	}
	if log := f.logged.String(); !strings.Contains(log, "/var/lib") || !strings.Contains(log, id) {
		t.Errorf("the log is %q", log)
	}
	checkErrorLine(t, body)
}

func TestOpenAPIListsEveryCode(t *testing.T) {
	f := newFixture(t)
	var doc struct {
		Components struct {
			Schemas struct {
				Problem struct {
					Properties struct{ Code struct{ Enum []string } }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(want(t, f.send("GET", "/v1/openapi.json", ""), 200)), &doc); err != nil {
		t.Fatal(err)
	}
	codes := doc.Components.Schemas.Problem.Properties.Code.Enum
	seen := map[string]bool{}
	try := func(method, target, body string, header ...string) {
		w := f.send(method, target, body, append(header, "Accept", "application/json")...)
		var p struct{ Code string }
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatalf("%s %s: %v in %q", method, target, err, w.Body)
		}
		if !slices.Contains(codes, p.Code) {
			t.Errorf("the code %q of %s %s is not in the document", p.Code, method, target)
		}
		seen[p.Code] = true
	}
	form := []string{"Content-Type", formType}
	try("POST", "/hub", "hub.mode=", form...)
	try("POST", "/hub", "{}")
	try("POST", "/hub", encode("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", "https://forbidden.example/"), form...)
	try("POST", "/hub", encode("hub.mode", "deregister", "hub.topic", topicURL), form...)
	try("GET", "/hub", "")
	try("POST", "/topics/a", strings.Repeat("x", 5000))
	try("POST", "/topics/a", "x", "Content-Encoding", "gzip")
	want(t, f.send("POST", "/topics/a", "x", "Idempotency-Key", "k"), 200)
	want(t, f.send("POST", "/topics/a", "y"), 200)
	try("POST", "/topics/a", "z", "Idempotency-Key", "k")
	want(t, f.form("hub.mode", "register", "hub.topic", topicURL), 200)
	try("POST", "/hub", encode("hub.mode", "register", "hub.topic", topicURL), form...)
	f.ledger.trim(t, 1, 1)
	try("GET", "/topics/a?offset=1", "")
	f.atLevel(t, hub.FeatureLevel)
	want(t, f.send("PUT", "/v1/topics/retired", `{"lifecycle": {"status": "retired"}}`), 404)
	want(t, f.send("POST", "/topics/retired", "x"), 200)
	want(t, f.send("PUT", "/v1/topics/retired", `{"lifecycle": {"status": "retired"}}`), 200)
	try("POST", "/topics/retired", "x")
	want(t, f.send("PUT", "/v1/gateway", `{"text": "one"}`), 200)
	try("PUT", "/v1/gateway", `{"text": "two"}`, "If-None-Match", "*")
	f.ledger.refuse = hub.ErrNoLeader
	try("POST", "/topics/a", "x")
	f.ledger.refuse = errWithPath
	try("POST", "/topics/a", "x")
	try("POST", "/topics/a", "x", "Sec-Fetch-Site", "cross-site")
	f = newGuarded(t, "").fixture
	try("POST", "/topics/a", "x")
	o := newOwned(t, "quotas: {default: {topics: 1}}")
	f = o.fixture
	try("POST", "/topics/orders/2", "x", "X-API-Key", o.alice)
	for _, code := range codes {
		if !seen[code] && code != "bad_body" && code != "body_timeout" { // these two need a connection; see lifecycle_test.go
			t.Errorf("the document lists %q, which no case above produces", code)
		}
	}
}
