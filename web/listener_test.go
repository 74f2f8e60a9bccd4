package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// Connections without a request, whether they never sent one, sent half a header or are idle after an answer, make room for new ones.
// Those that are being served stay.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	const most = 12
	for name, occupy := range map[string]func(*testing.T, net.Conn){
		"silent": func(*testing.T, net.Conn) {},
		"half a header": func(t *testing.T, c net.Conn) {
			if _, err := io.WriteString(c, "GET /health HTTP/1.1\r\nHo"); err != nil {
				t.Fatal(err)
			}
		},
		"idle": func(t *testing.T, c net.Conn) {
			if !serves(t, c) {
				t.Fatal("not served")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(_ *hub.Policy, o *web.Options) { o.MaxConnections, o.ClientConnections = most, 4 })
			r.publish(t, "news", "m1")
			stream := r.dialFrom(t, "127.0.0.60")
			fmt.Fprintf(stream, "GET /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
			r.awaitMetric(t, "quorumhub_streams", "1")
			for i := range 3 * 4 {
				occupy(t, r.dialFrom(t, fmt.Sprint("127.0.0.", 66+i/4)))
			}
			begin := time.Now()
			for i := range 3 {
				if !serves(t, r.dialFrom(t, fmt.Sprint("127.0.0.", 80+i))) {
					t.Fatal("a new client is not served")
				}
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("new clients waited %v", took)
			}
			if got := r.metric(t, "quorumhub_streams"); got != "1" {
				t.Errorf("%s streams are left", got)
			}
		})
	}
}

// The address that holds most of the connections loses its idle ones before others do, even if theirs are older.
func TestIdleConnectionsOfCrowdsGoFirst(t *testing.T) {
	const most = 128
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.MaxConnections, o.ClientConnections = most, most })
	light := r.dialFrom(t, "127.0.0.60")
	answers := bufio.NewReader(light)
	ask := func() bool {
		if _, err := io.WriteString(light, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			return false
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return false
		}
		_, err = io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	}
	if !ask() {
		t.Fatal("not served")
	}
	for range most + 20 {
		if !serves(t, r.dialFrom(t, "127.0.0.66")) {
			t.Fatal("not served")
		}
	}
	if !ask() {
		t.Error("the connection of the other client is gone")
	}
}
