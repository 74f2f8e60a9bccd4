package web_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

const plainServices = `
version: 1
defaults: {produces: [json, xml]}
upstreams:
  hr: {urls: [UPSTREAM]}
services:
  - {name: deep, uri: deep/*, default: "1", versions: [{version: "1", target: "hr:/base/*", methods: [GET, HEAD, POST, PUT], auth: none, max_body: 64KiB, response: {arrays: [a/b]}}]}
  - {name: file, uri: file, default: "1", versions: [{version: "1", target: "hr:/file", methods: [GET, POST], auth: none, produces: [json], timeout: 2s}]}
`

// listening serves a gateway on a socket, as a process does.
func listening(t *testing.T, text string, change ...func(*hub.Policy, *web.Options)) (addr string, b *behind, f *fixture) {
	t.Helper()
	b = newBehind(t)
	_, option := serving(b, text, nil)
	f = newFixture(t, append([]func(*hub.Policy, *web.Options){option}, change...)...)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.Serve(t.Context(), ln) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(5 * time.Second); f.Serving().Hash == "" && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	return ln.Addr().String(), b, f
}

// raw sends bytes as they are, and returns the answer's status line, header and body.
func raw(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(request, "Connection: close") {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // the connection may stay
	}
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// Paths that programs read in different ways reach no service.
func TestGatewayRefusesPaths(t *testing.T) {
	addr, b, _ := listening(t, plainServices)
	for _, path := range []string{"/gateway/deep/a%2Fb", "/gateway/deep/a%2fb", "/gateway/deep/../file", "/gateway/deep/./file", "/gateway/deep//file", "/gateway//deep/a",
		"/gateway/deep/%2e%2e/file", "/gateway/deep/%2E./file", "/gateway/deep/.%2e", "/gateway/deep/..;/file", "/gateway/deep/%252e%252e/file", "/gateway/deep/%252f",
		`/gateway/deep/a\b`, "/gateway/deep/a%5Cb", "/gateway/deep/a%00b", "/gateway/deep/a%0d%0aX-A:b", "/gateway/deep/a%zz", "/gateway/deep/a%7Fb", "/gateway/deep/..",
		"/gateway/../gateway/deep/a", "/gateway/deep/\x01"} {
		answer := raw(t, addr, "GET "+path+" HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 400") && !strings.HasPrefix(answer, "HTTP/1.1 404") {
			t.Errorf("%q: %.80q", path, answer)
		}
	}
	if n := b.count(); n != 0 {
		r, _ := b.seen(t)
		t.Errorf("the service was called %d times, the last with %s", n, r.RequestURI)
	}
}

// Requests whose framing programs read in different ways reach no service, or at least end their connection.
func TestGatewayRefusesSmuggling(t *testing.T) {
	addr, b, _ := listening(t, plainServices)
	const next = "GET /gateway/deep/smuggled HTTP/1.1\nHost: 127.0.0.1\n\n"
	for name, request := range map[string]string{
		"two lengths":              "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 3\nContent-Length: 4\n\nabc" + next,
		"length and chunked":       "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n" + next,
		"chunked twice":            "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n" + next,
		"chunked, not last":        "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: chunked, identity\n\n0\n\n" + next,
		"obscured encoding":        "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: xchunked\n\n0\n\n" + next,
		"space before the colon":   "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding : chunked\n\n0\n\n" + next,
		"negative length":          "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nContent-Length: -3\n\nabc" + next,
		"length with a sign":       "POST /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nContent-Length: +3\n\nabc" + next,
		"NUL in a header":          "GET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nX-A: b\x00c\n\n" + next,
		"header without a name":    "GET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\n: b\n\n" + next,
		"two hosts":                "GET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nHost: evil.example\n\n" + next,
		"no host":                  "GET /gateway/deep/a HTTP/1.1\n\n" + next,
		"another host":             "GET /gateway/deep/a HTTP/1.1\nHost: evil.example\n\n",
		"huge header":              "GET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nX-A: " + strings.Repeat("a", 64<<10) + "\n\n" + next,
		"many headers":             "GET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\n" + manyHeaders(200) + "\n" + next,
		"CONNECT":                  "CONNECT 127.0.0.1:80 HTTP/1.1\nHost: 127.0.0.1:80\n\n",
		"upgrade to HTTP/2 prior":  "PRI * HTTP/2.0\n\nSM\n\n",
		"WebSocket":                "GET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n",
		"absolute-form elsewhere":  "GET http://evil.example/gateway/deep/a HTTP/1.1\nHost: evil.example\n\n",
		"invalid method":           "G(ET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\n\n" + next,
		"bare CR in a header name": "GET /gateway/deep/a HTTP/1.1\nHost: 127.0.0.1\nX\rA: b\n\n" + next,
	} {
		before := b.count()
		answer := raw(t, addr, request)
		if strings.HasPrefix(answer, "HTTP/1.1 2") || b.count() != before {
			// A request may be answered if its connection ends with it and what follows is not read as a request.
			if b.count() > before+1 || !strings.Contains(answer, "Connection: close") {
				t.Errorf("%s: reached the service %d times; answer %.200q", name, b.count()-before, answer)
			}
		}
		if last := b.lastPath(); strings.HasSuffix(last, "smuggled") {
			t.Fatalf("%s: a smuggled request reached the service", name)
		}
	}
}

func (b *behind) lastPath() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		return ""
	}
	return b.last.URL.Path
}

