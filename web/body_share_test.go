package web_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// answerWithin reads the status of an answer that must come soon although the body does not.
func answerWithin(t *testing.T, c net.Conn, limit time.Duration) int {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	var status int
	if _, err := fmt.Fscanf(c, "HTTP/1.1 %d", &status); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return status
}

// Whoever may not do what the request asks is told so before the body is read, on every route and in every profile.
func TestRefusedBeforeTheBody(t *testing.T) {
	content := "Content-Type: application/json\r\n"
	form := "Content-Type: " + formType + "\r\n"
	for _, profile := range []web.Profile{web.ProfileNative, web.ProfileBallerina, web.ProfileMOSIP} {
		g := newGuarded(t, "", func(rules *hub.Policy, o *web.Options) {
			o.Profile, o.BodyTimeout, rules.MaxMessageBytes = profile, 2*patience, 1<<20
		})
		reader := "X-API-Key: " + g.key(t, "reader", "orders.read") + "\r\n"
		unknown := "Authorization: Bearer qh_nobody\r\n"
		r := serve(t, g.fixture)
		type attempt struct{ target, header string }
		var attempts []attempt
		for _, who := range []string{"", reader, unknown} {
			attempts = append(attempts, attempt{"/topics/orders/eu", content + who}, attempt{"/topics/orders/eu?hub.batch=true", content + who},
				attempt{publishURL(publicURL + "/topics/orders/eu"), content + who})
			if who != reader { // who may subscribe
				attempts = append(attempts, attempt{"/hub", form + who})
			}
		}
		for _, path := range []string{"/v1/import", "/v1/auth/keys", "/v1/cluster/nodes", "/v1/dead-letters/replay"} {
			attempts = append(attempts, attempt{path, content}, attempt{path, content + reader})
		}
		for _, length := range []string{"Content-Length: 262144\r\n\r\nx", "Content-Length: 900000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"} {
			conns := make([]net.Conn, len(attempts))
			for i, a := range attempts {
				c := r.dial(t)
				conns[i] = c
				if _, err := io.WriteString(c, "POST "+a.target+" HTTP/1.1\r\nHost: 127.0.0.1\r\n"+a.header+length); err != nil {
					t.Fatal(err)
				}
			}
			for i, a := range attempts {
				switch status := answerWithin(t, conns[i], 10*time.Second); {
				case status == 401, status == 403:
				case profile != web.ProfileNative && strings.HasPrefix(a.target, "/hub") && status == 200: // hub.mode=denied
				default:
					t.Errorf("%s: %s with %q: %d, want a refusal", profile, a.target, a.header, status)
				}
			}
		}
		if held := g.send("GET", "/metrics", "", "X-API-Key", g.root).Body.String(); !strings.Contains(held, "quorumhub_http_body_bytes 0\n") {
			t.Errorf("%s: bytes are reserved for refused bodies", profile)
		}
	}
}

// What a body costs is what has arrived of it, not what it announces.
func TestAnnouncedBodiesCostLittle(t *testing.T) {
	const connections, large = 256, 1 << 20
	for name, head := range map[string]string{
		"inline":  "Content-Length: 262144\r\n\r\nx",
		"blob":    "Content-Length: 1000000\r\n\r\nx",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
		"form":    "Content-Length: 262144\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(rules *hub.Policy, o *web.Options) { rules.MaxMessageBytes, o.BudgetBytes = large, 64<<20 })
			target := "/topics/a"
			if name == "form" {
				target = "/hub"
				head = "Content-Type: " + formType + "\r\n" + head
			}
			for range connections {
				c := r.dialFrom(t, "127.0.0.66")
				if _, err := io.WriteString(c, "POST "+target+" HTTP/1.1\r\nHost: 127.0.0.1\r\n"+head); err != nil {
					t.Fatal(err)
				}
			}
			held := func() (n float64) {
				n, _ = strconv.ParseFloat(r.metric(t, "quorumhub_http_body_bytes"), 64)
				return n
			}
			for end := time.Now().Add(patience); held() < 16<<10*connections/2 && time.Now().Before(end); {
				time.Sleep(5 * time.Millisecond)
			}
			if n := held(); n > 16<<10*connections {
				t.Errorf("%.0f bytes are reserved for %d bytes", n, connections)
			}
			resp, err := r.client.Post("http://"+r.addr+"/topics/b", "text/plain", strings.NewReader(strings.Repeat("y", large)))
			if err != nil {
				t.Fatal(err)
			}
			if _ = resp.Body.Close(); resp.StatusCode != http.StatusOK {
				t.Errorf("another client got %d", resp.StatusCode)
			}
		})
	}
}

// A principal has a number of bodies under way, whatever addresses it sends them from; bodies that come with their request do not
// count.
func TestBodiesUnderWayAreBounded(t *testing.T) {
	g := newGuarded(t, "", func(_ *hub.Policy, o *web.Options) { o.CallerBodies = 3 })
	slow, other := g.key(t, "slow", "orders.write"), g.key(t, "other", "orders.write")
	r := serve(t, g.fixture)
	open := func(client, key, body string) net.Conn {
		c := r.dialFrom(t, client)
		if _, err := io.WriteString(c, "POST /topics/orders/eu HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: "+key+"\r\nContent-Length: 10\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var held []net.Conn
	refused := make(chan int, 10)
	for i := range 5 {
		c := open(fmt.Sprint("127.0.0.", 66+i), slow, "x")
		held = append(held, c)
		go func() {
			var status int
			if _, err := fmt.Fscanf(c, "HTTP/1.1 %d", &status); err == nil {
				refused <- status
			}
		}()
	}
	for range 2 {
		select {
		case got := <-refused:
			if got != 429 {
				t.Fatalf("got %d, want 429", got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("five bodies are under way")
		}
	}
	if got := answerWithin(t, open("127.0.0.66", slow, "0123456789"), patience); got != 200 {
		t.Errorf("a body that came with its request got %d", got)
	}
	c := open("127.0.0.66", other, "x")
	if _, err := io.WriteString(c, "123456789"); err != nil {
		t.Fatal(err)
	}
	if got := answerWithin(t, c, patience); got != 200 {
		t.Errorf("another principal got %d", got)
	}
	for _, c := range held {
		_ = c.Close()
	}
}
