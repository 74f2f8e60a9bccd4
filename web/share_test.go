package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

func shareKeys() [][]byte { return [][]byte{[]byte(strings.Repeat("r", 32))} }

func sharing(_ *hub.Policy, o *web.Options) { o.References = shareKeys }

// ticketOf makes a ticket as a delivery does, for the first subscription.
func ticketOf(t *testing.T, f *fixture, r hub.Reference) string {
	t.Helper()
	r.Subscription = max(r.Subscription, 1)
	if r.Until.IsZero() {
		r.Until = f.clock.Now().Add(time.Hour).Truncate(time.Second)
	}
	ticket, err := hub.ReferenceKeys(shareKeys).Ticket(&r)
	if err != nil {
		t.Fatal(err)
	}
	return "/share/" + ticket
}

// newSharing is a hub whose topic orders/1 gives out references, with a subscription and a message.
func newSharing(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, sharing)
	f.atLevel(t, hub.FeatureLevel)
	f.publish(t, "reports", "0123456789")
	f.subscribe(t, publicURL+"/topics/reports", callbackURL)
	f.ledger.verify(t)
	body := want(t, f.send("PUT", "/v1/topics/reports", `{"content": "reference", "share": {"uses": 2, "for": "1h"}}`), 200)
	if !strings.Contains(body, `"content":"reference","share":{"uses":2,"for":"1h0m0s","require":"ticket"}`) {
		t.Fatalf("the topic is %s", body)
	}
	return f
}

func TestContentByReference(t *testing.T) {
	f := newSharing(t)
	at := ticketOf(t, f, hub.Reference{Offset: 1, Uses: 2})
	head := f.send("HEAD", at, "")
	if body := want(t, head, 200); body != "" || head.Header().Get("Content-Length") != "10" || head.Header().Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %q %v", body, head.Header())
	}
	w := f.send("GET", at, "")
	if body := want(t, w, 200); body != "0123456789" || w.Header().Get("Content-Type") != "text/plain" || w.Header().Get("Cache-Control") != "private, no-store" {
		t.Errorf("GET: %q %v", body, w.Header())
	}
	etag := w.Header().Get("ETag")
	want(t, f.send("GET", at, "", "If-None-Match", etag), 304) // no use
	part := func(status int, body, of string, header ...string) {
		t.Helper()
		w := f.send("GET", at, "", header...)
		if got := want(t, w, status); status < 400 && got != body || w.Header().Get("Content-Range") != of {
			t.Errorf("%v: %q, Content-Range %q; want %q, %q", header, got, w.Header().Get("Content-Range"), body, of)
		}
	}
	part(206, "56789", "bytes 5-9/10", "Range", "bytes=5-", "If-Range", etag) // of the first use
	part(206, "789", "bytes 7-9/10", "Range", "bytes=-3")
	part(416, "", "bytes */10", "Range", "bytes=10-")
	part(206, "01", "bytes 0-1/10", "Range", "bytes=0-1")
	part(200, "0123456789", "", "Range", "bytes=0-1", "If-Range", `"other"`) // the second use
	part(206, "012345678", "bytes 0-8/10", "Range", "bytes=0-8")
	part(404, "", "", "Range", "bytes=0-8") // more than the whole again
	part(206, "9", "bytes 9-9/10", "Range", "bytes=9-9")
	want(t, f.send("GET", at, ""), 404)
}

