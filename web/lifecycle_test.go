package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// running is a fixture that listens on a loopback port.
type running struct {
	*fixture
	addr   string
	client *http.Client
	served chan error
	cancel context.CancelFunc
}

func start(t *testing.T, change ...func(*hub.Policy, *web.Options)) *running {
	t.Helper()
	return serve(t, newFixture(t, change...))
}

func serve(t *testing.T, f *fixture) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{fixture: f, addr: ln.Addr().String(), served: make(chan error, 1)}
	tr := &http.Transport{}
	r.client = &http.Client{Transport: tr}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.served <- r.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		tr.CloseIdleConnections()
		_ = r.Close(context.Background())
	})
	return r
}

func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// raw sends raw bytes and reads one response.
func (r *running) raw(t *testing.T, request string, closeWrite bool) (int, http.Header, string) {
	t.Helper()
	c := r.dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if closeWrite {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	return readAnswer(t, c)
}

func readAnswer(t *testing.T, c net.Conn) (int, http.Header, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func chunked(target, contentType string, chunks ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", target, contentType)
	for _, c := range chunks {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(c), c)
	}
	return b.String()
}

func TestBodiesOfUnknownLength(t *testing.T) {
	const last = "0\r\n\r\n"
	r := start(t, func(rules *hub.Policy, _ *web.Options) { rules.MaxMessageBytes = 100_000 })
	big := strings.Repeat("0123456789", 5_000)
	for _, tc := range []struct {
		name, request string
		status        int
		content       string
	}{
		{"small", chunked("/topics/a", "text/plain", "hello ", "world") + last, 200, "hello world"},
		{"nothing", chunked("/topics/b", "text/plain") + last, 200, ""},
		{"grows several times", chunked("/topics/c", "text/plain", big, "x") + last, 200, big + "x"},
		{"just the limit", chunked("/topics/d", "text/plain", big, big) + last, 200, big + big},
		{"one byte too many", chunked("/topics/e", "text/plain", big, big, "x") + last, 413, ""},
		{"a form", chunked("/hub", formType, "hub.mode=register&hub.", "topic="+publicURL+"/topics/f") + last, 200, ""},
		{"a bad chunk", chunked("/topics/g", "text/plain", "hello") + "zz\r\n", 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, _, body := r.raw(t, tc.request, false)
			if status != tc.status {
				t.Fatalf("got %d %q, want %d", status, body, tc.status)
			}
			if tc.content != "" {
				target := strings.Fields(tc.request)[1]
				if got := want(t, r.send("GET", target, ""), 200); got != tc.content {
					t.Errorf("%d bytes arrived, want %d", len(got), len(tc.content))
				}
			}
		})
	}
}

// A publisher that dies in the middle of its content must not publish half of it.
func TestTruncatedBodyIsNotPublished(t *testing.T) {
	r := start(t)
	for name, request := range map[string]string{
		"chunks that end early": chunked("/topics/a", "text/plain", "hello"),
		"half a chunk":          chunked("/topics/a", "text/plain") + "5\r\nhel",
		"half a length":         "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nhello",
		"half a form":           "POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: " + formType + "\r\nContent-Length: 90\r\n\r\nhub.mode=register&hub.topic=" + topicURL,
	} {
		status, _, body := r.raw(t, request, true)
		if status != 400 {
			t.Errorf("%s: got %d %q, want 400", name, status, body)
		}
	}
	var n hub.Counts
	r.ledger.View(func(st *hub.State) { n = st.Counts() })
	if n != (hub.Counts{}) {
		t.Errorf("the state changed: %+v", n)
	}
}

// Content-Length alone is enough for a refusal, so that the publisher need not send the body.
func TestTooLargeIsRefusedBeforeTheBody(t *testing.T) {
	r := start(t)
	status, _, body := r.raw(t, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 4097\r\n\r\n", false)
	if status != 413 {
		t.Errorf("got %d %q, want 413", status, body)
	}
}

func TestSlowBodyTimesOut(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.BodyTimeout = 50 * time.Millisecond })
	status, _, body := r.raw(t, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nhello", false)
	if status != 408 {
		t.Errorf("got %d %q, want 408", status, body)
	}
	checkErrorLine(t, body)
}

// net/http reads the body before it sends a refusal, so a body that never arrives must not hold the connection.
func TestUnreadBodyTimesOut(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.BodyTimeout = 50 * time.Millisecond })
	for target, want := range map[string]int{"/topics/": 400, "/hub": 415, "/health": 405} {
		status, _, body := r.raw(t, "POST "+target+" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n", false)
		if status != want {
			t.Errorf("POST %s: got %d %q, want %d", target, status, body, want)
		}
	}
}

