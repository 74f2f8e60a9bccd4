package hub_test

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quorumhub/hub"
)

// A rule for one part of a site must not reach another part by a path that some server resolves.
func TestDotSegmentsAreRefused(t *testing.T) {
	n := namer(t)
	for _, dots := range []string{
		"..", ".", "%2e%2e", "%2E%2e", ".%2e", "%2e.", "%2e", "..;", "..;x=y", ".;", "%2e%2e%3bx", "%252e%252e", "%25252e.", "%25%32%65.",
		"%c0%ae%c0%ae", "%e0%80%ae.", "%EF%BC%8E%EF%BC%8E", "．．", "%E2%80%A5", "․․", "..%20", "%20.", "..%00", ".%09.", "%00",
	} {
		refused := dots != "%00"
		for _, path := range []string{"/public/X/private", "/X", "/X/private", "/public/X", "/public%2FX%2fprivate", "/public/X%2fprivate", "/public%5cX%5Cprivate",
			"/public%252fX/private", "/public%c0%afX/private", "/public%c1%9cX/private", "/public／X/private", "/public/X?query", "/public/X?x=/y"} {
			path = strings.ReplaceAll(path, "X", dots)
			for _, param := range []string{"hub.topic", "hub.callback"} {
				_, err := hub.ParseURL(param, "https://example.com"+path)
				if (err != nil) != refused {
					t.Errorf("%s: %v, refused should be %v", path, err, refused)
				}
				if err != nil {
					wantParam(t, err, param)
				}
			}
			if strings.Contains(path, "?") || dots == "%00" {
				continue
			}
			for _, topic := range []string{"https://hub.example/topics" + path, "https://hub.example/topics/" + url.PathEscape("https://example.com"+path)} {
				name, err := n.Name("hub.topic", topic)
				if err == nil {
					t.Errorf("%s is named %q", topic, name)
					continue
				}
				wantParam(t, err, "hub.topic")
			}
		}
	}
	for _, path := range []string{"", "/", "/a.b", "/a..b/..c/d../...", "/.well-known/x", "/%2e%2ea", "/x;v=..", "/x?y=../z", "/x?/../y", "/a%2Fb", "/100%25", "/a%5Cb"} {
		if _, err := hub.ParseURL("hub.callback", "https://example.com"+path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestEscapeURL(t *testing.T) {
	for raw, want := range map[string]string{
		"/{t}%2Fx":                "/%7Bt%7D%2Fx",
		"/cb?user=josé":           "/cb?user=jos%C3%A9",
		"/é/%2f/%7Euser/%c3%A9":   "/%C3%A9/%2f/%7Euser/%c3%A9",
		"/a|b^c`d?e|f^g`h{i}":     "/a%7Cb%5Ec%60d?e%7Cf%5Eg%60h%7Bi%7D",
		"/a[1]%2F(b)!$&'*+,;=:@c": "/a[1]%2F(b)!$&'*+,;=:@c",
		"/x?a[]=1&b='(c)'":        "/x?a[]=1&b='(c)'",
		"//a//b?":                 "//a//b?",
		"?":                       "/?",
		"":                        "/",
		"/x?%2e%2F&y=%zz":         "/x?%2e%2F&y=%zz",
	} {
		u, err := url.Parse(hub.EscapeURL("http://h:8080" + raw))
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := u.RequestURI(); got != want {
			t.Errorf("%s goes out as %s, want %s", raw, got, want)
		}
	}
}

// Whatever URL a client may give, its request target consists of nothing but what may stand in a URL, and nothing in
// it was decoded.
func TestEscapedURLsAreSentAsGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := "https://example.com/" + rapid.OneOf(rapid.String(), rapid.StringMatching(`([a-z/.~{}|\[\]'é]|%2[0-9A-Fa-f]|%[4-7][0-9a-e]){0,20}(\?[a-z{}%é&=]{0,9})?`)).Draw(t, "tail")
		if _, err := hub.ParseURL("hub.callback", raw); err != nil {
			return
		}
		escaped := hub.EscapeURL(raw)
		u, err := url.Parse(escaped)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		target := u.RequestURI()
		if "https://example.com"+target != escaped {
			t.Fatalf("%q goes out as %q", raw, target)
		}
		rest := raw[len("https://example.com"):]
		for i := 0; i < len(target); i++ {
			switch {
			case rest[0] == target[i]:
			case target[i] == '%' && i+2 < len(target) && unescape(target[i:i+3]) == rest[:1]:
				i += 2
			default:
				t.Fatalf("%q goes out as %q", raw, target)
			}
			rest = rest[1:]
		}
	})
}
