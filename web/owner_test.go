package web_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

// owned is a guarded hub with two tenants that have the same rights.
type owned struct {
	*guarded
	alice, bob string // keys
}

func newOwned(t *testing.T, more string, change ...func(*hub.Policy, *web.Options)) *owned {
	t.Helper()
	o := &owned{guarded: newGuarded(t, more, change...)}
	o.alice, o.bob = o.key(t, "alice", "orders.read", "orders.write"), o.key(t, "bob", "orders.read", "orders.write")
	want(t, o.as(o.alice, "POST", "/topics/orders/eu", "x"), 200)
	return o
}

func (o *owned) as(key, method, target, body string, header ...string) *httptest.ResponseRecorder {
	return o.send(method, target, body, append(header, "X-API-Key", key)...)
}

func principalOf(key string) string { return "key/" + key[4:16] }

// ask sends a subscribe or unsubscribe request and returns its ID.
func (o *owned) ask(t *testing.T, key, mode, callback string, more ...string) string {
	t.Helper()
	w := o.as(key, "POST", "/hub", encode(append(more, "hub.mode", mode, "hub.topic", publicURL+"/topics/orders/eu", "hub.callback", callback)...), "Content-Type", formType)
	want(t, w, 202)
	return w.Header().Get("X-Hub-Request-Id")
}

type anyItem = map[string]any

func (o *owned) list(t *testing.T, key, target string) []anyItem {
	t.Helper()
	var page struct{ Items []anyItem }
	if err := json.Unmarshal([]byte(want(t, o.as(key, "GET", target, ""), 200)), &page); err != nil {
		t.Fatal(err)
	}
	return page.Items
}

func idsOf(items []anyItem) string {
	out := []string{}
	for _, i := range items {
		out = append(out, fmt.Sprint(i["id"]))
	}
	return strings.Join(out, " ")
}

// Each principal sees and operates its own subscriptions, and does not even learn that others exist; operators see all.
func TestSubscriptionsAreTheirOwners(t *testing.T) {
	o := newOwned(t, "")
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.bob, "subscribe", "https://bob.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.bob, "subscribe", "https://bob.example/pending")
	for name, c := range map[string]struct{ key, target, want string }{
		"alice":                     {o.alice, "/v1/subscriptions", "s-1"},
		"bob":                       {o.bob, "/v1/subscriptions", "s-2 r-3"},
		"operator":                  {o.root, "/v1/subscriptions", "s-1 s-2 r-3"},
		"operator's own":            {o.root, "/v1/subscriptions?mine=true", ""},
		"alice, mine=false":         {o.alice, "/v1/subscriptions?mine=false", "s-1"},
		"alice, by bob's callback":  {o.alice, "/v1/subscriptions?callback=https://bob.example/cb", ""},
		"alice, by topic":           {o.alice, "/v1/subscriptions?topic=orders/eu", "s-1"},
		"alice, by both":            {o.alice, "/v1/subscriptions?topic=orders/eu&callback=https://bob.example/cb", ""},
		"bob, by both":              {o.bob, "/v1/subscriptions?topic=orders/eu&callback=https://bob.example/cb", "s-2"},
		"bob, the second page":      {o.bob, "/v1/subscriptions?cursor=s-2", "r-3"},
		"operator, the second page": {o.root, "/v1/subscriptions?cursor=s-1&limit=1", "s-2"},
	} {
		if got := idsOf(o.list(t, c.key, c.target)); got != c.want {
			t.Errorf("%s sees %q, want %q", name, got, c.want)
		}
	}
	if got := o.list(t, o.root, "/v1/subscriptions")[0]["owner"]; got != principalOf(o.alice) {
		t.Errorf("the operator sees the owner %v", got)
	}
	unknown := want(t, o.as(o.bob, "GET", "/v1/subscriptions/s-99", ""), 404)
	for _, c := range []struct{ method, target, body string }{{"GET", "/v1/subscriptions/s-1", ""}, {"GET", "/v1/subscriptions/s-1/attempts", ""},
		{"DELETE", "/v1/subscriptions/s-1", ""}, {"POST", "/v1/subscriptions/s-1/pause", ""}, {"POST", "/v1/subscriptions/s-1/resume", ""},
		{"POST", "/v1/subscriptions/s-1/rewind", `{"to":"earliest"}`}} {
		got := want(t, o.as(o.bob, c.method, c.target, c.body, "Content-Type", "application/json"), 404)
		if strings.Contains(got, "not_owner") || !strings.Contains(got, `"code":"not_found"`) || len(got) > len(unknown)+40 {
			t.Errorf("%s %s tells a stranger %s", c.method, c.target, got)
		}
	}
	want(t, o.as(o.bob, "POST", "/v1/subscriptions/reassign", `{"subscriptions":["s-2"],"to":""}`, "Content-Type", "application/json"), 403)
	want(t, o.send("GET", "/v1/subscriptions", ""), 401)

	want(t, o.as(o.alice, "POST", "/v1/subscriptions/s-1/pause", ""), 200)
	if got := o.list(t, o.alice, "/v1/subscriptions")[0]; got["state"] != "paused" || got["pause_reason"] != "owner" {
		t.Errorf("paused by its owner: %v", got)
	}
	want(t, o.as(o.alice, "POST", "/v1/subscriptions/s-1/resume", ""), 200)
	want(t, o.as(o.root, "POST", "/v1/subscriptions/s-1/pause", ""), 200)
	want(t, o.as(o.alice, "POST", "/v1/subscriptions/s-1/resume", ""), 403)
	want(t, o.as(o.alice, "DELETE", "/v1/subscriptions/s-1", ""), 204)
}

