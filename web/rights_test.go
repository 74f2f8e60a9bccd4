package web_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// An open stream ends within a heartbeat of whatever made it legitimate: its credential, a role, or a rule. It survives that others end,
// and that the credential cannot be checked for a while.
func TestStreamsEndWithTheirCredentials(t *testing.T) {
	var says atomic.Value // of the token service
	var asked atomic.Int32
	yes := func(role string) string { return `{"response":{"userId":"u","role":"` + role + `"},"errors":null}` }
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if said := says.Load().(string); said != "" {
			fmt.Fprint(w, said)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer service.Close()
	const heartbeat = 50 * time.Millisecond
	open := func(t *testing.T) (*running, *guarded, string) {
		t.Helper()
		says.Store(yes("reader"))
		guard, root, bind := guarding(t, "  - {name: watch, may: [admin.view], who: [{anonymous: true}]}\ntoken_service: {name: manager, url: '"+service.URL+"', cache: 1ms, refused_cache: 1ms}")
		r := start(t, func(p *hub.Policy, o *web.Options) {
			guard(p, o)
			o.StreamHeartbeat = heartbeat
		})
		bind(r.Service)
		g := &guarded{fixture: r.fixture, root: root}
		want(t, g.send("PUT", "/v1/auth/rules/by-role", `{"may":["read"],"topics":["orders/eu"],"who":[{"role":"reader"}]}`, "X-API-Key", root), 200)
		writer := g.key(t, "writer", "orders.write")
		want(t, g.send("POST", "/topics/orders/eu", "m1", "X-API-Key", writer), 200)
		return r, g, writer
	}
	made := func(t *testing.T, g *guarded, body string) (key, id string) {
		t.Helper()
		text := want(t, g.send("POST", "/v1/auth/keys", body, "X-API-Key", g.root), 201)
		_, key, _ = strings.Cut(text, `"key":"`)
		key, _, _ = strings.Cut(key, `"`)
		return key, key[4:16]
	}
	jwt := func(exp time.Time) string {
		part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"exp":%d}`, exp.Unix())) + ".x"
	}
	for name, c := range map[string]struct {
		header func(t *testing.T, g *guarded) []string
		end    func(t *testing.T, g *guarded, id string)
	}{
		"a key is revoked": {nil, func(t *testing.T, g *guarded, id string) {
			t.Helper()
			want(t, g.send("DELETE", "/v1/auth/keys/"+id, "", "X-API-Key", g.root), 200)
		}},
		"a key expires": {nil, func(_ *testing.T, g *guarded, _ string) { g.clock.advance(2 * time.Hour) }},
		"a rule is removed": {nil, func(t *testing.T, g *guarded, _ string) {
			t.Helper()
			want(t, g.send("DELETE", "/v1/auth/rules/by-role", "", "X-API-Key", g.root), 204)
		}},
		"a rule is narrowed": {nil, func(t *testing.T, g *guarded, _ string) {
			t.Helper()
			want(t, g.send("PUT", "/v1/auth/rules/by-role", `{"may":["read"],"topics":["orders/us"],"who":[{"role":"reader"}]}`, "X-API-Key", g.root), 200)
		}},
		"the token service says no": {func(*testing.T, *guarded) []string { return []string{"Cookie", "Authorization=token"} },
			func(*testing.T, *guarded, string) {
				says.Store(`{"response":null,"errors":[{"errorCode":"KER-ATH-401"}]}`)
			}},
		"the token service takes a role away": {func(*testing.T, *guarded) []string { return []string{"Cookie", "Authorization=token"} },
			func(*testing.T, *guarded, string) { says.Store(yes("other")) }},
		"a token expires": {func(*testing.T, *guarded) []string {
			return []string{"Cookie", "Authorization=" + jwt(time.Now().Add(2*time.Second))}
		},
			func(*testing.T, *guarded, string) {}},
	} {
		t.Run(name, func(t *testing.T) {
			r, g, _ := open(t)
			g.clock.advance(time.Since(g.clock.Now()))
			key, id := made(t, g, `{"name":"a","roles":["reader"],"expires_in":"1h"}`)
			header := []string{"X-API-Key", key}
			if c.header != nil {
				header = c.header(t, g)
			}
			other, _ := made(t, g, `{"name":"b","scopes":["orders.read"]}`)
			rd := r.follow(t, "/topics/orders/eu?start=earliest", header...)
			rd.next(t)
			stays := r.follow(t, "/topics/orders/eu?start=earliest", "X-API-Key", other)
			stays.next(t)
			c.end(t, g, id)
			all := rd.rest(t)
			if last := all[len(all)-1]; last.kind != "end" || last.data != `{"reason":"forbidden"}` {
				t.Errorf("the stream ended with %+v", last)
			}
			r.awaitMetric(t, "quorumhub_streams", "1") // the other one
		})
	}
	t.Run("the token service is away", func(t *testing.T) {
		r, g, writer := open(t)
		rd := r.follow(t, "/topics/orders/eu?start=earliest", "Cookie", "Authorization=token")
		rd.next(t)
		says.Store("")
		asked.Store(0)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for end := time.After(patience); asked.Load() < 3; { // by the stream, whose rights were looked at each time
			select {
			case <-tick.C:
			case <-end:
				t.Fatal("the stream's rights are not looked at")
			}
		}
		want(t, g.send("POST", "/topics/orders/eu", "m2", "X-API-Key", writer), 200)
		for e := rd.next(t); !strings.Contains(e.data, "m2"); e = rd.next(t) {
			if e.kind == "end" {
				t.Fatalf("the stream ended with %+v", e)
			}
		}
	})
}
