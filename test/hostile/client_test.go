package hostile_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// hold is how long an attack goes on unless the hub ends it.
const hold = 3 * time.Second

// held keeps a connection open until the hub closes it or the hold is over.
func held(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(hold))
	_, _ = io.Copy(io.Discard, c)
}

// TestHostileConnections holds what a hub has to hold for its clients, as many times as one client may, and more.
func TestHostileConnections(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	big := s.TopicURL("big")
	s.Publish(t, big, "text/plain", bytes.Repeat([]byte("x"), 250<<10))
	send := func(raw string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, raw)
			held(c)
		}
	}
	for name, f := range map[string]func(net.Conn){
		"says nothing":       held,
		"half a header":      send("POST /hub HTTP/1.1\r\nHost: x\r\nX-"),
		"half a body":        send("POST /topics/a HTTP/1.1\r\nHost: x\r\nContent-Length: 250000\r\n\r\n" + strings.Repeat("x", 200_000)),
		"a large body":       send("POST /topics/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx"),
		"expects to go on":   send("POST /topics/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 250000\r\n\r\n"),
		"chunks without end": send("POST /topics/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 1000)),
		"half a form":        send("POST /hub HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 200000\r\n\r\nhub.mode="),
		"many short fields":  send("POST /topics/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n" + fields(5000) + "\r\n"),
		"takes no answer": func(c net.Conn) {
			_, _ = io.WriteString(c, strings.Repeat("GET /topics/big HTTP/1.1\r\nHost: x\r\n\r\n", 50))
			time.Sleep(hold) //nolint:forbidigo // it is the attack
		},
		"pipelines": func(c net.Conn) {
			_ = c.SetWriteDeadline(time.Now().Add(hold))
			for range 100 {
				if _, err := io.WriteString(c, strings.Repeat("GET /v1/topics HTTP/1.1\r\nHost: x\r\n\r\n", 100)); err != nil {
					return
				}
			}
		},
		"follows many topics": send("GET /topics/honest HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) { s.withstand(t, func() { s.swarm(t, connections+100, f) }) })
	}
	if got := s.metrics(t)["quorumhub_http_connections_refused_total"]; got < 100 {
		t.Errorf("%.0f connections were refused, want those beyond limits.connections", got)
	}
}

// fields are n header fields of different names.
func fields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	return b.String()
}

// TestHostileSlownessEnds: who sends nothing, or a header bit by bit, is cut off by the hub.
func TestHostileSlownessEnds(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	var cut atomic.Int64
	s.withstand(t, func() {
		s.swarm(t, 100, func(c net.Conn) {
			_, _ = io.WriteString(c, "POST /hub HTTP/1.1\r\nHost: x\r\n")
			for range 60 {
				if _, err := io.WriteString(c, "X-A: b\r\n"); err != nil {
					cut.Add(1)
					return
				}
				time.Sleep(500 * time.Millisecond) //nolint:forbidigo // it is the attack
			}
		})
	})
	if cut.Load() != 100 {
		t.Errorf("%d of 100 slow connections were cut off", cut.Load())
	}
}

