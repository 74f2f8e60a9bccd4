package web_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/gateway/registry"
)

const formatServices = `
version: 1
defaults: {produces: [json, xml]}
upstreams:
  hr: {urls: [UPSTREAM]}
services:
  - name: address
    uri: address
    default: "1"
    versions:
      - {version: "1", target: "hr:/a", methods: [GET, HEAD], auth: none, format_param: true, response: {unwrap: true, arrays: [GetAddress/Line], strip: [internal], root: GetAddress}}
  - {name: plain, uri: plain, default: "1", versions: [{version: "1", target: "hr:/p", methods: [GET], auth: none, response: {root: address}}]}
  - {name: asis, uri: asis, default: "1", versions: [{version: "1", target: "hr:/asis", methods: [GET], auth: none}]}
`

func answering(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("ETag", `"1"`)
		_, _ = io.WriteString(w, body)
	}
}

func TestGatewayConvertsResponses(t *testing.T) {
	f, b, _ := newServing(t, formatServices)
	const wrapped = `<r><![CDATA[<GetAddress><Line>a</Line><internal>x</internal></GetAddress>]]></r>`
	for _, c := range []struct {
		path, accept, native, body string
		want, wantType             string
	}{
		{"/address", "application/json", "text/xml", wrapped, `{"Line":["a"]}`, "application/json"},
		{"/address", "application/xml", "text/xml", wrapped, `<GetAddress><Line>a</Line></GetAddress>`, "text/xml"},
		{"/address", "application/xml;q=0.5, application/json", "text/xml", wrapped, `{"Line":["a"]}`, "application/json"},
		{"/address?format=json", "application/xml", "text/xml", wrapped, `{"Line":["a"]}`, "application/json"},
		{"/address", "", "application/json", `{"Line":["a"],"internal":1}`, `{"Line":["a"]}`, "application/json"},
		{"/plain", "application/xml", "application/json", `{"n":1,"l":["a","b"]}`, `<address><n>1</n><l>a</l><l>b</l></address>`, "application/xml"},
		{"/plain", "application/xml", "application/vnd.acme+json", `{"n":1}`, `<address><n>1</n></address>`, "application/xml"},
		{"/plain", "", "application/vnd.acme+json", `{"n": 1}`, `{"n": 1}`, "application/vnd.acme+json"},
		{"/plain", "*/*", "text/csv", "a,b", "a,b", "text/csv"},
		{"/asis", "application/json, application/xml", "application/xml", "<a/>", "<a/>", "application/xml"},
	} {
		b.answers(answering(c.native, c.body))
		var header []string
		if c.accept != "" {
			header = []string{"Accept", c.accept}
		}
		w := f.send("GET", "/gateway"+c.path, "", header...)
		got := strings.TrimPrefix(want(t, w, 200), "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
		if got != c.want || w.Header().Get("Content-Type") != c.wantType {
			t.Errorf("%s of %s as %q: %s %s, want %s %s", c.path, c.native, c.accept, w.Header().Get("Content-Type"), got, c.wantType, c.want)
		}
		if changed := got != c.body; changed && w.Header().Get("ETag") != "" {
			t.Errorf("%s as %q: the ETag of other bytes is passed on", c.path, c.accept)
		}
		if w.Header().Get("Vary") != "Accept" {
			t.Errorf("%s: Vary is %q", c.path, w.Header().Get("Vary"))
		}
	}
	// What is to be looked into must come as it is.
	if r, _ := b.seen(t); r.Header.Get("Accept-Encoding") == "identity" {
		t.Error("/asis need not be looked into")
	}
	b.answers(answering("text/xml", wrapped))
	w := f.send("HEAD", "/gateway/address", "", "Accept", "application/json")
	if want(t, w, 200); w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Content-Length") != "" {
		t.Errorf("HEAD: %v", w.Header())
	}
	if r, _ := b.seen(t); r.Header.Get("Accept-Encoding") != "identity" {
		t.Errorf("asked for %q", r.Header.Get("Accept-Encoding"))
	}
	want(t, f.send("GET", "/gateway/address?format=csv", ""), 400)
	want(t, f.send("GET", "/gateway/address?format=json&format=xml", ""), 400)
	for accept, kind := range map[string]string{"application/json": "application/problem+json", "application/xml": "application/problem+xml", "text/plain": "text/plain; charset=utf-8"} {
		w := f.send("GET", "/gateway/none", "", "Accept", accept)
		if want(t, w, 404); w.Header().Get("Content-Type") != kind {
			t.Errorf("errors for %s are %s", accept, w.Header().Get("Content-Type"))
		}
	}
}

