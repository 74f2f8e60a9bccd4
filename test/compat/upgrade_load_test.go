package compat_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// upgradeSink receives what is delivered to many callbacks, and knows what was published.
type upgradeSink struct {
	server *httptest.Server

	mu       sync.Mutex
	sent     []int             // by topic: the messages 1 to n were accepted
	got      map[string]*inbox // by the callback's path
	repeated int
	wrong    []string
}

// inbox is what one callback has received: the messages 1 to head, each at least once.
type inbox struct{ head int }

func newUpgradeSink(t *testing.T) *upgradeSink {
	s := &upgradeSink{got: map[string]*inbox{}}
	s.server = httptest.NewServer(s)
	t.Cleanup(s.server.Close)
	return s
}

func (s *upgradeSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if challenge := r.URL.Query().Get("hub.challenge"); challenge != "" {
		_, _ = io.WriteString(w, challenge)
		return
	}
	body, err := io.ReadAll(r.Body)
	var topic, n int
	if _, scanned := fmt.Sscanf(string(body), "%d:%d", &topic, &n); err != nil || scanned != nil {
		n = -1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.got[r.URL.Path]
	if in == nil {
		in = new(inbox)
		s.got[r.URL.Path] = in
	}
	switch {
	case n == in.head+1:
		in.head = n
	case n >= 1 && n <= in.head:
		s.repeated++
	default:
		s.wrong = append(s.wrong, fmt.Sprintf("%s: %q after %d", r.URL.Path, body, in.head))
	}
}

// missing returns the first callback that has not received everything that was sent to its topic.
func (s *upgradeSink) missing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrong) > 0 {
		return fmt.Errorf("%d deliveries out of order, such as %s", len(s.wrong), s.wrong[0])
	}
	for topic, sent := range s.sent {
		for i := range subscribersOfATopic {
			path := fmt.Sprintf("/%d", topic*subscribersOfATopic+i)
			if in := s.got[path]; sent > 0 && (in == nil || in.head < sent) {
				return fmt.Errorf("%s received %v of %d messages", path, in, sent)
			}
		}
	}
	return nil
}

// check waits until every callback has received everything, and judges the repetitions.
func (s *upgradeSink) check(t *testing.T) {
	t.Helper()
	hubtest.EventuallyWithin(t, 3*hubtest.Patience, "every callback has received every message in order", s.missing)
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := 0
	for _, n := range s.sent {
		sum += n * subscribersOfATopic
	}
	t.Logf("%d deliveries, %d repeated", sum, s.repeated)
	if s.repeated*20 > sum+1000 {
		t.Errorf("%d of %d deliveries were repeated", s.repeated, sum)
	}
}

// load publishes to one topic after the other until stop is called, through whichever node accepts the message.
func (u *upgrade) load(topics int) (stop func()) {
	u.sink.mu.Lock()
	u.sink.sent = make([]int, topics)
	u.sink.mu.Unlock()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		client := &http.Client{Timeout: 3 * time.Second}
		defer client.CloseIdleConnections()
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			topic := i % topics
			for try := i; !u.post(client, try%len(u.nodes), topic, u.sink.sent[topic]+1); try++ {
				hubtest.Pause(50 * time.Millisecond)
			}
			u.sink.mu.Lock()
			u.sink.sent[topic]++
			u.sink.mu.Unlock()
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// post publishes message n of a topic. A message that may have been accepted is published again under the same idempotency key.
func (u *upgrade) post(client *http.Client, node, topic, n int) bool {
	body := fmt.Sprintf("%d:%d", topic, n)
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("%s/topics/t%d", u.nodes[node].URL, topic), bytes.NewReader([]byte(body)))
	if err != nil {
		return false
	}
	req.Header = http.Header{"X-Api-Key": {u.alice}, "Idempotency-Key": {strings.ReplaceAll(body, ":", "-")}, "Content-Type": {"text/plain"}}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// progress waits until messages that are published from now on are delivered.
func (u *upgrade) progress(when string) {
	u.t.Helper()
	sum := func() (n int) {
		u.sink.mu.Lock()
		defer u.sink.mu.Unlock()
		for _, in := range u.sink.got {
			n += in.head
		}
		return n
	}
	from := sum()
	hubtest.Eventually(u.t, "messages flow: "+when, func() error {
		if n := sum() - from; n < 5*subscribersOfATopic {
			return fmt.Errorf("%d deliveries", n)
		}
		return nil
	})
}
