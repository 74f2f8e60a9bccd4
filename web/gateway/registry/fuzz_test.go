package registry_test

import (
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"quorumhub/web/gateway/registry"
)

// FuzzRead feeds texts in YAML, JSON and XML. A text that is read must compile; one that is not must have a mistake with words, and no
// mistake may tell a secret.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"testdata/example.xml", "../../../configs/gateway.example.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, tt := range badRegistries() {
		f.Add([]byte(tt.text))
	}
	f.Add([]byte(routes))
	f.Add([]byte(`{"version": 1, "services": []}`))
	f.Add([]byte("[[[[[[[["))
	f.Add([]byte("<a><a><a>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 64<<10 {
			return
		}
		doc := registry.Collect(text, func(string) ([]byte, bool) { return []byte("{}"), true }, func(string) (string, bool) { return "sesame\x00sesame", true })
		reg, mistakes := registry.Read(doc, hub{})
		if (reg == nil) != (len(mistakes) > 0) {
			t.Fatalf("registry %v with mistakes %v", reg != nil, mistakes)
		}
		for _, m := range mistakes {
			if m.Detail == "" || m.Line < 0 || strings.ContainsAny(m.Error(), "\n\r") {
				t.Fatalf("mistake %+v", m)
			}
			if strings.Contains(m.Error(), "sesame\x00") {
				t.Fatalf("tells a secret: %v", m)
			}
		}
		if reg == nil {
			return
		}
		r, err := registry.Compile(reg)
		if err != nil {
			t.Fatal(err)
		}
		for i := range reg.Services {
			s := &reg.Services[i]
			if s.Wildcard || strings.Contains(s.URI, "{") {
				continue
			}
			path := (&url.URL{Path: reg.Prefix + "/" + s.URI}).EscapedPath()
			m, err := r.Find("GET", path)
			if err != nil {
				t.Fatalf("%q: %v", path, err)
			}
			if m.Route() != s.URI {
				t.Fatalf("%q found %q", path, m.Route())
			}
		}
	})
}

// FuzzFind feeds paths. What is found must lie below the prefix and go to a path at the upstream that has no dot segment, no empty one and
// no encoded slash.
func FuzzFind(f *testing.F) {
	for _, path := range []string{"/gateway/Employee/requestAddress", "/gateway/v1/users/a/orders/b", "/gateway/users/%2e%2e/files/x", "/gateway/Employee/a%20b//", "/gateway/../x", "/gateway/v2/", "/gateway/o/%C3%BC/of/..;"} {
		f.Add("GET", path)
	}
	r := router(f, routes)
	f.Fuzz(func(t *testing.T, method, path string) {
		m, err := r.Find(method, path)
		if err != nil {
			var refused *registry.PathError
			if !errors.Is(err, registry.ErrNotFound) && !errors.As(err, &refused) {
				t.Fatal(err)
			}
			return
		}
		if !strings.HasPrefix(path, "/gateway/") {
			t.Fatalf("%q is found", path)
		}
		c := m.Choose("", "")
		if c.Version == nil || c.Service == nil {
			t.Fatalf("%q: no version to authenticate for", path)
		}
		for _, target := range []string{m.UpstreamPath(c.Version.Target), m.Location(c.Service)} {
			decoded, err := url.PathUnescape(target)
			if err != nil || target[0] != '/' || strings.ContainsAny(target, "\\?# \x00") {
				t.Fatalf("%q goes to %q", path, target)
			}
			for i, s := range strings.Split(decoded, "/") {
				if s == "." || s == ".." || s == "" && i > 0 && i < strings.Count(decoded, "/") || strings.HasPrefix(s, "..;") {
					t.Fatalf("%q goes to %q", path, target)
				}
			}
			if strings.Count(decoded, "/") != strings.Count(target, "/") {
				t.Fatalf("%q goes to %q", path, target)
			}
		}
		again, err := r.Find(method, m.Location(c.Service))
		if err != nil || again.Choose("", "").Service != c.Service && c.Outcome == registry.Chosen {
			t.Fatalf("%q redirects to %q, which is %v", path, m.Location(c.Service), err)
		}
	})
}