// Whatever the reason for which a ticket opens nothing, the answer is the same.
func TestReferencesThatOpenNothing(t *testing.T) {
	f := newSharing(t)
	f.publish(t, "reports", "second")
	good := ticketOf(t, f, hub.Reference{Offset: 2, Uses: 1})
	want(t, f.send("GET", good, ""), 200)
	want(t, f.send("GET", good, "", "Range", "bytes=0-4"), 206)
	want(t, f.send("GET", good, "", "Range", "bytes=5-"), 206)
	revoked := ticketOf(t, f, hub.Reference{Offset: 1, Uses: 2})
	want(t, f.send("HEAD", revoked, ""), 200)
	want(t, f.send("POST", "/v1/references/revoke", `{"topic": "reports", "offset": 1}`), 204)
	var first string
	for what, at := range map[string]string{
		"used up":                 good,
		"revoked":                 revoked,
		"ended":                   ticketOf(t, f, hub.Reference{Offset: 2, Uses: 2, Until: f.clock.Now().Add(-time.Second)}),
		"of another subscription": ticketOf(t, f, hub.Reference{Subscription: 9, Offset: 2, Uses: 2}),
		"of no message":           ticketOf(t, f, hub.Reference{Offset: 9, Uses: 2}),
		"for a principal":         ticketOf(t, f, hub.Reference{Offset: 2, Uses: 2, SamePrincipal: true}),
		"forged":                  good[:len(good)-4] + "AAAA",
		"unknown":                 "/share/x",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := f.send(method, at, "", "X-Correlation-ID", "same", "Accept", "application/json")
			body := want(t, w, 404)
			if method == "HEAD" {
				continue
			}
			if first == "" {
				first = body
			}
			if body != first {
				t.Errorf("%s: %s, want the same as of others: %s", what, body, first)
			}
		}
	}
	want(t, f.send("POST", "/v1/references/revoke", `{"topic": "reports", "offset": 3}`), 404)
	want(t, f.send("POST", "/v1/references/revoke", `{"topic": "nothing"}`), 404)
	want(t, f.send("DELETE", "/v1/subscriptions/s-1", ""), 204)
	want(t, f.send("GET", ticketOf(t, f, hub.Reference{Offset: 2, Uses: 2}), ""), 404)
}

// A use that cannot be counted is no use: nothing is sent.
func TestReferenceIsCountedBeforeItIsSent(t *testing.T) {
	f := newSharing(t)
	at := ticketOf(t, f, hub.Reference{Offset: 1, Uses: 1})
	f.ledger.refuse = hub.ErrNoLeader
	if body := want(t, f.send("GET", at, ""), 503); strings.Contains(body, "0123456789") {
		t.Errorf("got %s", body)
	}
	f.ledger.refuse = nil
	want(t, f.send("GET", at, ""), 200)
	want(t, f.send("GET", at, ""), 404)
}

// The content of a topic that is given out by reference only cannot be had without one.
func TestByReferenceOnly(t *testing.T) {
	f := newSharing(t)
	want(t, f.send("GET", "/topics/reports", ""), 403)
	want(t, f.send("GET", "/topics/reports?offset=1", ""), 403)
	want(t, f.send("GET", "/topics/reports", "", "Accept", "text/event-stream"), 403)
	want(t, f.send("PUT", "/v1/topics/reports", `{"content": "body", "share": {"uses": 1}}`), 200)
	want(t, f.send("GET", "/topics/reports", ""), 200)
	f.subscribe(t, publicURL+"/topics/reports", callbackURL, "hub.content", "reference")
	if body := want(t, f.send("PUT", "/v1/topics/reports", `{"content": "body"}`), 200); strings.Contains(body, "share") {
		t.Errorf("got %s", body)
	}
	want(t, f.form("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/reports", "hub.callback", callbackURL, "hub.content", "reference"), 403)
	want(t, f.form("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/reports", "hub.callback", callbackURL, "hub.content", "both"), 400)
}

func TestContentSettings(t *testing.T) {
	f := newSharing(t)
	for body, param := range map[string]string{
		`{"content": "other"}`:                            "content",
		`{"share": {"uses": 0}}`:                          "share.uses",
		`{"share": {"uses": 1001}}`:                       "share.uses",
		`{"share": {"for": "soon"}}`:                      "share.for",
		`{"share": {"for": "31d"}}`:                       "share.for",
		`{"share": {"require": "luck"}}`:                  "share.require",
		`{"share": {"require": "same-principal"}}`:        "share.require", // nobody can prove who it is here
		`{"content": "reference", "share": {"for": "0"}}`: "share.for",
	} {
		if got := want(t, f.send("PUT", "/v1/topics/reports", body, "Accept", "application/json"), 400); !strings.Contains(got, `"param":"`+param+`"`) {
			t.Errorf("%s: %s, want %s", body, got, param)
		}
	}
}