func manyHeaders(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "X-A%d: b\n", i)
	}
	return out.String()
}

func TestGatewayPassesPathsOnByteForByte(t *testing.T) {
	addr, b, _ := listening(t, plainServices)
	for path, want := range map[string]string{"/gateway/deep/a%20b/%C3%A9?x=%2F..%2F&y=a+b;c": "/base/a%20b/%C3%A9?x=%2F..%2F&y=a+b;c", "/gateway/deep/a;v=1/b%3Ac/": "/base/a;v=1/b%3Ac/"} {
		if answer := raw(t, addr, "GET "+path+" HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n\n"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
			t.Errorf("%s: %.100q", path, answer)
			continue
		}
		if r, _ := b.seen(t); r.RequestURI != want {
			t.Errorf("%s reached %s, want %s", path, r.RequestURI, want)
		}
	}
}

// Bodies stream in both directions, with their limits.
func TestGatewayStreams(t *testing.T) {
	addr, b, f := listening(t, plainServices)
	var got atomic.Int64
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		for range 4 {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		}
	})
	resp, err := http.Get("http://" + addr + "/gateway/deep/large")
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != 4<<20 || resp.StatusCode != 200 {
		t.Errorf("%d bytes, %v, status %d", n, err, resp.StatusCode)
	}
	b.answers(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(int64(len(body)))
	})
	for _, c := range []struct {
		size   int
		length bool
		status int
	}{{60 << 10, true, 200}, {60 << 10, false, 200}, {65 << 10, true, 413}, {65 << 10, false, 413}} {
		var body io.Reader = bytes.NewReader(make([]byte, c.size))
		if !c.length {
			body = io.MultiReader(body)
		}
		req, err := http.NewRequest("POST", "http://"+addr+"/gateway/deep/up", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || c.status == 200 && got.Load() != int64(c.size) {
			t.Errorf("%d bytes (length %t): %d %s; the service got %d", c.size, c.length, resp.StatusCode, text, got.Load())
		}
	}
	// Nothing of that is held.
	if held := want(t, f.send("GET", "/metrics", ""), 200); !strings.Contains(held, "quorumhub_http_body_bytes 0") {
		t.Error("bodies are still counted")
	}
}

// Whoever hangs up, or half closes the connection, gets no answer that looks like one.
func TestGatewayGivesNoAnswerToThoseWhoLeft(t *testing.T) {
	addr, b, f := listening(t, plainServices)
	b.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /gateway/file HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	_ = c.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // as dialled
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if answer, _ := io.ReadAll(c); len(answer) > 0 {
		t.Errorf("answered %q", answer)
	}
	_ = f
}

