package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/web"
)

// asHost sends a request under a Host, as a page from there would.
func (f *fixture) asHost(host, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = host
	r.Header.Set("Origin", "http://"+host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// A web page whose name was made to resolve to the hub's address reaches nothing of a hub that asks for no credentials.
func TestRebindingReachesNothing(t *testing.T) {
	f := newFixture(t)
	f.publish(t, "news", "m1")
	for host, known := range map[string]bool{
		"hub.example.net": true, "HUB.example.net:443": true, "hub.example.net.": true, "127.0.0.1:8080": true, "localhost:8080": true,
		"app.localhost": true, "[::1]:8080": true, "192.0.2.7": true, "": true,
		"evil.example:8080": false, "evil.example": false, "hub.example.net.evil.example": false, "xhub.example.net": false,
		"127.0.0.1.evil.example": false, "localhost.evil.example": false, "evillocalhost": false, "node-9": false,
	} {
		for _, rt := range f.Routes() {
			method, path, _ := strings.Cut(rt, " ")
			if method == http.MethodOptions {
				continue
			}
			path = strings.NewReplacer("{id}", "s-1", "{name}", "news").Replace(path)
			w := f.asHost(host, method, path, "x", "Content-Type", "text/plain")
			misdirected := w.Code == http.StatusMisdirectedRequest
			if want := !known && !strings.HasPrefix(path, "/health"); misdirected != want {
				t.Errorf("%s for %q: %d", rt, host, w.Code)
			}
			if misdirected && method != http.MethodHead && !strings.Contains(w.Body.String(), "http.alias_urls") {
				t.Errorf("%s for %q: %q says no way out", rt, host, w.Body)
			}
		}
	}
	for _, profile := range []web.Profile{web.ProfileBallerina, web.ProfileMOSIP} {
		f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Profile = profile })
		w := f.asHost("evil.example", "POST", "/hub", encode("hub.mode", "register", "hub.topic", "news"), "Content-Type", formType)
		if n := f.ledger.state.Counts().Topics; n != 0 {
			t.Errorf("%s: %d %s made a topic", profile, w.Code, w.Body)
		}
	}
}

// The URLs of the other nodes are known hosts as soon as they are known at all.
func TestHostsOfMembersAreServed(t *testing.T) {
	f := newFixture(t)
	want(t, f.asHost("node-2.example.net", "GET", "/v1/topics", ""), 421)
	f.Service.Namer().SetMembers([]string{"https://node-2.example.net:8443"})
	want(t, f.asHost("node-2.example.net", "GET", "/v1/topics", ""), 200)
	f.Service.Namer().SetMembers(nil)
	want(t, f.asHost("node-2.example.net", "GET", "/v1/topics", ""), 421)
}

// Credentials protect a hub that asks for them, under whatever name it is reached.
func TestAllHostsAreServedWithCredentials(t *testing.T) {
	g := newGuarded(t, "")
	want(t, g.asHost("any.example", "GET", "/v1/topics", "", "X-API-Key", g.root), 200)
}

// Without authentication nobody prepares rules and keys for the day there is.
func TestOpenHubTakesNoRulesAndKeys(t *testing.T) {
	f := newFixture(t)
	for _, rt := range [][2]string{{"POST", "/v1/auth/keys"}, {"DELETE", "/v1/auth/keys/abc"}, {"PUT", "/v1/auth/rules/all"}, {"DELETE", "/v1/auth/rules/all"}} {
		body := want(t, f.send(rt[0], rt[1], `{"name":"k","may":["*"],"topics":["**"],"who":[{"anonymous":true}]}`), 403)
		if !strings.Contains(body, "auth.mode: required") {
			t.Errorf("%v: %q", rt, body)
		}
	}
	want(t, f.send("GET", "/v1/auth/rules", ""), 200)
}
