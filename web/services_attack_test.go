package web_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// A signature that was taken apart and put together again opens nothing, and uses up nobody's nonce.
func TestGatewayRefusesAlteredSignatures(t *testing.T) {
	g, b := newGuardedServing(t, guardedServices)
	now := g.clock.Now()
	const path = "/gateway/Employee/requestAddress"
	get := geoGet(now, path, "geo", nonce1, "ID=121", "ID2=7")
	post := geoPost(now, "geo", nonce2, `{"x":1}`)
	head, signature, _ := strings.Cut(post, ",geo-signature=")
	at := strings.Index(get, "&geo-signature")
	for name, c := range map[string]struct{ method, target, body, header string }{
		"another value":                {"GET", strings.Replace(get, "ID=121", "ID=122", 1), "", ""},
		"a parameter more, in front":   {"GET", strings.Replace(get, "?", "?a=1&", 1), "", ""},
		"a parameter more, at the end": {"GET", get + "&a=1", "", ""},
		"a parameter twice":            {"GET", strings.Replace(get, "ID=121", "ID=121&ID=122", 1), "", ""},
		"a parameter less":             {"GET", strings.Replace(get, "ID2=7&", "", 1), "", ""},
		"another order":                {"GET", strings.Replace(get, "ID=121&ID2=7", "ID2=7&ID=121", 1), "", ""},
		"a geo field twice":            {"GET", get[:at] + "&geo-username=other" + get[at:], "", ""},
		"a signature twice":            {"GET", get + get[at:], "", ""},
		"a boundary inside a value":    {"GET", strings.Replace(get, "ID=121&ID2=7", "ID=121%26ID2%3D7", 1), "", ""},
		"an upper-case field":          {"GET", strings.Replace(get, "geo-username", "GEO-USERNAME", 1), "", ""},
		"the query under a POST":       {"POST", get, `{"x":1}`, ""},
		"query and header":             {"POST", get, `{"x":1}`, post},
		"an unsigned query":            {"POST", path + "?ID=122", `{"x":1}`, post},
		"another body":                 {"POST", path, `{"x":2}`, post},
		"no body":                      {"POST", path, "", post},
		"the boundary moved right":     {"POST", path, `"x":1}`, head + "{,geo-signature=" + signature},
		"the boundary moved left":      {"POST", path, head[len(head)-1:] + `{"x":1}`, head[:len(head)-1] + ",geo-signature=" + signature},
		"another user":                 {"POST", path, `{"x":1}`, strings.Replace(post, "geo-username=geo", "geo-username=other", 1)},
		"no signature":                 {"POST", path, `{"x":1}`, head},
		"half a signature":             {"POST", path, `{"x":1}`, post[:len(post)-64]},
		"ended":                        {"POST", path, `{"x":1}`, geoPost(now.Add(-2*time.Hour), "geo", nonce2, `{"x":1}`)},
		"of the far future":            {"POST", path, `{"x":1}`, geoPost(now.Add(24*time.Hour), "geo", nonce2, `{"x":1}`)},
	} {
		header := []string{"Accept", "application/json", "Content-Type", "application/json"}
		if c.header != "" {
			header = append(header, "GEO-Auth", c.header)
		}
		w := g.send(c.method, c.target, c.body, header...)
		if body := w.Body.String(); w.Code != 401 || !strings.Contains(body, `"code":"unauthenticated"`) || strings.Contains(body, "nonce") {
			t.Errorf("%s: %d %s, want the answer that all strangers get", name, w.Code, body)
		}
	}
	if n := b.count(); n != 0 {
		t.Errorf("the service was called %d times", n)
	}
	want(t, g.send("GET", get, ""), 200)
	want(t, g.send("POST", path, `{"x":1}`, "GEO-Auth", post, "Content-Type", "application/json"), 200)
	// GEO-Auth signs no path: the nonce keeps the request from other services.
	other := strings.Replace(get, path, "/gateway/two", 1)
	if body := want(t, g.send("GET", other, "", "X-API-Key", g.root, "Accept", "application/json"), 401); !strings.Contains(body, `"replayed"`) {
		t.Errorf("a copy for another service gets %s", body)
	}
	want(t, g.send("POST", path, `{"x":1}`, "GEO-Auth", post, "GEO-Auth", post), 401)
}

