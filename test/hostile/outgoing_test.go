package hostile_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// TestHostileTopics announces topics whose content is a compression bomb, is endless, or lies about its
// length.
func TestHostileTopics(t *testing.T) {
	t.Parallel()
	s := besiege(t, hubtest.Settings{"message.max_bytes": 1 << 20})
	var fetched sync.Map // path -> *atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := fetched.LoadOrStore(r.URL.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		zeros := make([]byte, 1<<20)
		switch {
		case strings.HasPrefix(r.URL.Path, "/bomb"):
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 1024 { // a gibibyte
				if _, err := z.Write(zeros); err != nil {
					return
				}
			}
			_ = z.Close()
		case strings.HasPrefix(r.URL.Path, "/endless"):
			for {
				if _, err := w.Write(zeros); err != nil {
					return
				}
			}
		case strings.HasPrefix(r.URL.Path, "/lies"):
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write([]byte("short"))
		case strings.HasPrefix(r.URL.Path, "/enormous"):
			w.Header().Set("Content-Length", "9223372036854775807")
			_, _ = w.Write(zeros)
		}
	}))
	defer origin.Close()
	sub := hubtest.NewSubscriber(t)
	var topics []string
	for _, kind := range []string{"/bomb", "/endless", "/lies", "/enormous"} {
		for i := range 8 {
			topics = append(topics, fmt.Sprintf("%s%s%d", origin.URL, kind, i))
		}
	}
	for _, topic := range topics {
		s.Subscribe(t, topic, sub.Callback("/"))
	}
	s.withstand(t, func() {
		s.Ping(t, topics...)
		hubtest.Eventually(t, "a fetch of every topic", func() error {
			n := 0
			fetched.Range(func(any, any) bool { n++; return true })
			if n < len(topics) {
				return fmt.Errorf("%d of %d", n, len(topics))
			}
			return nil
		})
	})
	if got := sub.CountDeliveries(); got != 0 {
		t.Errorf("invalid content became %d messages", got)
	}
}

// rude starts a TCP server that confirms verifications and answers each delivery with answer.
func rude(t *testing.T, answer func(c net.Conn, r *http.Request)) (base string, calls *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = new(atomic.Int64)
	over, end := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				defer context.AfterFunc(over, func() { _ = c.Close() })()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					if r.Method == http.MethodGet { // the verification
						challenge := r.URL.Query().Get("hub.challenge")
						_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(challenge), challenge)
						continue
					}
					calls.Add(1)
					answer(c, r)
					return
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		end()
		work.Wait()
	})
	return "http://" + ln.Addr().String(), calls
}

// TestHostileSubscribers has callbacks that answer slowly, never, endlessly or wrongly. Each costs a slot for
// one timeout; honest callbacks do not notice.
func TestHostileSubscribers(t *testing.T) {
	t.Parallel()
	s := besiege(t, hubtest.Settings{"delivery.timeout": "1s"})
	filler := []byte(strings.Repeat("x", 64<<10))
	endless := func(c net.Conn, head string) {
		_, _ = io.WriteString(c, head)
		for {
			if _, err := c.Write(filler); err != nil {
				return
			}
		}
	}
	for name, answer := range map[string]func(c net.Conn, r *http.Request){
		"answers bit by bit": func(c net.Conn, _ *http.Request) {
			for _, b := range "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
				if _, err := io.WriteString(c, string(b)); err != nil {
					return
				}
				hubtest.Pause(200 * time.Millisecond)
			}
		},
		"never answers":   func(c net.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, c) },
		"endless body":    func(c net.Conn, _ *http.Request) { endless(c, "HTTP/1.1 500 No\r\n\r\n") },
		"endless header":  func(c net.Conn, _ *http.Request) { endless(c, "HTTP/1.1 200 OK\r\nX-A: ") },
		"endless interim": func(c net.Conn, _ *http.Request) { interim(c) },
		"enormous length": func(c net.Conn, _ *http.Request) {
			endless(c, "HTTP/1.1 500 No\r\nContent-Length: 9223372036854775807\r\n\r\n")
		},
		"wrong length": func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nshort")
		},
		"closes midway": func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le") },
		"not HTTP":      func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, "\x00\xff\x16\x03") },
	} {
		t.Run(name, func(t *testing.T) {
			base, calls := rude(t, answer)
			topic := s.TopicURL("rude-" + strings.ReplaceAll(name, " ", "-"))
			const callbacks = 40
			for i := range callbacks {
				s.Subscribe(t, topic, fmt.Sprintf("%s/%d", base, i), "hub.retry.max_attempts", "3")
			}
			s.withstand(t, func() {
				s.Publish(t, topic, "text/plain", []byte("x"))
				hubtest.Eventually(t, "a dead letter for every callback", func() error {
					if n := calls.Load(); n < callbacks {
						return fmt.Errorf("%d calls", n)
					}
					return s.givenUp(topic, callbacks)
				})
			})
		})
	}
}