// While all connections are being served, new ones wait.
func TestConnectionLimit(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.MaxConnections = 1 })
	r.ledger.block, r.ledger.entered = make(chan struct{}), make(chan struct{}, 1)
	first := r.dial(t)
	if _, err := io.WriteString(first, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	<-r.ledger.entered
	second := r.dial(t)
	if _, err := io.WriteString(second, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := second.SetReadDeadline(time.Now().Add(150 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a second connection was answered during the first (%v)", err)
	}
	close(r.ledger.block)
	if status, _, _ := readAnswer(t, first); status != 200 {
		t.Errorf("the first got %d", status)
	}
	if err := second.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := readAnswer(t, second); status != 200 {
		t.Errorf("after the first is served: got %d", status)
	}
}

// The body's deadline must not cancel the request while its message is being written.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.BodyTimeout = 50 * time.Millisecond })
	r.ledger.block, r.ledger.entered = make(chan struct{}), make(chan struct{}, 1)
	c := r.dial(t)
	if _, err := io.WriteString(c, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
		t.Fatal(err)
	}
	<-r.ledger.entered
	timer := time.NewTimer(200 * time.Millisecond) // four times the deadline
	defer timer.Stop()
	<-timer.C
	close(r.ledger.block)
	if status, _, body := readAnswer(t, c); status != 200 {
		t.Errorf("got %d %q, want 200", status, body)
	}
}

// Bodies that exceed the budget are refused until the others are done.
func TestBodyBudget(t *testing.T) {
	r := start(t, func(rules *hub.Policy, o *web.Options) { rules.MaxMessageBytes, o.BudgetBytes = 1000, 1500 })
	r.ledger.block, r.ledger.entered = make(chan struct{}), make(chan struct{}, 1)
	held := r.dial(t)
	if _, err := io.WriteString(held, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("x", 1000)); err != nil {
		t.Fatal(err)
	}
	<-r.ledger.entered
	post := func() *http.Response {
		resp, err := r.client.Post("http://"+r.addr+"/topics/b", "text/plain", strings.NewReader(strings.Repeat("y", 600)))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	if resp := post(); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("over budget: got %d with %v", resp.StatusCode, resp.Header)
	}
	close(r.ledger.block)
	if status, _, _ := readAnswer(t, held); status != 200 {
		t.Errorf("the request that used the budget got %d", status)
	}
	go func() {
		for range r.ledger.entered {
		}
	}()
	defer close(r.ledger.entered)
	if resp := post(); resp.StatusCode != 200 {
		t.Errorf("with room again: got %d", resp.StatusCode)
	}
}

func TestHeaderSizeLimit(t *testing.T) {
	r := start(t)
	status, _, _ := r.raw(t, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Big: "+strings.Repeat("x", 64<<10)+"\r\n\r\n", false)
	if status != 431 {
		t.Errorf("64 KiB of headers: got %d, want 431", status)
	}
}

func TestStopWaitsForRequestsInFlight(t *testing.T) {
	r := start(t)
	r.ledger.block, r.ledger.entered = make(chan struct{}), make(chan struct{}, 1)
	c := r.dial(t)
	if _, err := io.WriteString(c, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
		t.Fatal(err)
	}
	<-r.ledger.entered
	r.cancel()
	for r.send("GET", "/health/ready", "").Code != 503 { // not ready as soon as it is stopping
		select {
		case err := <-r.served:
			t.Fatalf("Serve returned %v with a request in flight", err)
		case <-time.After(time.Millisecond):
		}
	}
	close(r.ledger.block)
	if status, _, body := readAnswer(t, c); status != 200 {
		t.Errorf("the request in flight got %d %q", status, body)
	}
	if err := <-r.served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("the port is still open")
	}
	if err := r.Close(t.Context()); err != nil {
		t.Errorf("a second Close returned %v", err)
	}
}

func TestStopCutsOffSlowRequests(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.StopGrace = 50 * time.Millisecond })
	r.ledger.block, r.ledger.entered = make(chan struct{}), make(chan struct{}, 1)
	c := r.dial(t)
	if _, err := io.WriteString(c, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
		t.Fatal(err)
	}
	<-r.ledger.entered
	r.cancel()
	if err := <-r.served; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Serve returned %v, want an error about cut off requests", err)
	}
}

// broken is a StateReader that panics.
type broken struct{}

func (broken) View(func(*hub.State)) { panic("the view is broken") }

func TestPanicFailsOneRequest(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.State = broken{} })
	resp, err := r.client.Get("http://" + r.addr + "/v1/topics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	id := resp.Header.Get("X-Correlation-Id")
	if resp.StatusCode != 500 || !strings.Contains(string(body), id) || strings.Contains(string(body), "the view is broken") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if log := r.logged.String(); !strings.Contains(log, "the view is broken") || !strings.Contains(log, id) || !strings.Contains(log, "stack=") {
		t.Errorf("the log is %q", log)
	}
	want(t, r.send("GET", "/health", ""), 200)
}

func TestInvalidOptions(t *testing.T) {
	if _, err := web.New(web.Options{}); err == nil {
		t.Error("New accepted empty options")
	}
	f := newFixture(t)
	for _, u := range []string{"", "hub.example.net", "ftp://hub.example.net", "https://u:p@hub.example.net"} {
		o := f.Options
		o.PublicURL, o.Registry = u, nil
		if _, err := web.New(o); err == nil || !strings.Contains(err.Error(), "PublicURL") {
			t.Errorf("PublicURL %q: New returned %v", u, err)
		}
	}
}