const attackedServices = `
version: 1
defaults: {produces: [json, xml]}
upstreams:
  hr: {urls: [UPSTREAM]}
services:
  - {name: deep, uri: deep/*, aliases: [{uri: old/*, status: 308}], default: "1", versions: [{version: "1", target: "hr:/base/*", methods: [GET, POST], auth: none, max_body: 64KiB}]}
  - {name: slow, uri: slow, default: "1", versions: [{version: "1", target: "hr:/slow", methods: [GET], auth: none, params: [{name: q, in: query, pattern: "(a+)+(a|aa)*b"}, {name: X-Q, in: header, pattern: "(.*)*x"}]}]}
  - {name: body, uri: body, default: "1", versions: [{version: "1", target: "hr:/body", methods: [POST], auth: none, max_body: 8MiB, body: {consumes: [json, xml], schema: any.schema.json}}]}
`

const attackedSchema = `{"type":"object","additionalProperties":false,"properties":{"l":{"type":"array","items":{"type":"integer"}},"ID":{"type":"integer","maximum":10,"multipleOf":1},"s":{"type":"string","pattern":"^(a+)+$"}}}`

func newAttacked(t *testing.T, change ...func(*hub.Policy, *web.Options)) (*fixture, *behind) {
	t.Helper()
	b := newBehind(t)
	_, option := serving(b, attackedServices, map[string][]byte{"any.schema.json": []byte(attackedSchema)})
	f := newFixture(t, append([]func(*hub.Policy, *web.Options){option}, change...)...)
	f.StartServices(t.Context())
	if errs := f.Serving().Errors; len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(func() { _ = f.Close(t.Context()) })
	return f, b
}

// What is large, deep or slow to look at is refused early, and what is odd is harmless.
func TestGatewayBoundsWhatItLooksAt(t *testing.T) {
	f, b := newAttacked(t)
	digits := strings.Repeat("9", 1<<20)
	for name, c := range map[string]struct {
		method, target, body, kind string
		header                     []string
		status                     []int
	}{
		"10,000 parameters":          {"GET", "/gateway/slow?" + strings.Repeat("a&", 10_000), "", "", nil, []int{414}},
		"4,000 parameters":           {"GET", "/gateway/slow?" + strings.Repeat("q&", 4_000), "", "", nil, []int{400}},
		"a long segment":             {"GET", "/gateway/deep/" + strings.Repeat("a", 10_000), "", "", nil, []int{414}},
		"2,000 segments":             {"GET", "/gateway/deep" + strings.Repeat("/a", 2_000), "", "", nil, []int{200, 404, 400}},
		"a slow pattern":             {"GET", "/gateway/slow?q=" + strings.Repeat("a", 8_000), "", "", nil, []int{400}},
		"a slow pattern of a header": {"GET", "/gateway/slow", "", "", []string{"X-Q", strings.Repeat("a", 16_000)}, []int{400}},
		"a slow pattern in a schema": {"POST", "/gateway/body", `{"s":"` + strings.Repeat("a", 1<<20) + `b"}`, "application/json", nil, []int{400}},
		"a long name":                {"POST", "/gateway/body", `{"` + strings.Repeat("a", 1<<20) + `":1}`, "application/json", nil, []int{400}},
		"a huge Accept":              {"GET", "/gateway/slow", "", "", []string{"Accept", strings.Repeat("a/b;q=0.1,", 3_000)}, []int{406, 400}},
		"an Accept of quotes":        {"GET", "/gateway/slow", "", "", []string{"Accept", strings.Repeat(`a/b;c="\"`, 3_000)}, []int{406, 400, 200}},
		"3,000 fields of Accept":     {"GET", "/gateway/slow", "", "", fieldsOf("Accept", "text/css", 3_000), []int{406, 400}},
		"deep JSON":                  {"POST", "/gateway/body", strings.Repeat(`{"a":`, 1<<18), "application/json", nil, []int{400}},
		"deep arrays":                {"POST", "/gateway/body", strings.Repeat("[", 1<<20), "application/json", nil, []int{400}},
		"a key twice":                {"POST", "/gateway/body", `{"ID":1,"\u0049D":11}`, "application/json", nil, []int{400}},
		"a huge exponent":            {"POST", "/gateway/body", `{"ID":1e999999999}`, "application/json", nil, []int{400}},
		"a tiny exponent":            {"POST", "/gateway/body", `{"ID":1e-999999999}`, "application/json", nil, []int{400}},
		"an exponent of a million":   {"POST", "/gateway/body", `{"ID":1e1000000}`, "application/json", nil, []int{400}},
		"many exponents":             {"POST", "/gateway/body", `{"l":[1e400` + strings.Repeat(",1e-400", 500_000) + `]}`, "application/json", nil, []int{400, 413}},
		"an exponent too many":       {"POST", "/gateway/body", `{"l":[1,1e401]}`, "application/json", nil, []int{400}},
		"a million digits":           {"POST", "/gateway/body", `{"ID":` + digits + `}`, "application/json", nil, []int{400}},
		"a million digits in XML":    {"POST", "/gateway/body", `<a><ID>` + digits + `</ID></a>`, "application/xml", nil, []int{400}},
		"XML of 7 MB":                {"POST", "/gateway/body", "<a>" + strings.Repeat("<b>", 7<<20/3), "application/xml", nil, []int{400}},
		"7 MB of attributes":         {"POST", "/gateway/body", "<a " + strings.Repeat(`b="" `, 7<<20/5) + "/>", "application/xml", nil, []int{400}},
		"a DTD":                      {"POST", "/gateway/body", `<!DOCTYPE a SYSTEM "http://169.254.169.254/"><a/>`, "application/xml", nil, []int{400}},
		"an entity":                  {"POST", "/gateway/body", `<a>&x;</a>`, "application/xml", nil, []int{400}},
		"a compressed body":          {"POST", "/gateway/body", "\x1f\x8b", "application/json", []string{"Content-Encoding", "gzip"}, []int{415}},
		"compressed twice":           {"POST", "/gateway/body", "\x1f\x8b", "application/json", []string{"Content-Encoding", "identity", "Content-Encoding", "br"}, []int{415}},
		"more than the limit":        {"POST", "/gateway/body", `{"s":"` + strings.Repeat("a", 8<<20) + `"}`, "application/json", nil, []int{413}},
	} {
		header := c.header
		if c.kind != "" {
			header = append(header, "Content-Type", c.kind)
		}
		before, begin := b.count(), time.Now()
		w := f.send(c.method, c.target, c.body, header...)
		if took := time.Since(begin); took > 5*time.Second { // milliseconds on an idle machine
			t.Errorf("%s: took %v", name, took)
		}
		ok := false
		for _, status := range c.status {
			ok = ok || w.Code == status
		}
		if !ok || w.Code != 200 && b.count() != before {
			t.Errorf("%s: %d %.200s, called %d times; want one of %d", name, w.Code, w.Body, b.count()-before, c.status)
		}
		if n := w.Body.Len(); n > 64<<10 {
			t.Errorf("%s: the answer has %d bytes", name, n)
		}
	}
	want(t, f.send("POST", "/gateway/body", `{"ID":1}`, "Content-Type", "application/json"), 200)
	if held := want(t, f.send("GET", "/metrics", ""), 200); !strings.Contains(held, "quorumhub_http_body_bytes 0") {
		t.Error("bodies are still counted")
	}
}

