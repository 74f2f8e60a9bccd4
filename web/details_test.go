package web_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// What is wrong with the node or with what it depends on is for those who may read the hub's state; that something is wrong is for all.
func TestHealthTellsDetailsToThoseWhoMayReadThem(t *testing.T) {
	const secret = "https://idp.internal: dial tcp 10.1.2.3:443: refused"
	g := newGuarded(t, "", func(_ *hub.Policy, o *web.Options) {
		o.Warnings = func() []string { return []string{"warning: " + secret} }
	})
	reader := g.key(t, "reader", "orders.read")
	g.set(func(n *node) { n.notReady, n.alive = []string{"issuer idp: " + secret}, errors.New(secret) })
	for _, path := range []string{"/health/ready", "/health/live"} {
		for who, header := range map[string][]string{"anonymous": nil, "a caller without the right": {"X-API-Key", reader},
			"invalid credentials": {"X-API-Key", "qhk_000000000000_x"}, "broken credentials": {"X-API-Key", "x", "Authorization", "y"}} {
			w := g.send("GET", path, "", header...)
			if body := w.Body.String(); strings.Contains(body, "10.1.2.3") || strings.Contains(body, "idp") || !strings.Contains(body, "admin.view") {
				t.Errorf("%s, %s: %d %s", path, who, w.Code, body)
			}
			if path == "/health/ready" && w.Code != 503 || path == "/health/live" && w.Code != 200 {
				t.Errorf("%s, %s: %d", path, who, w.Code)
			}
		}
		if body := g.send("GET", path, "", "X-API-Key", g.root).Body.String(); !strings.Contains(body, "10.1.2.3") {
			t.Errorf("%s, operator: %s", path, body)
		}
	}
	for _, path := range []string{"/health", "/", "/v1/openapi.json"} {
		if body := g.send("GET", path, "").Body.String(); strings.Contains(body, "10.1.2.3") {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// What would suffice is for those who may read the rules.
func TestRefusalsDoNotRevealRules(t *testing.T) {
	g := newGuarded(t, "")
	reader := g.key(t, "reader", "orders.read")
	for path, method := range map[string]string{"/topics/orders/eu": "POST", "/v1/auth/rules": "GET", "/v1/cluster/leave": "POST"} {
		body := want(t, g.send(method, path, "x", "X-API-Key", reader), 403)
		for _, word := range []string{"orders.write", "root", "scope", "role"} {
			if strings.Contains(body, word) {
				t.Errorf("%s %s tells a stranger %s: %s", method, path, word, body)
			}
		}
	}
	if body := want(t, g.send("POST", "/topics/orders/eu", "x", "X-API-Key", g.root), 403); !strings.Contains(body, "orders.write") {
		t.Errorf("an operator is not told what would suffice: %s", body)
	}
}

// The pull of failed content and the other routes that are open to everybody have budgets, too; health checks have none.
func TestPublicRoutesHaveBudgets(t *testing.T) {
	limited := func(change func(*web.Limits)) *fixture {
		return newFixture(t, func(r *hub.Policy, o *web.Options) { r.Clock, o.Profile = o.Clock, web.ProfileMOSIP; change(&o.Limits) })
	}
	byRead := limited(func(l *web.Limits) { l.Read = hub.Rate{Requests: 3, Per: time.Hour} })
	for i, path := range []string{"/websub/sync/failedmessage?topic=demo", "/hub?topic=demo", "/v1/openapi.json", "/"} {
		addr := fmt.Sprintf("192.0.2.%d:1", i+1)
		var codes []int
		for range 4 {
			codes = append(codes, byRead.from(addr, "GET", path, "").Code)
		}
		if codes[2] == 429 || codes[3] != 429 {
			t.Errorf("%s: %v, want the fourth to be told to wait", path, codes)
		}
	}
	for _, path := range []string{"/health", "/health/live", "/health/ready", "/hub/actuator/health"} {
		for range 10 {
			if got := byRead.from("192.0.2.77:1", "GET", path, "").Code; got != 200 {
				t.Errorf("%s: %d, want health checks to be free", path, got)
			}
		}
	}

	byRefused := limited(func(l *web.Limits) { l.Refused = hub.Rate{Requests: 3, Per: time.Hour} })
	byRefused.subscribe(t, "demo", pullCallback, "hub.secret", pullSecret)
	byRefused.ledger.verify(t)
	for range 10 {
		if got, body := byRefused.pull(pullSecret, "demo", pullCallback, byRefused.clock.Now()); got != 200 {
			t.Fatalf("a good signature: %d %s", got, body)
		}
	}
	for i := range 5 {
		got, _ := byRefused.pull("wrong", "demo", pullCallback, byRefused.clock.Now())
		if want := []int{400, 400, 400, 429, 429}[i]; got != want {
			t.Errorf("wrong signature %d: %d, want %d", i+1, got, want)
		}
	}
}
