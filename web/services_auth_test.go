package web_test

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

const guardedServices = `
version: 1
upstreams:
  hr: {urls: [UPSTREAM]}
sequences:
  both: [{strategy: single, of: [key]}, {strategy: single, of: [geo]}]
services:
  - name: address
    uri: Employee/requestAddress
    default: "2"
    versions:
      - {version: "1", target: "hr:/v1", methods: [GET], auth: key}
      - version: "2"
        target: hr:/v2/address
        methods: [GET, POST]
        auth: geo
        permission: {action: call, resource: hr.address}
        params: [{name: ID, in: query, pattern: "[0-9]+"}]
  - {name: two, uri: two, default: "1", versions: [{version: "1", target: "hr:/two", methods: [GET], auth: both}]}
  - {name: any, uri: any, default: "1", versions: [{version: "1", target: "hr:/any", methods: [GET, POST], auth: default}]}
  - {name: open, uri: open/*, default: "1", versions: [{version: "1", target: "hr:/open/*", methods: [GET], auth: none}]}
  - {name: topics, uri: our/topics, default: "1", versions: [{version: "1", target: "hub:topics", methods: [GET], auth: key}]}
  - {name: orders, uri: our/orders, default: "1", versions: [{version: "1", target: "topic:orders/new", methods: [POST], auth: key}]}
`

const guardedRules = `
  - {name: hr, may: [call], resources: ["hr.*"], who: [{principal: "signed:geo-auth/GEOSystem/geo"}]}
geo_auth:
  keys: [{id: GEOSystem, secret_env: GEO_SECRET, usernames: [geo, other]}]
`

const geoSecret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// newGuardedServing is a gateway whose callers must prove who they are.
func newGuardedServing(t *testing.T, text string) (*guarded, *behind) {
	t.Helper()
	t.Setenv("GEO_SECRET", geoSecret)
	b := newBehind(t)
	_, option := serving(b, text, nil)
	g := newGuarded(t, guardedRules, option)
	g.StartServices(t.Context())
	if errs := g.Serving().Errors; len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(func() { _ = g.Close(t.Context()) })
	return g, b
}

// geoFields are the fields of GEO-Auth, joined by sep.
func geoFields(now time.Time, user, nonce, sep string) string {
	return strings.Join([]string{"geo-username=" + user, "geo-key-id=GEOSystem", "geo-source-system-name=INT", "geo-target-system-name=HRMS",
		"geo-expires-by=" + strconv.FormatInt(now.Add(time.Minute).UnixMilli(), 10), "geo-nonce=" + nonce}, sep)
}