// A request about somebody else's subscription is accepted and comes to nothing; who asked finds it, and nobody else does.
func TestFailedRequestsAreShownToWhoAsked(t *testing.T) {
	o := newOwned(t, "")
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	id := o.ask(t, o.bob, "subscribe", "https://alice.example/cb", "hub.secret", "mine now")
	gone := o.ask(t, o.bob, "unsubscribe", "https://alice.example/cb")
	o.ask(t, o.bob, "subscribe", "https://bob.example/pending")
	got := o.list(t, o.bob, "/v1/requests?state=failed")
	if idsOf(got) != gone+" "+id {
		t.Fatalf("bob's failed requests are %q, want %s and %s", idsOf(got), gone, id)
	}
	fields := []string{"attempts", "callback", "id", "mode", "owner", "reason", "repeatable", "requested_at", "settled_at", "state", "status", "topic"}
	have := []string{}
	for k := range got[1] {
		have = append(have, k)
	}
	if slices.Sort(have); !slices.Equal(have, fields) {
		t.Errorf("a request has the fields %v, want %v", have, fields)
	}
	if r := got[1]; r["reason"] != "not_owner" || r["mode"] != "subscribe" || r["topic"] != "orders/eu" || r["callback"] != "https://alice.example/cb" || r["attempts"] != 0.0 {
		t.Errorf("the request is %v", r)
	}
	for name, c := range map[string]struct {
		key, target string
		n           int
	}{
		"pending": {o.bob, "/v1/requests?state=pending", 1}, "all": {o.bob, "/v1/requests", 3}, "by topic": {o.bob, "/v1/requests?topic=orders/eu", 3},
		"by callback": {o.bob, "/v1/requests?callback=https://bob.example/pending", 1}, "of alice": {o.alice, "/v1/requests", 0},
		"for the operator": {o.root, "/v1/requests", 3}, "a page": {o.bob, "/v1/requests?limit=2", 2}, "the next page": {o.bob, "/v1/requests?cursor=" + gone, 1},
	} {
		if got := o.list(t, c.key, c.target); len(got) != c.n {
			t.Errorf("%s: %d requests, want %d: %v", name, len(got), c.n, got)
		}
	}
	for _, target := range []string{"/v1/requests?state=done", "/v1/requests?cursor=s-1", "/v1/requests?x=1", "/v1/requests?mine=maybe"} {
		want(t, o.as(o.bob, "GET", target, ""), 400)
	}
	if text := o.logged.String(); !strings.Contains(text, "actor="+principalOf(o.bob)) || !strings.Contains(text, "reason=not_owner") || !strings.Contains(text, "object.request="+id) {
		t.Errorf("the audit log lacks the attempt on somebody else's subscription")
	}
	// A failed verification, too.
	pending := fmt.Sprint(o.list(t, o.bob, "/v1/requests?state=pending")[0]["id"])
	number, err := strconv.ParseUint(strings.TrimPrefix(pending, "r-"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	o.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_RequestFailed{RequestFailed: &hubpb.RequestFailed{Request: number, Reason: "wrong-challenge", Status: 200, Attempts: 3}}})
	if r := o.list(t, o.bob, "/v1/requests?callback=https://bob.example/pending")[0]; r["state"] != "failed" || r["reason"] != "wrong-challenge" || r["status"] != 200.0 || r["attempts"] != 3.0 || r["settled_at"] == nil {
		t.Errorf("a request whose verification failed: %v", r)
	}
	o.clock.advance(61 * time.Minute)
	o.ledger.must(t) // an hour later the log forgets
	if got := o.list(t, o.bob, "/v1/requests?state=failed"); len(got) != 0 {
		t.Errorf("after an hour: %v", got)
	}
}