const limitedServices = `
version: 1
upstreams:
  hr: {urls: [UPSTREAM]}
services:
  - {name: few, uri: few, default: "1", versions: [{version: "1", target: "hr:/few", methods: [GET], auth: none, limits: {rate: 2/1m}}]}
  - {name: one, uri: one, default: "1", versions: [{version: "1", target: "hr:/one", methods: [GET], auth: none, limits: {concurrency: 1}}]}
  - {name: body, uri: body, default: "1", versions: [{version: "1", target: "hr:/body", methods: [POST], auth: none, max_body: 1KiB, body: {consumes: [json, xml], schema: address.schema.json}}]}
`

func TestGatewayLimitsCallers(t *testing.T) {
	b := newBehind(t)
	_, option := serving(b, limitedServices, map[string][]byte{"address.schema.json": []byte(`{"type":"object","required":["ID"],"properties":{"ID":{"type":"integer"},"Line":{"type":"array","items":{"type":"string"}}}}`)})
	f := newFixture(t, option)
	f.StartServices(t.Context())
	for i := range 2 {
		w := f.send("GET", "/gateway/few", "")
		if want(t, w, 200); w.Header().Get("RateLimit") == "" || w.Header().Get("RateLimit-Policy") != `"few-1";q=2;w=60` {
			t.Errorf("request %d: %v", i, w.Header())
		}
	}
	w := f.send("GET", "/gateway/few", "", "Accept", "application/json")
	if body := want(t, w, 429); !strings.Contains(body, `"code":"limited"`) || w.Header().Get("Retry-After") == "" {
		t.Errorf("beyond the rate: %s %v", body, w.Header())
	}
	f.clock.advance(time.Minute)
	want(t, f.send("GET", "/gateway/few", ""), 200)

	entered, leave := make(chan struct{}), make(chan struct{})
	b.answers(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave })
	done := make(chan int)
	go func() { done <- f.send("GET", "/gateway/one", "").Code }()
	<-entered
	want(t, f.send("GET", "/gateway/one", ""), 429)
	close(leave)
	if code := <-done; code != 200 {
		t.Errorf("the first request: %d", code)
	}
	b.answers(nil)
	want(t, f.send("GET", "/gateway/one", ""), 200)
}

func TestGatewayValidatesBodies(t *testing.T) {
	b := newBehind(t)
	_, option := serving(b, limitedServices, map[string][]byte{"address.schema.json": []byte(`{"type":"object","required":["ID"],"properties":{"ID":{"type":"integer"},"Line":{"type":"array","items":{"type":"string"}}}}`)})
	f := newFixture(t, option)
	f.StartServices(t.Context())
	for _, c := range []struct {
		contentType, body string
		status            int
		says              string
	}{
		{"application/json", `{"ID":1}`, 200, ""},
		{"application/json", `{"ID":"1"}`, 400, `"pointer":"/ID"`},
		{"application/json", `{}`, 400, "ID"},
		{"application/json", `{"ID":1,"ID":"x"}`, 400, `"invalid"`},
		{"application/json", `{"ID":1`, 400, `"invalid"`},
		{"application/json", ``, 400, "missing"},
		{"application/json", `{"ID":1,"x":"` + strings.Repeat("a", 2000) + `"}`, 413, `"too_large"`},
		{"application/xml", `<address><ID>1</ID><Line>a</Line></address>`, 200, ""},
		{"application/xml", `<address><ID>x</ID></address>`, 400, `"pointer":"/ID"`},
		{"application/xml", `<!DOCTYPE a><address><ID>1</ID></address>`, 400, `"invalid"`},
		{"text/plain", `x`, 415, `"unsupported"`},
		{"", `x`, 415, `"unsupported"`},
		{"application/json; charset=utf-16", `{"ID":1}`, 415, `"unsupported"`},
	} {
		header := []string{"Accept", "application/json"}
		if c.contentType != "" {
			header = append(header, "Content-Type", c.contentType)
		}
		before := b.count()
		w := f.send("POST", "/gateway/body", c.body, header...)
		if got := want(t, w, c.status); !strings.Contains(got, c.says) {
			t.Errorf("%s %.60s: %s, want %q in it", c.contentType, c.body, got, c.says)
		}
		if called := b.count() != before; called != (c.status == 200) {
			t.Errorf("%s %.60s: called %t", c.contentType, c.body, called)
		} else if _, body := b.seen(t); called && body != c.body {
			t.Errorf("the service got %q, want the body byte for byte", body)
		}
	}
	want(t, f.send("POST", "/gateway/body", `{"ID":1}`, "Content-Type", "application/json", "Content-Encoding", "gzip"), 415)
}

