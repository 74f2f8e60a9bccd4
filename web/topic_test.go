package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

func TestPublishAndReadBack(t *testing.T) {
	for _, tc := range []struct {
		name, target, contentType, body, wantType string
	}{
		{"hub, JSON", publishURL(topicURL), "application/json", `{"a":1}`, "application/json"},
		{"hub, parameters of the type are kept", publishURL(topicURL), `text/plain; charset=ISO-8859-1; x="y"`, "caf\xe9", `text/plain; charset=ISO-8859-1; x="y"`},
		{"hub, a form is content too", publishURL(topicURL), formType, "hub.mode=subscribe&hub.topic=x", formType},
		{"hub, no type", publishURL(topicURL), "", "\x00\x01", "application/octet-stream"},
		{"hub, empty", publishURL(topicURL), "text/plain", "", "text/plain"},
		{"hub with a slash", "/hub/?hub.topic=" + topicURL + "&x=%zz&hub.mode=publish", "text/plain", "x", "text/plain"},
		{"alias of the hub", publishURL("http://127.0.0.1:8080/topics/news"), "text/plain", "x", "text/plain"},
		{"other spelling", publishURL("HTTPS://HUB.example.net:443/topics/%6eews"), "text/plain", "x", "text/plain"},
		{"topic", "/topics/news", "application/atom+xml", "<feed/>", "application/atom+xml"},
		{"topic in another spelling", "/topics/n%65ws", "text/plain", "x", "text/plain"},
		{"topic, a form is content too", "/topics/news", formType, "hub.mode=subscribe", formType},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			var header []string
			if tc.contentType != "" {
				header = []string{"Content-Type", tc.contentType}
			}
			w := f.send("POST", tc.target, tc.body, header...)
			if body := want(t, w, 200); body != "hub.mode=accepted" {
				t.Errorf("the response is %q", body)
			}
			if got := w.Header().Get("Content-Type"); got != formType {
				t.Errorf("the response's type is %q", got)
			}
			if got := w.Header().Get("X-Hub-Message-Id"); got != "1-1" {
				t.Errorf("X-Hub-Message-Id is %q, want 1-1", got)
			}
			r := f.send("GET", "/topics/news", "")
			if body := want(t, r, 200); body != tc.body {
				t.Errorf("read back %q", body)
			}
			for name, value := range map[string]string{
				"Content-Type":     tc.wantType,
				"X-Hub-Message-Id": "1-1",
				"Cache-Control":    "no-cache",
				"Last-Modified":    "Sun, 01 Nov 2026 12:00:00 GMT",
				"Link":             `<https://hub.example.net/hub>; rel="hub", <https://hub.example.net/topics/news>; rel="self"`,
			} {
				if got := r.Header()[name]; len(got) != 1 || got[0] != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			if etag := r.Header().Get("ETag"); len(etag) < 3 || etag[0] != '"' {
				t.Errorf("ETag is %q, want a strong one", etag)
			}
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	send := func(key, contentType, body string) *httptest.ResponseRecorder {
		return f.send("POST", publishURL(topicURL), body, "Content-Type", contentType, "Idempotency-Key", key)
	}
	first := send("k", "text/plain", "a")
	want(t, first, 200)
	again := send("k", "text/plain", "a")
	want(t, again, 200)
	if a, b := first.Header().Get("X-Hub-Message-Id"), again.Header().Get("X-Hub-Message-Id"); a != b || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repetition got %s (replayed %q), the first %s", b, again.Header().Get("Idempotency-Replayed"), a)
	}
	checkErrorLine(t, want(t, send("k", "text/plain", "b"), 422))
	want(t, send("k", "text/html", "a"), 422)
	want(t, send("k2", "text/plain", "a"), 200)
	f.clock.advance(24*time.Hour + time.Second)
	want(t, send("k", "text/plain", "c"), 200)
	if top := f.ledger.state.Topics(0, 1); top[0].Head != 3 {
		t.Errorf("the topic has %d messages, want 3", top[0].Head)
	}
	want(t, send("", "text/plain", "a"), 400)
	want(t, send(strings.Repeat("k", 256), "text/plain", "a"), 400)
	want(t, f.send("POST", "/topics/news", "a", "Idempotency-Key", "a", "Idempotency-Key", "b"), 400)
}

func TestReadingTopics(t *testing.T) {
	f := newFixture(t)
	want(t, f.send("GET", "/topics/news", ""), 404)
	want(t, f.form("hub.mode", "register", "hub.topic", topicURL), 200)
	w := f.send("GET", "/topics/news", "")
	want(t, w, 204)
	if got := w.Header().Get("Link"); !strings.Contains(got, `rel="hub"`) || !strings.Contains(got, `rel="self"`) {
		t.Errorf("a topic without content is not discoverable: Link is %q", got)
	}
	for i := range 5 {
		want(t, f.send("POST", "/topics/news", fmt.Sprintf("message %d", i+1)), 200)
	}
	f.ledger.trim(t, 1, 2)
	for _, tc := range []struct {
		target string
		status int
		body   string
	}{
		{"/topics/news", 200, "message 5"},
		{"/topics/news?offset=5", 200, "message 5"},
		{"/topics/news?offset=3", 200, "message 3"},
		{"/topics/news?x=y", 200, "message 5"},
		{"/topics/news?offset=2", 410, ""},
		{"/topics/news?offset=6", 404, ""},
		{"/topics/news?offset=0", 400, ""},
		{"/topics/news?offset=-1", 400, ""},
		{"/topics/news?offset=", 400, ""},
		{"/topics/news?offset=1&offset=3", 400, ""},
		{"/topics/news?offset=%zz", 400, ""},
		{"/topics/news?offset=99999999999999999999", 400, ""},
		{"/topics/other", 404, ""},
		{"/topics/", 400, ""},
	} {
		w := f.send("GET", tc.target, "")
		body := want(t, w, tc.status)
		if tc.status == 200 && body != tc.body {
			t.Errorf("GET %s: %q, want %q", tc.target, body, tc.body)
		}
		if tc.status != 200 {
			checkErrorLine(t, body)
		}
		if head := f.send("HEAD", tc.target, ""); head.Code != tc.status || tc.status == 200 && (head.Body.Len() > 0 ||
			head.Header().Get("Content-Length") != fmt.Sprint(len(tc.body)) || head.Header().Get("ETag") != w.Header().Get("ETag")) {
			t.Errorf("HEAD %s: %d %v with %d bytes", tc.target, head.Code, head.Header(), head.Body.Len())
		}
	}
	f.ledger.trim(t, 1, 5)
	want(t, f.send("GET", "/topics/news", ""), 204)
}

func TestTopicPaths(t *testing.T) {
	f := newFixture(t)
	for path, name := range map[string]string{
		"/topics/a/b":       "a/b",
		"/topics/a%2Fb":     "a/b",
		"/topics/caf%C3%A9": "café",
		"/topics/a+b":       "a+b",
		"/topics/a%20b":     "a b",
		"/topics/a%252Fb":   "a%2Fb",
		"/topics/https%3A%2F%2Fexample.com%2Ffeed": "https://example.com/feed",
	} {
		want(t, f.send("POST", path, name), 200)
		if body := want(t, f.send("GET", path, ""), 200); body != name {
			t.Errorf("%s reads %q, want %q", path, body, name)
		}
		if _, ok := f.ledger.state.TopicByName(name); !ok {
			t.Errorf("%s did not create the topic %q", path, name)
		}
	}
	// rel=self leads back to the topic.
	for _, path := range []string{"/topics/caf%C3%A9", "/topics/a%20b", "/topics/a%252Fb"} {
		_, self, _ := strings.Cut(f.send("GET", path, "").Header().Get("Link"), ", <")
		self, _, _ = strings.Cut(self, ">")
		local := strings.TrimPrefix(self, publicURL)
		if a, b := want(t, f.send("GET", path, ""), 200), want(t, f.send("GET", local, ""), 200); a != b {
			t.Errorf("rel=self of %s is %s, which reads %q", path, self, b)
		}
	}
}

func TestConditionalGet(t *testing.T) {
	f := newFixture(t)
	want(t, f.send("POST", "/topics/news", "one"), 200)
	f.clock.advance(10 * time.Second)
	want(t, f.send("POST", "/topics/news", "two"), 200)
	w := f.send("GET", "/topics/news", "")
	etag, modified := w.Header().Get("ETag"), w.Header().Get("Last-Modified")
	if old := f.send("GET", "/topics/news?offset=1", "").Header().Get("ETag"); old == etag {
		t.Fatal("two messages have the same ETag")
	}
	for _, tc := range []struct {
		name   string
		header []string
		status int
	}{
		{"same tag", []string{"If-None-Match", etag}, 304},
		{"weak tag", []string{"If-None-Match", "W/" + etag}, 304},
		{"any", []string{"If-None-Match", "*"}, 304},
		{"in a list", []string{"If-None-Match", `"x", W/"y,z" ,` + etag}, 304},
		{"in a second line", []string{"If-None-Match", `"x"`, "If-None-Match", etag}, 304},
		{"other tag", []string{"If-None-Match", `"x"`}, 200},
		{"unquoted tag", []string{"If-None-Match", strings.Trim(etag, `"`)}, 200},
		{"open tag", []string{"If-None-Match", strings.TrimSuffix(etag, `"`)}, 200},
		{"tag in a tag", []string{"If-None-Match", `"` + strings.Trim(etag, `"`) + ` "`}, 200},
		{"empty", []string{"If-None-Match", ""}, 200},
		{"same date", []string{"If-Modified-Since", modified}, 304},
		{"later date", []string{"If-Modified-Since", "Sun, 01 Nov 2027 12:00:00 GMT"}, 304},
		{"earlier date", []string{"If-Modified-Since", "Sun, 01 Nov 2026 12:00:00 GMT"}, 200},
		{"no date", []string{"If-Modified-Since", "yesterday"}, 200},
		{"the tag counts more than the date", []string{"If-None-Match", `"x"`, "If-Modified-Since", modified}, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := f.send("GET", "/topics/news", "", tc.header...)
			body := want(t, w, tc.status)
			if tc.status == 304 && (body != "" || w.Header().Get("ETag") != etag || w.Header().Get("Link") == "") {
				t.Errorf("304 with %q and %v", body, w.Header())
			}
		})
	}
	// After two messages in one second, a client with the first must not get 304.
	f.clock.advance(200 * time.Millisecond)
	want(t, f.send("POST", "/topics/news", "three"), 200)
	if body := want(t, f.send("GET", "/topics/news", "", "If-Modified-Since", modified), 200); body != "three" {
		t.Errorf("got %q", body)
	}
}

