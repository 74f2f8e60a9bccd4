package web_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorumhub/figures"
	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/view"
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

// act sends a form as a page of the console does.
func (f *fixture) act(path string, fields []string, header ...string) (status int, body string, h http.Header) {
	w := f.send(http.MethodPost, path, encode(fields...), append([]string{"Content-Type", formType, "Sec-Fetch-Site", "same-origin"}, header...)...)
	return w.Code, w.Body.String(), w.Header()
}

func TestActsOnNodesAskFirst(t *testing.T) {
	n := &nodes{}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) {
		o.Membership = n
		o.CORSOrigins = []string{"https://app.example.org"}
	})
	f.set(func(n *node) {
		n.nodes = append(n.nodes, view.Node{ID: "node-2", Role: view.RoleFollower, Voter: true, Healthy: true, Subscriptions: 1204},
			view.Node{ID: "node-3", Role: view.RoleFollower, Voter: true, Healthy: true})
	})
	const remove = "/console/cluster/nodes/node-2/remove"
	status, body, _ := f.act(remove, nil)
	if status != http.StatusOK || !strings.Contains(body, "1,204 subscriptions") || !strings.Contains(body, "2 votes are left: none of the voters may fail.") ||
		!strings.Contains(body, "Type <code>node-2</code>") {
		t.Errorf("the question: %d %s", status, body)
	}
	for _, wrong := range []string{"yes", "node-3", "node"} {
		if status, body, _ := f.act(remove, []string{"confirm", wrong}); status != http.StatusUnprocessableEntity || !strings.Contains(body, "“"+wrong+"”") {
			t.Errorf("%q: %d", wrong, status)
		}
	}
	if len(n.asked) > 0 {
		t.Fatalf("done without the name: %v", n.asked)
	}
	status, _, h := f.act(remove, []string{"confirm", "node-2"})
	if status != http.StatusSeeOther || h.Get("Location") != "/console/cluster" || strings.Join(n.asked, "") != "remove node-2" {
		t.Fatalf("got %d %v, asked %v", status, h, n.asked)
	}
	// The message is shown once.
	cookie, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	_, body, h = f.browse("/console/cluster", "Cookie", cookie)
	if !strings.Contains(body, "node-2 was removed.") || !strings.Contains(h.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("the message is missing, or stays: %v", h)
	}
	n.asked = nil
	for path, fields := range map[string][]string{"/console/cluster/nodes/node-3/demote": {"confirm", "yes"}, "/console/cluster/transfer-leadership": {"node", "node-3"}} {
		if status, body, _ := f.act(path, fields); status != http.StatusSeeOther {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if len(n.asked) != 2 {
		t.Errorf("asked %v", n.asked)
	}
	if status, body, _ := f.act("/console/cluster/transfer-leadership", []string{"node", "node-9"}); status != http.StatusNotFound || !strings.Contains(body, "node-9 is not a node of this cluster") {
		t.Errorf("a refusal: %d %s", status, body)
	}
	if status, _, _ := f.act("/console/cluster/nodes/node-9/remove", []string{"confirm", "node-9"}); status != http.StatusNotFound {
		t.Errorf("an unknown node: %d", status)
	}
	// Pages of others, even those that may use the API, do not act.
	n.asked = nil
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.org"}, {"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, {"Origin", "https://evil.example"}} {
		w := f.send(http.MethodPost, remove, encode("confirm", "node-2"), append(header, "Content-Type", formType)...)
		if w.Code != http.StatusForbidden || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%v: %d %v", header, w.Code, w.Header())
		}
	}
	if len(n.asked) > 0 {
		t.Errorf("another site's page did %v", n.asked)
	}
}