// A registry takes effect whole, and one that cannot be served leaves the one before.
func TestGatewayFollowsItsRegistry(t *testing.T) {
	f, b, src := newServing(t, plainServices)
	hash := f.Serving().Hash
	await := func(what string, done func() bool) {
		t.Helper()
		for range 500 {
			if done() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal(what)
	}
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-leave
		_, _ = io.WriteString(w, "old")
	})
	done := make(chan string)
	go func() { done <- f.send("GET", "/gateway/deep/x", "").Body.String() }()
	<-entered
	src.apply("version: 1\nservices: [{name: broken}]\n")
	await("the mistake is not told", func() bool { return len(f.Serving().Errors) > 0 })
	if s := f.Serving(); s.Hash != hash || s.Registry == nil || len(s.Registry.Services) != 2 {
		t.Errorf("serves %q after a broken registry", s.Hash)
	}
	src.apply(strings.ReplaceAll("version: 1\nprefix: /api\nupstreams: {hr: {urls: [UPSTREAM]}}\nservices:\n  - {name: new, uri: new, default: \"1\", versions: [{version: \"1\", target: \"hr:/new\", methods: [GET], auth: none}]}\n", "UPSTREAM", b.URL))
	await("the new registry is not served", func() bool { return f.Serving().Hash != hash })
	if errs := f.Serving().Errors; len(errs) > 0 {
		t.Errorf("errors %q after a good registry", errs)
	}
	close(leave)
	if got := <-done; got != "old" {
		t.Errorf("the request under way got %q", got)
	}
	b.answers(nil)
	want(t, f.send("GET", "/api/new", ""), 200)
	want(t, f.send("GET", "/gateway/deep/x", ""), 404)
	src.apply("version: 1\nprefix: /v1\nservices: []\n")
	await("a prefix of the hub's own is not refused", func() bool { return len(f.Serving().Errors) > 0 })
	want(t, f.send("GET", "/v1/cluster", ""), 200)
	want(t, f.send("GET", "/api/new", ""), 200)
}

func TestGatewayCountsWhoCallsWhat(t *testing.T) {
	g, _ := newGuardedServing(t, guardedServices)
	for range 3 {
		want(t, g.send("GET", "/gateway/any", "", "X-API-Key", g.root), 200)
	}
	want(t, g.send("GET", "/gateway/any", ""), 401)
	want(t, g.send("GET", "/gateway/open/x", ""), 200)
	var got []string
	for _, u := range g.ServicesUsed() {
		got = append(got, u.Service+" "+strings.SplitN(u.Consumer, "/", 2)[0])
		if u.Service == "any" && u.Requests != 3 {
			t.Errorf("%+v, want 3 requests", u)
		}
	}
	if strings.Join(got, ", ") != "any key, open anonymous" {
		t.Errorf("counted %v", got)
	}
	metrics := want(t, g.send("GET", "/metrics", "", "X-API-Key", g.root), 200)
	for _, line := range []string{`quorumhub_gateway_requests_total{class="2xx",service="any"} 3`, `quorumhub_gateway_requests_total{class="4xx",service="any"} 1`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	if !strings.Contains(g.logged.String(), "msg=gateway method=GET service=any version=1 status=200 caller=key/") {
		t.Error("no line in the access log")
	}
}

// Registries change while requests come: none fails, and connections to a service that stays the same stay open.
func TestGatewayReloadsUnderLoad(t *testing.T) {
	b := newBehind(t)
	src, option := serving(b, plainServices, nil)
	var opened, failed, answered atomic.Int64
	f := newFixture(t, option, func(_ *hub.Policy, o *web.Options) {
		open := o.Services.Transports
		o.Services.Transports = func(u registry.Upstream) (http.RoundTripper, error) {
			opened.Add(1)
			return open(u)
		}
	})
	f.StartServices(t.Context())
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if w := f.send("GET", "/gateway/deep/x", ""); w.Code != 200 {
					failed.Add(1)
				}
				answered.Add(1)
			}
		})
	}
	for i := range 20 {
		src.apply(strings.ReplaceAll(plainServices, "UPSTREAM", b.URL) + fmt.Sprintf("  - {name: more, uri: more%d, default: \"1\", versions: [{version: \"1\", target: \"hr:/more\", methods: [GET], auth: none}]}\n", i))
		for hash := fmt.Sprintf("%064d", i+1); f.Serving().Hash != hash; {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	callers.Wait()
	if failed.Load() > 0 || answered.Load() == 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), answered.Load())
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d ways to one upstream that stays the same", n)
	}
}
