package web_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// dialFrom dials from a chosen loopback address.
func (r *running) dialFrom(t *testing.T, client string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	c, err := d.Dial("tcp4", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// serves reports whether a connection gets an answer instead of being closed.
func serves(t *testing.T, c net.Conn) bool {
	t.Helper()
	if _, err := io.WriteString(c, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
		return false
	}
	var first [12]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return false
	}
	return string(first[:]) == "HTTP/1.1 200"
}

func TestClientConnectionLimit(t *testing.T) {
	for _, tc := range []struct {
		name    string
		trusted []netip.Prefix
		third   bool
	}{
		{"a client", nil, false},
		{"a trusted proxy", []netip.Prefix{netip.MustParsePrefix("127.0.0.66/32")}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, func(_ *hub.Policy, o *web.Options) { o.ClientConnections, o.TrustedProxies = 2, tc.trusted })
			const client = "127.0.0.66"
			first, second := r.dialFrom(t, client), r.dialFrom(t, client)
			if !serves(t, first) || !serves(t, second) {
				t.Fatal("the first two connections are not served")
			}
			if got := serves(t, r.dialFrom(t, client)); got != tc.third {
				t.Errorf("the third connection is served: %v, want %v", got, tc.third)
			}
			if !serves(t, r.dialFrom(t, "127.0.0.67")) {
				t.Error("another client is not served")
			}
			_ = first.Close()
			for end := time.Now().Add(20 * time.Second); !serves(t, r.dialFrom(t, client)); {
				if time.Now().After(end) {
					t.Fatal("a closed connection still counts")
				}
			}
		})
	}
}

// A client that is slow to send bodies uses no more than its share of the budget.
func TestClientBodyBudget(t *testing.T) {
	const size = 200 << 10
	r := start(t, func(rules *hub.Policy, o *web.Options) { rules.MaxMessageBytes, o.BudgetBytes = 256<<10, 8<<20 })
	head := fmt.Sprintf("POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n", size)
	refused := make(chan string, 100)
	for range 60 { // 12 MiB
		c := r.dialFrom(t, "127.0.0.66")
		go func() {
			_, _ = io.WriteString(c, head+strings.Repeat("x", size-1)) // fails if it was refused meanwhile
			resp, _ := io.ReadAll(io.LimitReader(c, 16))
			refused <- string(resp)
		}()
	}
	for range 60 - 5 { // an eighth of 8 MiB has room for five
		select {
		case got := <-refused:
			if !strings.HasPrefix(got, "HTTP/1.1 429") {
				t.Fatalf("got %q, want 429", got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the client exceeded its share")
		}
	}
	resp, err := r.client.Post("http://"+r.addr+"/topics/b", "text/plain", strings.NewReader(strings.Repeat("y", size)))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("another client got %d", resp.StatusCode)
	}
}

func TestClientStreamLimit(t *testing.T) {
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.ClientStreams = 2 })
	want(t, r.send("POST", "/topics/news", "x"), 200)
	open := func(client string) (net.Conn, int) {
		c := r.dialFrom(t, client)
		if _, err := io.WriteString(c, "GET /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		var status int
		if _, err := fmt.Fscanf(c, "HTTP/1.1 %d", &status); err != nil {
			t.Fatal(err)
		}
		return c, status
	}
	first, status := open("127.0.0.66")
	if status != 200 {
		t.Fatalf("got %d", status)
	}
	if _, status := open("127.0.0.66"); status != 200 {
		t.Fatalf("got %d", status)
	}
	if _, status := open("127.0.0.66"); status != 429 {
		t.Errorf("the third stream of a client got %d, want 429", status)
	}
	if _, status := open("127.0.0.67"); status != 200 {
		t.Errorf("another client got %d", status)
	}
	_ = first.Close()
	for end := time.Now().Add(20 * time.Second); ; {
		if _, status := open("127.0.0.66"); status == 200 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("an ended stream still counts")
		}
	}
}

// A header with many short fields takes thirty times its size in memory, so it is not kept while a body arrives.
func TestTooManyHeaderFields(t *testing.T) {
	r := start(t)
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	c := r.dial(t)
	if _, err := io.WriteString(c, "POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n"+b.String()+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 431") {
		t.Errorf("got %q and %v, want 431 and a closed connection without reading the body", got, err)
	}
	if status, _, _ := r.raw(t, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"+strings.Repeat("A: b\r\n", 90)+"\r\n", false); status != 200 {
		t.Errorf("many fields with one name: got %d", status)
	}
}

func TestEncodedBodiesAreRefused(t *testing.T) {
	f := newFixture(t)
	for _, header := range [][]string{
		{"Content-Encoding", "gzip"},
		{"Content-Encoding", "br"},
		{"Content-Encoding", "identity, gzip"},
		{"Content-Encoding", "identity", "Content-Encoding", "gzip"},
		{"Content-Encoding", strings.Repeat("gzip, ", 1000)},
	} {
		for _, target := range []string{"/topics/a", publishURL(topicURL), "/topics/a?hub.batch=true"} {
			w := f.send("POST", target, "x", append([]string{"Content-Type", "application/x-ndjson"}, header...)...)
			body := want(t, w, 415)
			if checkErrorLine(t, body); !strings.Contains(body, "identity") || w.Header().Get("Accept-Encoding") != "identity" {
				t.Errorf("%v: got %q with %v", header, body, w.Header())
			}
		}
		want(t, f.send("POST", "/hub", "hub.mode=register", append([]string{"Content-Type", formType}, header...)...), 415)
	}
	want(t, f.send("POST", "/topics/a", "x", "Content-Encoding", "identity"), 200)
}
