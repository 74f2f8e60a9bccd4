package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/gateway"
	"quorumhub/web/gateway/registry"
)

// fixedSource is a registry that changes when a test says so.
type fixedSource struct {
	mu      sync.Mutex
	active  gateway.Active
	changed chan struct{}
}

func (s *fixedSource) Current() (gateway.Active, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active, s.active.Hash != ""
}

func (s *fixedSource) Changed() <-chan struct{} { return s.changed }

func (s *fixedSource) apply(text string) {
	s.mu.Lock()
	s.active.Index++
	s.active.Hash = fmt.Sprintf("%064d", s.active.Index)
	s.active.Document.Text = []byte(text)
	s.mu.Unlock()
	s.changed <- struct{}{}
}

// behind is a service behind the gateway. It remembers the last request, and answers as a test says.
type behind struct {
	*httptest.Server
	mu     sync.Mutex
	last   *http.Request
	body   string
	calls  int
	answer http.HandlerFunc // nil: 200 {"ok":true}
}

func newBehind(t *testing.T) *behind {
	t.Helper()
	b := &behind{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.last, b.body = r, string(body)
		b.calls++
		answer := b.answer
		b.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		if answer != nil {
			answer(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *behind) answers(h http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = h
}

func (b *behind) seen(t *testing.T) (*http.Request, string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		t.Fatal("the service behind was not called")
	}
	return b.last, b.body
}

func (b *behind) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// serving makes a server's gateway serve a registry, in which UPSTREAM is the URL of the service behind.
func serving(b *behind, text string, files map[string][]byte) (*fixedSource, func(*hub.Policy, *web.Options)) {
	src := &fixedSource{changed: make(chan struct{}, 8)}
	src.active = gateway.Active{Hash: strings.Repeat("0", 64), AppliedAt: time.Unix(1700000000, 0),
		Document: registry.Document{Text: []byte(strings.ReplaceAll(text, "UPSTREAM", b.URL)), Files: files, Secrets: map[string]string{"HR_KEY": "of the gateway", "HOOK": "whsec-0123456789abcdef"}}}
	return src, func(_ *hub.Policy, o *web.Options) {
		o.Services = &web.ServiceOptions{Source: src, Transports: func(registry.Upstream) (http.RoundTripper, error) {
			return &http.Transport{DisableCompression: true}, nil
		}}
	}
}

func newServing(t *testing.T, text string) (*fixture, *behind, *fixedSource) {
	t.Helper()
	b := newBehind(t)
	src, option := serving(b, text, nil)
	f := newFixture(t, option)
	f.StartServices(t.Context())
	if errs := f.Serving().Errors; len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(func() { _ = f.Close(t.Context()) })
	return f, b, src
}

const employees = `
version: 1
defaults: {produces: [json, xml]}
upstreams:
  hr: {urls: [UPSTREAM], headers: {X-Api-Key: "${HR_KEY}"}}
services:
  - name: request-address
    uri: Employee/requestAddress
    aliases: [{uri: emp/reqAddr, status: 308}, {uri: EmpAddr}]
    default: "2"
    versions:
      - {version: "0", status: retired, sunset_at: 2020-01-01, successor: "2", methods: [GET]}
      - {version: "1", status: deprecated, deprecated_at: 2026-01-01, sunset_at: 2027-06-30, successor: "2", target: "hr:/v1/address", methods: [GET, POST], auth: none}
      - version: "2"
        target: hr:/v2/address
        methods: [GET, POST]
        auth: none
        params: [{name: ID, in: query, pattern: "[0-9]{1,9}"}]
        response: {unwrap: true, arrays: [GetAddress/Line], strip: [internal/*]}
`

func TestGatewayPassesRequestsOn(t *testing.T) {
	f, b, _ := newServing(t, employees)
	w := f.send("GET", "/gateway/Employee/requestAddress?ID=121&note=a%20b", "", "X-Correlation-ID", "abc-1", "Accept-Language", "de")
	if body := want(t, w, 200); body != `{"ok":true}` {
		t.Errorf("got %q", body)
	}
	r, _ := b.seen(t)
	if r.URL.RequestURI() != "/v2/address?ID=121&note=a%20b" {
		t.Errorf("the service got %s", r.URL.RequestURI())
	}
	for name, value := range map[string]string{"X-Correlation-Id": "abc-1", "X-Gateway-Service": "request-address", "X-Gateway-Version": "2",
		"X-Api-Key": "of the gateway", "Accept-Language": "de", "Via": "1.1 quorumhub"} {
		if got := r.Header.Get(name); got != value {
			t.Errorf("the service got %s: %q, want %q", name, got, value)
		}
	}
	if w.Header().Get("X-Correlation-Id") != "abc-1" {
		t.Error("the response has no correlation ID")
	}
}

func TestGatewayChoosesTheVersion(t *testing.T) {
	f, b, _ := newServing(t, employees)
	for _, c := range []struct{ path, header, accept, want string }{
		{"/gateway/Employee/requestAddress", "", "", "/v2/address"},
		{"/gateway/Employee/requestAddress", "", "application/json; version=1", "/v1/address"},
		{"/gateway/Employee/requestAddress", "2", "application/json; version=1", "/v2/address"},
		{"/gateway/v1/Employee/requestAddress", "2", "application/json; version=2", "/v1/address"},
	} {
		var header []string
		if c.header != "" {
			header = append(header, "Api-Version", c.header)
		}
		if c.accept != "" {
			header = append(header, "Accept", c.accept)
		}
		want(t, f.send("GET", c.path, "", header...), 200)
		if r, _ := b.seen(t); r.URL.Path != c.want {
			t.Errorf("%+v: reached %s", c, r.URL.Path)
		}
	}
}

func TestGatewayTellsWhereAVersionIsInItsLife(t *testing.T) {
	f, _, _ := newServing(t, employees)
	w := f.send("GET", "/gateway/v1/Employee/requestAddress", "")
	want(t, w, 200)
	for name, value := range map[string]string{"Deprecation": "@1767225600", "Sunset": "Wed, 30 Jun 2027 00:00:00 GMT",
		"Link": `</gateway/v2/Employee/requestAddress>; rel="successor-version"`} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	w = f.send("GET", "/gateway/v2/Employee/requestAddress", "")
	if got := w.Header().Get("Deprecation"); got != "" {
		t.Errorf("version 2 is deprecated: %q", got)
	}
	// Retired: whoever still calls it learns where to go.
	b := newBehind(t)
	_, option := serving(b, employees, nil)
	open := newFixture(t, option)
	open.StartServices(t.Context())
	w = open.send("GET", "/gateway/v0/Employee/requestAddress", "", "Accept", "application/json")
	if body := want(t, w, 410); !strings.Contains(body, "/gateway/v2/Employee/requestAddress") || !strings.Contains(body, `"code":"retired"`) {
		t.Errorf("410 says %s", body)
	}
	w = f.send("GET", "/gateway/EmpAddr", "")
	want(t, w, 200)
	if w.Header().Get("Deprecation") == "" || !strings.Contains(w.Header().Get("Link"), "</gateway/Employee/requestAddress>") {
		t.Errorf("an alias answers %v", w.Header())
	}
	w = f.send("GET", "/gateway/v1/emp/reqAddr?ID=1&x=%41", "")
	want(t, w, 308)
	if got := w.Header().Get("Location"); got != "/gateway/v1/Employee/requestAddress?ID=1&x=%41" {
		t.Errorf("redirects to %q", got)
	}
}

func TestGatewayRefusesWhatTheRegistryDoesNotAllow(t *testing.T) {
	f, b, _ := newServing(t, employees)
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		code         string
	}{
		{"GET", "/gateway/Employee/nothing", nil, 404, "unknown_route"},
		{"GET", "/gateway/", nil, 404, "unknown_route"},
		{"GET", "/gateway", nil, 404, "unknown_route"},
		{"GET", "/gateway/employee/requestAddress", nil, 404, "unknown_route"},
		{"GET", "/gateway/v9/Employee/requestAddress", nil, 404, "unknown_route"},
		{"DELETE", "/gateway/Employee/requestAddress", nil, 405, "method"},
		{"BREW", "/gateway/Employee/requestAddress", nil, 405, "method"},
		{"GET", "/gateway/Employee/requestAddress?ID=12x", nil, 400, "invalid"},
		{"GET", "/gateway/Employee/requestAddress?ID=1&ID=2", nil, 400, "invalid"},
		{"GET", "/gateway/Employee/requestAddress?ID=%zz", nil, 400, "invalid"},
		{"GET", "/gateway/Employee/requestAddress", []string{"Accept", "application/json;q=0, application/xml;q=0, text/xml;q=0"}, 406, "not_acceptable"},
		{"GET", "/gateway/Employee/requestAddress", []string{"Api-Version", "1", "Api-Version", "2"}, 400, "invalid"},
		{"GET", "/gateway/Employee/requestAddress?x=" + strings.Repeat("a", 9000), nil, 414, "uri_too_long"},
		{"POST", "/gateway/Employee/requestAddress", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, 501, "unsupported"},
	} {
		w := f.send(c.method, c.path, "", append([]string{"Accept", "application/problem+json, */*;q=0.1"}, c.header...)...)
		body := want(t, w, c.status)
		var p struct {
			Code          string
			CorrelationID string `json:"correlation_id"`
			Type, Title   string
			Status        int
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s %s: %s", c.method, c.path, body)
			continue
		}
		if p.Code != c.code || p.CorrelationID == "" || p.CorrelationID != w.Header().Get("X-Correlation-Id") || p.Status != c.status || p.Type != "urn:quorumhub:problem:"+c.code {
			t.Errorf("%s %.60s: %+v, want code %s", c.method, c.path, p, c.code)
		}
		if c.status == 405 && w.Header().Get("Allow") != "GET, POST" {
			t.Errorf("Allow is %q", w.Header().Get("Allow"))
		}
	}
	if n := b.count(); n != 0 {
		t.Errorf("the service was called %d times", n)
	}
}

// A registry with thousands of services is in force at once, and does not slow down its routes.
func TestGatewayLoadsLargeRegistries(t *testing.T) {
	const services = 10_000
	var text strings.Builder
	text.WriteString("version: 1\nupstreams: {hr: {urls: [UPSTREAM]}}\nservices:\n")
	for i := range services {
		fmt.Fprintf(&text, "  - {name: s%d, uri: s%d/item, versions: [{version: \"1\", target: \"hr:/s%d\", methods: [GET], auth: none, params: [{name: ID, in: query, pattern: \"[0-9]+\"}]}]}\n", i, i, i)
	}
	begin := time.Now()
	f, b, _ := newServing(t, text.String())
	if took := time.Since(begin); took > 20*time.Second { // a second on an idle machine; the tests share theirs
		t.Errorf("loading took %v", took)
	} else {
		t.Logf("loading took %v", took)
	}
	want(t, f.send("GET", "/gateway/s9999/item?ID=1", ""), 200)
	if r, _ := b.seen(t); r.URL.Path != "/s9999" {
		t.Errorf("reached %s", r.URL.Path)
	}
	metrics := want(t, f.send("GET", "/metrics", ""), 200)
	if n := strings.Count(metrics, "quorumhub_gateway_requests_total{"); n > 202*6 {
		t.Errorf("%d series of requests", n)
	}
}
