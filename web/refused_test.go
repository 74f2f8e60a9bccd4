package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// A flood of credentials that nobody has seen costs the token service no more questions than the budget for refused requests has, and
// those of other addresses, API keys and known callers are not affected.
func TestRefusedRequestsCostBeforeTheyAreChecked(t *testing.T) {
	const budget = 10
	var asked atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if strings.Contains(r.Header.Get("Cookie"), "good") {
			fmt.Fprint(w, `{"response":{"userId":"u","role":"root"},"errors":null}`)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer service.Close()
	g := newGuarded(t, "token_service: {name: manager, url: '"+service.URL+"'}", func(_ *hub.Policy, o *web.Options) {
		o.Limits.Refused = hub.Rate{Requests: budget, Per: time.Hour}
	})
	const here, elsewhere = "203.0.113.7:1", "203.0.113.8:1"
	with := func(addr, token string) int {
		return g.from(addr, "GET", "/v1/topics", "", "Cookie", "Authorization="+token).Code
	}
	for range 3 * budget { // valid ones cost nothing in the end
		if got := with(here, "good"); got != 200 {
			t.Fatalf("valid: %d", got)
		}
		if got := with(here, fmt.Sprint("good", asked.Load())); got != 200 {
			t.Fatalf("valid and new: %d", got)
		}
	}
	asked.Store(0)
	var refused, limited atomic.Int32
	var flood sync.WaitGroup
	for i := range 40 {
		flood.Go(func() {
			for n := range 10 {
				switch with(here, fmt.Sprintf("random-%d-%d", i, n)) {
				case 401:
					refused.Add(1)
				case 429:
					limited.Add(1)
				}
			}
		})
	}
	flood.Wait()
	if asked.Load() != budget || refused.Load() != budget || limited.Load() != 400-budget {
		t.Errorf("%d questions, %d refused, %d told to wait; want %d, %d and the rest", asked.Load(), refused.Load(), limited.Load(), budget, budget)
	}
	if got := with(here, "good"); got != 200 {
		t.Errorf("a caller known lately, from the same address: %d", got)
	}
	if got := g.from(here, "GET", "/v1/topics", "", "X-API-Key", g.root).Code; got != 200 {
		t.Errorf("an API key from the same address: %d", got)
	}
	if got := g.from(here, "GET", "/v1/topics", "", "X-API-Key", "qhk_000000000000_x").Code; got != 429 {
		t.Errorf("a wrong API key from the same address: %d, want 429", got)
	}
	if got := with(elsewhere, "good-new"); got != 200 {
		t.Errorf("a new caller from another address: %d", got)
	}
}

// Of a signed request the nonce is claimed when its sender is known to be allowed to ask, so that a key without rights writes nothing.
func TestNoncesAreForThoseWhoMayAsk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	const secret = "a secret of thirty-two bytes or more"
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuarded(t, "signed_requests: {keys: [{id: k1, algorithm: hmac-sha256, secret_file: "+path+", scopes: [orders.write]}]}", func(_ *hub.Policy, o *web.Options) {
		o.Limits = web.Limits{Publish: hub.Rate{Requests: 6, Per: time.Hour}, Refused: hub.Rate{Requests: 3, Per: time.Hour}}
	})
	g.clock.advance(time.Since(g.clock.Now()))
	serve := func(r *http.Request) int {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return w.Code
	}
	again := func(r *http.Request) *http.Request {
		c := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader("x"))
		c.Host = "hub.example.net"
		c.Header, c.Host = r.Header, r.Host
		return c
	}
	before := g.ledger.Batches()
	for name, target := range map[string]string{"a topic": publishURL(publicURL + "/topics/secret"), "a topic by path": publicURL + "/topics/secret",
		"an operation": publicURL + "/v1/auth/keys", "a cluster's": publicURL + "/v1/cluster/leave"} {
		if got := serve(signedWith(t, secret, target, "x")); got != 403 {
			t.Errorf("%s without the right: %d, want 403", name, got)
		}
	}
	if n := g.ledger.Batches() - before; n != 0 {
		t.Errorf("refused requests wrote %d entries", n)
	}

	allowed := signedWith(t, secret, publishURL(publicURL+"/topics/orders/eu"), "x")
	if got := serve(again(allowed)); got != 200 {
		t.Fatalf("allowed: %d %s", got, g.logged)
	}
	if got := serve(again(allowed)); got != 401 {
		t.Errorf("sent again: %d, want 401", got)
	}
	for range 3 { // until the budgets are used up: for publishing, or for what is refused
		serve(again(allowed))
	}
	before = g.ledger.Batches()
	if got := serve(again(allowed)); got != 429 {
		t.Errorf("sent again and again: %d, want 429", got)
	}
	if got := serve(signedWith(t, secret, publishURL(publicURL+"/topics/orders/eu"), "y")); got != 429 {
		t.Errorf("beyond the rate: %d, want 429", got)
	}
	if n := g.ledger.Batches() - before; n != 0 {
		t.Errorf("requests beyond the rate wrote %d entries", n)
	}
}