// interim answers with 100 Continue forever.
func interim(c net.Conn) {
	many := strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000)
	for {
		if _, err := io.WriteString(c, many); err != nil {
			return
		}
	}
}

// givenUp returns an error while any of a topic's n subscriptions has not finished its first message.
func (s *siege) givenUp(topic string, n int) error {
	subs, err := s.ListSubscriptions(topic, "")
	if err != nil {
		return err
	}
	for _, sub := range subs {
		if sub.Cursor >= 1 {
			n--
		}
	}
	if n > 0 {
		return fmt.Errorf("%d still in progress", n)
	}
	return nil
}

// TestHostileReflection subscribes a victim's callback to a thousand topics. That must not cause a thousand
// requests to the victim: beyond the limit the hub refuses before it writes anything.
func TestHostileReflection(t *testing.T) {
	t.Parallel()
	s := besiege(t, hubtest.Settings{"limits.callback_host": "300/1h", "hub.verification.timeout": "1s", "hub.verification.attempts": 1})
	var busy, most, all atomic.Int64
	victim := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		all.Add(1)
		n := busy.Add(1)
		defer busy.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-r.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}))
	defer victim.Close()
	accepted, refused := 0, 0
	s.withstand(t, func() {
		for i := range 1000 {
			r := s.Request(t, "subscribe", s.TopicURL(fmt.Sprint("t", i)), victim.URL+"/")
			switch {
			case r.Status == http.StatusAccepted:
				accepted++
			case r.Status == http.StatusTooManyRequests && r.Header.Get("Retry-After") != "":
				refused++
			default:
				t.Errorf("got %v", r)
				return
			}
		}
	})
	if accepted < 300 || accepted > 400 || accepted+refused != 1000 {
		t.Errorf("%d were accepted and %d refused, want about 300 of 1000 accepted", accepted, refused)
	}
	hubtest.Eventually(t, "verification of all accepted requests", func() error {
		if n := all.Load(); n < int64(accepted) {
			return fmt.Errorf("%d of %d", n, accepted)
		}
		return nil
	})
	if most.Load() > 8 {
		t.Errorf("%d requests at once, want at most 8", most.Load())
	}
}

// TestHostileKeys sends a subscription with a JSON pointer as its delivery key bodies made to be expensive to
// search.
func TestHostileKeys(t *testing.T) {
	t.Parallel()
	s := besiege(t, nil)
	topic := s.TopicURL("deep")
	sub := hubtest.NewSubscriber(t)
	s.Subscribe(t, topic, sub.Callback("/"), "hub.delivery_key", "json:"+strings.Repeat("/a", 100))
	s.withstand(t, func() {
		for i, body := range []string{strings.Repeat("[", 250_000), strings.Repeat(`{"a":`, 50_000), `{"b":` + strings.Repeat("[", 240_000),
			"{" + strings.Repeat(`"x":1,`, 40_000), `"` + strings.Repeat(`\u0000`, 40_000)} {
			s.Publish(t, topic, "application/json", []byte(body))
			sub.WaitDeliveries(t, i+1)
		}
	})
}