// What a revoked key owns is paused, or ended on request; an operator gives it to somebody else, who resumes it.
func TestRevokedKeysLeaveTheirSubscriptions(t *testing.T) {
	o := newOwned(t, "")
	for _, key := range []string{o.alice, o.bob} {
		for i := range 2 {
			o.ask(t, key, "subscribe", fmt.Sprintf("https://%s.example/%d", key[4:16], i))
			o.ledger.verify(t)
		}
	}
	if got := want(t, o.as(o.root, "DELETE", "/v1/auth/keys/"+o.alice[4:16], ""), 200); !strings.Contains(got, `"subscriptions_paused":2`) {
		t.Errorf("revoked: %s", got)
	}
	for _, item := range o.list(t, o.root, "/v1/subscriptions")[:2] {
		if item["state"] != "paused" || item["pause_reason"] != "owner_ended" {
			t.Errorf("of a revoked key: %v", item)
		}
	}
	give := func(body string, status int) string {
		return want(t, o.as(o.root, "POST", "/v1/subscriptions/reassign", body, "Content-Type", "application/json"), status)
	}
	if got := give(`{"from":"`+principalOf(o.alice)+`","to":"`+principalOf(o.bob)+`"}`, 200); !strings.Contains(got, `"reassigned":2`) {
		t.Errorf("reassigned: %s", got)
	}
	if got := idsOf(o.list(t, o.bob, "/v1/subscriptions")); got != "s-1 s-2 s-3 s-4" {
		t.Errorf("bob has %s", got)
	}
	want(t, o.as(o.bob, "POST", "/v1/subscriptions/s-1/resume", ""), 200)
	for name, body := range map[string]string{"no to": `{"from":"key/x"}`, "no from": `{"to":"key/x"}`, "no principal": `{"from":"x","to":""}`,
		"no subscription": `{"subscriptions":["r-1"],"to":""}`, "an unknown one": `{"subscriptions":["s-99"],"to":""}`} {
		if w := o.as(o.root, "POST", "/v1/subscriptions/reassign", body, "Content-Type", "application/json"); w.Code != 400 && w.Code != 404 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if got := want(t, o.as(o.root, "DELETE", "/v1/auth/keys/"+o.bob[4:16]+"?end_subscriptions=true", ""), 200); !strings.Contains(got, `"subscriptions_ended":4`) {
		t.Errorf("revoked with its subscriptions: %s", got)
	}
	if got := o.list(t, o.root, "/v1/subscriptions"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	want(t, o.as(o.root, "DELETE", "/v1/auth/keys/x?end_subscriptions=perhaps", ""), 400)
}

// An operator pauses or ends what a principal has whose credential has ended elsewhere.
func TestOwnersThatHaveEndedElsewhere(t *testing.T) {
	o := newOwned(t, "")
	for i := range 2 {
		o.ask(t, o.alice, "subscribe", fmt.Sprint("https://alice.example/", i))
		o.ledger.verify(t)
	}
	o.ask(t, o.bob, "subscribe", "https://bob.example/")
	o.ledger.verify(t)
	end := func(key, body string, status int) string {
		t.Helper()
		return want(t, o.as(key, "POST", "/v1/auth/end-owner", body), status)
	}
	end(o.bob, `{"owner":"`+principalOf(o.alice)+`"}`, 403)
	end(o.root, `{"owner":"alice"}`, 400)
	end(o.root, `{}`, 400)
	if got := end(o.root, `{"owner":"`+principalOf(o.alice)+`"}`, 200); !strings.Contains(got, `"subscriptions_paused":2`) {
		t.Errorf("%s", got)
	}
	states := func() (out string) {
		for _, i := range o.list(t, o.root, "/v1/subscriptions") {
			out += fmt.Sprint(i["id"], " ", i["state"], " ", i["pause_reason"], ", ")
		}
		return out
	}
	if got := states(); got != "s-1 paused owner_ended, s-2 paused owner_ended, s-3 active <nil>, " {
		t.Error(got)
	}
	want(t, o.as(o.alice, "POST", "/v1/subscriptions/s-1/resume", ""), 403)
	if got := end(o.root, `{"owner":"`+principalOf(o.alice)+`","end_subscriptions":true}`, 200); !strings.Contains(got, `"subscriptions_ended":2`) {
		t.Errorf("%s", got)
	}
	if got := states(); got != "s-3 active <nil>, " {
		t.Error(got)
	}
}

// A quota that is reached says which one it is, how much it allows and how much is used; usage shows the same.
func TestQuotas(t *testing.T) {
	o := newOwned(t, "quotas: {default: {topics: 3, subscriptions: 2, streams: 1}, partner: {topics: 5}}")
	for i := range 2 {
		want(t, o.as(o.alice, "POST", fmt.Sprint("/topics/orders/", i), "x"), 200)
	}
	refused := want(t, o.as(o.alice, "POST", "/topics/orders/x", "x", "Accept", "application/problem+json"), 403)
	var p struct {
		Code  string
		Quota struct {
			Name        string
			Limit, Used int
		}
	}
	if err := json.Unmarshal([]byte(refused), &p); err != nil || p.Code != "quota_reached" || p.Quota.Name != "topics" || p.Quota.Limit != 3 || p.Quota.Used != 3 {
		t.Errorf("refused with %s", refused)
	}
	want(t, o.as(o.bob, "POST", "/topics/orders/x", "x"), 200)
	for i := range 2 {
		o.ask(t, o.alice, "subscribe", fmt.Sprint("https://alice.example/", i))
		o.ledger.verify(t)
	}
	w := o.as(o.alice, "POST", "/hub", encode("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/orders/eu", "hub.callback", "https://alice.example/3"), "Content-Type", formType)
	if got := want(t, w, 403); !strings.Contains(got, "subscriptions") {
		t.Errorf("refused with %s", got)
	}

	// A role's quota, for whom it is larger than the default.
	body := want(t, o.as(o.root, "POST", "/v1/auth/keys", `{"name":"p","scopes":["orders.write"],"roles":["partner"]}`, "Content-Type", "application/json"), 201)
	_, key, _ := strings.Cut(body, `"key":"`)
	key, _, _ = strings.Cut(key, `"`)
	for i := range 6 {
		if got, want := o.as(key, "POST", fmt.Sprint("/topics/orders/p", i), "x").Code, []int{200, 200, 200, 200, 200, 403}[i]; got != want {
			t.Errorf("topic %d of a partner: %d, want %d", i+1, got, want)
		}
	}

	usage := func(key, target string) []anyItem { return o.list(t, key, target) }
	of := func(item anyItem, name string) string { return fmt.Sprint(item[name]) }
	mine := usage(o.alice, "/v1/auth/usage")
	if len(mine) != 1 || mine[0]["principal"] != principalOf(o.alice) || of(mine[0], "topics") != "map[limit:3 used:3]" || of(mine[0], "subscriptions") != "map[limit:2 used:2]" {
		t.Errorf("alice's usage: %v", mine)
	}
	if all := usage(o.root, "/v1/auth/usage"); len(all) != 4 { // alice, bob, the partner, and root, who owns their keys
		t.Errorf("everybody's usage: %v", all)
	}
	if one := usage(o.root, "/v1/auth/usage?principal="+principalOf(o.bob)); len(one) != 1 || of(one[0], "topics") != "map[limit:3 used:1]" {
		t.Errorf("bob's usage: %v", one)
	}
	if page := usage(o.root, "/v1/auth/usage?limit=3"); len(page) != 3 {
		t.Errorf("a page: %v", page)
	}
	if page := usage(o.root, "/v1/auth/usage?cursor="+fmt.Sprint(usage(o.root, "/v1/auth/usage?limit=3")[2]["principal"])); len(page) != 1 {
		t.Errorf("the next page: %v", page)
	}
	want(t, o.as(o.alice, "GET", "/v1/auth/usage?principal="+principalOf(o.bob), ""), 403)
	want(t, o.send("GET", "/v1/auth/usage", ""), 401)
}

// When a rule goes, what it alone allowed is paused, as far as that is certain: of keys everything is known, of a token's owner not its
// roles.
func TestSubscriptionsPauseWithTheirRule(t *testing.T) {
	for _, keep := range []bool{false, true} {
		o := newOwned(t, "", func(_ *hub.Policy, opts *web.Options) { opts.KeepNotAllowed = keep })
		put := func(name, rule string) { want(t, o.as(o.root, "PUT", "/v1/auth/rules/"+name, rule), 200) }
		put("extra", `{"may":["subscribe","publish","topic.register"],"topics":["extra"],"who":[{"subject":"alice","method":"api-key"}]}`)
		put("role", `{"may":["subscribe","publish"],"topics":["extra"],"who":[{"method":"token","role":"x"}]}`)
		want(t, o.as(o.alice, "POST", "/topics/extra", "x"), 200)
		for _, topic := range []string{"orders/eu", "extra"} {
			want(t, o.as(o.alice, "POST", "/hub", encode("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/"+topic, "hub.callback", "https://alice.example/"+topic), "Content-Type", formType), 202)
			o.ledger.verify(t)
		}
		// Another one, of a caller whose roles nobody knows now.
		want(t, o.as(o.root, "POST", "/hub", encode("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/extra", "hub.callback", "https://x.example/"), "Content-Type", formType), 403)
		o.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Mode: hub.ModeSubscribe, Topic: "extra",
			Callback: "https://t.example/", CallbackKey: "https://t.example/", LeaseSeconds: 3600, Caller: &hubpb.Caller{Principal: "issuer:idp/1"}}}})
		o.ledger.verify(t)
		states := func() string {
			out := []string{}
			for _, i := range o.list(t, o.root, "/v1/subscriptions") {
				out = append(out, fmt.Sprint(i["id"], " ", i["state"], " ", i["pause_reason"]))
			}
			return strings.Join(out, ", ")
		}
		want(t, o.as(o.root, "DELETE", "/v1/auth/rules/extra", ""), 204)
		expected := "s-1 active <nil>, s-2 paused not_allowed, s-3 active <nil>"
		if keep {
			expected = strings.Replace(expected, "paused not_allowed", "active <nil>", 1)
		}
		if got := states(); got != expected {
			t.Errorf("keep %v, without the rule: %s, want %s", keep, got, expected)
		}
		want(t, o.as(o.root, "DELETE", "/v1/auth/rules/role", ""), 204)
		if !keep {
			expected = strings.Replace(expected, "s-3 active <nil>", "s-3 paused not_allowed", 1)
		}
		if got := states(); got != expected {
			t.Errorf("keep %v, without any rule: %s, want %s", keep, got, expected)
		}
	}
}