func geoSign(text string) string {
	m := hmac.New(sha512.New, []byte(geoSecret))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// geoGet signs the query of a GET; parts are business parameters such as ID=1.
func geoGet(now time.Time, path, user, nonce string, parts ...string) string {
	signed := strings.Join(append(parts, geoFields(now, user, nonce, "&")), "&")
	pieces := strings.Split(signed+"&geo-signature="+geoSign(signed), "&")
	for i, p := range pieces {
		name, value, _ := strings.Cut(p, "=")
		pieces[i] = url.QueryEscape(name) + "=" + url.QueryEscape(value)
	}
	return path + "?" + strings.Join(pieces, "&")
}

// geoPost returns the header of a signed POST.
func geoPost(now time.Time, user, nonce, body string) string {
	header := geoFields(now, user, nonce, ",")
	return header + ",geo-signature=" + geoSign(header+body)
}

const nonce1, nonce2 = "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3302"

func TestGatewayAuthenticatesGEO(t *testing.T) {
	g, b := newGuardedServing(t, guardedServices)
	now := g.clock.Now()
	const path = "/gateway/Employee/requestAddress"
	signed := geoGet(now, path, "geo", nonce1, "ID=121", "note=a b")
	want(t, g.send("GET", signed, ""), 200)
	r, _ := b.seen(t)
	if r.URL.RequestURI() != "/v2/address?ID=121&note=a+b" {
		t.Errorf("the service got %s, want it without what geo-auth added", r.URL.RequestURI())
	}
	for name, value := range map[string]string{"X-Principal-Subject": "GEOSystem", "X-Geo-Username": "geo", "X-Geo-Source-System": "INT", "X-Geo-Target-System": "HRMS"} {
		if got := r.Header.Get(name); got != value {
			t.Errorf("the service got %s: %q, want %q", name, got, value)
		}
	}
	if body := want(t, g.send("GET", signed, "", "Accept", "application/json"), 401); !strings.Contains(body, `"code":"replayed"`) {
		t.Errorf("a replay gets %s", body)
	}
	body := `{"x":1}`
	want(t, g.send("POST", path, body, "GEO-Auth", geoPost(now, "geo", nonce2, body), "Content-Type", "application/json"), 200)
	r, got := b.seen(t)
	if got != body || r.Header.Get("Geo-Auth") != "" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the service got %q with %v", got, r.Header)
	}
	if body := want(t, g.send("POST", path, `{"x":2}`, "GEO-Auth", geoPost(now, "geo", "3f2504e0-4f89-11d3-9a0c-0305e82c3303", body)), 401); strings.Contains(body, "replay") {
		t.Errorf("a changed body gets %s", body)
	}
}

// An unauthenticated caller learns nothing about versions, methods and parameters, and a caller without permission uses up nothing.
func TestGatewayTellsStrangersNothing(t *testing.T) {
	g, b := newGuardedServing(t, guardedServices)
	now := g.clock.Now()
	const path = "/gateway/Employee/requestAddress"
	var first string
	for _, c := range [][2]string{{"GET", path}, {"GET", path + "?ID=x"}, {"DELETE", path}, {"GET", "/gateway/v9/Employee/requestAddress"}} {
		w := g.send(c[0], c[1], "", "Accept", "application/json", "X-Correlation-ID", "same")
		body := want(t, w, 401)
		if first == "" {
			first = body
		}
		if body != first || w.Header().Get("Allow") != "" {
			t.Errorf("%s %s: %s, want the same as elsewhere", c[0], c[1], body)
		}
		if got := w.Header().Values("WWW-Authenticate"); len(got) != 1 || !strings.HasPrefix(got[0], "GEO-Auth") {
			t.Errorf("%s %s: challenges %q", c[0], c[1], got)
		}
	}
	want(t, g.send("GET", "/gateway/nothing", ""), 404)
	// other may not call it, and its nonce stays unused: it gets the same answer again.
	signed := geoGet(now, path, "other", nonce1, "ID=x")
	for range 2 {
		if body := want(t, g.send("GET", signed, "", "Accept", "application/json"), 403); !strings.Contains(body, `"code":"forbidden"`) || strings.Contains(body, "ID") {
			t.Errorf("without permission: %s", body)
		}
	}
	if body := want(t, g.send("GET", geoGet(now, "/gateway/v9/Employee/requestAddress", "geo", nonce2), "", "Accept", "application/json"), 404); !strings.Contains(body, "1, 2") {
		t.Errorf("an authenticated caller is told %s, want the versions", body)
	}
	w := g.send("DELETE", path, "", "GEO-Auth", geoPost(now, "geo", nonce2, ""))
	want(t, w, 405)
	if w.Header().Get("Allow") != "GET, POST" {
		t.Errorf("Allow is %q", w.Header().Get("Allow"))
	}
	if n := b.count(); n != 0 {
		t.Errorf("the service was called %d times", n)
	}
}

