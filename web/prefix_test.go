package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const prefixedURL = "https://hub.example.net/some%20where/ws"

// Every route answers below the path of the public URL, and without it, for proxies that strip it.
func TestRoutesBelowThePathOfThePublicURL(t *testing.T) {
	g := newGuardedAt(t, prefixedURL, "")
	for _, rt := range g.Routes() {
		method, path, _ := strings.Cut(rt, " ")
		if method == http.MethodOptions {
			continue
		}
		path = strings.NewReplacer("{id}", "s-1", "{name}", "x").Replace(path)
		with := g.send(method, "/some%20where/ws"+path, "x", "X-API-Key", g.root)
		without := g.send(method, path, "x", "X-API-Key", g.root)
		if with.Code != without.Code || with.Code == 404 && !strings.Contains(with.Body.String(), "s-1") && strings.Contains(with.Body.String(), "see / for") {
			t.Errorf("%s: %d below the path, %d without it", rt, with.Code, without.Code)
		}
	}
	for _, path := range []string{"/some%20where/wsx/health", "/some%20where/health", "/ws/health", "/some%20where/ws/some%20where/ws/health", "/some%20where/ws%2Fhealth", "/some%20where/ws%2fhealth"} {
		want(t, g.send("GET", path, ""), 404)
	}
	want(t, g.send("GET", "/some%20where/ws", ""), 200)
}

func TestLinksBelowThePathOfThePublicURL(t *testing.T) {
	g := newGuardedAt(t, prefixedURL, "")
	writer := g.key(t, "writer", "orders.write", "orders.read")
	key := []string{"X-API-Key", writer}
	want(t, g.send("POST", "/some%20where/ws/topics/orders/a%20b", "m1", key...), 200)
	want(t, g.send("POST", "/some%20where/ws/topics/orders%2Fc%2Bd", "m1", key...), 200) // what is escaped stays escaped
	if body := want(t, g.send("GET", "/topics/orders/c%2Bd", "", key...), 200); body != "m1" {
		t.Errorf("the topic with escapes has %q", body)
	}
	want(t, g.send("POST", "/some%20where/ws"+publishURL(prefixedURL+"/topics/orders/a%20b"), "m2", key...), 200)
	w := g.send("GET", "/some%20where/ws/topics/orders/a%20b", "", key...)
	if body := want(t, w, 200); body != "m2" {
		t.Errorf("the newest content is %q", body)
	}
	if got := w.Header().Get("Link"); got != "<"+prefixedURL+`/hub>; rel="hub", <`+prefixedURL+`/topics/orders/a%20b>; rel="self"` {
		t.Errorf("Link %s", got)
	}
	w = g.send("GET", "/some%20where/ws/", "")
	if body := want(t, w, 200); !strings.Contains(w.Header().Get("Link"), "</some%20where/ws/v1/openapi.json>") || strings.Count(body, "/some%20where/ws/") < 8 {
		t.Errorf("Link %q, body\n%s", w.Header().Get("Link"), body)
	}
	var doc struct{ Servers []struct{ URL string } }
	if err := json.Unmarshal([]byte(want(t, g.send("GET", "/some%20where/ws/v1/openapi.json", ""), 200)), &doc); err != nil || len(doc.Servers) != 1 || doc.Servers[0].URL != "/some%20where/ws" {
		t.Errorf("openapi: servers %v (%v)", doc.Servers, err)
	}
	if w := g.send("GET", "/some%20where/ws/v1/topics", ""); w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("a problem of the API has the type %s", w.Header().Get("Content-Type"))
	}
}

// A signature covers the path as the client sent it.
func TestSignaturesBelowThePathOfThePublicURL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	const secret = "a secret of thirty-two bytes or more"
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuardedAt(t, "https://hub.example.net/ws", "signed_requests: {keys: [{id: k1, algorithm: hmac-sha256, secret_file: "+path+", scopes: [orders.write]}]}")
	w := httptest.NewRecorder()
	g.ServeHTTP(w, signedWith(t, secret, "/ws/topics/orders/eu", "{}"))
	want(t, w, 200)
}