// Whatever a route does with one thing, it does not do it for a stranger: one with every right that tenants have.
func TestRoutesAboutOneThingAreForItsOwner(t *testing.T) {
	o := newOwned(t, "")
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	want(t, o.as(o.alice, "POST", "/topics/orders/eu", "x"), 200)
	o.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{Subscription: 1, Offset: 2, Attempts: 3, Status: 404}}})
	session := hub.NewSession{Session: hub.Session{ID: hub.SessionID{1, 2, 3}, Principal: principalOf(o.alice), Ends: o.clock.Now().Add(time.Hour), Passed: []hub.PassedStep{{Authenticator: "keys"}}}}
	if _, err := (*o.Service).StartSession(t.Context(), &session); err != nil {
		t.Fatal(err)
	}
	for _, rt := range o.Routes() {
		method, path, _ := strings.Cut(rt, " ")
		if !strings.Contains(path, "{") || path == "/topics/{name}" {
			continue
		}
		id, body := "s-1", "{}"
		switch {
		case strings.HasSuffix(path, "/rewind"):
			body = `{"to":"earliest"}`
		case strings.Contains(path, "dead-letters"):
			id = "d-1"
		case strings.Contains(path, "/sessions/"):
			id = fmt.Sprintf("%x", session.ID)
		case strings.Contains(path, "/keys/"):
			id = o.alice[4:16]
		}
		w := o.as(o.bob, method, strings.NewReplacer("{id}", id, "{name}", "orders/eu").Replace(path), body, "Content-Type", "application/json")
		if w.Code != 403 && w.Code != 404 {
			t.Errorf("%s for a stranger: %d %s", rt, w.Code, w.Body)
		}
	}
	if got := idsOf(o.list(t, o.root, "/v1/subscriptions")); got != "s-1" {
		t.Errorf("left: %s", got)
	}
	if got := idsOf(o.list(t, o.alice, "/v1/dead-letters")); !strings.HasPrefix(got, "d-") {
		t.Errorf("the owner's dead letters: %q", got)
	}
	if got := o.list(t, o.bob, "/v1/dead-letters"); len(got) != 0 {
		t.Errorf("a stranger's dead letters: %v", got)
	}
}

