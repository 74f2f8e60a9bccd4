package upstream_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/web/gateway/upstream"
)

// transport is the http.Transport that the tests call through.
func transport(t testing.TB) *http.Transport {
	tr := &http.Transport{MaxIdleConnsPerHost: 2048, DisableCompression: true, MaxResponseHeaderBytes: 32 << 10, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// rawService answers each connection with what talk writes, after it has read the head of a request.
func rawService(t testing.TB, talk func(head string, c net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				var head strings.Builder
				for r := bufio.NewReaderSize(c, 16); !strings.HasSuffix(head.String(), "\r\n\r\n"); {
					b, err := r.ReadByte()
					if err != nil {
						return
					}
					head.WriteByte(b)
				}
				talk(head.String(), c)
			})
		}
	})
	return "http://" + l.Addr().String()
}

// gateway serves what a pool calls, as the pipeline does.
func gateway(t testing.TB, p *upstream.Pool) *httptest.Server {
	s := httptest.NewServer(handler(p))
	t.Cleanup(s.Close)
	return s
}

func handler(p *upstream.Pool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if protocol := upstream.Upgrade(r); protocol != "" {
			http.Error(w, "no "+protocol, http.StatusNotImplemented)
			return
		}
		upstream.CleanRequest(r.Header)
		q := &upstream.Request{Method: r.Method, Target: r.RequestURI, Header: r.Header, ContentLength: r.ContentLength,
			Early:     func() { _ = http.NewResponseController(w).EnableFullDuplex() },
			Interrupt: func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now()) }}
		if r.ContentLength != 0 {
			q.Body = r.Body
		}
		resp, err := p.Call(r.Context(), q)
		var e *upstream.Error
		switch {
		case errors.As(err, &e):
			e.Problem().Write(w, r, "id")
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			defer resp.Body.Close()
			send(w, resp)
		}
	})
}

// send passes a response on as it comes. If it breaks off, so does the client's connection.
func send(w http.ResponseWriter, resp *http.Response) {
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	piece, flush := make([]byte, 16<<10), func() {
		if resp.ContentLength < 0 {
			_ = http.NewResponseController(w).Flush()
		}
	}
	for flush(); ; flush() {
		n, err := resp.Body.Read(piece)
		if _, broken := w.Write(piece[:n]); broken != nil || err != nil && err != io.EOF {
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			return
		}
	}
}

// exchange sends raw bytes to a server and returns what comes back until the connection ends.
func exchange(t testing.TB, url, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, raw)
	got, _ := io.ReadAll(c)
	return string(got)
}

// TestBodiesStreamBothWays: each piece arrives before the next one is sent.
func TestBodiesStreamBothWays(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		piece := make([]byte, 64)
		for {
			n, err := r.Body.Read(piece)
			if n > 0 {
				_, _ = w.Write(bytes.ToUpper(piece[:n]))
				_ = http.NewResponseController(w).Flush()
			}
			if err != nil {
				return
			}
		}
	}))
	defer service.Close()
	p := newPool(t, transport(t), upstream.Config{URLs: []string{service.URL}})
	front := gateway(t, p)
	client := transport(t)
	in, out := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", front.URL+"/echo", in)
	go func() { _, _ = io.WriteString(out, "piece 0 ") }()
	resp, err := client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, 8)
	for i := range 20 {
		if i > 0 {
			if _, err := fmt.Fprintf(out, "piece %d ", i%10); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != fmt.Sprintf("PIECE %d ", i%10) {
			t.Fatalf("piece %d: got %q, %v", i, got, err)
		}
	}
	out.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}

// TestIncompleteResponsesDoNotLookComplete: whatever way the upstream breaks off, the client's response is cut, and the
// failure is booked.
func TestIncompleteResponsesDoNotLookComplete(t *testing.T) {
	for name, c := range map[string]struct {
		raw   string
		class upstream.Class
	}{
		"shorter than its Content-Length": {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", upstream.ClassReset},
		"chunk cut off":                   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this", upstream.ClassReset},
		"last chunk missing":              {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n", upstream.ClassReset},
		"chunk of nonsense":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n", upstream.ClassProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			url := rawService(t, func(_ string, conn net.Conn) { _, _ = io.WriteString(conn, c.raw) })
			p := newPool(t, transport(t), upstream.Config{URLs: []string{url}})
			resp, err := p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/"})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			var e *upstream.Error
			if !errors.As(err, &e) || e.Class != c.class || string(body) != "only this" {
				t.Errorf("read %q, %v; want the beginning and class %s", body, err, c.class)
			}
			if st := p.Status(); st.InFlight != 0 || st.Calls.Failed[c.class] != 1 || st.Addresses[0].Attempts.Failed[c.class] != 1 {
				t.Errorf("status %+v", st)
			}
			req, _ := http.NewRequestWithContext(t.Context(), "GET", gateway(t, p).URL+"/", nil)
			resp, err = transport(t).RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Error("the client takes the response for complete")
			}
		})
	}
}

