package topics_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web/gateway/protect"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/topics"
)

type callerKey struct{}

// callers know a caller by its name in the context, which proves nothing but the way "geo".
type callers struct{}

var errUnproven = errors.New("unproven")

func (callers) Way(name string, _ []registry.Step) (func(context.Context) error, error) {
	if name == "unknown" {
		return nil, errors.New("no such authenticator")
	}
	return func(ctx context.Context) error {
		if by, _ := ctx.Value(callerKey{}).(string); by != name {
			return errUnproven
		}
		return nil
	}, nil
}

func (callers) Key(ctx context.Context) string { return fmt.Sprint(ctx.Value(callerKey{})) }

func as(who string) context.Context {
	return context.WithValue(context.Background(), callerKey{}, who)
}

func load(t *testing.T, clock func() time.Time, policies string) *topics.Policies {
	t.Helper()
	doc := registry.Document{Text: []byte("version: 1\nservices: []\nsequences:\n  partners: [{strategy: single, of: [geo]}]\ntopics:\n" + policies),
		Files: map[string][]byte{"order.schema.json": []byte(`{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}`)}}
	reg, mistakes := registry.Read(doc, nil)
	if reg == nil {
		t.Fatal(mistakes)
	}
	p := topics.New(topics.Options{Callers: callers{}, MaxBytes: 1 << 20, Clock: clock})
	for _, problem := range p.Load(reg) {
		t.Log(problem)
	}
	return p
}

// The first policy that matches a topic applies, and no other; topics without one are as before.
func TestFirstMatchApplies(t *testing.T) {
	p := load(t, nil, `
  - {match: orders/open, publish: {limits: {rate: 1/1m}}}
  - {match: "orders/**", publish: {auth: geo}, subscribe: {auth: geo}}
`)
	for _, c := range []struct {
		topic, who string
		action     hub.Action
		want       error
	}{
		{"orders/open", "anybody", hub.ActionPublish, nil},
		{"orders/eu", "anybody", hub.ActionPublish, errUnproven},
		{"orders/eu", "geo", hub.ActionPublish, nil},
		{"orders/eu", "anybody", hub.ActionSubscribe, errUnproven},
		{"orders", "anybody", hub.ActionPublish, nil},
		{"other", "anybody", hub.ActionPublish, nil},
	} {
		if err := p.Admit(as(c.who), c.action, c.topic); !errors.Is(err, c.want) {
			t.Errorf("%s by %s to %s: %v, want %v", c.action, c.who, c.topic, err, c.want)
		}
	}
	p.Load(nil)
	if err := p.Admit(as("anybody"), hub.ActionPublish, "orders/eu"); err != nil {
		t.Errorf("without a registry: %v", err)
	}
}

// What a node cannot check lets nobody through.
func TestBrokenPoliciesAreClosed(t *testing.T) {
	p := load(t, nil, `
  - {match: a, publish: {auth: unknown}}
`)
	if err := p.Admit(as("anybody"), hub.ActionPublish, "a"); hub.CodeOf(err) != hub.CodeUnavailable {
		t.Errorf("an authenticator that is not there: %v", err)
	}
}

// certificate returns a certificate for encryption that ends at a time, in base64, and its private key.
func certificate(t *testing.T, ends time.Time) (string, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "partner"}, NotBefore: ends.Add(-time.Hour), NotAfter: ends,
		KeyUsage: x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der), key
}

// A topic that encrypts takes subscriptions with a usable key only; what is sent opens with the subscriber's key alone, until its
// certificate ends.
func TestDeliveriesAreEncryptedToTheSubscriber(t *testing.T) {
	now := time.Now()
	p := load(t, func() time.Time { return now }, `  - {match: b, deliver: {protect: {encrypt: recipient}}}`)
	key, private := certificate(t, now.Add(time.Minute))
	old, _ := certificate(t, now.Add(-time.Minute))
	cb, _ := url.Parse("https://partner.example/cb")
	for _, c := range []struct{ topic, key, says string }{
		{"b", "", "hub.encryption_key: is missing"}, {"other", "", ""}, {"b", key, ""}, {"other", key, ""},
		{"b", old, "hub.encryption_key"}, {"other", "nonsense", "hub.encryption_key"}, {"other", `{"kty":"oct","k":"AAAA"}`, "hub.encryption_key"},
	} {
		err := p.CheckSubscription(as("x"), c.topic, cb, c.key, func() []string { return nil })
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %.20q: %v, want %q", c.topic, c.key, err, c.says)
		}
	}
	if d, ok := p.DeliveryPolicy("b"); !ok || !d.Encrypts() || d.Transforms() {
		t.Error("the policy is not applied")
	}
	sent, kind, err := p.Encrypt("b", []byte(`{"id":1}`), "application/json", key)
	if err != nil || kind != "application/jose" || bytes.Contains(sent, []byte(`"id":1`)) {
		t.Fatalf("%s %s (%v)", kind, sent, err)
	}
	pem := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})
	mine, err := protect.ParseKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	if plain, cty, _, err := protect.Decrypt(sent, protect.Keys{mine}); err != nil || string(plain) != `{"id":1}` || cty != "application/json" {
		t.Errorf("opened: %s as %s (%v)", plain, cty, err)
	}
	now = now.Add(2 * time.Minute)
	if sent, _, err := p.Encrypt("b", []byte("x"), "text/plain", key); err == nil {
		t.Errorf("encrypted to a certificate that has ended: %s", sent)
	}
}