// A service that does not keep its word costs its caller an error, never a response that looks complete.
func TestGatewayTellsOfUpstreamTroubleItsClassOnly(t *testing.T) {
	addr, b, _ := listening(t, plainServices)
	get := func() string {
		return raw(t, addr, "GET /gateway/file HTTP/1.1\nHost: 127.0.0.1\nAccept: application/json\nConnection: close\n\n")
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"500 with a stack trace": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "at com.acme.Secret")
		}, `"code":"upstream"`},
		"401": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "Basic realm=acme")
			w.WriteHeader(401)
		}, `"code":"upstream"`},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, `"code":"upstream"`},
		"redirects inside": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/internal/acme")
			w.WriteHeader(302)
		}, `"code":"upstream"`},
		"no JSON after all": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, "acme <")
		}, `"code":"upstream"`},
		"an entity bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, `<!DOCTYPE x [<!ENTITY a "acme">]><x>&a;</x>`)
		}, `"code":"upstream"`},
		"too late": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		}, `"code":"upstream_timeout"`},
		"404 is an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"none":1}`)
		}, `{"none":1}`},
	} {
		b.answers(c.answer)
		answer := get()
		if !strings.Contains(answer, c.want) || strings.Contains(answer, "acme") || strings.Contains(answer, "127.0.0.1") || strings.Contains(answer, "Www-Authenticate") {
			t.Errorf("%s: %q", name, answer)
		}
	}
}

// A response that the service cuts short does not look complete, whether it said how long it would be or not.
func TestGatewayCutsWhatTheServiceCuts(t *testing.T) {
	addr, b, _ := listening(t, plainServices)
	for _, length := range []string{"100", ""} {
		b.answers(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/csv")
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = io.WriteString(w, "a,b\n")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond) // the first piece is on its way
			panic(http.ErrAbortHandler)
		})
		resp, err := http.Get("http://" + addr + "/gateway/deep/x")
		if err != nil {
			continue // before its header
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("length %q: %d %q looks complete", length, resp.StatusCode, got)
		}
	}
}

func TestGatewayRemovesWhatServicesMayNotSay(t *testing.T) {
	f, b, _ := newServing(t, plainServices)
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"Set-Cookie", "Server", "X-Powered-By", "Access-Control-Allow-Origin", "Strict-Transport-Security", "X-Correlation-Id", "Deprecation", "Sunset",
			"Clear-Site-Data", "Alt-Svc", "Connection", "Keep-Alive", "Proxy-Authenticate", "RateLimit"} {
			w.Header().Set(name, "forged")
		}
		w.Header().Set("X-Own", "kept")
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<script>")
	})
	w := f.send("GET", "/gateway/deep/x", "", "Accept", "*/*")
	want(t, w, 200)
	for name, values := range w.Header() {
		if strings.Contains(fmt.Sprint(values), "forged") {
			t.Errorf("%s is passed on", name)
		}
	}
	for name, value := range map[string]string{"X-Own": "kept", "ETag": `"1"`, "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "Vary": "Accept"} {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

func TestGatewayMovesLocations(t *testing.T) {
	f, b, _ := newServing(t, plainServices)
	for location, want := range map[string]string{
		"/base/new/1?x=1":            "/gateway/deep/new/1?x=1",
		"UPSTREAM/base/new/1":        "/gateway/deep/new/1",
		"https://www.example.org/x":  "https://www.example.org/x",
		"/elsewhere":                 "",
		"UPSTREAM/elsewhere":         "",
		"javascript:alert(1)":        "",
		"http://user:pw@example.org": "",
	} {
		b.answers(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", strings.ReplaceAll(location, "UPSTREAM", b.URL))
			w.WriteHeader(http.StatusFound)
		})
		w := f.send("GET", "/gateway/deep/x", "")
		status := 302
		if want == "" {
			status = 502
		}
		if w.Code != status || w.Header().Get("Location") != want {
			t.Errorf("%s: %d %q, want %d %q", location, w.Code, w.Header().Get("Location"), status, want)
		}
	}
}