func fieldsOf(name, value string, n int) (out []string) {
	for range n {
		out = append(out, name, value)
	}
	return out
}

// No method but those of the route reaches it, whatever a header says the method is, and nothing is echoed.
func TestGatewayKnowsTheMethodsOfTheRoute(t *testing.T) {
	addr, b, _ := listening(t, plainServices)
	for _, method := range []string{"TRACE", "TRACK", "CONNECT", "DEBUG", "PROPFIND", "get", "Get", "DELETE", "OPTIONS"} {
		answer := raw(t, addr, method+" /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nX-Secret: echo-me\nConnection: close\n\n")
		if status := answer[:min(len(answer), 12)]; status != "HTTP/1.1 405" && status != "HTTP/1.1 400" && !(method == "CONNECT" && status == "HTTP/1.1 501") && !(method == "OPTIONS" && status == "HTTP/1.1 204") || strings.Contains(answer, "echo-me") {
			t.Errorf("%s: %.200q", method, answer)
		}
	}
	if n := b.count(); n != 0 {
		t.Errorf("the service was called %d times", n)
	}
	for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"} {
		answer := raw(t, addr, "GET /gateway/deep/a?_method=DELETE HTTP/1.1\nHost: 127.0.0.1\n"+name+": DELETE\nConnection: close\n\n")
		if r, _ := b.seen(t); !strings.HasPrefix(answer, "HTTP/1.1 200") || r.Method != "GET" || r.Header.Get(name) != "" {
			t.Errorf("%s: %.100q; the service got %s %v", name, answer, r.Method, r.Header)
		}
	}
}

