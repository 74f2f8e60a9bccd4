package web_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// quotaIn returns the quota in a refusal.
func quotaIn(t *testing.T, refusal string) string {
	t.Helper()
	var p struct {
		Code  string
		Quota struct {
			Name        string
			Limit, Used int
		}
	}
	if err := json.Unmarshal([]byte(refusal), &p); err != nil || p.Code != "quota_reached" {
		t.Fatalf("refused with %s", refusal)
	}
	return fmt.Sprintf("%s %d", p.Quota.Name, p.Quota.Limit)
}

// Operators set quotas while the hub runs, over those of auth.file; what they remove is as in the file again.
func TestQuotasAreSetByTheAPI(t *testing.T) {
	o := newOwned(t, "quotas: {default: {topics: 3, streams: 5}}")
	const problem = "application/problem+json"
	put := func(name, body string, status int) string {
		t.Helper()
		return want(t, o.as(o.root, "PUT", "/v1/auth/quotas/"+name, body, "Accept", problem), status)
	}
	publish := func(topic string, size, status int) string {
		t.Helper()
		return want(t, o.as(o.alice, "POST", "/topics/orders/"+topic, strings.Repeat("x", size), "Accept", problem), status)
	}
	if got := put("default", `{"topics": 1}`, 200); !strings.Contains(got, `"quotas":{"topics":1,`) || !strings.Contains(got, `"file":{"topics":3,"streams":5},"set":{"topics":1}`) {
		t.Errorf("%s", got)
	}
	if got := quotaIn(t, publish("two", 1, 403)); got != "topics 1" {
		t.Errorf("refused by %s", got)
	}
	alice := strings.Replace(principalOf(o.alice), "/", "%2F", 1)
	put(alice, `{"topics": "4", "stored_bytes": "2kB"}`, 200)
	publish("two", 1000, 200)
	if got := quotaIn(t, publish("two", 1000, 403)); got != "stored_bytes 2000" {
		t.Errorf("refused by %s", got)
	}
	if got := quotaIn(t, want(t, o.as(o.bob, "POST", "/topics/orders/two", strings.Repeat("x", 1000), "Accept", problem), 403)); got != "stored_bytes 2000" {
		t.Errorf("another publisher is refused by %s", got)
	}
	usage := fmt.Sprint(o.list(t, o.alice, "/v1/auth/usage")[0])
	if !strings.Contains(usage, "stored_bytes:map[limit:2000 used:10") || !strings.Contains(usage, "topics:map[limit:4 used:2]") || !strings.Contains(usage, "dead_letter_bytes:map[limit:0 used:0]") {
		t.Errorf("usage %s", usage)
	}
	entries := o.list(t, o.root, "/v1/auth/quotas")
	if len(entries) != 2 || entries[0]["name"] != "default" || entries[1]["name"] != principalOf(o.alice) || !strings.Contains(fmt.Sprint(entries[1]["set_by"]), "root") || entries[1]["set_at"] == nil {
		t.Errorf("entries %v", entries)
	}
	if got := want(t, o.as(o.root, "GET", "/v1/auth/quotas/"+principalOf(o.alice), ""), 200); !strings.Contains(got, `"set":{"topics":4,"stored_bytes":2000}`) {
		t.Errorf("%s", got)
	}
	log := o.logged.String()
	if !strings.Contains(log, "object.quotas_of="+principalOf(o.alice)) || !strings.Contains(log, `stored_bytes\":2000`) {
		t.Error("the audit log does not tell who set which quotas")
	}
	want(t, o.as(o.root, "DELETE", "/v1/auth/quotas/"+alice, ""), 204)
	want(t, o.as(o.root, "DELETE", "/v1/auth/quotas/default", ""), 204)
	publish("two", 1500, 200)
	publish("three", 1, 200)
	if got := quotaIn(t, publish("four", 1, 403)); got != "topics 3" {
		t.Errorf("as in the file again: refused by %s", got)
	}
	want(t, o.as(o.root, "DELETE", "/v1/auth/quotas/default", ""), 404)
	want(t, o.as(o.root, "GET", "/v1/auth/quotas/nobody", ""), 404)
}

func TestQuotasThatAreRefused(t *testing.T) {
	o := newOwned(t, "")
	for _, c := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"default", `{"topcis": 1}`, 400, "unknown field"},
		{"default", `{}`, 400, "no quota is named"},
		{"default", `{"topics": -1}`, 400, "expected a number"},
		{"default", `{"topics": "10%"}`, 400, "may be a share"},
		{"default", `{"topics": 99999999999}`, 400, "expected a number from 0"},
		{"default", `{"stored_bytes": "101%"}`, 400, "1% to 100%"},
		{"default", `{"stored_bytes": true}`, 400, "expected a number"},
		{"a%20b", `{"topics": 1}`, 400, "a principal such as issuer:idp/123"},
		{"nowhere/x", `{"topics": 1}`, 400, "nowhere"},
		{"", `{"topics": 1}`, 400, "expected default"},
		{"x%zz", ``, 400, ""},
		{strings.Repeat("r", 513), `{"topics": 1}`, 400, "at most 512"},
	} {
		got := o.as(o.root, "PUT", "/v1/auth/quotas/"+strings.Replace(c.name, "%zz", "%25zz", 1), c.body)
		if body := got.Body.String(); got.Code != c.status || !strings.Contains(body, c.says) || strings.Count(body, "\n") != 1 {
			t.Errorf("%.20q %s: %d %s, want %d and %q", c.name, c.body, got.Code, body, c.status, c.says)
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		want(t, o.as(o.alice, method, "/v1/auth/quotas/default", `{"topics":0}`), 403)
	}
	want(t, o.as(o.alice, "GET", "/v1/auth/quotas", ""), 403)
	open := newFixture(t)
	want(t, open.send("PUT", "/v1/auth/quotas/default", `{"topics":0}`), 403)
	if got := want(t, open.send("GET", "/v1/auth/quotas", ""), 200); !strings.Contains(got, `"items":[]`) {
		t.Errorf("a hub that asks for no credentials has quotas: %s", got)
	}
}

