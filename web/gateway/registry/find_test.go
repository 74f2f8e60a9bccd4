package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumhub/web/gateway/registry"
)

const routes = `
version: 1
upstreams: {a: {urls: [http://127.0.0.1:1/base]}}
services:
- name: exact
  uri: Employee/requestAddress
  aliases: [{uri: emp/reqAddr, status: 308}]
  default: "2"
  versions:
  - {version: "1", target: "a:/v1", methods: [GET]}
  - {version: "2", target: "a:/v2/", methods: [GET, POST]}
  - {version: beta, target: "a:/beta", methods: [GET]}
- {name: below, uri: Employee/*, versions: [{version: "1", target: "a:/all", methods: [GET]}]}
- {name: deep, uri: Employee/deep/er/*, versions: [{version: "1", target: "a:/deep/*", methods: [GET]}]}
- {name: orders, uri: "users/{user}/orders/{order}", aliases: [{uri: "o/{order}/of/{user}"}], versions: [{version: "1", target: "a:/o/{order}/u/{user}", methods: [GET]}]}
- {name: me, uri: users/me/orders/last, versions: [{version: "1", target: "a:/last", methods: [GET]}]}
- {name: files, uri: "users/{user}/files/*", versions: [{version: "1", target: "a:/f/{user}", methods: [GET]}]}
- {name: read, uri: shared, versions: [{version: "1", target: "a:/read", methods: [GET]}]}
- {name: write, uri: shared, versions: [{version: "1", target: "a:/write", methods: [POST]}, {version: "3", target: "a:/write3", methods: [GET]}], default: "1"}
- {name: büro, uri: büro/x, versions: [{version: "1", target: "a:/b", methods: [GET]}]}
`