// A published page must not run scripts with the hub's origin.
func TestContentIsSandboxed(t *testing.T) {
	f := newFixture(t)
	want(t, f.send("POST", "/topics/x", "<script>alert(1)</script>", "Content-Type", "text/html"), 200)
	h := f.send("GET", "/topics/x", "").Header()
	if h.Get("Content-Security-Policy") != "sandbox" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers are %v", h)
	}
}

func TestLinksIgnoreHost(t *testing.T) {
	f := newFixture(t)
	want(t, f.send("POST", "/topics/x", "x"), 200)
	r := httptest.NewRequest(http.MethodGet, "http://192.0.2.66/topics/x", nil)
	r.Header.Set("X-Forwarded-Host", "evil.example")
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if got := w.Header().Get("Link"); strings.Contains(got, "evil") || strings.Contains(got, "192.0.2.66") {
		t.Errorf("Link is %q", got)
	}
}

// brokenReader fails like a disk, or loses its messages between two reads.
type brokenReader struct{ err error }

func (b brokenReader) Read(hub.TopicID, uint64, int, int) ([]hub.Message, error) { return nil, b.err }

func TestReadErrors(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
	}{{errors.New("read segment: input/output error"), 500}, {hub.ErrTrimmed, 503}, {nil, 503}} {
		f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Messages = brokenReader{tc.err} })
		want(t, f.send("POST", "/topics/x", "x"), 200)
		want(t, f.send("GET", "/topics/x", ""), tc.status)
	}
}