func TestGatewayTakesOnlyTheCredentialsOfTheRoute(t *testing.T) {
	g, b := newGuardedServing(t, guardedServices)
	now := g.clock.Now()
	want(t, g.send("GET", "/gateway/Employee/requestAddress", "", "X-API-Key", g.root), 401)
	want(t, g.send("GET", "/gateway/v1/Employee/requestAddress", "", "X-API-Key", g.root), 200)
	want(t, g.send("GET", geoGet(now, "/gateway/v1/Employee/requestAddress", "geo", nonce1), ""), 401)
	want(t, g.send("GET", "/gateway/two", "", "X-API-Key", g.root), 401)
	want(t, g.send("GET", geoGet(now, "/gateway/two", "geo", nonce1), "", "X-API-Key", g.root), 200)
	want(t, g.send("GET", "/gateway/any", "", "X-API-Key", g.root), 200)
	want(t, g.send("GET", "/gateway/any", ""), 401)
	want(t, g.send("GET", "/gateway/any", "", "X-API-Key", "qh_0123456789ab_wrong"), 401)
	want(t, g.send("GET", "/gateway/any", "", "X-API-Key", g.root, "X-API-Key", g.root), 401)
	want(t, g.send("GET", "/gateway/any", "", "X-API-Key", g.root, "Authorization", "Bearer "+g.root), 401)
	want(t, g.send("GET", "/gateway/open/x", ""), 200)
	r, _ := b.seen(t)
	if r.Header.Get("X-Principal-Subject") != "" {
		t.Error("nobody has a name")
	}
	// Credentials that a route does not ask for are not looked at, and still never passed on.
	want(t, g.send("GET", "/gateway/open/x", "", "X-API-Key", "nonsense"), 200)
	if r, _ := b.seen(t); r.Header.Get("X-Api-Key") != "" {
		t.Error("a credential reached the service")
	}
}

// What only the gateway says, no client says.
func TestGatewayRemovesWhatClientsMayNotSay(t *testing.T) {
	g, b := newGuardedServing(t, guardedServices)
	forged := []string{"X-API-Key", g.root}
	for _, name := range []string{"X-Gateway-Service", "X-Gateway-Anything", "X-Principal-Subject", "X-Principal-Issuer", "X-Geo-Username", "X-Geo-Target-System", "geo-username",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded", "X-Real-IP", "Cookie", "Signature", "Signature-Input", "X-Original-URL", "X-Rewrite-URL",
		"X-HTTP-Method-Override", "X_Gateway_Service", "X_Principal_Subject", "Proxy-Authorization", "Te", "Trailer", "Keep-Alive", "Client-Cert", "Traceparent", "X-Secret-Hop"} {
		forged = append(forged, name, "forged")
	}
	forged = append(forged, "Connection", "X-Secret-Hop, X-Gateway-Version, X-Principal-Subject")
	want(t, g.send("GET", "/gateway/any?geo-username=forged&GEO-nonce=forged&%67eo-key-id=forged&a=1", "", forged...), 200)
	r, _ := b.seen(t)
	for name, values := range r.Header {
		for _, v := range values {
			if strings.Contains(v, "forged") {
				t.Errorf("the service got %s: %s", name, v)
			}
		}
	}
	if r.URL.RawQuery != "a=1" {
		t.Errorf("the service got the query %q", r.URL.RawQuery)
	}
	for name, value := range map[string]string{"X-Gateway-Service": "any", "X-Gateway-Version": "1", "X-Principal-Subject": "root"} {
		if got := r.Header.Get(name); got != value {
			t.Errorf("the service got %s: %q, want %q", name, got, value)
		}
	}
	if p := r.Header.Get("Traceparent"); len(p) != 55 {
		t.Errorf("traceparent is %q", p)
	}
}