func TestContentIsChecked(t *testing.T) {
	p := load(t, nil, `
  - {match: orders, publish: {body: {schema: order.schema.json}}}
  - {match: lenient, publish: {body: {schema: order.schema.json, enforce: false}}}
`)
	for _, c := range []struct {
		topic, kind, body string
		code              hub.Code // 0: accepted
		says              string
	}{
		{"orders", "application/json", `{"id": 1}`, 0, ""},
		{"orders", "application/vnd.order+json; charset=utf-8", `{"id": 1}`, 0, ""},
		{"orders", "application/json", `{"id": "x"}`, hub.CodeInvalid, "/id"},
		{"orders", "application/json", `{}`, hub.CodeInvalid, "id"},
		{"orders", "application/json", `{"id": 1, "id": 2}`, hub.CodeInvalid, "id"},
		{"orders", "application/json", `{"id": 1`, hub.CodeInvalid, "JSON"},
		{"orders", "application/json", ``, hub.CodeInvalid, "JSON"},
		{"orders", "application/json", strings.Repeat("[", 1000), hub.CodeInvalid, "JSON"},
		{"orders", "application/json", `{"id": 1e999999}`, hub.CodeInvalid, "/id is not a number of at most 128 characters up to 1e400"},
		{"orders", "application/json", `{"id": ` + strings.Repeat("9", 10_000) + `}`, hub.CodeInvalid, "/id is not a number"},
		{"orders", "application/json", `{"id": "` + strings.Repeat("a", 10_000) + `"}`, hub.CodeInvalid, "/id"},
		{"orders", "text/plain", `{"id": 1}`, hub.CodeUnsupported, "not JSON"},
		{"lenient", "text/plain", `whatever`, 0, ""},
		{"other", "text/plain", `whatever`, 0, ""},
	} {
		err := p.CheckContent(as("x"), c.topic, c.kind, []byte(c.body))
		if (err == nil) != (c.code == 0) || err != nil && (hub.CodeOf(err) != c.code || (!strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000)) {
			t.Errorf("%.60s as %s to %s: %.500v, want code %d and %q", c.body, c.kind, c.topic, err, c.code, c.says)
		}
	}
	if !p.ChecksContent("orders") || p.ChecksContent("other") {
		t.Error("whether content is checked is wrong")
	}
}

// Each caller has a rate of its own, over all topics of the policy; what is refused costs nothing.
func TestRateOfAPolicy(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := load(t, func() time.Time { return now }, `  - {match: "orders/*", publish: {limits: {rate: 3/1m}}}`)
	spend := func(who, topic string, n int) error { return p.Spend(as(who), topic, n) }
	if spend("a", "orders/1", 2) != nil || spend("a", "orders/2", 1) != nil || spend("b", "orders/1", 3) != nil || spend("a", "other", 99) != nil {
		t.Error("refused too early")
	}
	err := spend("a", "orders/3", 1)
	var e *hub.Error
	if !errors.As(err, &e) || e.Code != hub.CodeLimited || e.RetryAfter != 20*time.Second {
		t.Errorf("over the rate: %+v", err)
	}
	now = now.Add(40 * time.Second)
	if spend("a", "orders/1", 3) == nil {
		t.Error("a batch that is too large is accepted")
	}
	if spend("a", "orders/1", 2) != nil {
		t.Error("a refused batch has cost something")
	}
}