func TestReferenceForItsPrincipalOnly(t *testing.T) {
	g := newGuarded(t, "", sharing)
	writer, reader, other := g.key(t, "writer", "orders.write"), g.key(t, "reader", "orders.read"), g.key(t, "other", "orders.read")
	want(t, g.send("POST", "/topics/orders/1", "0123456789", "X-API-Key", writer), 200)
	w := g.send("POST", "/hub", encode("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/orders/1", "hub.callback", callbackURL), "Content-Type", formType, "X-API-Key", reader)
	want(t, w, 202)
	g.ledger.verify(t)
	// The owner of the topic sets it; somebody else does not even learn that there is one.
	const settings = `{"content": "reference", "share": {"uses": 1, "require": "same-principal"}}`
	want(t, g.send("PUT", "/v1/topics/orders/1", settings, "X-API-Key", other), 403)
	want(t, g.send("PUT", "/v1/topics/orders/1", settings, "X-API-Key", writer), 200)
	at := ticketOf(t, g.fixture, hub.Reference{Offset: 1, Uses: 1}) // from before the setting
	want(t, g.send("GET", at, ""), 401)
	want(t, g.send("GET", at, "", "X-API-Key", other), 404)
	g.logged.Reset()
	want(t, g.send("GET", at, "", "X-API-Key", reader, "X-Correlation-ID", "fetch-1"), 200)
	if log := g.logged.String(); strings.Count(log, "msg=audit") != 1 || !strings.Contains(log, "action=fetch") || !strings.Contains(log, "object.topic=orders/1") ||
		!strings.Contains(log, "object.message=1-1") || !strings.Contains(log, "object.use=1") || strings.Contains(log, strings.TrimPrefix(at, "/share/")) {
		t.Errorf("the audit log: %s", log)
	}
	want(t, g.send("GET", at, "", "X-API-Key", reader), 404)
	// Only the topic's owner, and operators, revoke.
	want(t, g.send("POST", "/v1/references/revoke", `{"topic": "orders/1"}`, "X-API-Key", reader), 404)
	want(t, g.send("POST", "/v1/references/revoke", `{"topic": "orders/1"}`, "X-API-Key", writer), 204)
	want(t, g.send("POST", "/v1/references/revoke", `{"topic": "orders/1"}`, "X-API-Key", g.root), 204)
	want(t, g.send("GET", "/topics/orders/1", "", "X-API-Key", reader), 403)
	want(t, g.send("GET", "/topics/orders/1", "", "X-API-Key", writer), 403) // no rule lets it read
}

// A policy that keeps parts of messages from callbacks keeps them from what is fetched, too.
func TestPolicyAppliesToWhatIsFetched(t *testing.T) {
	f := newFixture(t, sharing, func(_ *hub.Policy, o *web.Options) { o.Policies = upper{} })
	f.atLevel(t, hub.FeatureLevel)
	f.publish(t, "reports", "secret")
	f.subscribe(t, publicURL+"/topics/reports", callbackURL)
	f.ledger.verify(t)
	want(t, f.send("PUT", "/v1/topics/reports", `{"content": "reference"}`), 200)
	w := f.send("GET", ticketOf(t, f, hub.Reference{Offset: 1, Uses: 3}), "")
	if body := want(t, w, 200); body != "SECRET" {
		t.Errorf("got %q", body)
	}
	f.publish(t, "reports", "broken")
	if body := want(t, f.send("GET", ticketOf(t, f, hub.Reference{Offset: 2, Uses: 3}), ""), 500); strings.Contains(body, "broken") {
		t.Errorf("got %q", body)
	}
}

// upper is a policy that sends messages in capitals.
type upper struct{}

func (upper) DeliveryPolicy(string) (hub.DeliveryPolicy, bool) { return upper{}, true }
func (upper) Headers() []hub.Header                            { return nil }
func (upper) Transforms() bool                                 { return true }
func (upper) Encrypts() bool                                   { return false }
func (upper) Encrypt(topic string, body []byte, kind, key string) ([]byte, string, error) {
	if key == "ended" {
		return nil, "", errors.New("it has ended")
	}
	return []byte(topic + " " + key + " " + kind + " " + string(body)), "application/jose", nil
}
func (upper) Transform(m *hub.Message, _ hub.PartReader) ([]byte, error) {
	if string(m.Body) == "broken" {
		return nil, errors.New("it is broken")
	}
	return []byte(strings.ToUpper(string(m.Body))), nil
}