// The owner of a topic sees it, sets its limits within the hub's, and removes it; others cannot tell it from one that does not exist.
func TestTopicsAreTheirOwners(t *testing.T) {
	week, gib := 7*24*time.Hour, int64(1<<30)
	const notes = `  - {name: notes, may: [publish], topics: ["notes/**"], who: [{scope: orders.read}]}`
	o := newOwned(t, notes, func(p *hub.Policy, _ *web.Options) { p.Retention = hub.Retention{MaxAge: &week, MaxBytes: &gib} })
	want(t, o.as(o.bob, "POST", "/topics/orders/us", "x"), 200)
	answer := func(status int, key, method, topic, body string) string {
		t.Helper()
		said, _, _ := strings.Cut(want(t, o.as(key, method, "/v1/topics/"+topic, body), status), `,"correlation_id"`)
		return said
	}
	set := func(key, topic, limits string, status int) string {
		t.Helper()
		return answer(status, key, "PUT", topic, `{"retention": {`+limits+`}}`)
	}
	if got := set(o.alice, "orders/eu", `"max_age": "1d", "max_bytes": 1000`, 200); !strings.Contains(got, `"retention":{"max_age":"1d","max_bytes":1000}`) || !strings.Contains(got, `"owner":"`+principalOf(o.alice)) {
		t.Errorf("%s", got)
	}
	for limits, says := range map[string]string{`"max_age": "8d"`: "max_age: is 192h0m0s", `"max_age": "0"`: "at most 168h0m0s",
		`"max_bytes": 2147483648`: "max_bytes: is 2147483648", `"max_bytes": 0`: "retention.max_bytes"} {
		if got := set(o.alice, "orders/eu", limits, 403); !strings.Contains(got, says) {
			t.Errorf("%s: %s", limits, got)
		}
	}
	set(o.alice, "orders/eu", `"max_age": "7d", "max_bytes": 1073741824`, 200)
	set(o.alice, "orders/eu", ``, 200)
	foreign, none := set(o.bob, "orders/eu", `"max_age": "1d"`, 403), set(o.bob, "orders/none", `"max_age": "1d"`, 403)
	if foreign != none {
		t.Errorf("another's topic: %s; one that does not exist: %s", foreign, none)
	}
	if foreign, none := answer(403, o.bob, "GET", "orders/eu", ""), answer(403, o.bob, "GET", "orders/none", ""); foreign != none {
		t.Errorf("another's topic: %s; one that does not exist: %s", foreign, none)
	}
	want(t, o.as(o.alice, "GET", "/v1/topics/orders/eu", ""), 200)
	set(o.root, "orders/eu", `"max_age": "0", "max_bytes": 0`, 200)
	set(o.root, "orders/none", ``, 404)
	for key, n := range map[string]int{o.alice: 1, o.bob: 1, o.root: 2} {
		if got := o.list(t, key, "/v1/topics"); len(got) != n {
			t.Errorf("%v, want %d topics", got, n)
		}
	}
	if got := o.list(t, o.bob, "/v1/topics?topic=orders%2Feu"); len(got) != 0 {
		t.Errorf("another's topic is listed: %v", got)
	}
	want(t, o.send("PUT", "/v1/topics/orders/eu", `{"retention": {}}`), 401)

	want(t, o.as(o.alice, "POST", "/topics/notes/a", "x"), 200)
	deregister := func(key, topic string) int {
		return o.as(key, "POST", "/hub", encode("hub.mode", "deregister", "hub.topic", publicURL+"/topics/"+topic), "Content-Type", formType).Code
	}
	if foreign, none := deregister(o.bob, "notes/a"), deregister(o.bob, "notes/none"); foreign != 403 || none != 403 {
		t.Errorf("another's topic is deregistered with %d, none with %d", foreign, none)
	}
	want(t, o.as(o.alice, "POST", "/topics/notes/b", "x"), 200)
	if got := deregister(o.root, "notes/b"); got != 200 {
		t.Errorf("an operator deregisters another's topic with %d", got)
	}
	if got := deregister(o.root, "notes/none"); got != 404 {
		t.Errorf("an operator deregisters no topic with %d", got)
	}
	o.logged.Reset()
	if got := deregister(o.alice, "notes/a"); got != 200 {
		t.Errorf("the owner deregisters with %d", got)
	}
	if log := o.logged.String(); strings.Contains(log, "outcome=denied") || !strings.Contains(log, `action=topic.deregister object.topic=notes/a outcome=done reason="its own"`) {
		t.Errorf("the audit log: %s", log)
	}
}
