package web_test

import (
	"encoding/base64"
	"encoding/json"
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

// vouched is a running hub with a token service that says what the test tells it.
type vouched struct {
	*running
	*guarded
	writer string
	says   atomic.Value // the service's answer; empty: 503
	asked  atomic.Int32
}

// yes is the answer for a token with a role.
func yes(role string) string {
	return `{"response":{"userId":"u","role":"` + role + `"},"errors":null}`
}

func newVouched(t *testing.T) *vouched {
	t.Helper()
	v := &vouched{}
	v.says.Store(yes("reader"))
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		v.asked.Add(1)
		if said, _ := v.says.Load().(string); said != "" {
			fmt.Fprint(w, said)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(service.Close)
	guard, root, bind := guarding(t, "  - {name: watch, may: [admin.view], who: [{anonymous: true}]}\ntoken_service: {name: manager, url: '"+service.URL+"', cache: 1ms, refused_cache: 1ms}")
	v.running = start(t, func(p *hub.Policy, o *web.Options) {
		guard(p, o)
		o.StreamHeartbeat = 50 * time.Millisecond
	})
	bind(v.running.Service)
	v.guarded = &guarded{fixture: v.running.fixture, root: root}
	g := v.guarded
	want(t, g.send("PUT", "/v1/auth/rules/by-role", `{"may":["read"],"topics":["orders/eu"],"who":[{"role":"reader"}]}`, "X-API-Key", root), 200)
	v.writer = g.key(t, "writer", "orders.write")
	want(t, g.send("POST", "/topics/orders/eu", "m1", "X-API-Key", v.writer), 200)
	g.clock.advance(time.Since(g.clock.Now()))
	return v
}

// reader makes a key with the role reader.
func (v *vouched) reader(t *testing.T) (key, id string) {
	t.Helper()
	text := want(t, v.guarded.send("POST", "/v1/auth/keys", `{"name":"a","roles":["reader"],"expires_in":"1h"}`, "X-API-Key", v.root), 201)
	_, key, _ = strings.Cut(text, `"key":"`)
	key, _, _ = strings.Cut(key, `"`)
	return key, key[4:16]
}

// unsigned makes a token that says when it expires.
func unsigned(exp time.Time) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"exp":%d}`, exp.Unix())) + ".x"
}

// An open stream ends within a heartbeat of whatever made it legitimate: its credential, a role, or a rule. Others go on.
func TestStreamsEndWithTheirCredentials(t *testing.T) {
	cookie := func() string { return "Authorization=token" }
	for name, c := range map[string]struct {
		cookie func() string // nil: an API key
		end    func(t *testing.T, v *vouched, id string)
	}{
		"a key is revoked": {nil, func(t *testing.T, v *vouched, id string) {
			t.Helper()
			want(t, v.guarded.send("DELETE", "/v1/auth/keys/"+id, "", "X-API-Key", v.root), 200)
		}},
		"a key expires": {nil, func(_ *testing.T, v *vouched, _ string) { v.guarded.clock.advance(2 * time.Hour) }},
		"a rule is removed": {nil, func(t *testing.T, v *vouched, _ string) {
			t.Helper()
			want(t, v.guarded.send("DELETE", "/v1/auth/rules/by-role", "", "X-API-Key", v.root), 204)
		}},
		"a rule is narrowed": {nil, func(t *testing.T, v *vouched, _ string) {
			t.Helper()
			want(t, v.guarded.send("PUT", "/v1/auth/rules/by-role", `{"may":["read"],"topics":["orders/us"],"who":[{"role":"reader"}]}`, "X-API-Key", v.root), 200)
		}},
		"the token service says no": {cookie, func(_ *testing.T, v *vouched, _ string) {
			v.says.Store(`{"response":null,"errors":[{"errorCode":"KER-ATH-401"}]}`)
		}},
		"the token service takes a role away": {cookie, func(_ *testing.T, v *vouched, _ string) { v.says.Store(yes("other")) }},
		"a token expires": {func() string { return "Authorization=" + unsigned(time.Now().Add(2*time.Second)) },
			func(*testing.T, *vouched, string) {}},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVouched(t)
			key, id := v.reader(t)
			header := []string{"X-API-Key", key}
			if c.cookie != nil {
				header = []string{"Cookie", c.cookie()}
			}
			rd := v.follow(t, "/topics/orders/eu?start=earliest", header...)
			rd.next(t)
			v.follow(t, "/topics/orders/eu?start=earliest", "X-API-Key", v.key(t, "b", "orders.read")).next(t)
			c.end(t, v, id)
			all := rd.rest(t)
			if last := all[len(all)-1]; last.kind != "end" || last.data != `{"reason":"forbidden"}` {
				t.Errorf("the stream ended with %+v", last)
			}
			v.running.awaitMetric(t, "quorumhub_streams", "1") // the other one
		})
	}
}

// A stream goes on while its credential cannot be checked for a while.
func TestStreamsOutliveATokenServiceThatIsAway(t *testing.T) {
	v := newVouched(t)
	rd := v.follow(t, "/topics/orders/eu?start=earliest", "Cookie", "Authorization=token")
	rd.next(t)
	v.says.Store("")
	v.asked.Store(0)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); v.asked.Load() < 3; { // by the stream, whose rights were looked at each time
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the stream's rights are not looked at")
		}
	}
	want(t, v.guarded.send("POST", "/topics/orders/eu", "m2", "X-API-Key", v.writer), 200)
	for e := rd.next(t); !strings.Contains(e.data, "m2"); e = rd.next(t) {
		if e.kind == "end" {
			t.Fatalf("the stream ended with %+v", e)
		}
	}
}

// Principals see and end their own streams, and operators all of them. To others a stream is not there.
func TestStreamsAreTheirOwners(t *testing.T) {
	guard, root, bind := guarding(t, "")
	v := &vouched{running: start(t, guard)}
	bind(v.running.Service)
	v.guarded = &guarded{fixture: v.running.fixture, root: root}
	want(t, v.guarded.send("POST", "/topics/orders/eu", "m1", "X-API-Key", v.key(t, "writer", "orders.write")), 200)
	alice, bob := v.key(t, "alice", "orders.read"), v.key(t, "bob", "orders.read")
	list := func(key, query string) []anyItem {
		t.Helper()
		var page struct{ Items []anyItem }
		if err := json.Unmarshal([]byte(want(t, v.guarded.send("GET", "/v1/streams"+query, "", "X-API-Key", key), 200)), &page); err != nil {
			t.Fatal(err)
		}
		return page.Items
	}
	end := func(key string, id any, status int) {
		t.Helper()
		want(t, v.guarded.send("DELETE", fmt.Sprint("/v1/streams/", id), "", "X-API-Key", key), status)
	}
	first := v.follow(t, "/topics/orders/eu?start=earliest", "X-API-Key", alice)
	first.next(t)
	v.guarded.clock.advance(time.Second)
	second := v.follow(t, "/topics/orders/eu?start=earliest", "X-API-Key", alice)
	second.next(t)
	mine := list(alice, "")
	if len(mine) != 2 || mine[0]["owner"] != principalOf(alice) || mine[0]["topic"] != "orders/eu" || mine[0]["node"] != "node-1" || mine[0]["since"] == nil || mine[0]["address"] == nil {
		t.Fatalf("alice's streams: %v", mine)
	}
	if got := list(bob, ""); len(got) != 0 {
		t.Errorf("bob sees %v", got)
	}
	if got := list(v.root, "?topic=orders%2Feu"); len(got) != 2 {
		t.Errorf("an operator sees %v", got)
	}
	if got := list(v.root, "?topic=orders%2Fus"); len(got) != 0 {
		t.Errorf("of another topic: %v", got)
	}
	end(bob, mine[0]["id"], 404)
	end(bob, "0123456789ab", 404)
	end(alice, mine[0]["id"], 204)
	all := first.rest(t)
	if last := all[len(all)-1]; last.kind != "end" || last.data != `{"reason":"ended"}` {
		t.Errorf("the stream ended with %+v", last)
	}
	left := func(n int) {
		t.Helper()
		for end := time.Now().Add(patience); len(list(v.root, "")) != n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("listed are %v, want %d", list(v.root, ""), n)
			}
		}
	}
	left(1)
	end(alice, mine[0]["id"], 404)
	end(v.root, mine[1]["id"], 204)
	second.rest(t)
	left(0)
	want(t, v.guarded.send("GET", "/v1/streams", ""), 401)
}

// The end of a token ends what rests on the token, and not what its owner has: the principal is still there.
func TestSubscriptionsOutliveTokens(t *testing.T) {
	for name, end := range map[string]func(v *vouched){
		"the token service says no": func(v *vouched) { v.says.Store(`{"response":null,"errors":[{"errorCode":"KER-ATH-401"}]}`) },
		"the token expires":         func(*vouched) {},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVouched(t)
			want(t, v.guarded.send("PUT", "/v1/auth/rules/by-role", `{"may":["read","subscribe"],"topics":["orders/eu"],"who":[{"role":"reader"}]}`, "X-API-Key", v.root), 200)
			token := "Authorization=" + unsigned(time.Now().Add(2*time.Second))
			want(t, v.guarded.send("POST", "/hub", encode("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/orders/eu", "hub.callback", "https://u.example/"),
				"Content-Type", formType, "Cookie", token), 202)
			v.guarded.ledger.verify(t)
			rd := v.follow(t, "/topics/orders/eu?start=earliest", "Cookie", token)
			rd.next(t)
			end(v)
			rd.rest(t) // the stream has ended
			if got := want(t, v.guarded.send("GET", "/v1/subscriptions", "", "X-API-Key", v.root), 200); !strings.Contains(got, `"state":"active"`) || !strings.Contains(got, `"owner":"token-service:manager/u"`) {
				t.Errorf("%s", got)
			}
		})
	}
}