// Large content is streamed, and so are its parts.
func TestLargeContentByReference(t *testing.T) {
	f := newFixture(t, sharing, func(p *hub.Policy, _ *web.Options) { p.MaxMessageBytes = 4 << 20 })
	f.atLevel(t, hub.FeatureLevel)
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "%09d\n", i)
	}
	f.publish(t, "reports", b.String())
	f.subscribe(t, publicURL+"/topics/reports", callbackURL)
	f.ledger.verify(t)
	want(t, f.send("PUT", "/v1/topics/reports", `{"content": "reference"}`), 200)
	at := ticketOf(t, f, hub.Reference{Offset: 1, Uses: 3})
	if got := want(t, f.send("GET", at, ""), 200); got != b.String() {
		t.Errorf("%d bytes differ from what was published", len(got))
	}
	w := f.send("GET", at, "", "Range", "bytes=700000-700029")
	if got := want(t, w, http.StatusPartialContent); got != b.String()[700_000:700_030] || w.Header().Get("Content-Range") != "bytes 700000-700029/1000000" {
		t.Errorf("got %q, %s", got, w.Header().Get("Content-Range"))
	}
}

// What is fetched for a subscription with a key is encrypted to it, and a topic that requires encryption gives nothing out in the clear.
func TestFetchedContentIsEncrypted(t *testing.T) {
	f := newFixture(t, sharing, func(_ *hub.Policy, o *web.Options) { o.Policies = sealing{} })
	f.atLevel(t, hub.FeatureLevel)
	f.publish(t, "reports", "secret")
	for i, key := range []string{"key", "", "ended"} {
		f.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Mode: hub.ModeSubscribe, Topic: "reports",
			Callback: fmt.Sprint(callbackURL, i), CallbackKey: fmt.Sprint(callbackURL, i), LeaseSeconds: 3600, EncryptionKey: key}}})
		f.ledger.verify(t)
	}
	body := want(t, f.send("PUT", "/v1/topics/reports", `{"content": "reference", "require_encryption": true}`), 200)
	if !strings.Contains(body, `"content":"reference"`) || !strings.Contains(body, `"require_encryption":true`) {
		t.Errorf("the topic is %s", body)
	}
	at := ticketOf(t, f, hub.Reference{Subscription: 1, Offset: 1, Uses: 2})
	for _, header := range [][]string{{}, {"Range", "bytes=0-1"}} {
		w := f.send("GET", at, "", header...)
		if got := want(t, w, 200); got != "reports key text/plain secret" || w.Header().Get("Content-Type") != "application/jose" || w.Header().Get("ETag") != "" {
			t.Errorf("got %q, %v", got, w.Header())
		}
	}
	want(t, f.send("GET", at, ""), 404) // used up
	want(t, f.send("GET", ticketOf(t, f, hub.Reference{Subscription: 2, Offset: 1, Uses: 2}), ""), 404)
	ended := ticketOf(t, f, hub.Reference{Subscription: 3, Offset: 1, Uses: 1})
	for range 2 { // no use
		if got := want(t, f.send("GET", ended, ""), 403); strings.Contains(got, "secret") {
			t.Errorf("got %q", got)
		}
	}
	want(t, f.send("PUT", "/v1/topics/reports", `{"content": "body"}`), 200)
	want(t, f.send("GET", "/topics/reports", ""), 403)
	want(t, f.form("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/reports", "hub.callback", callbackURL), 403)
	want(t, f.send("PUT", "/v1/topics/reports", `{"require_encryption": false}`), 200)
	want(t, f.send("GET", "/topics/reports", ""), 200)
	want(t, f.form("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/reports", "hub.callback", callbackURL), 202)
}

// sealing is upper without a policy on topics.
type sealing struct{ upper }

func (sealing) DeliveryPolicy(string) (hub.DeliveryPolicy, bool) { return nil, false }
