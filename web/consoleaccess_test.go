package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"quorumhub/auth/session"
	"quorumhub/hub"
)

// A key made on the page works at once, is shown once, and ends with what depends on it once that is confirmed.
func TestConsoleMakesAndRevokesKeys(t *testing.T) {
	o := newOwned(t, "")
	root := []string{"X-API-Key", o.root}
	made, w := o.doesAs(t, o.root, "/access/keys", 201, "name", "meter 7", "scopes", "orders.read  orders.write", "expires_in", "720h")
	key := regexp.MustCompile(`<code>([^<]+)</code></pre>`).FindStringSubmatch(made)
	if key == nil || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("no key, or it may be kept: %s", text(made))
	}
	o.ask(t, key[1], "subscribe", "https://meter.example/cb")
	o.ledger.verify(t)
	page := o.page(t, "/access", root...)
	shows(t, page, "meter 7", "orders.read orders.write", "in 30 days", "valid")
	if strings.Contains(page, key[1]) {
		t.Error("the key is shown again")
	}
	for _, wrong := range [][]string{{"name", ""}, {"name", "x", "expires_in", "soon"}, {"name", "x", "scopes", "a,b"}} {
		o.doesAs(t, o.root, "/access/keys", 400, wrong...)
	}
	id := key[1][4:16]
	body, _ := o.doesAs(t, o.root, "/access/keys/"+id+"/revoke", 200)
	shows(t, body, "1 subscription that it owns is paused.", "Type "+id+" to go on")
	body, _ = o.doesAs(t, o.root, "/access/keys/"+id+"/revoke", 200, "end", "yes")
	shows(t, body, "1 subscription that it owns ends.")
	o.doesAs(t, o.root, "/access/keys/"+id+"/revoke", 422, "confirm", "meter")
	if status, _, _ := o.browse("/console/access", "X-API-Key", key[1]); status != http.StatusOK {
		t.Fatalf("it is revoked without being confirmed: %d", status)
	}
	body, _ = o.doesAs(t, o.root, "/access/keys/"+id+"/revoke", 303, "confirm", id)
	shows(t, body, "The key meter 7 is revoked. 1 subscription is paused.")
	if status, _, _ := o.browse("/console/access", "X-API-Key", key[1]); status != http.StatusUnauthorized {
		t.Errorf("a revoked key: %d", status)
	}
	if sub, _ := o.sub(t, 1); !sub.Paused {
		t.Error("its subscription goes on")
	}
	o.doesAs(t, o.root, "/access/keys/"+id+"/revoke", 404, "confirm", id)
}

func TestConsoleSetsRules(t *testing.T) {
	o := newOwned(t, "")
	shows(t, o.page(t, "/access/rules", "X-API-Key", o.root), "writers", "auth.file", "scope orders.write")
	want(t, o.as(o.alice, "POST", "/topics/alerts/fire", "x"), 403)
	body, _ := o.doesAs(t, o.root, "/access/rules", 303, "rule", "name: alerts\r\nmay: [publish]\r\ntopics: [\"alerts/**\"]\r\nwho: [{scope: orders.write}]\r\n")
	shows(t, body, "The rule alerts is in force on every node.", "alerts/**")
	want(t, o.as(o.alice, "POST", "/topics/alerts/fire", "x"), 200)
	body, _ = o.doesAs(t, o.root, "/access/explain", 200, "action", "publish", "topic", "alerts/fire", "method", "token", "scopes", "orders.write")
	shows(t, body, "allowed", "rule alerts")
	o.doesAs(t, o.root, "/access/rules", 303, "rule", `{"name": "alerts", "may": ["read"], "topics": ["alerts/*"], "who": [{"role": "r"}]}`)
	body, _ = o.doesAs(t, o.root, "/access/explain", 200, "action", "publish", "topic", "alerts/fire", "method", "token", "scopes", "orders.write")
	shows(t, body, "refused", "-rule alerts")
	for wrong, says := range map[string]string{"name: x\nmay: [fly]\ntopics: [a]\nwho: [{scope: s}]": "fly", "name: x\nmust: [publish]": "must", "{": "rule"} {
		body, _ := o.doesAs(t, o.root, "/access/rules", 400, "rule", wrong)
		shows(t, body, says)
	}
	o.doesAs(t, o.root, "/access/rules", 409, "rule", "name: writers\nmay: [publish]\ntopics: [a]\nwho: [{scope: s}]")
	body, _ = o.doesAs(t, o.root, "/access/rules/remove", 200, "name", "alerts")
	shows(t, body, "Type alerts to go on")
	body, _ = o.doesAs(t, o.root, "/access/rules/remove", 303, "name", "alerts", "confirm", "alerts")
	shows(t, body, "The rule alerts is removed.", "-alerts/*")
	o.doesAs(t, o.root, "/access/rules/remove", 404, "name", "alerts", "confirm", "alerts")
}