// Whoever waits for "100 Continue" is not told to send what is refused anyway, and other expectations are not met.
func TestGatewayExpectsNothing(t *testing.T) {
	addr, b, _ := listening(t, plainServices)
	for name, request := range map[string]string{
		"no such route":  "POST /gateway/none HTTP/1.1\nHost: 127.0.0.1\nExpect: 100-continue\nContent-Length: 10\n\n",
		"no such method": "DELETE /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nExpect: 100-continue\nContent-Length: 10\n\n",
		"too large":      "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nExpect: 100-continue\nContent-Length: 99999999\n\n",
		"another":        "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nExpect: 200-ok\nContent-Length: 3\n\nabc",
	} {
		answer := raw(t, addr, request)
		if strings.Contains(answer, "100 Continue") || !strings.HasPrefix(answer, "HTTP/1.1 4") {
			t.Errorf("%s: %.200q", name, answer)
		}
	}
	if n := b.count(); n != 0 {
		t.Errorf("the service was called %d times", n)
	}
}

const bodyService = `  - {name: body, uri: body, default: "1", versions: [{version: "1", target: "topic:news", methods: [POST], auth: none}]}
`

// Bodies with chunks that lie, or that never come, end with their connection.
func TestGatewayEndsBrokenBodies(t *testing.T) {
	addr, b, f := listening(t, plainServices+bodyService, func(_ *hub.Policy, o *web.Options) { o.BodyTimeout = 300 * time.Millisecond })
	const next = "GET /gateway/deep/smuggled HTTP/1.1\nHost: 127.0.0.1\n\n"
	for name, body := range map[string]string{
		"a negative size":      "-1\nabc\n0\n\n",
		"no size":              "\n\n",
		"a size with a prefix": "0x3\nabc\n0\n\n",
		"a size of exabytes":   "ffffffffffffffff0\nabc\n",
		"a chunk too long":     "3\nabcdef\n0\n\n",
		"endless extensions":   "3;" + strings.Repeat("a", 64<<10) + "\nabc\n0\n\n",
		"no end":               "3\nabc\n",
	} {
		answer := raw(t, addr, "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: chunked\nConnection: close\n\n"+body+next)
		if strings.HasPrefix(answer, "HTTP/1.1 2") || strings.Count(answer, "HTTP/1.1 ") > 1 || strings.HasSuffix(b.lastPath(), "smuggled") {
			t.Errorf("%s: %.200q", name, answer)
		}
	}
	// What is looked at has the time of a body, and no more.
	answer := raw(t, addr, "POST /gateway/body HTTP/1.1\nHost: 127.0.0.1\nContent-Type: application/json\nContent-Length: 10\nConnection: close\n\n{\"a\":")
	if !strings.HasPrefix(answer, "HTTP/1.1 408") {
		t.Errorf("a slow body: %.200q", answer)
	}
	if held := want(t, f.send("GET", "/metrics", ""), 200); !strings.Contains(held, "quorumhub_http_body_bytes 0") {
		t.Error("bodies are still counted")
	}
}

// Where a redirect leads and what a link says does not depend on what the request says about the host.
func TestGatewayRedirectsToItselfOnly(t *testing.T) {
	g, _ := newGuardedServing(t, attackedServicesOpen)
	for _, target := range []string{"/gateway/old/a", "/gateway/old/evil.example", "/gateway/old/a?next=//evil.example", "/gateway/old/@evil.example", "/gateway/old/a%0d%0aX:b",
		"/gateway/old//evil.example", `/gateway/old/\evil.example`, "//evil.example/gateway/old/a", "/gateway/old/a;//x"} {
		r, err := url.ParseRequestURI(target)
		if err != nil {
			continue
		}
		w := g.asHost("evil.example", "GET", "http://evil.example"+r.EscapedPath()+"?"+r.RawQuery, "", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "gopher",
			"X-Original-URL", "//evil.example", "Forwarded", "host=evil.example")
		if l := w.Header().Get("Location"); w.Code == 308 && (!strings.HasPrefix(l, "/gateway/deep/") || strings.ContainsAny(l, "\\\r\n")) || w.Code < 300 || w.Code >= 500 {
			t.Errorf("%s: %d to %q", target, w.Code, l)
		}
	}
	w := g.asHost("evil.example", "GET", "http://evil.example/gateway/openapi.json", "", "X-API-Key", g.root, "X-Forwarded-Host", "evil.example")
	if body := want(t, w, 200); strings.Contains(body, "evil.example") {
		t.Error("the description names the host of the request")
	}
	// Shared caches: what depends on the caller is theirs alone, and the host is in no answer.
	w = g.asHost("evil.example", "GET", "http://evil.example/gateway/none", "", "Accept", "application/json")
	if body := want(t, w, 404); strings.Contains(body, "evil") {
		t.Errorf("the answer names the host: %s", body)
	}
}

