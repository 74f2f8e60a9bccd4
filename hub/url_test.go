package hub_test

import (
	"net/url"
	"strings"
	"testing"

	"quorumhub/hub"
)

func TestInvalidURLs(t *testing.T) {
	for _, raw := range []string{
		"", " ", "x", "/x", "//example.com/", "example.com/x", "?x", "#x", "http:", "http:/", "http://", "http:///x", "http:example.com",
		"ftp://example.com/", "javascript:alert(1)", "data:,x", "file:///etc/passwd", "ws://example.com/", "unix:/x",
		"http://u@example.com/", "http://u:p@example.com/", "http://:p@example.com/", "http://@example.com/",
		"https://example.com/#", "https://example.com/#x", "https://example.com/x?y#z",
		"https://example.com/a b", "https://example.com/\t", "https://example.com/\r\nHost: x", "https://example.com/\x00", "https://exa\x7fmple.com/",
		"https://example.com/<x>", "https://example.com/\"", "https://example.com\\@evil.example/", "\thttps://example.com/", "https://example.com/ ",
		"https://example.com/%", "https://example.com/%4", "https://example.com/%zz", "https://example.com/?%g0", "https://exam%70le.com/",
		"https://example.com:0/", "https://example.com:65536/", "https://example.com:99999999999999999999/", "https://example.com:x/", "https://example.com:-1/",
		"https://é.example/", "https://xn--e9a.example\u3002com/", "https://exa_mple!.com/", "https://.example.com/", "https://example..com/", "https://./", "https://../",
		"http://1/", "http://127.1/", "http://0177.0.0.1/", "http://0x7f.0.0.1/", "http://0x7f000001/", "http://2130706433/", "http://127.0.0.1./", "http://256.0.0.1/", "http://1.2.3.4.5/", "http://a.0x7f/",
		"http://[::1/", "http://[::1]x/", "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[127.0.0.1]/", "http://[]/", "http://::1/", "http://[v1.x]/",
		"https://example.com/\xff", "https://example.com/" + strings.Repeat("a", hub.MaxURLBytes),
		"https://example.com/" + strings.Repeat("é", 500), // 3,000 bytes when percent-encoded
		"https://" + strings.Repeat("a", 254) + ".example/",
	} {
		u, err := hub.ParseURL("hub.topic", raw)
		if err == nil {
			t.Errorf("%q is accepted as %+v", raw, u)
			continue
		}
		wantParam(t, err, "hub.topic")
		if len(err.Error()) > 500 {
			t.Errorf("%q: the error is %d bytes long", raw, len(err.Error()))
		}
	}
}

// RFC 3986 sections 6.2.2 and 6.2.3 as far as WebSub 5.1.1 requires them.
func TestNormalizeURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com/":                      "https://example.com/",
		"https://example.com":                       "https://example.com/",
		"https://example.com?x=y":                   "https://example.com/?x=y",
		"https://example.com/?":                     "https://example.com/?",
		"HTTPS://EXAMPLE.com/Path":                  "https://example.com/Path",
		"http://example.com:80/":                    "http://example.com/",
		"https://example.com:443/":                  "https://example.com/",
		"https://example.com:/":                     "https://example.com/",
		"https://example.com:80/":                   "https://example.com:80/",
		"http://example.com:443/":                   "http://example.com:443/",
		"http://example.com:8080":                   "http://example.com:8080/",
		"https://example.com/%7Euser":               "https://example.com/~user",
		"https://example.com/%7euser/%41%2d%5f":     "https://example.com/~user/A-_",
		"https://example.com/%2f%3a":                "https://example.com/%2F%3A",
		"https://example.com/%2541":                 "https://example.com/%2541",
		"https://example.com/a?q=%7e&r=%26":         "https://example.com/a?q=~&r=%26",
		"https://example.com/café":                  "https://example.com/caf%C3%A9",
		"https://example.com/caf%c3%a9":             "https://example.com/caf%C3%A9",
		"https://example.com/a.b/..c/...":           "https://example.com/a.b/..c/...",
		"https://example.com/a//b":                  "https://example.com/a//b",
		"https://example.com/?b=2&a=1":              "https://example.com/?b=2&a=1",
		"http://[2001:DB8::1]:80/":                  "http://[2001:db8::1]/",
		"http://192.0.2.1:8080/":                    "http://192.0.2.1:8080/",
		"https://example.com/?next=http://a:80/%7e": "https://example.com/?next=http://a:80/~",
	} {
		if _, err := hub.ParseURL("hub.topic", raw); err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := hub.NormalizeURL(raw); got != want {
			t.Errorf("%q is normalised to %q, want %q", raw, got, want)
		}
	}
}

// FuzzTopicURL: an accepted URL has a normal form that is accepted, is its own normal form, and means the same.
func FuzzTopicURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/feed", "HTTP://EXAMPLE.com:80?x=%7e", "http://[::1]:8080/%2F", "https://u@a/", "http://0x7f.1/", "https://a/%25%32%35", "http://a:080/",
		"https://a/é%ff", "http://a:/", "http://a.:80/?#", "https://a/%", "http://a?%41=http://b:80/", "http://A_b-c.1x/", "http://a/;x=%3B", "http://\x00/",
		"https://hub.example/topics/a%2Fb", "https://hub.example/topics/https%3A%2F%2Fhub.example%2Ftopics%2Fx", "http://10.0.0.1:8080/base/topics/%C3%A9",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := hub.ParseURL("hub.topic", raw)
		if err != nil {
			wantParam(t, err, "hub.topic")
			return
		}
		normal := hub.NormalizeURL(raw)
		again, err := hub.ParseURL("hub.topic", normal)
		if err != nil {
			t.Fatalf("%q is accepted, its normal form %q is not: %v", raw, normal, err)
		}
		if twice := hub.NormalizeURL(normal); twice != normal {
			t.Fatalf("%q: the normal form %q has the normal form %q", raw, normal, twice)
		}
		if !strings.EqualFold(u.Hostname(), again.Hostname()) || port(u) != port(again) || !strings.EqualFold(u.Scheme, again.Scheme) ||
			orSlash(u.Path) != again.Path || unescape(u.RawQuery) != unescape(again.RawQuery) {
			t.Fatalf("%q and its normal form %q are different URLs", raw, normal)
		}
		n := namer(t)
		name, err := n.Name("hub.topic", raw)
		if err != nil {
			wantParam(t, err, "hub.topic")
			return
		}
		canonical := n.URL(name)
		if back, err := n.Name("hub.topic", canonical); err != nil || back != name {
			t.Fatalf("%q: the topic %q has the URL %q, which names %q (%v)", raw, name, canonical, back, err)
		}
	})
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return strings.TrimLeft(p, "0")
	}
	if strings.EqualFold(u.Scheme, "http") {
		return "80"
	}
	return "443"
}

func orSlash(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

func unescape(s string) string {
	out, err := url.PathUnescape(s)
	if err != nil {
		return s
	}
	return out
}