// TestWhatTheUpstreamMayNotSend: none of it reaches a client, and each is a failure of its class.
func TestWhatTheUpstreamMayNotSend(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		want string
	}{
		"nothing":                        {"", "reset"},
		"a header without its end":       {"HTTP/1.1 200 OK\r\nX: 1\r\n", "reset"},
		"no HTTP":                        {"SSH-2.0-OpenSSH_9.2\r\n", "protocol"},
		"two Content-Lengths":            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc", "protocol"},
		"a negative Content-Length":      {"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", "protocol"},
		"an unknown Transfer-Encoding":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "protocol"},
		"a header that is too long":      {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "protocol"},
		"a change of the protocol":       {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello", "protocol"},
		"a status below 100":             {"HTTP/1.1 042 Odd\r\nContent-Length: 0\r\n\r\n", "protocol"},
		"informational headers for ever": {strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("x", 1000)+"\r\n\r\n", 100), "protocol"},
	} {
		url := rawService(t, func(_ string, conn net.Conn) { _, _ = io.WriteString(conn, c.raw) })
		p := newPool(t, transport(t), upstream.Config{URLs: []string{url}})
		expect(t, name, call(t, p, "GET"), c.want)
		if n := p.Status().InFlight; n != 0 {
			t.Errorf("%s: %d in flight at the end", name, n)
		}
	}
	// Both lengths: the chunks count, and the length does not go on. Nor does a name that some read as a length.
	url := rawService(t, func(_ string, conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length : 1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
	})
	got := exchange(t, gateway(t, newPool(t, transport(t), upstream.Config{URLs: []string{url}})).URL, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if strings.Contains(got, "Content-Length") || !strings.Contains(got, "\r\n4\r\nbody\r\n0\r\n") {
		t.Errorf("with both lengths the client got %q", got)
	}
}