const attackedServicesOpen = `
version: 1
upstreams:
  hr: {urls: [UPSTREAM]}
services:
  - {name: deep, uri: deep/*, aliases: [{uri: old/*, status: 308}], default: "1", versions: [{version: "1", target: "hr:/base/*", methods: [GET], auth: none}]}
`

// Line breaks in what a client sends are neither in a header of the answer, nor of the request to the service, nor in the log.
func TestGatewayBreaksNoLines(t *testing.T) {
	f, b := newAttacked(t)
	for _, name := range []string{"X-Correlation-Id", "Api-Version", "Accept", "X-Own", "X-Q", "Content-Type"} {
		for _, value := range []string{"a\r\nX-Injected: b", "a\nX-Injected: b", "a\rb", "a\x00b"} {
			f.logged.Reset()
			w := f.send("GET", "/gateway/slow?q=%0d%0aX-Injected:%20b&r=%0aX-Injected:%20b", "", name, value)
			if w.Code == 200 || w.Header().Get("X-Injected") != "" {
				t.Errorf("%s %q: %d %v", name, value, w.Code, w.Header())
			}
			for field, values := range w.Header() {
				if strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
					t.Errorf("%s %q: the answer has %s: %q", name, value, field, values)
				}
			}
			if log := f.logged.String(); strings.Contains(log, "\nX-Injected") || strings.ContainsAny(log, "\r\x00") {
				t.Errorf("%s %q: the log has a line of the caller's: %s", name, value, log)
			}
		}
	}
	if n := b.count(); n != 0 {
		r, _ := b.seen(t)
		t.Errorf("the service was called %d times, the last with %v", n, r.Header)
	}
	want(t, f.send("GET", "/gateway/deep/a?r=%0d%0aX-Injected:%20b", ""), 200)
	if r, _ := b.seen(t); r.URL.RawQuery != "r=%0d%0aX-Injected:%20b" || r.Header.Get("X-Injected") != "" {
		t.Errorf("the service got %s %v", r.RequestURI, r.Header)
	}
}

// The gateway never follows a redirect of a service, wherever it leads.
func TestGatewayFollowsNoRedirect(t *testing.T) {
	f, b, _ := newServing(t, plainServices)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan struct{}, 16)
	other := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }), ReadHeaderTimeout: time.Second}
	go func() { _ = other.Serve(ln) }()
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{"http://" + ln.Addr().String() + "/", "/gateway/file", "/base/more"} {
			before := b.count()
			b.answers(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.Header().Set("Refresh", "0;url="+to)
				w.WriteHeader(status)
			})
			w := f.send("GET", "/gateway/deep/x", "")
			if b.count() != before+1 || w.Header().Get("Refresh") != "" {
				t.Errorf("%d to %s: %d calls, %v", status, to, b.count()-before, w.Header())
			}
		}
	}
	if len(reached) > 0 {
		t.Errorf("somewhere else was called %d times", len(reached))
	}
}

// Routes cannot be told from each other by what strangers get, in words or in the order of the checks.
func TestGatewayTellsRoutesApartForNobody(t *testing.T) {
	g, _ := newGuardedServing(t, guardedServices)
	var first string
	for _, target := range []string{"/gateway/v1/any", "/gateway/v7/any", "/gateway/any?format=csv", "/gateway/any?x=%zz", "/gateway/any"} {
		for _, method := range []string{"GET", "POST", "DELETE", "TRACE"} {
			w := g.send(method, target, "", "Accept", "application/json", "X-Correlation-ID", "same", "Content-Type", "nonsense", "Api-Version", "9")
			got := fmt.Sprint(w.Code, w.Header(), w.Body)
			if first == "" {
				first = got
			}
			if w.Code != 401 || got != first {
				t.Errorf("%s %s: %s, want %s", method, target, got, first)
			}
		}
	}
}

// A request that comes back to the gateway again and again ends, however its Via was written.
func TestGatewayEndsCircles(t *testing.T) {
	f, b, _ := newServing(t, plainServices)
	for passes, status := range []int{200, 200, 200, 508, 508} {
		for name, header := range map[string][]string{
			"fields": fieldsOf("Via", "1.1 quorumhub", passes),
			"a list": {"Via", strings.Repeat("1.1 quorumhub, 1.0 other, ", passes) + "1.1 last"},
		} {
			before := b.count()
			w := f.send("GET", "/gateway/deep/x", "", append(header, "Accept", "*/*")...)
			if w.Code != status || status == 508 && (b.count() != before || !strings.Contains(w.Body.String(), `"loop"`)) {
				t.Errorf("after %d passes, in %s: %d %s, want %d", passes, name, w.Code, w.Body, status)
			}
		}
	}
}
