package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// namesParameter matches the start of every refusal of a form: the parameter at fault.
var namesParameter = regexp.MustCompile(`^(hub\.[a-z_\[\]]+|Content-Type|body|parameter ("[^\n]*"|\d+)): \S[^\r\n]*\n$`)

// reused returns one server for many inputs, and a new one before the state of the old one grows.
func reused() func(testing.TB) *fixture {
	var fx *fixture
	n := 0
	return func(tb testing.TB) *fixture {
		if n%200 == 0 {
			fx = newFixture(tb)
		}
		n++
		return fx
	}
}

// FuzzHubForm posts arbitrary bytes to the hub endpoint: an invalid request is refused with one line that names the parameter, and
// none causes an internal error.
func FuzzHubForm(f *testing.F) {
	for _, seed := range []string{
		"", "&", "=", "hub.mode", "hub.mode=subscribe", "hub.mode=subscribe&hub.mode=publish", "%", "%zz=1", "a=%f", "hub.=%", "hub.x=%", "hub.mode=%00",
		encode("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL, "hub.secret", "s", "hub.lease_seconds", "60"),
		encode("hub.mode", "unsubscribe", "hub.topic", topicURL, "hub.callback", callbackURL),
		encode("hub.mode", "publish", "hub.url", "https://example.com/"),
		"hub.mode=publish&hub.url[]=http://a/&hub.topic=http://b/",
		encode("hub.mode", "register", "hub.topic", topicURL), encode("hub.mode", "unregister", "hub.topic", topicURL),
		"hub.mode=subscribe&hub.topic=http://[::1%25eth0]/&hub.callback=http://0x7f.1/",
		"hub.mode=subscribe&hub.topic=http://a/%25%ff&hub.callback=http://a:99999/",
		"hub.mode=subscribe&hub.callback=http://b/&hub.topic=" + publicURL + "/topics/%252e%252e/x",
		"hub.mode=subscribe;hub.topic=x", "\xff\xfe=\xff", "hub.verify_token=\xff&hub.mode=subscribe",
	} {
		f.Add(seed)
	}
	fixture := reused()
	f.Fuzz(func(t *testing.T, body string) {
		fx := fixture(t)
		w := fx.send(http.MethodPost, "/hub", body, "Content-Type", formType)
		answer := w.Body.String()
		switch {
		case w.Code >= 500:
			t.Fatalf("%q: got %d %q", body, w.Code, answer)
		case w.Code == http.StatusNotFound || w.Code == http.StatusConflict || w.Code == http.StatusForbidden:
			checkErrorLine(t, answer) // a valid request for something missing or forbidden
		case w.Code >= 400:
			if !namesParameter.MatchString(answer) {
				t.Fatalf("%q: the refusal %q names no parameter", body, answer)
			}
		case w.Code != 200 && w.Code != 202 && w.Code != 204:
			t.Fatalf("%q: got %d", body, w.Code)
		}
	})
}

// FuzzHubQuery does the same with the query of a publish, and FuzzTopicPath with the path of a hosted topic.
func FuzzHubQuery(f *testing.F) {
	for _, seed := range []string{"", "hub.mode=publish", "hub.mode=publish&hub.topic=" + topicURL, "hub.mode=subscribe", "hub%2emode=publish&hub.topic=%",
		"hub.topic=http://a/&hub.mode=publish&hub.topic=http://b/", "hub.mode=publish&hub.topic=http://a/;x", "&&=&", "hub.mode=%"} {
		f.Add(seed)
	}
	fixture := reused()
	f.Fuzz(func(t *testing.T, query string) {
		fx := fixture(t)
		r := httptest.NewRequest(http.MethodPost, "/hub", strings.NewReader("content"))
		r.Host = "hub.example.net"
		r.URL.RawQuery = query
		for range 2 { // the second time the topic may be cached
			w := httptest.NewRecorder()
			fx.ServeHTTP(w, r.Clone(t.Context()))
			if w.Code >= 500 || w.Code >= 300 && w.Code < 400 {
				t.Fatalf("%q: got %d %q", query, w.Code, w.Body)
			}
			if w.Code >= 400 && !namesParameter.MatchString(w.Body.String()) {
				t.Fatalf("%q: the refusal %q names no parameter", query, w.Body)
			}
		}
	})
}

func FuzzTopicPath(f *testing.F) {
	for _, seed := range []string{"news", "a/b", "a%2Fb", "..", "%2e%2e", "http://example.com/", "https%3A%2F%2Fexample.com%2F", "%", "%zz", "\x00", "a//b", "é", "%ff", "a?b", "a;b"} {
		f.Add(seed)
	}
	fixture := reused()
	f.Fuzz(func(t *testing.T, path string) {
		req, err := http.NewRequest(http.MethodPost, publicURL+"/topics/"+path, strings.NewReader("content"))
		if err != nil {
			return // no client can send it
		}
		fx := fixture(t)
		w := httptest.NewRecorder()
		fx.ServeHTTP(w, req)
		if w.Code != 200 {
			if w.Code != 400 {
				t.Fatalf("%q: got %d %q", path, w.Code, w.Body)
			}
			checkErrorLine(t, w.Body.String())
			return
		}
		// The content can be read at the same path and at the URL in the response.
		read := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath}, Header: http.Header{}}
		got := httptest.NewRecorder()
		fx.ServeHTTP(got, read)
		if got.Code != 200 || got.Body.String() != "content" {
			t.Fatalf("%q: published, and read back %d %q", path, got.Code, got.Body)
		}
		_, self, _ := strings.Cut(got.Header().Get("Link"), ", <")
		self, _, _ = strings.Cut(self, ">")
		if local, ok := strings.CutPrefix(self, publicURL); ok {
			again := fx.send(http.MethodGet, local, "")
			if again.Code != 200 {
				t.Fatalf("%q: rel=self %q reads %d", path, self, again.Code)
			}
		}
	})
}
