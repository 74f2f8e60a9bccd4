package top_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/cli/top"
)

const answer = `{"at":"2026-01-02T03:04:05Z","leader":"a","missing":["c"],
"now":{"published":17.2,"delivered":58,"failed":0.4,"publish_p50":0.0029,"publish_p99":0.0245,"delivery_p50":null,"delivery_p99":null,"lag":16870,"behind":4,"failing":4,"oldest_undelivered":840,"streams":2},
"nodes":[{"node":"a","published":17.2,"delivered":1,"failed":0,"lag":3,"failing":0,"status":{"state":"Leader","applied_index":30534,"free_disk_bytes":1073741824,"heap_bytes":1048576}},
{"node":"b\u001b[2J","published":0,"delivered":57,"failed":0.4,"lag":16867,"failing":4,"status":{"state":"Follower","applied_index":30530}}],
"failing":[{"subscription":"s-13","topic":"invoices","node":"b","since":"2026-01-02T03:00:05Z","failures":11,"status":503,"reason":"http-status","lag":4213},
{"subscription":"s-14","topic":"x","node":"b","since":"2026-01-02T03:00:05Z","failures":2,"status":0,"reason":"timeout","lag":1}],
"concerns":[{"kind":"failing","bad":true,"text":"4 subscriptions are failing."},{"kind":"dead_letters","bad":false,"text":"3 messages were given up\u001b[0m."}],
"counts":{"topics":5,"subscriptions":21,"requests":1,"dead_letters":3},"series":[]}`

func parsed(t *testing.T) *top.Figures {
	t.Helper()
	f := new(top.Figures)
	if err := json.Unmarshal([]byte(answer), f); err != nil {
		t.Fatal(err)
	}
	return f
}

func order(t *testing.T, name string) top.Order {
	t.Helper()
	o, ok := top.OrderOf(name)
	if !ok {
		t.Fatalf("there is no order %s", name)
	}
	return o
}

func TestPage(t *testing.T) {
	page := top.Page(parsed(t), order(t, "name"), false)
	for _, text := range []string{"3 nodes, a leads\n", "! 4 subscriptions are failing.\n", "- 3 messages were given up·[0m.\n", "published 17/s   delivered 58/s   failed attempts 0.4/s",
		"publish p50 2.9 ms, p99 24.5 ms   delivery p50 -, p99 -", "lag 16870 (4 subscriptions behind, the oldest for 14 min)", "dead letters 3", "a      leader", "c      down",
		"1 GiB", "HTTP 503", "timeout", "4 min ago"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q:\n%s", text, page)
		}
	}
	if strings.Contains(page, "\x1b") {
		t.Error("what a hub answers steers the terminal")
	}
	at := func(by, node string) int { return strings.Index(top.Page(parsed(t), order(t, by), false), "\n"+node) }
	for by, first := range map[string]string{"name": "a ", "published": "a ", "delivered": "b·", "failed": "b·", "lag": "b·"} {
		other := map[string]string{"a ": "b·", "b·": "a "}[first]
		if at(by, first) > at(by, other) || at(by, first) < 0 {
			t.Errorf("sorted by %s, %q is not first", by, first)
		}
	}
	f := parsed(t)
	f.Concerns, f.Failing = nil, nil
	if page := top.Page(f, order(t, "name"), false); !strings.Contains(page, "All is well.") || strings.Contains(page, "FAILING  ") && strings.Contains(page, "IN A ROW") {
		t.Errorf("nothing is wrong:\n%s", page)
	}
}

// screen is a terminal that remembers what was written.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

// last returns what was drawn last.
func (s *screen) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.buf.String()
	return text[strings.LastIndex(text, "\x1b[H")+1:]
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, keys := &screen{}, make(chan byte)
		var reads atomic.Int64
		var broken atomic.Bool
		term := &top.Terminal{Out: s, Keys: keys, Coloured: true, Size: func() (int, int) { return 60, 14 }}
		ended := make(chan error)
		go func() {
			ended <- term.Run(t.Context(), 2*time.Second, order(t, "name"), func(context.Context) (*top.Figures, error) {
				reads.Add(1)
				if broken.Load() {
					return nil, errors.New("hub at http://127.0.0.1:1 is unreachable")
				}
				return parsed(t), nil
			})
		}()
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if reads.Load() != 4 {
			t.Errorf("read %d times within 7 s", reads.Load())
		}
		lines := strings.Split(s.last(), "\r\n")
		if len(lines) > 14 {
			t.Errorf("%d lines on a screen of 14", len(lines))
		}
		for _, l := range lines {
			plain := strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[K", "", "\x1b[J", "", "[H", "").Replace(l)
			if n := len([]rune(plain)); n > 60 {
				t.Errorf("a line has %d characters of 60: %q", n, plain)
			}
		}
		if !strings.Contains(s.last(), "sorted by name") {
			t.Errorf("the keys are not explained: %q", s.last())
		}
		keys <- 'l'
		synctest.Wait()
		if !strings.Contains(s.last(), "sorted by lag") {
			t.Errorf("l does not sort: %q", s.last())
		}
		broken.Store(true)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !strings.Contains(s.last(), "unreachable") || !strings.Contains(s.last(), "published") {
			t.Errorf("the last figures and the error: %q", s.last())
		}
		keys <- 'q'
		if err := <-ended; err != nil || !strings.HasSuffix(s.buf.String(), "\x1b[?25h\x1b[?1049l") {
			t.Errorf("%v; the terminal is left as %q", err, s.buf.String())
		}
	})
}

func TestRunFailsIfTheHubNeverAnswers(t *testing.T) {
	s := &screen{}
	term := &top.Terminal{Out: s, Size: func() (int, int) { return 80, 24 }}
	err := term.Run(t.Context(), time.Second, order(t, "name"), func(context.Context) (*top.Figures, error) { return nil, errors.New("unreachable") })
	if err == nil || s.buf.Len() > 0 {
		t.Errorf("%v, %q", err, s.buf.String())
	}
}
