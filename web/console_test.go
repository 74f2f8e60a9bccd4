package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// browse sends a request as a browser does for a page.
func (f *fixture) browse(path string, header ...string) (status int, body string, h http.Header) {
	w := f.send(http.MethodGet, path, "", append([]string{"Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}, header...)...)
	return w.Code, w.Body.String(), w.Header()
}

func TestBrowsersAreLedToTheConsole(t *testing.T) {
	f := newFixtureAt(t, "https://hub.example.net/ws")
	status, _, h := f.browse("/")
	if status != http.StatusSeeOther || h.Get("Location") != "/ws/console/" || h.Get("Vary") != "Accept" {
		t.Errorf("got %d and %v", status, h)
	}
	if body := want(t, f.send(http.MethodGet, "/", "", "Accept", "*/*"), http.StatusOK); !strings.Contains(body, "/ws/console/") {
		t.Errorf("a program is not told about the console: %s", body)
	}
	status, body, h := f.browse("/ws/console/")
	if status != http.StatusOK || !strings.Contains(body, "<h1>Overview</h1>") || !strings.Contains(body, "node-1") || !strings.Contains(body, "Open hub.") {
		t.Errorf("got %d %s", status, body)
	}
	for name, value := range map[string]string{"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if h.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, h.Get(name), value)
		}
	}
	if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") {
		t.Errorf("the policy is %q", csp)
	}
	if strings.Contains(body, "style=") || strings.Contains(body, "<style") || regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(body) {
		t.Error("the page has styles or scripts in it, which its policy forbids")
	}
	// What the page refers to exists, and may be kept.
	refs := regexp.MustCompile(`(?:href|src)="(/ws/console/static/[^"]+)"`).FindAllStringSubmatch(body, -1)
	if len(refs) != 3 {
		t.Fatalf("the page refers to %v", refs)
	}
	for _, ref := range refs {
		w := f.send(http.MethodGet, ref[1], "")
		want(t, w, http.StatusOK)
		if !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s has %v", ref[1], w.Header())
		}
		if w := f.send(http.MethodGet, ref[1], "", "If-None-Match", w.Header().Get("ETag")); w.Code != http.StatusNotModified {
			t.Errorf("%s: got %d", ref[1], w.Code)
		}
	}
}

func TestConsoleRefusesWithPages(t *testing.T) {
	g := newGuarded(t, "")
	status, body, h := g.browse("/console/")
	if status != http.StatusUnauthorized || !strings.Contains(body, "You are not logged in") || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		t.Errorf("got %d %s %v", status, body, h)
	}
	if strings.Contains(body, "applied index") {
		t.Error("the page shows nodes to somebody who may not see them")
	}
	if status, body, _ := g.browse("/console/", "X-API-Key", g.root); status != http.StatusOK || !strings.Contains(body, "logged in as") || strings.Contains(body, "Open hub.") {
		t.Errorf("got %d %s", status, body)
	}
}
