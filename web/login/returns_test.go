package login_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"quorumhub/web/login"
)

// TestReturnPath: nobody is sent away from the hub after logging in, whatever the form in which an address elsewhere comes.
func TestReturnPath(t *testing.T) {
	for _, to := range []string{"/", "/login/me", "/api/orders?id=1&x=%2F%2Fevil.example", "/a/b/", "/topics/a%20b", "/a:b", "/x?to=https://evil.example", "/caf%C3%A9", "/a;b=c", "/~x/@y"} {
		if !login.ReturnPath(to) {
			t.Errorf("%q is refused; it is a path here", to)
		}
	}
	base, _ := url.Parse("https://hub.example.org/login")
	for _, to := range []string{
		"", "login", "//", "//evil.example", "///evil.example", "////evil.example", "https://evil.example", "https:evil.example", "http:/evil.example",
		"javascript:alert(1)", "data:text/html,x", `\\evil.example`, `/\evil.example`, `/\/evil.example`, `\/evil.example`, "/\t/evil.example", "/\n/evil.example",
		"/\r\nSet-Cookie: x=1", "\t//evil.example", " //evil.example", "/ /evil.example", "/.//evil.example", "/..//evil.example", "/%2e%2e//evil.example",
		"/%2F/evil.example", "/%2Fevil.example", "/%5Cevil.example", "/%5c%5cevil.example", "/a/%0d%0aLocation:x", "/%09/evil.example", "/a//b", "/../x", "/a/%2e%2e/x", "/./x", "/%00", "/\x7f", "/é",
		"/%zz", "?return=x", "#x", "//user@evil.example", "https://hub.example.org@evil.example/", "https://hub.example.org/", "/" + strings.Repeat("a", 2000),
	} {
		if login.ReturnPath(to) {
			where := "?"
			if u, err := base.Parse(to); err == nil {
				where = u.String()
			}
			t.Errorf("%q is taken for a path here; a browser goes to %s", to, where)
		}
	}
}

// TestWantsPage: browsers get pages, programs get problems.
func TestWantsPage(t *testing.T) {
	for accept, want := range map[string]bool{"text/html,application/xhtml+xml,*/*;q=0.8": true, "application/json": false, "*/*": false, "": false, "application/json, TEXT/HTML;q=0.5": true, "text/htmlx": false} {
		if got := login.WantsPage(&http.Request{Header: http.Header{"Accept": {accept}}}); got != want {
			t.Errorf("Accept: %q: got %v, want %v", accept, got, want)
		}
	}
}

// FuzzReturnPath: what is taken for a path of the hub leads to the hub.
func FuzzReturnPath(f *testing.F) {
	for _, to := range []string{"/", "/a?b=c", "//evil.example", `/\evil.example`, "/%2F/evil.example", "/..//evil.example", "https:evil.example"} {
		f.Add(to)
	}
	base, _ := url.Parse("https://hub.example.org/login?x=y")
	f.Fuzz(func(t *testing.T, to string) {
		if !login.ReturnPath(to) {
			return
		}
		u, err := base.Parse(to)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme || u.User != nil || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(to, "\\\t\r\n") {
			t.Fatalf("%q leads to %v, %v", to, u, err)
		}
	})
}
