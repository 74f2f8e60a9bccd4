package hostile_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

func TestMain(m *testing.M) {
	if settings := os.Getenv(attackEnv); settings != "" {
		os.Exit(attackAsChild(settings))
	}
	os.Exit(hubtest.Main(m))
}

const (
	// attacker is the address of hostile clients; honest ones use 127.0.0.1.
	attacker = "127.0.0.66"
	// connections is limits.connections of the hub under attack.
	connections = 300
	mib         = 1 << 20
)

// siege is a hub under attack, with an honest publisher and an honest subscriber.
type siege struct {
	*hubtest.Node
	topic  string
	sub    *hubtest.Subscriber
	sent   int
	before map[string]float64
	peak   float64 // of Go's memory in use; mapped files are not the attacker's doing
}

// besiege starts a hub and records its metrics at rest.
func besiege(t *testing.T, more hubtest.Settings) *siege {
	t.Helper()
	settings := hubtest.Settings{"limits.connections": connections, "limits.streams": 20, "log.level": "error"}
	s := &siege{Node: hubtest.Start(t, hubtest.Options{Settings: settings.With(more)}), sub: hubtest.NewSubscriber(t)}
	s.topic = s.TopicURL("honest")
	s.Subscribe(t, s.topic, s.sub.Callback("/"))
	for range 20 {
		s.honest(t)
	}
	s.before = s.metrics(t)
	return s
}

// honest publishes a message and waits until it is delivered.
func (s *siege) honest(t *testing.T) {
	t.Helper()
	s.sent++
	body := fmt.Sprintf("honest message %d", s.sent)
	s.Publish(t, s.topic, "text/plain", []byte(body))
	s.sub.WaitBody(t, body)
}

func (s *siege) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	r := s.Do(t, http.MethodGet, "/metrics", nil, nil)
	out := map[string]float64{}
	for line := range strings.SplitSeq(string(r.Body), "\n") {
		if name, value, ok := strings.Cut(line, " "); ok && name != "#" {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				out[name] = v
			}
		}
	}
	return out
}

func inUse(m map[string]float64) float64 {
	return m["go_memstats_heap_inuse_bytes"] + m["go_memstats_stack_inuse_bytes"]
}

// withstand runs the attack while honest messages pass, then waits until the hub is calm again.
func (s *siege) withstand(t *testing.T, attack func()) {
	t.Helper()
	s.peak = 0
	over := make(chan struct{})
	go func() {
		defer close(over)
		attack()
	}()
	for served := 0; ; served++ {
		s.honest(t)
		s.peak = max(s.peak, inUse(s.metrics(t)))
		select {
		case <-over:
			s.calm(t)
			return
		default:
		}
	}
}

// calm waits until the hub's metrics return to what they were, allowing for what a garbage collector leaves
// behind.
func (s *siege) calm(t *testing.T) {
	t.Helper()
	t.Logf("peak of %.0f MiB in use, %.0f before", s.peak/mib, inUse(s.before)/mib)
	if grown := s.peak - inUse(s.before); grown > 96*mib {
		t.Errorf("the hub grew by %.0f MiB", grown/mib)
	}
	hubtest.EventuallyWithin(t, 100*time.Second, "calm after the attack", func() error {
		now := s.metrics(t)
		for range 50 { // gives the collector a reason to run
			now = s.metrics(t)
		}
		for name, more := range map[string]float64{"go_goroutines": 30, "process_open_fds": 30, "quorumhub_http_connections": 15,
			"quorumhub_http_body_bytes": 0, "quorumhub_streams": 0, "go_memstats_heap_inuse_bytes": 32 * mib} {
			if now[name] > s.before[name]+more {
				return fmt.Errorf("%s is %.0f, was %.0f before", name, now[name], s.before[name])
			}
		}
		return nil
	})
	if !s.Running() {
		t.Fatal("the hub died")
	}
}

// dial connects as the attacker; it returns nil if the connection fails.
func (s *siege) dial(t *testing.T) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attacker)}, Timeout: 20 * time.Second}
	c, err := d.Dial("tcp4", s.Addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	if err := c.SetDeadline(time.Now().Add(90 * time.Second)); err != nil {
		t.Error(err)
	}
	return c
}

// swarm runs f on n connections in parallel and returns when all are done.
func (s *siege) swarm(t *testing.T, n int, f func(c net.Conn)) {
	var work sync.WaitGroup
	for range n {
		work.Go(func() {
			if c := s.dial(t); c != nil {
				defer c.Close()
				f(c)
			}
		})
	}
	work.Wait()
}

// speak sends raw bytes and returns the statuses of all responses, in order.
func (s *siege) speak(t *testing.T, raw string) (statuses []int) {
	c := s.dial(t)
	if c == nil {
		return nil
	}
	defer c.Close()
	go func() {
		_, _ = io.WriteString(c, raw) // the hub may close the connection before it has read everything
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	for in := bufio.NewReader(c); ; {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the hub neither answers nor closes: %.80q", raw)
			}
			return statuses
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return statuses
		}
		statuses = append(statuses, resp.StatusCode)
	}
}
