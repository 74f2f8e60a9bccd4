package egress_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/test/fake"
)

// wildServer treats every connection as behave says; nth counts connections from 1. It ends with the test.
type wildServer struct {
	url   string
	conns atomic.Int64
}

func wild(t *testing.T, behave func(c net.Conn, br *bufio.Reader, nth int64)) *wildServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &wildServer{url: "http://" + l.Addr().String() + "/cb"}
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			nth := s.conns.Add(1)
			wg.Go(func() {
				defer c.Close()
				behave(c, bufio.NewReader(c), nth)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

// request reads one request with its body. It returns false at the end of the connection.
func request(br *bufio.Reader) bool {
	req, err := http.ReadRequest(br)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

func say(c net.Conn, text string) bool {
	_, err := io.WriteString(c, text)
	return err == nil
}

// TestHostileResponses: whatever an endpoint does, it costs at most one attempt until the timeout.
func TestHostileResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	forever := func(c net.Conn, text string) {
		for say(c, text) {
		}
	}
	for name, c := range map[string]struct {
		behave  func(c net.Conn)
		want    posted
		timeout bool // it takes until the timeout
	}{
		"says nothing":       {behave: func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }, want: posted{reason: egress.ReasonTimeout}, timeout: true},
		"closes":             {behave: func(net.Conn) {}, want: posted{reason: egress.ReasonUnreachable}},
		"closes in header":   {behave: func(c net.Conn) { say(c, ok+"Content-Le") }, want: posted{reason: egress.ReasonUnreachable}},
		"stops in header":    {behave: func(c net.Conn) { say(c, ok+"Content-Le"); _, _ = c.Read(make([]byte, 1)) }, want: posted{reason: egress.ReasonTimeout}, timeout: true},
		"garbage":            {behave: func(c net.Conn) { say(c, "what do you want?\r\n\r\n") }, want: posted{reason: egress.ReasonProtocol}},
		"endless garbage":    {behave: func(c net.Conn) { forever(c, strings.Repeat("x", 4096)) }, want: posted{reason: egress.ReasonProtocol}},
		"endless header":     {behave: func(c net.Conn) { say(c, ok); forever(c, "X-A: "+strings.Repeat("x", 1000)+"\r\n") }, want: posted{reason: egress.ReasonProtocol}},
		"endless line":       {behave: func(c net.Conn) { say(c, ok+"X-A: "); forever(c, strings.Repeat("x", 1000)) }, want: posted{reason: egress.ReasonProtocol}},
		"endless interims":   {behave: func(c net.Conn) { forever(c, "HTTP/1.1 103 Early Hints\r\n\r\n") }, want: posted{reason: egress.ReasonProtocol}},
		"other protocol":     {behave: func(c net.Conn) { say(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n") }, want: posted{reason: egress.ReasonProtocol}},
		"smuggled length":    {behave: func(c net.Conn) { say(c, ok+"Content-Length: 0\r\nContent-Length: 40\r\n\r\n") }, want: posted{reason: egress.ReasonProtocol}},
		"endless body":       {behave: func(c net.Conn) { say(c, ok+"\r\n"); forever(c, strings.Repeat("x", 4096)) }, want: posted{status: 200}},
		"endless chunks":     {behave: func(c net.Conn) { say(c, ok+"Transfer-Encoding: chunked\r\n\r\n"); forever(c, "1\r\nx\r\n") }, want: posted{status: 200}},
		"endless chunk size": {behave: func(c net.Conn) { say(c, ok+"Transfer-Encoding: chunked\r\n\r\n"); forever(c, "0000") }, want: posted{status: 200}},
		"endless trailer":    {behave: func(c net.Conn) { say(c, ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n"); forever(c, "A: b\r\n") }, want: posted{status: 200}},
		"huge length":        {behave: func(c net.Conn) { say(c, ok+"Content-Length: 9000000000000000000\r\n\r\n") }, want: posted{status: 200}},
		"short body":         {behave: func(c net.Conn) { say(c, ok+"Content-Length: 10\r\n\r\nhi") }, want: posted{status: 200}},
		"body stops":         {behave: func(c net.Conn) { say(c, ok+"Content-Length: 10\r\n\r\nhi"); _, _ = c.Read(make([]byte, 1)) }, want: posted{status: 200}, timeout: true},
		"old server":         {behave: func(c net.Conn) { say(c, "HTTP/1.0 202 x\r\n\r\nthanks") }, want: posted{status: 202}},
		"interim first":      {behave: func(c net.Conn) { say(c, "HTTP/1.1 103 x\r\nLink: <a>\r\n\r\nHTTP/1.1 410 x\r\n\r\n") }, want: posted{status: 410}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := wild(t, func(conn net.Conn, br *bufio.Reader, _ int64) {
				if request(br) {
					c.behave(conn)
				}
			})
			client := fake.DevClient(t)
			for n := int64(1); n <= 2; n++ { // a doubtful connection is not reused
				ctx, cancel := context.WithCancelCause(t.Context())
				limit := 30 * time.Second
				if c.timeout {
					limit = 2 * time.Second
				}
				timer := time.AfterFunc(limit, func() { cancel(context.DeadlineExceeded) })
				got := post(ctx, t, client, s.url, []byte("x"))
				timer.Stop()
				if got != c.want {
					t.Errorf("attempt %d: %+v, want %+v", n, got, c.want)
				}
				if c.timeout != (ctx.Err() != nil) {
					t.Errorf("attempt %d: the time was up: %v, want %v", n, ctx.Err() != nil, c.timeout)
				}
				if got := s.conns.Load(); got != n {
					t.Errorf("%d connections for %d attempts", got, n)
				}
				cancel(nil)
			}
		})
	}
}

// TestHostileResponsesCostNoMemory: many endpoints that send without end at the same time.
func TestHostileResponsesCostNoMemory(t *testing.T) {
	const attempts = 64
	zeros := bytes.Repeat([]byte("0"), 64<<10)
	s := wild(t, func(c net.Conn, br *bufio.Reader, nth int64) {
		if !request(br) {
			return
		}
		say(c, "HTTP/1.1 200 OK\r\n"+[]string{"\r\n", "X-A: ", "Transfer-Encoding: chunked\r\n\r\n"}[nth%3])
		for {
			if _, err := c.Write(zeros); err != nil {
				return
			}
		}
	})
	client := fake.DevClient(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range attempts {
		wg.Go(func() { post(t.Context(), t, client, s.url, []byte("x")) })
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	// This includes the server's buffers.
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > attempts*(64<<10) {
		t.Errorf("%d KiB allocated for %d attempts", grown>>10, attempts)
	}
}

// TestExtraResponseIsDiscarded: a surplus response is not taken for the response to the next request.
func TestExtraResponseIsDiscarded(t *testing.T) {
	s := wild(t, func(c net.Conn, br *bufio.Reader, nth int64) {
		for request(br) {
			if nth == 1 {
				say(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			say(c, "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")
		}
	})
	client := fake.DevClient(t)
	for i, want := range []int{200, 500, 500} {
		if res := post(t.Context(), t, client, s.url, []byte("x")); res.status != want {
			t.Errorf("attempt %d: status %d, want %d", i+1, res.status, want)
		}
	}
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestPostRepeatsOnlyUnansweredRequests: a request is repeated only if it met a reused connection and got no byte
// back.
func TestPostRepeatsOnlyUnansweredRequests(t *testing.T) {
	for name, c := range map[string]struct {
		second string // how the server answers the second request of its first connection before it closes
		conns  int64
		status int
	}{
		"nothing":              {second: "", conns: 2, status: 204},
		"one byte":             {second: "H", conns: 1, status: 0},
		"a header without end": {second: "HTTP/1.1 200 OK\r\nA: b\r\n", conns: 1, status: 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := wild(t, func(conn net.Conn, br *bufio.Reader, nth int64) {
				for n := 1; request(br); n++ {
					if nth == 1 && n == 2 {
						say(conn, c.second)
						return
					}
					say(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			})
			client := fake.DevClient(t)
			if res := post(t.Context(), t, client, s.url, []byte("x")); res.status != 204 {
				t.Fatalf("first: %+v", res)
			}
			if res := post(t.Context(), t, client, s.url, []byte("x")); res.status != c.status {
				t.Errorf("second: %+v, want status %d", res, c.status)
			}
			if n := s.conns.Load(); n != c.conns {
				t.Errorf("%d connections, want %d", n, c.conns)
			}
		})
	}
	// A server that always behaves like that gets the request twice, not forever.
	var requests atomic.Int64
	s := wild(t, func(conn net.Conn, br *bufio.Reader, nth int64) {
		for n := 1; request(br); n++ {
			requests.Add(1)
			if nth > 1 || n > 1 {
				return
			}
			say(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	client := fake.DevClient(t)
	post(t.Context(), t, client, s.url, nil)
	if res := post(t.Context(), t, client, s.url, nil); res.reason != egress.ReasonUnreachable {
		t.Errorf("%+v", res)
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// TestCancelledPostLeavesNothingBehind: a request that was cut off does not disturb later ones.
func TestCancelledPostLeavesNothingBehind(t *testing.T) {
	s := fake.Record(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Hub-Message-Id") == "slow" {
			<-r.Context().Done()
		}
	})
	client := fake.DevClient(t)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan posted, 1)
		go func() {
			done <- post(ctx, t, client, s.URL, []byte("x"), egress.Field{Name: "X-Hub-Message-Id", Value: "slow"})
		}()
		runtime.Gosched()
		cancel()
		if res := <-done; res.reason != egress.ReasonCancelled {
			t.Fatalf("cancelled: %+v", res)
		}
		if res := post(t.Context(), t, client, s.URL, []byte("x")); res.status != 200 {
			t.Fatalf("after that: %+v", res)
		}
	}
}

func TestPostLargeBodies(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, size := range []int{16<<10 + 1, 64<<10 + 1, 3 << 20} {
			body := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
			var got atomic.Int64
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if b, _ := io.ReadAll(r.Body); bytes.Equal(b, body) {
					got.Add(1)
				}
			}))
			client := start(t, s, secure, egress.ClientOptions{})
			for range 3 {
				if res := post(t.Context(), t, client, s.URL, body); res.status != 200 {
					t.Errorf("TLS %v, %d bytes: %+v", secure, size, res)
				}
			}
			if n := got.Load(); n != 3 {
				t.Errorf("TLS %v, %d bytes: arrived %d times, want 3", secure, size, n)
			}
		}
	}
}

// TestPostEarlyResponse: a response to a large body that the server has not read is received.
func TestPostEarlyResponse(t *testing.T) {
	s := wild(t, func(c net.Conn, br *bufio.Reader, _ int64) {
		if _, err := http.ReadRequest(br); err == nil {
			say(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, io.LimitReader(c, 1)) // and keeps the connection open
			<-t.Context().Done()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if res := post(ctx, t, fake.DevClient(t), s.url, make([]byte, 64<<20)); res.status != 413 {
		t.Errorf("%+v", res)
	}
}
