package web_test

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// TestNobodyCanLogIn: a hub without identity providers says what it lacks, as a page for people and as a problem for programs, and has
// none of the pages.
func TestNobodyCanLogIn(t *testing.T) {
	for name, f := range map[string]interface {
		send(method, target, body string, header ...string) *httptest.ResponseRecorder
	}{"open": newFixture(t), "with credentials": newGuarded(t, "")} {
		for _, path := range []string{"/login", "/login/me", "/login/callback/corp?state=x", "/auth/forward", "/.quorumhub/session", "/oidc/authorize"} {
			w := f.send("GET", path, "")
			if body := want(t, w, 404); !strings.Contains(body, "identity_providers") {
				t.Errorf("%s, %s: got %s", name, path, body)
			}
		}
		if body := want(t, f.send("GET", "/login", "", "Accept", "text/html"), 404); !strings.Contains(body, "<h1>") {
			t.Errorf("%s, a browser: got %s", name, body)
		}
	}
}