func TestConsoleEndsSessions(t *testing.T) {
	l := newLoggedIn(t)
	alice, _ := l.login(t, "issuer:corp/alice")
	bob, _ := l.login(t, "issuer:corp/bob")
	alice, bob = alice[:12], bob[:12]
	_, root := l.login(t, "issuer:corp/root", "root")
	_, own := l.login(t, "issuer:corp/alice")
	as := func(cookie string) []string {
		return []string{"Cookie", session.CookieName + "=" + cookie, "Sec-Fetch-Mode", "navigate"}
	}
	end := func(cookie, id string, status int, fields ...string) string {
		t.Helper()
		got, body, _ := l.act("/console/access/sessions/"+id+"/end", fields, as(cookie)...)
		if got != status {
			t.Errorf("end %s: got %d, want %d: %s", id, got, status, text(body))
		}
		return body
	}
	shows(t, l.page(t, "/access/sessions", as(root)...), alice, bob, "issuer:corp/alice", "Firefox on Linux")
	shows(t, l.page(t, "/access/sessions?principal=issuer:corp/bob", as(root)...), "-"+alice, bob)
	shows(t, l.page(t, "/access/sessions", as(own)...), alice, "-"+bob, "-issuer:corp/root")
	end(own, bob, 404, "confirm", "yes")
	shows(t, end(root, bob, 200), "Its browser has to log in again.")
	shows(t, l.page(t, "/access/sessions", as(root)...), bob)
	end(root, bob, 303, "confirm", "yes")
	shows(t, l.page(t, "/access/sessions", as(root)...), alice, "-"+bob)
	end(root, bob, 404, "confirm", "yes")
	end(root, "zz", 400, "confirm", "yes")
	end(own, alice, 303, "confirm", "yes")
}

// Whoever may not see what others have does not see it on these pages, either, and cannot change it by their forms.
func TestConsoleAccessIsTheAPIs(t *testing.T) {
	o := newOwned(t, "  - {name: viewers, may: [admin.view], who: [{scope: view}]}\nquotas: {default: {subscriptions: 1}}\n")
	viewer, stranger := o.key(t, "viewer", "view"), o.key(t, "stranger", "none")
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	as := func(k string) []string { return []string{"X-API-Key", k} }
	// Keys, and sessions: without admin.auth one's own, which are none here.
	for who, k := range map[string]string{"bob": o.bob, "viewer": viewer, "stranger": stranger} {
		shows(t, o.page(t, "/access", as(k)...), "-alice", "-Make a key", "There are no keys that you may see here.")
		shows(t, o.page(t, "/access/sessions", as(k)...), "There is no session that you may see")
		for _, path := range []string{"/access/rules", "/access/explain"} {
			if status, body, h := o.browse("/console"+path, as(k)...); status != http.StatusForbidden || !strings.Contains(body, "You may not do this") || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
				t.Errorf("%s on %s: %d", who, path, status)
			}
		}
		if status, _, _ := o.browse("/console/access/sessions?principal="+principalOf(o.alice), as(k)...); status != http.StatusForbidden {
			t.Errorf("%s asks for another's sessions: %d", who, status)
		}
		o.doesAs(t, k, "/access/keys", 403, "name", "x", "roles", "root")
		o.doesAs(t, k, "/access/rules", 403, "rule", "name: x\nmay: [publish]\ntopics: [a]\nwho: [{scope: s}]")
		o.doesAs(t, k, "/access/rules/remove", 403, "name", "x", "confirm", "x")
		o.doesAs(t, k, "/access/explain", 403, "action", "publish")
		id := o.alice[4:16]
		body, _ := o.doesAs(t, k, "/access/keys/"+id+"/revoke", 404, "confirm", id)
		shows(t, body, "is no API key", "-meter")
		o.doesAs(t, k, "/access/sessions/0123456789abcdef/end", 404, "confirm", "yes")
	}
	// Usage: to viewers everybody's, to others their own.
	shows(t, o.page(t, "/access/principals", as(viewer)...), principalOf(o.alice), "1 of 1 reached", "-Quotas in force")
	shows(t, o.page(t, "/access/principals", as(o.root)...), principalOf(o.alice), "Quotas in force", "subscriptions 1")
	shows(t, o.page(t, "/access/principals", as(o.bob)...), principalOf(o.bob), "-"+principalOf(o.alice))
	if status, _, _ := o.browse("/console/access/principals?principal="+principalOf(o.alice), as(o.bob)...); status != http.StatusForbidden {
		t.Errorf("another's usage: %d", status)
	}
	for _, path := range []string{"/access", "/access/principals", "/access/sessions", "/access/rules"} {
		if status, body, _ := o.browse("/console" + path); status != http.StatusUnauthorized || !strings.Contains(body, "You are not logged in") {
			t.Errorf("%s without credentials: %d", path, status)
		}
	}
	// An open hub shows them, and changes nothing.
	f := newFixture(t)
	shows(t, f.page(t, "/access"), "This hub asks for no credentials, so keys and rules can be changed only once it does", "-Make a key")
	f.does(t, "/access/keys", 403, "name", "x")
	var keys []hub.APIKey
	f.ledger.View(func(s *hub.State) { keys = s.APIKeys() })
	if len(keys) > 0 {
		t.Errorf("made %v", keys)
	}
}