// Whoever has created API keys lists and revokes these, also without the right to create more.
func TestCreatorsRevokeTheirKeys(t *testing.T) {
	o := newOwned(t, "")
	want(t, o.as(o.root, "PUT", "/v1/auth/rules/makers", `{"may":["admin.auth"],"who":[{"scope":"maker"}]}`), 200)
	maker := o.key(t, "maker", "maker")
	made := want(t, o.as(maker, "POST", "/v1/auth/keys", `{"name":"made","scopes":["orders.read"]}`), 201)
	_, id, _ := strings.Cut(made, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	want(t, o.as(o.root, "DELETE", "/v1/auth/rules/makers", ""), 204)
	want(t, o.as(maker, "POST", "/v1/auth/keys", `{"name":"more"}`), 403)
	if got := o.list(t, maker, "/v1/auth/keys"); len(got) != 1 || got[0]["id"] != id {
		t.Errorf("its keys: %v", got)
	}
	if got := o.list(t, o.alice, "/v1/auth/keys"); len(got) != 0 {
		t.Errorf("alice, who made none, sees %v", got)
	}
	for _, other := range []string{o.alice[4:16], "0123456789ab"} {
		want(t, o.as(maker, "DELETE", "/v1/auth/keys/"+other, ""), 404)
	}
	want(t, o.as(o.alice, "DELETE", "/v1/auth/keys/"+id, ""), 404)
	want(t, o.as(maker, "DELETE", "/v1/auth/keys/"+id, ""), 200)
}

// The owner of a subscription finds in the events what others have tried, and nobody else's.
func TestEventsAreOfTheirOwners(t *testing.T) {
	o := newOwned(t, "")
	if got := o.list(t, o.alice, "/v1/events"); len(got) != 0 {
		t.Errorf("before the topic exists: %v", got)
	}
	o.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: hub.EventsTopic}}})
	o.ask(t, o.alice, "subscribe", "https://alice.example/cb")
	o.ledger.verify(t)
	o.ask(t, o.bob, "subscribe", "https://alice.example/cb")
	o.ask(t, o.bob, "subscribe", "https://bob.example/cb")
	o.ledger.verify(t)
	want(t, o.as(o.alice, "DELETE", "/v1/subscriptions/s-1", ""), 204)
	types := func(key, target string) (out []string) {
		t.Helper()
		for _, e := range o.list(t, key, target) {
			out = append(out, fmt.Sprint(e["type"], " ", e["subscription"], " ", e["reason"]))
		}
		return out
	}
	if got := types(o.alice, "/v1/events"); !slices.Equal(got, []string{"subscription.verified s-1 <nil>", "subscription.denied s-1 not_owner", "subscription.ended s-1 owner"}) {
		t.Errorf("alice finds %q", got)
	}
	if got := types(o.bob, "/v1/events"); !slices.Equal(got, []string{"subscription.verified s-2 <nil>"}) {
		t.Errorf("bob finds %q", got)
	}
	if got := types(o.root, "/v1/events"); len(got) != 4 {
		t.Errorf("an operator finds %q", got)
	}
	first := o.list(t, o.alice, "/v1/events?limit=1")
	if got := types(o.alice, fmt.Sprint("/v1/events?cursor=", first[0]["id"])); len(first) != 1 || len(got) != 2 {
		t.Errorf("after the first: %q", got)
	}
	if text := want(t, o.as(o.alice, "GET", "/v1/events", ""), 200); strings.Contains(text, principalOf(o.bob)) {
		t.Errorf("alice learns who tried: %s", text)
	}
	for _, target := range []string{"/v1/events?cursor=x", "/v1/events?cursor=99-1", "/v1/events?limit=0", "/v1/events?x=1"} {
		want(t, o.as(o.alice, "GET", target, ""), 400)
	}
	want(t, o.send("GET", "/v1/events", ""), 401)
	want(t, o.as(o.alice, "GET", "/topics/hub.events", ""), 403)
}