func TestGatewayKeepsAValidTrace(t *testing.T) {
	g, b := newGuardedServing(t, guardedServices)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	want(t, g.send("GET", "/gateway/open/x", "", "Traceparent", parent, "Tracestate", "a=b"), 200)
	if r, _ := b.seen(t); r.Header.Get("Traceparent") != parent || r.Header.Get("Tracestate") != "a=b" {
		t.Errorf("the service got %q %q", r.Header.Get("Traceparent"), r.Header.Get("Tracestate"))
	}
	for _, bad := range []string{"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "ff" + parent[2:], parent + "-x", parent[:54], strings.ToUpper(parent)} {
		want(t, g.send("GET", "/gateway/open/x", "", "Traceparent", bad, "Tracestate", "a=b"), 200)
		if r, _ := b.seen(t); r.Header.Get("Traceparent") == bad || r.Header.Get("Tracestate") != "" {
			t.Errorf("%q is passed on", bad)
		}
	}
}

func TestGatewayOffersTheHubsOperations(t *testing.T) {
	g, _ := newGuardedServing(t, guardedServices)
	key := g.key(t, "writer", "orders.write")
	w := g.send("POST", "/gateway/our/orders", "{ \"a\":1}", "X-API-Key", key, "Content-Type", "application/vnd.order+json; v=1", "Idempotency-Key", "k1")
	want(t, w, 202)
	id := w.Header().Get("X-Hub-Message-Id")
	w = g.send("POST", "/gateway/our/orders", "{ \"a\":1}", "X-API-Key", key, "Content-Type", "application/vnd.order+json; v=1", "Idempotency-Key", "k1")
	want(t, w, 202)
	if id == "" || w.Header().Get("X-Hub-Message-Id") != id {
		t.Errorf("message IDs %q and %q, want the same", id, w.Header().Get("X-Hub-Message-Id"))
	}
	reader := g.key(t, "reader", "orders.read")
	got := g.send("GET", "/topics/orders/new", "", "X-API-Key", reader)
	if body := want(t, got, 200); body != "{ \"a\":1}" || got.Header().Get("Content-Type") != "application/vnd.order+json; v=1" {
		t.Errorf("stored %q as %q, want it byte for byte", body, got.Header().Get("Content-Type"))
	}
	want(t, g.send("POST", "/gateway/our/orders", "x", "X-API-Key", reader), 403)
	want(t, g.send("GET", "/gateway/our/topics", "", "X-API-Key", key), 403)
	if body := want(t, g.send("GET", "/gateway/our/topics", "", "X-API-Key", g.root), 200); !strings.Contains(body, "orders/new") {
		t.Errorf("topics: %s", body)
	}
}

func TestGatewayOnAnOpenHub(t *testing.T) {
	t.Setenv("GEO_SECRET", geoSecret)
	b := newBehind(t)
	_, option := serving(b, guardedServices, nil)
	f := newFixture(t, option)
	f.StartServices(t.Context())
	want(t, f.send("GET", "/gateway/any", ""), 200)
	want(t, f.send("GET", "/gateway/open/x", ""), 200)
	want(t, f.send("GET", "/gateway/Employee/requestAddress", ""), 503) // it asks for what this hub has none of
	if errs := f.Serving().Errors; len(errs) == 0 || !strings.Contains(errs[0], "auth.mode") {
		t.Errorf("errors %q, want what is missing", errs)
	}
	w := f.send("POST", "/gateway/any", "x", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	want(t, w, 403)
	w = f.send("GET", "/gateway/any", "", "Host", "x")
	_ = w
}

// The services describe themselves to those who can prove who they are.
func TestGatewayDescribesItself(t *testing.T) {
	g, _ := newGuardedServing(t, guardedServices)
	want(t, g.send("GET", "/gateway/openapi.json", ""), 401)
	if body := want(t, g.send("GET", "/gateway/openapi.json", "", "X-API-Key", g.root), 200); !strings.Contains(body, "/Employee/requestAddress") || !strings.Contains(body, `"openapi"`) {
		t.Errorf("got %.200s", body)
	}
	if w := g.send("HEAD", "/gateway/openapi.json", "", "X-API-Key", g.root); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
	want(t, g.send("POST", "/gateway/openapi.json", "", "X-API-Key", g.root), 405)
}
