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

// hold is how long an attack lasts unless the hub ends it.
const hold = 3 * time.Second

// held keeps a connection open until the hub closes it or hold is over.
func held(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(hold))
	_, _ = io.Copy(io.Discard, c)
}

// TestHostileConnections occupies whatever a hub provides for its clients, up to the limit per client and
// beyond.
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
		"silent":            held,
		"half a header":     send("POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"),
		"half a body":       send("POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 250000\r\n\r\n" + strings.Repeat("x", 200_000)),
		"large body":        send("POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nx"),
		"expect 100":        send("POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 250000\r\n\r\n"),
		"endless chunks":    send("POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 1000)),
		"half a form":       send("POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 200000\r\n\r\nhub.mode="),
		"many short fields": send("POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n" + fields(5000) + "\r\n"),
		"reads no response": func(c net.Conn) {
			_, _ = io.WriteString(c, strings.Repeat("GET /topics/big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 50))
			hubtest.Pause(hold)
		},
		"pipelines": func(c net.Conn) {
			_ = c.SetWriteDeadline(time.Now().Add(hold))
			for range 100 {
				if _, err := io.WriteString(c, strings.Repeat("GET /v1/topics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 100)); err != nil {
					return
				}
			}
		},
		"follows many topics": send("GET /topics/honest HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) { s.withstand(t, func() { s.swarm(t, connections+100, f) }) })
	}
	if got := s.metrics(t)["quorumhub_http_connections_refused_total"]; got < 100 {
		t.Errorf("%.0f connections were refused, want those beyond limits.connections", got)
	}
}

// fields returns n header fields with different names.
func fields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	return b.String()
}

// TestHostileSlownessEnds sends headers bit by bit: the hub closes such connections.
func TestHostileSlownessEnds(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	var cut atomic.Int64
	s.withstand(t, func() {
		s.swarm(t, 100, func(c net.Conn) {
			_, _ = io.WriteString(c, "POST /hub HTTP/1.1\r\nHost: 127.0.0.1\r\n")
			for range 60 {
				if _, err := io.WriteString(c, "X-A: b\r\n"); err != nil {
					cut.Add(1)
					return
				}
				hubtest.Pause(500 * time.Millisecond)
			}
		})
	})
	if cut.Load() != 100 {
		t.Errorf("the hub closed %d of 100 slow connections, want all", cut.Load())
	}
}

// hostileRequest is a request that is wrong, enormous or ambiguous in one way.
type hostileRequest struct {
	name, raw string
	want      []int // the statuses that may answer it; no second response may follow
}

const (
	// smuggle begins a request whose end is disputed.
	smuggle = "POST /topics/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	// smuggled is the request that follows if the hub gets the end wrong.
	smuggled = smuggle + "Content-Length: 4\r\n\r\nevil"
)

func withLength(head, body string) string {
	return fmt.Sprintf("%s\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

func postHub(form string) string {
	return withLength("POST /hub HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded", form)
}

func postBatch(contentType, body string) string {
	return withLength("POST /topics/other?hub.batch=true HTTP/1.1\r\nContent-Type: "+contentType, body)
}

func postJSON(method, path, body string) string {
	return withLength(method+" "+path+" HTTP/1.1\r\nContent-Type: application/json", body)
}

func readHonest(header string) string {
	return "GET /topics/honest HTTP/1.1\r\nHost: 127.0.0.1\r\n" + header + "\r\n\r\n"
}

func deepJSON() string { return strings.Repeat(`{"a":[`, 5000) }

func hostileRequests() []hostileRequest {
	return []hostileRequest{
		{"two lengths", smuggle + "Content-Length: 0\r\nContent-Length: 92\r\n\r\n" + smuggled, []int{400}},
		{"list of lengths", smuggle + "Content-Length: 0, 92\r\n\r\n" + smuggled, []int{400}},
		{"signed length", smuggle + "Content-Length: +0\r\n\r\n" + smuggled, []int{400}},
		{"length over 64 bits", smuggle + "Content-Length: 99999999999999999999\r\n\r\n", []int{400}},
		{"length of exabytes", smuggle + "Content-Length: 9223372036854775807\r\n\r\n", []int{413}},
		{"blank before the colon", smuggle + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400}},
		{"unknown encoding", smuggle + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400, 501}},
		{"two encodings", smuggle + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{400, 501}},
		{"two encoding fields", smuggle + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, []int{400, 501}},
		{"folded first header line", "POST /topics/smuggled HTTP/1.1\r\n Host: 127.0.0.1\r\n\r\n", []int{400}},
		{"bad chunk size", smuggle + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + smuggled, []int{400}},
		{"chunk of exabytes", smuggle + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n" + smuggled, []int{400}},
		{"endless chunk extensions", smuggle + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 4000)+"\r\nx\r\n", 100), []int{400}},
		{"chunks over the message limit", smuggle + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 40), []int{413}},
		{"no host", "GET / HTTP/1.1\r\n\r\n", []int{400}},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}},
		{"request line of a megabyte", "GET /" + strings.Repeat("a", mib) + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", []int{431, 414}},
		{"3000 header fields", smuggle + fields(3000) + "\r\n", []int{431}},
		{"gzip", smuggle + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", []int{415}},
		{"gzip after identity", smuggle + "Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", []int{415}},
		{"120,000 parameters", postHub(strings.Repeat("a&", 120_000)), []int{400}},
		{"percent signs", postHub("hub.mode=" + strings.Repeat("%25", 80_000)), []int{400}},
		{"10,000 topics in a ping", postHub("hub.mode=publish" + strings.Repeat("&hub.url=http://a", 10_000)), []int{400, 413}},
		{"900 topics in a ping", postHub("hub.mode=publish" + strings.Repeat("&hub.url=http://127.0.0.1:1/", 900)), []int{400, 403}},
		{"batch of 100,000 lines", postBatch("application/x-ndjson", strings.Repeat("1\n", 100_000)), []int{413}},
		{"batch of 30,000 parts", postBatch("multipart/mixed; boundary=b", strings.Repeat("--b\r\n\r\nx\r\n", 30_000)+"--b--\r\n"), []int{413}},
		{"batch of a deeply nested line", postBatch("application/x-ndjson", strings.Repeat("[", 200_000)+"\n"), []int{400}},
		{"deep JSON for a rule", postJSON("PUT", "/v1/auth/rules/x", deepJSON()), []int{403}},
		{"deep JSON for an API key", postJSON("POST", "/v1/auth/keys", deepJSON()), []int{403}},
		{"deep JSON for a replay", postJSON("POST", "/v1/dead-letters/replay", deepJSON()), []int{400, 413}},
		{"deep JSON for a rewind", postJSON("POST", "/v1/subscriptions/s-1/rewind", strings.Repeat("[", 4000)), []int{400}},
		{"huge Accept", readHonest("Accept: " + strings.Repeat("a/b;q=0.1,", 3000)), []int{200}},
		{"many entity tags", readHonest("If-None-Match: " + strings.Repeat(`"a",`, 7000)), []int{200}},
		{"many ranges", readHonest("Range: bytes=0-0" + strings.Repeat(",0-0", 7000)), []int{200}},
		{"many cookies", readHonest("Cookie: " + strings.Repeat("a=b;", 7000)), []int{200, 400}},
	}
}