func router(t testing.TB, text string) *registry.Router {
	t.Helper()
	text = strings.ReplaceAll(text, "name: büro", "name: buero")
	r, err := registry.Compile(read(t, registry.Document{Text: []byte(text)}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFind(t *testing.T) {
	r := router(t, routes)
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/gateway/Employee/requestAddress", "exact 2 /v2/"},
		{"GET", "/gateway/v1/Employee/requestAddress", "exact 1 /v1"},
		{"GET", "/gateway/vbeta/Employee/requestAddress", "exact beta /beta"},
		{"POST", "/gateway/v1/Employee/requestAddress", "exact 1 not POST, but GET"},
		{"GET", "/gateway/v9/Employee/requestAddress", "exact no such version, but 1 2 beta"},
		{"GET", "/gateway/%45mployee/request%41ddress", "exact 2 /v2/"},
		{"GET", "/gateway/%76%31/Employee/requestAddress", "exact 1 /v1"},
		{"GET", "/gateway/emp/reqAddr", "exact 2 /v2/ alias 308 /gateway/Employee/requestAddress"},
		{"GET", "/gateway/v1/emp/reqAddr", "exact 1 /v1 alias 308 /gateway/v1/Employee/requestAddress"},
		{"GET", "/gateway/Employee/requestaddress", "below 1 /all/requestaddress"},
		{"GET", "/gateway/Employee/requestAddress/", "below 1 /all/requestAddress/"},
		{"GET", "/gateway/Employee/a%20b/c%2bd", "below 1 /all/a%20b/c%2bd"},
		{"GET", "/gateway/Employee/deep/er/x/y", "deep 1 /deep/x/y"},
		{"GET", "/gateway/Employee/deep/er", "below 1 /all/deep/er"},
		{"GET", "/gateway/v1/Employee/deep/er/x", "deep 1 /deep/x"},
		{"GET", "/gateway/users/a%20b/orders/7", "orders 1 /o/7/u/a%20b"},
		{"GET", "/gateway/o/7/of/anna", "orders 1 /o/7/u/anna alias 0 /gateway/users/anna/orders/7"},
		{"GET", "/gateway/users/me/orders/last", "me 1 /last"},
		{"GET", "/gateway/users/me/orders/first", "orders 1 /o/first/u/me"},
		{"GET", "/gateway/users/me/files/a/b", "files 1 /f/me/a/b"},
		{"GET", "/gateway/shared", "read 1 /read"},
		{"POST", "/gateway/shared", "write 1 /write"},
		{"GET", "/gateway/v3/shared", "write 3 /write3"},
		{"DELETE", "/gateway/shared", "read 1 not DELETE, but GET POST"},
		{"GET", "/gateway/b%C3%BCro/x", "buero 1 /b"},
		{"GET", "/gateway/users/me", "none"},
		{"GET", "/gateway/users/me/orders", "none"},
		{"GET", "/gateway/users/me/files", "none"},
		{"GET", "/gateway/users/me/files/", "none"},
		{"GET", "/gateway/Employee", "none"},
		{"GET", "/gateway/Employee/", "none"},
		{"GET", "/gateway/employee/x", "none"},
		{"GET", "/gateway/", "none"},
		{"GET", "/gateway", "none"},
		{"GET", "/gateway/v1", "none"},
		{"GET", "/gateway/v1/", "none"},
		{"GET", "/gatewayEmployee/x", "none"},
		{"GET", "/other/Employee/x", "none"},
	} {
		if got := found(r, tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s: got %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

func found(r *registry.Router, method, path string) string {
	m, err := r.Find(method, path)
	if errors.Is(err, registry.ErrNotFound) {
		return "none"
	}
	if err != nil {
		return err.Error()
	}
	c := m.Choose("", "")
	switch c.Outcome { //nolint:exhaustive // the rest is below
	case registry.UnknownVersion:
		return c.Service.Name + " no such version, but " + strings.Join(m.Versions(), " ")
	case registry.MethodNotAllowed:
		return fmt.Sprintf("%s %s not %s, but %s", c.Service.Name, c.Version.Version, method, strings.Join(m.Allowed(c.Version.Version), " "))
	}
	out := fmt.Sprintf("%s %s %s", c.Service.Name, c.Version.Version, m.UpstreamPath(c.Version.Target))
	if c.Alias != nil {
		out += fmt.Sprintf(" alias %d %s", c.Alias.Status, m.Location(c.Service))
	}
	return out
}

// TestFindRefusesPathsThatServersReadDifferently covers dot segments, empty ones and encoded separators, in every part of a path.
func TestFindRefusesPathsThatServersReadDifferently(t *testing.T) {
	r := router(t, routes)
	for _, path := range []string{"/gateway/Employee/../x", "/gateway/Employee/..", "/gateway/Employee/./x", "/gateway/Employee/.", "/gateway/Employee//x", "//gateway/Employee/x",
		"/gateway//Employee/x", "/gateway/Employee/%2e%2e/x", "/gateway/Employee/%2E", "/gateway/Employee/.%2e/x", "/gateway/Employee/a%2Fb", "/gateway/Employee/a%2fb", "/gateway/Employee/a%5Cb",
		`/gateway/Employee/a\b`, "/gateway/Employee/%00", "/gateway/Employee/%0d%0aX", "/gateway/Employee/%252e%252e/x", "/gateway/Employee/%25", "/gateway/Employee/..;/x", "/gateway/Employee/..;a=b/x",
		"/gateway/Employee/.;/x", "/gateway/Employee/%2e%2e%3b/x", "/gateway/Employee/%", "/gateway/Employee/%4", "/gateway/Employee/%zz", "/gateway/Employee/\x00", "/gateway/Employee/a b",
		"/gateway/Employee/\xff", "/gateway/Employee/a?b", "/gateway/Employee/a#b", "/gateway/..%2fadmin", "/gateway/../v1/x", "/other/../gateway/Employee/x"} {
		var refused *registry.PathError
		if _, err := r.Find("GET", path); !errors.As(err, &refused) {
			t.Errorf("%q: got %v, want it refused", path, found(r, "GET", path))
		}
	}
	for _, path := range []string{"/gateway/Employee/...", "/gateway/Employee/.well-known", "/gateway/Employee/a..b", "/gateway/Employee/a;b", "/gateway/Employee/..a"} {
		if _, err := r.Find("GET", path); err != nil {
			t.Errorf("%q: got %v, want it found", path, err)
		}
	}
}

func TestVersionIsChosenByPathThenHeaderThenMediaType(t *testing.T) {
	r := router(t, routes)
	for _, tt := range []struct{ path, header, mediaType, want string }{
		{"/gateway/v1/Employee/requestAddress", "2", "beta", "1"},
		{"/gateway/Employee/requestAddress", "1", "beta", "1"},
		{"/gateway/Employee/requestAddress", "", "beta", "beta"},
		{"/gateway/Employee/requestAddress", "", "", "2"},
		{"/gateway/Employee/requestAddress", "7", "1", "unknown, default 2"},
	} {
		m, err := r.Find("GET", tt.path)
		if err != nil {
			t.Fatal(err)
		}
		c := m.Choose(tt.header, tt.mediaType)
		got := c.Version.Version
		if c.Outcome == registry.UnknownVersion {
			got = "unknown, default " + got
		}
		if got != tt.want || c.Named != (tt.want != "2") {
			t.Errorf("%s with header %q and media type %q: got %s (named: %v), want %s", tt.path, tt.header, tt.mediaType, got, c.Named, tt.want)
		}
	}
	m, err := r.Find("GET", "/gateway/v1/users/a%20b/orders/7")
	if err != nil || m.Part("user") != "a b" || m.Part("order") != "7" || m.Part("other") != "" || m.Route() != "users/{user}/orders/{order}" {
		t.Errorf("parts are %q and %q of %q, %v", m.Part("user"), m.Part("order"), m.Route(), err)
	}
}

// many returns a registry with so many services, as large as real ones.
func many(services int) []byte {
	var b strings.Builder
	b.WriteString("version: 1\nupstreams:\n  hr: {urls: [http://127.0.0.1:9100]}\nservices:\n")
	for i := range services {
		fmt.Fprintf(&b, "  - name: service-%d\n    uri: Area%d/service%d\n    default: \"2\"\n    versions:\n"+
			"      - {version: \"1\", status: deprecated, deprecated_at: 2026-01-01, sunset_at: 2027-06-30, successor: \"2\", target: \"hr:/v1/address\", methods: [GET, POST]}\n"+
			"      - version: \"2\"\n        target: hr:/v2/address\n        methods: [GET, POST]\n        permission: {action: call, resource: hr.address}\n"+
			"        params: [{name: ID, in: query, required: true, pattern: \"[0-9]{1,9}\"}]\n        limits: {rate: 100/1m, concurrency: 20}\n", i, i%100, i)
	}
	b.WriteString("  - {name: all, uri: Area1/*, versions: [{version: \"1\", target: \"hr:/x\", methods: [GET]}]}\n")
	return []byte(b.String())
}

// cpuTime is how long this process has computed, which does not depend on what else the machine does, nor on the race detector.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano()+used.Stime.Nano()) / slowdown
}

// TestTenThousandServicesAreFast has room for slow machines; the benchmarks tell the figures.
func TestTenThousandServicesAreFast(t *testing.T) {
	text := many(10_000)
	start := cpuTime(t)
	r, err := registry.Compile(read(t, registry.Document{Text: text}))
	if err != nil {
		t.Fatal(err)
	}
	if took := cpuTime(t) - start; took > 4*time.Second {
		t.Errorf("reading 10,000 services took %s, want less than one second", took)
	}
	for _, path := range []string{"/gateway/Area99/service9999", "/gateway/v2/Area99/service9999", "/gateway/Area1/other/thing"} {
		find := func() {
			m, err := r.Find("GET", path)
			if err != nil {
				t.Fatal(err)
			}
			if c := m.Choose("", ""); c.Version == nil {
				t.Fatal("no version")
			}
		}
		if allocations := testing.AllocsPerRun(100, find); allocations > 0 {
			t.Errorf("%s: %v allocations", path, allocations)
		}
		start := cpuTime(t)
		const times = 100_000
		for range times {
			find()
		}
		if each := (cpuTime(t) - start) / times; each > 10*time.Microsecond {
			t.Errorf("%s: found in %s, want less than 2 µs", path, each)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	text := many(10_000)
	for b.Loop() {
		reg, mistakes := registry.Read(registry.Document{Text: text}, hub{})
		if len(mistakes) > 0 {
			b.Fatal(mistakes[0])
		}
		if _, err := registry.Compile(reg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	r, err := registry.Compile(read(b, registry.Document{Text: many(10_000)}))
	if err != nil {
		b.Fatal(err)
	}
	for name, path := range map[string]string{"exact": "/gateway/v2/Area99/service9999", "wildcard": "/gateway/Area1/a/b/c/d/e"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m, err := r.Find("GET", path)
				if err != nil {
					b.Fatal(err)
				}
				m.Choose("", "")
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		matches []string
		not     []string
	}{
		{"orders/**", []string{"orders/a", "orders/a/b"}, []string{"orders", "orders/", "order/a", "Orders/a"}},
		{"orders/*/eu", []string{"orders/a/eu"}, []string{"orders//eu", "orders/a/b/eu", "orders/a/eu/x"}},
		{"**", []string{"a", "a/b", "https://x/y"}, []string{""}},
		{"https://example.org/*", []string{"https://example.org/x"}, []string{"https://example.org/", "https:/example.org/x"}},
		{"plain", []string{"plain"}, []string{"plain/", "pla"}},
	} {
		p, err := registry.ParsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range tt.matches {
			if !p.Match(topic) {
				t.Errorf("%s does not match %s", p, topic)
			}
		}
		for _, topic := range tt.not {
			if p.Match(topic) {
				t.Errorf("%s matches %s", p, topic)
			}
		}
	}
	for _, bad := range []string{"", "a/**/b", "a*/b", "{x}/b"} {
		if _, err := registry.ParsePattern(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