func TestSubscriptionsAreChecked(t *testing.T) {
	p := load(t, nil, `  - {match: "orders/**", subscribe: {callback_hosts: ["*.partner.example", exact.example], require_https: true, limits: {per_principal: 2}}}`)
	for callback, ok := range map[string]bool{
		"https://a.partner.example/cb": true, "https://a.b.PARTNER.example/cb": true, "https://exact.example:8443/": true, "https://exact.example./": true,
		"https://partner.example/": false, "https://evilpartner.example/": false, "https://a.partner.example.evil.example/": false,
		"http://a.partner.example/cb": false, "https://sub.exact.example/": false, "https://127.0.0.1/": false,
	} {
		u, err := url.Parse(callback)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.CheckSubscription(as("x"), "orders/eu", u, "", func() []string { return nil }); (err == nil) != ok {
			t.Errorf("%s: %v, want accepted: %v", callback, err, ok)
		}
	}
	u, _ := url.Parse("https://a.partner.example/cb")
	for _, c := range []struct {
		others []string
		ok     bool
	}{{[]string{"orders/1", "other", "more"}, true}, {[]string{"orders/1", "orders/1"}, false}} {
		err := p.CheckSubscription(as("x"), "orders/eu", u, "", func() []string { return c.others })
		var e *hub.Error
		if (err == nil) != c.ok || err != nil && (!errors.As(err, &e) || e.Quota == nil || e.Quota.Limit != 2) {
			t.Errorf("with %v: %v", c.others, err)
		}
	}
}

// parts serves the bodies of large messages, and counts how often they are read.
type parts struct {
	body  string
	mu    sync.Mutex
	reads int
	fail  error
}

func (p *parts) ReadPart(_ uint64, at int, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return 0, p.fail
	}
	if at == 0 {
		p.reads++
	}
	return copy(b, p.body[at:]), nil
}

// What is stripped never reaches a callback; a message is transformed once for all of its subscriptions, and one that cannot be
// stripped is not sent.
func TestDeliveriesAreStripped(t *testing.T) {
	p := load(t, nil, `  - {match: orders, deliver: {headers: {x-env: prod}, strip: [/internal, /lines/*/cost]}}`)
	d, ok := p.DeliveryPolicy("orders")
	if _, other := p.DeliveryPolicy("other"); !ok || other {
		t.Fatal("the policy applies to the wrong topics")
	}
	if got := d.Headers(); !slices.Equal(got, []hub.Header{{Name: "X-Env", Value: "prod"}}) {
		t.Errorf("headers %v", got)
	}
	message := func(offset uint64, kind, body string) *hub.Message {
		return &hub.Message{Topic: 1, Offset: offset, ContentType: kind, Body: []byte(body)}
	}
	for i, c := range [][3]string{
		{"application/json", `{"id":1,"internal":{"x":1},"lines":[{"sku":"a","cost":1},{"sku":"b","cost":2}]}`, `{"id":1,"lines":[{"sku":"a"},{"sku":"b"}]}`},
		{"application/xml", `<o><id>1</id><internal>x</internal></o>`, `<?xml version="1.0" encoding="UTF-8"?>
<o><id>1</id></o>`},
		{"text/plain", `internal`, ""},
		{"application/json", `{"internal":`, ""},
	} {
		got, err := d.Transform(message(uint64(i+1), c[0], c[1]), nil)
		if (err != nil) != (c[2] == "") || err == nil && string(got) != c[2] {
			t.Errorf("%s: %s (%v), want %s", c[1], got, err, c[2])
		}
	}
	large := &parts{body: `{"internal":"` + strings.Repeat("x", 1000) + `","id":1}`}
	m := &hub.Message{Topic: 1, Offset: 9, ContentType: "application/json", Parts: []uint64{7}, PartsSize: int64(len(large.body))}
	large.fail = hub.ErrCorrupt
	if _, err := d.Transform(m, large); !errors.Is(err, hub.ErrCorrupt) {
		t.Errorf("an unreadable message: %v", err)
	}
	large.fail = nil
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got, err := d.Transform(m, large); err != nil || string(got) != `{"id":1}` {
				t.Errorf("%s (%v)", got, err)
			}
		})
	}
	all.Wait()
	if large.reads != 1 {
		t.Errorf("a message was transformed %d times for 20 subscriptions", large.reads)
	}
	for i := range 200 { // what is remembered is bounded
		if _, err := d.Transform(message(uint64(100+i), "application/json", `{"n":"`+strings.Repeat("y", 100_000)+`"}`), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, bytes := topics.Remembered(d); n > 64 || bytes > 9<<20 {
		t.Errorf("%d bodies of %d bytes are remembered", n, bytes)
	}
}