// TestHopByHopFieldsStay on their hop, in both directions, and so do those that Connection names.
func TestHopByHopFieldsStay(t *testing.T) {
	var head atomic.Value
	url := rawService(t, func(request string, c net.Conn) {
		head.Store(request)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: X-Inner, keep-alive\r\nX-Inner: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n"+
			"Trailer: X-T\r\nUpgrade: h2c\r\nAlt-Svc: h3=\":9100\"\r\nX-Kept: yes\r\nContent-Length: 2\r\n\r\nok")
	})
	p := newPool(t, transport(t), upstream.Config{URLs: []string{url + "/base/"}, Headers: map[string]string{"x-api-key": "s3cret", "X-Env": "prod"}})
	got := exchange(t, gateway(t, p).URL, "GET /a%2Fb;v=1/?q=%20&r=a+b&&s HTTP/1.1\r\nHost: gateway.example\r\nConnection: close, X-Secret-Hop, Keep-Alive\r\nX-Secret-Hop: 1\r\n"+
		"TE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: Basic x\r\nProxy-Connection: x\r\nExpect: 100-continue\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"+
		"X_Api_Key: mine\r\nX-Api-Key: mine\r\nX-Kept: yes\r\n\r\n")
	sent, _ := head.Load().(string)
	first, _, _ := strings.Cut(sent, "\r\n")
	expect(t, "request line", first, "GET /base/a%2Fb;v=1/?q=%20&r=a+b&&s HTTP/1.1")
	lines := strings.Split(strings.TrimSpace(sent), "\r\n")[1:]
	slices.Sort(lines)
	expect(t, "header sent", strings.Join(lines, "|"), "Host: "+strings.TrimPrefix(url, "http://")+"|X-Api-Key: s3cret|X-Env: prod|X-Kept: yes")
	for _, name := range []string{"X-Inner", "Keep-Alive", "Proxy-Authenticate", "Trailer", "Upgrade", "Alt-Svc"} {
		if strings.Contains(got, name+":") {
			t.Errorf("%s reached the client: %q", name, got)
		}
	}
	if !strings.Contains(got, "X-Kept: yes") || !strings.HasSuffix(got, "ok") {
		t.Errorf("the client got %q", got)
	}
	// What a caller has not cleaned is cleaned by Call, lengths and hosts included.
	forgotten := http.Header{"Connection": {"X-Hop"}, "X-Hop": {"1"}, "Te": {"trailers"}, "Transfer-Encoding": {"chunked"}, "Content-Length": {"5"}, "Host": {"other"},
		"Upgrade": {"websocket"}, "X-Kept": {"yes"}}
	expect(t, "uncleaned", outcome(p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/", Header: forgotten})), "200")
	sent, _ = head.Load().(string)
	lines = strings.Split(strings.TrimSpace(sent), "\r\n")[1:]
	slices.Sort(lines)
	expect(t, "header sent", strings.Join(lines, "|"), "Host: "+strings.TrimPrefix(url, "http://")+"|X-Api-Key: s3cret|X-Env: prod|X-Kept: yes")
}

// TestInformationalResponsesStay on their hop unless somebody takes them, and the response after them goes on.
func TestInformationalResponsesStay(t *testing.T) {
	url := rawService(t, func(_ string, c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	p := newPool(t, transport(t), upstream.Config{URLs: []string{url}})
	got := exchange(t, gateway(t, p).URL, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "ok") || strings.Contains(got, "Link") {
		t.Errorf("the client got %q", got)
	}
	var hints []string
	r := &upstream.Request{Method: "GET", Target: "/", Informational: func(code int, h http.Header) { hints = append(hints, fmt.Sprint(code, h)) }}
	expect(t, "with somebody to take them", outcome(p.Call(t.Context(), r)), "200")
	expect(t, "hints", strings.Join(hints, "|"), "103 map[Link:[</x>]]")
}

// TestNoHintAfterTheCall: whoever takes hints writes to the client, as does what follows a call that was given up.
func TestNoHintAfterTheCall(t *testing.T) {
	url := rawService(t, func(_ string, c net.Conn) {
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	p := newPool(t, transport(t), upstream.Config{URLs: []string{url}, Timeout: 20 * time.Millisecond})
	over, late := false, false // unguarded: the race detector watches too
	for range 20 {
		over = false
		r := &upstream.Request{Method: "GET", Target: "/", Informational: func(int, http.Header) { late = late || over }}
		expect(t, "endless hints", outcome(p.Call(t.Context(), r)), "timeout")
		over = true
	}
	if late {
		t.Error("a hint came after the call")
	}
}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func (s *trickle) Read(p []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.every)
	if s.n--; s.n == 0 {
		time.Sleep(s.stall)
	}
	p[0] = 'x'
	return 1, nil
}

func (w *watched) Read(p []byte) (int, error) {
	w.reads.Add(1)
	defer w.reads.Add(-1)
	return w.Reader.Read(p)
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// TestUpgradeIsSeen, so that it can be refused; a wish for h2c is none.
func TestUpgradeIsSeen(t *testing.T) {
	s := &services{}
	front := gateway(t, newPool(t, s, upstream.Config{}))
	const head = "GET / HTTP/1.1\r\nHost: x\r\n"
	for raw, want := range map[string]string{
		"Connection: keep-alive, Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n": "501 Not Implemented",
		"Connection: upgrade, close\r\nUpgrade: h2c, tls/1.2\r\n":                                       "501 Not Implemented",
		"Connection: upgrade, close\r\nUpgrade: h2c\r\n":                                                "200 OK",
		"Connection: close\r\nUpgrade: websocket\r\n":                                                   "200 OK",
	} {
		if got := exchange(t, front.URL, head+raw+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%q: got %q, want %s", raw, got, want)
		}
	}
	r := httptest.NewRequest("CONNECT", "/", nil)
	r.Header[":protocol"] = []string{"websocket"}
	expect(t, "extended CONNECT", upstream.Upgrade(r), "websocket")
}

// TestHTTP2 to an https upstream: calls share a connection, and broken streams are resets.
func TestHTTP2(t *testing.T) {
	var conns atomic.Int32
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/breaks" {
			_, _ = io.WriteString(w, "begins")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Proto", r.Proto)
		_, _ = w.Write(body)
	}))
	service.EnableHTTP2 = true
	service.Config.ErrorLog = log.New(io.Discard, "", 0)
	service.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	service.StartTLS()
	defer service.Close()
	tr := transport(t)
	tr.TLSClientConfig = &tls.Config{RootCAs: service.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	p := newPool(t, tr, upstream.Config{URLs: []string{service.URL}})
	for range 5 {
		resp, err := p.Call(t.Context(), &upstream.Request{Method: "POST", Target: "/", ContentLength: 4, Body: strings.NewReader("body")})
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		expect(t, "answer", string(body)+" "+resp.Header.Get("X-Proto"), "body HTTP/2.0")
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 5 calls", n)
	}
	expect(t, "broken stream", outcome(p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/breaks"})), "reset")
	untrusted := newPool(t, transport(t), upstream.Config{URLs: []string{service.URL}})
	expect(t, "unknown authority", call(t, untrusted, "GET"), "tls")
}

// TestPoolThatIsReplaced: Close lets calls under way go on and keeps no connection, whenever a call comes.
func TestPoolThatIsReplaced(t *testing.T) {
	hold := make(chan struct{})
	var open atomic.Int32
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begins ")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/long" {
			<-hold
		}
		_, _ = io.WriteString(w, "ends")
	}))
	service.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		case http.StateActive, http.StateHijacked, http.StateIdle:
		}
	}
	service.Start()
	defer service.Close()
	p := newPool(t, transport(t), upstream.Config{URLs: []string{service.URL}})
	expect(t, "call", call(t, p, "GET"), "200")
	resp, err := p.Call(t.Context(), &upstream.Request{Method: "GET", Target: "/long"})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	expect(t, "call after Close", call(t, p, "GET"), "200")
	close(hold)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "begins ends" || err != nil {
		t.Errorf("the call under way got %q, %v", body, err)
	}
	waitFor(t, "no connection", func() bool { return open.Load() == 0 })
}