// TestHostileRequests sends requests that are wrong, enormous or ambiguous in one way each. What counts is the answers to
// all that the hub took for a request, and that nothing was published by it.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	topic := s.TopicURL("smuggled")
	sub := hubtest.NewSubscriber(t)
	s.Subscribe(t, topic, sub.Callback("/"))
	const post, inner = "POST /topics/smuggled HTTP/1.1\r\nHost: x\r\n", "POST /topics/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nevil"
	form := func(body string) string {
		return fmt.Sprintf("POST /hub HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	publish := func(contentType, body string) string {
		return fmt.Sprintf("POST /topics/other?hub.batch=true HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", contentType, len(body), body)
	}
	admin := func(method, path, body string) string {
		return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	}
	read := func(header string) string { return "GET /topics/honest HTTP/1.1\r\nHost: x\r\n" + header + "\r\n\r\n" }
	deep := strings.Repeat(`{"a":[`, 5000)
	for _, tc := range []struct {
		name, raw string
		want      []int // statuses that may come first; none may follow
	}{
		{"two lengths", post + "Content-Length: 0\r\nContent-Length: 92\r\n\r\n" + inner, []int{400}},
		{"a list of lengths", post + "Content-Length: 0, 92\r\n\r\n" + inner, []int{400}},
		{"a signed length", post + "Content-Length: +0\r\n\r\n" + inner, []int{400}},
		{"a length beyond all", post + "Content-Length: 99999999999999999999\r\n\r\n", []int{400}},
		{"a length of exabytes", post + "Content-Length: 9223372036854775807\r\n\r\n", []int{413}},
		{"a blank before the colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + inner, []int{400}},
		{"an encoding that is not known", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner, []int{400, 501}},
		{"two encodings", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + inner, []int{400, 501}},
		{"two encoding fields", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + inner, []int{400, 501}},
		{"a folded first line", "POST /topics/smuggled HTTP/1.1\r\n Host: x\r\n\r\n", []int{400}},
		{"a bad chunk", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + inner, []int{400}},
		{"a chunk of exabytes", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n" + inner, []int{400}},
		{"endless chunk extensions", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 4000)+"\r\nx\r\n", 100), []int{400}},
		{"more chunks than a message", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 40), []int{413}},
		{"no host", "GET / HTTP/1.1\r\n\r\n", []int{400}},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}},
		{"a line of a megabyte", "GET /" + strings.Repeat("a", mib) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431, 414}},
		{"5000 header fields", post + fields(3000) + "\r\n", []int{431}},
		{"gzip", post + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", []int{415}},
		{"gzip behind identity", post + "Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", []int{415}},
		{"a million keys", form(strings.Repeat("a&", 120_000)), []int{400}},
		{"percent signs", form("hub.mode=" + strings.Repeat("%25", 80_000)), []int{400}},
		{"10,000 topics in a ping", form("hub.mode=publish" + strings.Repeat("&hub.url=http://a", 10_000)), []int{400, 413}},
		{"1,000 topics in a ping", form("hub.mode=publish" + strings.Repeat("&hub.url=http://127.0.0.1:1/", 900)), []int{400, 403}},
		{"a batch of 100,000 lines", publish("application/x-ndjson", strings.Repeat("1\n", 100_000)), []int{413}},
		{"a batch of 30,000 parts", publish("multipart/mixed; boundary=b", strings.Repeat("--b\r\n\r\nx\r\n", 30_000)+"--b--\r\n"), []int{413}},
		{"a batch of deep lines", publish("application/x-ndjson", strings.Repeat("[", 200_000)+"\n"), []int{400}},
		{"deep JSON about a rule", admin("PUT", "/v1/auth/rules/x", deep), []int{400}},
		{"deep JSON about a key", admin("POST", "/v1/auth/keys", deep), []int{400}},
		{"deep JSON about letters", admin("POST", "/v1/dead-letters/replay", deep), []int{400, 413}},
		{"deep JSON about a rewind", admin("POST", "/v1/subscriptions/s-1/rewind", strings.Repeat("[", 4000)), []int{400}},
		{"a huge Accept", read("Accept: " + strings.Repeat("a/b;q=0.1,", 3000)), []int{200}},
		{"many entity tags", read("If-None-Match: " + strings.Repeat(`"a",`, 7000)), []int{200}},
		{"many ranges", read("Range: bytes=0-0" + strings.Repeat(",0-0", 7000)), []int{200}},
		{"many cookies", read("Cookie: " + strings.Repeat("a=b;", 7000)), []int{200, 400}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			begin := time.Now()
			got := s.speak(t, tc.raw)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if len(got) > 0 && (!slices.Contains(tc.want, got[0]) || len(got) > 1) {
				t.Errorf("got answers %v, want one of %v", got, tc.want)
			}
			s.honest(t)
		})
	}
	// Both lengths: the chunks count (RFC 9112 section 6.3). What follows them is a request of its own, for a proxy as well that
	// goes by the same rule.
	got := s.speak(t, post+"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonce\r\n0\r\n\r\n")
	if len(got) > 1 || len(got) == 1 && !slices.Contains([]int{200, 400, 503}, got[0]) { // 503: it saw the client hang up
		t.Errorf("with both lengths: got answers %v", got)
	}
	s.Publish(t, topic, "text/plain", []byte("last"))
	sub.WaitBody(t, "last")
	for _, d := range sub.Deliveries() {
		if b := string(d.Body); b != "last" && b != "once" {
			t.Errorf("%.80q was published", b)
		}
	}
	s.withstand(t, func() {})
}

// TestHostileFlood: one client that asks as fast as it can is told to wait; another one is served.
func TestHostileFlood(t *testing.T) {
	t.Parallel()
	s := besiege(t, hubtest.Settings{"limits.publish": "2000/1m", "limits.subscribe": "200/1m", "limits.read": "2000/1m"})
	var taken, refused atomic.Int64
	s.withstand(t, func() {
		s.swarm(t, 20, func(c net.Conn) {
			if _, err := io.WriteString(c, strings.Repeat("POST /topics/flood HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 299)+
				"POST /topics/flood HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"); err != nil {
				t.Error(err)
			}
			answers, _ := io.ReadAll(c)
			taken.Add(int64(bytes.Count(answers, []byte("HTTP/1.1 200 "))))
			refused.Add(int64(bytes.Count(answers, []byte("HTTP/1.1 429 "))))
		})
	})
	if taken.Load() < 2000 || taken.Load() > 6000-1000 || taken.Load()+refused.Load() != 6000 {
		t.Errorf("%d were taken and %d told to wait, want some 2000 of 6000", taken.Load(), refused.Load())
	}
}
