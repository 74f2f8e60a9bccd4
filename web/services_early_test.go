package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// inFrontOf starts a hub whose gateway has a service at /gateway/a.
func inFrontOf(t *testing.T, service http.HandlerFunc) *httptest.Server {
	t.Helper()
	b := &behind{Server: httptest.NewServer(service)}
	t.Cleanup(b.Close)
	_, option := serving(b, "version: 1\nupstreams: {a: {urls: [UPSTREAM]}}\nservices:\n"+
		"  - {name: a, uri: a, default: \"1\", versions: [{version: \"1\", target: \"a:/a\", methods: [GET, POST], auth: none}]}\n", nil)
	f := newFixture(t, option)
	f.StartServices(t.Context())
	t.Cleanup(func() { _ = f.Close(t.Context()) })
	server := httptest.NewServer(f.Server)
	t.Cleanup(server.Close)
	return server
}

// A service that answers before it has the whole body is heard at once, however much it says, while the client still sends.
func TestGatewayPassesOnAnEarlyAnswer(t *testing.T) {
	const long = 200_000
	server := inFrontOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", fmt.Sprint(long))
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, strings.Repeat("x", long))
	})

	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(hubtest.Patience))
	begin := time.Now()
	if _, err := fmt.Fprintf(c, "POST /gateway/a HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\nand the client waits", server.Listener.Addr()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusConflict || len(body) != long || err != nil {
		t.Errorf("got %d with %d bytes, %v; want the whole answer of the service: %.200s", resp.StatusCode, len(body), err, body)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// A service may answer while its caller is still sending, for as long as both go on.
func TestGatewayPassesOnBothWaysAtOnce(t *testing.T) {
	server := inFrontOf(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.Header().Set("Content-Type", "text/plain")
		piece := make([]byte, 100)
		for {
			n, err := r.Body.Read(piece)
			_, _ = w.Write(piece[:n])
			_ = control.Flush()
			if err != nil {
				return
			}
		}
	})

	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(hubtest.Patience))
	fmt.Fprintf(c, "POST /gateway/a HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", server.Listener.Addr())
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "first" {
		t.Fatalf("got %q, %v while the body was still to come", got, err)
	}
	time.Sleep(1500 * time.Millisecond) // longer than the rest of a body may take that nobody reads
	fmt.Fprint(c, "6\r\nsecond\r\n0\r\n\r\n")
	rest, err := io.ReadAll(resp.Body)
	if err != nil || string(rest) != "second" {
		t.Errorf("got %q, %v after a pause, want the rest", rest, err)
	}
}

// The header of an event stream is there before its first event.
func TestGatewayBeginsEventStreamsAtOnce(t *testing.T) {
	next := make(chan struct{})
	server := inFrontOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "data: 1\n\n")
	})
	client := &http.Client{Timeout: hubtest.Patience}
	t.Cleanup(client.CloseIdleConnections)
	resp, err := client.Get(server.URL + "/gateway/a")
	close(next)
	if err != nil {
		t.Fatalf("no header before the first event: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if string(body) != "data: 1\n\n" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
}