// Each act needs what the API needs for the same.
func TestActsNeedTheRightOfTheAPI(t *testing.T) {
	n := &nodes{}
	g := newGuarded(t, "  - {name: viewers, may: [admin.view], who: [{scope: view}]}\n", func(_ *hub.Policy, o *web.Options) { o.Membership = n })
	key := g.key(t, "viewer", "view")
	for _, path := range []string{"/console/cluster/nodes/node-1/remove", "/console/cluster/nodes/node-1/promote", "/console/cluster/nodes/node-1/demote", "/console/cluster/transfer-leadership"} {
		if status, body, _ := g.act(path, []string{"confirm", "node-1"}, "X-API-Key", key); status != http.StatusForbidden || !strings.Contains(body, "You may not do this") {
			t.Errorf("%s: %d", path, status)
		}
		if status, _, _ := g.act(path, []string{"confirm", "node-1"}); status != http.StatusUnauthorized {
			t.Errorf("%s without credentials: %d", path, status)
		}
	}
	if status, _, _ := g.browse("/console/cluster/backup", "X-API-Key", key); status != http.StatusForbidden {
		t.Errorf("backup: %d", status)
	}
	if _, body, _ := g.browse("/console/cluster", "X-API-Key", key); strings.Contains(body, "<form") || strings.Contains(body, "cluster/backup") || !strings.Contains(body, "admin.cluster") {
		t.Error("the page offers what its viewer may not do")
	}
	if status, _, _ := g.browse("/console/cluster", "X-API-Key", g.key(t, "writer", "orders.write")); status != http.StatusForbidden {
		t.Errorf("the cluster page to somebody without rights: %d", status)
	}
	if len(n.asked) > 0 {
		t.Errorf("done without the right: %v", n.asked)
	}
}

func TestFiguresAPI(t *testing.T) {
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Figures = newGauges() })
	var body struct {
		Leader   string
		Now      struct{ Published float64 }
		Nodes    []struct{ Node string }
		Concerns []view.Concern
		Series   []struct{ At string }
		Step     float64 `json:"step_seconds"`
	}
	for query, points := range map[string]int{"": 360, "?minutes=0": 0, "?minutes=5": 30} {
		if err := json.Unmarshal([]byte(want(t, f.send("GET", "/v1/figures"+query, ""), 200)), &body); err != nil {
			t.Fatal(err)
		}
		if body.Leader != "node-1" || body.Now.Published != 12 || len(body.Nodes) != 1 || body.Concerns == nil || body.Step != 10 || len(body.Series) != points {
			t.Errorf("%s: %+v", query, body)
		}
	}
	for _, query := range []string{"?minutes=61", "?minutes=x", "?minutes=-1", "?hours=1"} {
		want(t, f.send("GET", "/v1/figures"+query, ""), 400)
	}
	want(t, newFixture(t).send("GET", "/v1/figures", ""), 503)
}

// Whatever others have named, or a browser brings, is text on a page.
func TestNamesAreTextOnPages(t *testing.T) {
	g := newGauges()
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Figures, o.Membership = g, &nodes{} })
	f.set(func(n *node) {
		n.leader = evil
		n.nodes = append(n.nodes, view.Node{ID: evil, HTTPAddr: evil, Role: view.RoleLeader, Voter: true, Healthy: true})
	})
	p := *g.picture.Load()
	p.Now.FailingNow = 1
	p.Failing = []figures.Failing{{Subscription: evil, Topic: evil, Node: evil, Reason: evil, Since: time.Now()}}
	p.Nodes[0].Status.Warnings = []string{evil}
	p.Nodes[0].Status.Version = evil
	g.picture.Store(&p)
	cookie := "quorumhub_console_done=" + base64.RawURLEncoding.EncodeToString([]byte(`{"t":"`+strings.ReplaceAll(evil, `"`, `\"`)+`"}`))
	for _, path := range []string{"/console/", "/console/cluster", "/console/subscriptions/" + url.PathEscape(evil), "/console/cluster?" + url.QueryEscape(evil)} {
		_, body, _ := f.browse(path, "Cookie", cookie)
		if strings.Contains(body, "<script>") || strings.Contains(body, "<img") || regexp.MustCompile(`="[^"]*"'`).MatchString(body) {
			t.Errorf("%s has markup of others: %s", path, body)
		}
		if path == "/console/" && (!strings.Contains(body, "&lt;script&gt;alert(1)") || !strings.Contains(body, `role="status"`)) {
			t.Errorf("the name, or the message, is missing: %s", body)
		}
	}
}