// TestHostileRequests sends requests that are wrong, enormous or ambiguous. Whatever the hub takes for a request gets a
// fitting response, and none of them publishes anything.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	topic := s.TopicURL("smuggled")
	sub := hubtest.NewSubscriber(t)
	s.Subscribe(t, topic, sub.Callback("/"))
	for _, tc := range hostileRequests() {
		t.Run(tc.name, func(t *testing.T) {
			begin := time.Now()
			got := s.speak(t, tc.raw)
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("the response took %v", took)
			}
			if len(got) > 0 && (!slices.Contains(tc.want, got[0]) || len(got) > 1) {
				t.Errorf("got responses %v, want one of %v", got, tc.want)
			}
			s.honest(t)
		})
	}
	// With both lengths the chunks count (RFC 9112 section 6.3). What follows them is a separate request, also for a
	// proxy that obeys the same rule.
	got := s.speak(t, smuggle+"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonce\r\n0\r\n\r\n")
	if len(got) > 1 || len(got) == 1 && !slices.Contains([]int{200, 400, 503}, got[0]) { // 503: it saw the client hang up
		t.Errorf("with both lengths: got responses %v", got)
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

// TestHostileFlood sends requests from one client as fast as it can: it is told to wait, and another client
// is served.
func TestHostileFlood(t *testing.T) {
	t.Parallel()
	s := besiege(t, hubtest.Settings{"limits.publish": "2000/1m", "limits.subscribe": "200/1m", "limits.read": "2000/1m"})
	var accepted, refused atomic.Int64
	s.withstand(t, func() {
		s.swarm(t, 20, func(c net.Conn) {
			if _, err := io.WriteString(c, strings.Repeat("POST /topics/flood HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx", 299)+
				"POST /topics/flood HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"); err != nil {
				t.Error(err)
			}
			answers, _ := io.ReadAll(c)
			accepted.Add(int64(bytes.Count(answers, []byte("HTTP/1.1 200 "))))
			refused.Add(int64(bytes.Count(answers, []byte("HTTP/1.1 429 "))))
		})
	})
	if accepted.Load() < 2000 || accepted.Load() > 6000-1000 || accepted.Load()+refused.Load() != 6000 {
		t.Errorf("%d were accepted and %d told to wait, want about 2000 of 6000 accepted", accepted.Load(), refused.Load())
	}
}
