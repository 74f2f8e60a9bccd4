package conformance_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

func TestMain(m *testing.M) {
	os.Exit(hubtest.Main(m, closeShared(sharedNode), closeShared(strictNode)))
}

// sharedNode serves all tests without special needs. It is patient with failing callbacks.
var sharedNode = startOnce(hubtest.Settings{"hub.verification.timeout": "3s", "hub.verification.attempts": 2})

// strictNode gives up early: after three attempts, or two if a message is refused. Its retries may wait
// longer than those of sharedNode, so that the effect of Retry-After is visible.
var strictNode = startOnce(hubtest.Settings{
	"topics.auto_register":            false,
	"hub.lease.min":                   "60s",
	"hub.lease.default":               "1h",
	"hub.lease.max":                   "2h",
	"hub.verification.attempts":       1,
	"delivery.timeout":                "700ms",
	"delivery.retry.initial":          "20ms",
	"delivery.retry.max_interval":     "5s",
	"delivery.retry.max_attempts":     3,
	"delivery.retry.refused_attempts": 2,
})

// lazyNode starts its node when the first test needs it.
type lazyNode struct {
	get     func() (*hubtest.Node, error)
	started atomic.Bool
}

func startOnce(settings hubtest.Settings) *lazyNode {
	l := &lazyNode{}
	l.get = sync.OnceValues(func() (*hubtest.Node, error) {
		l.started.Store(true)
		return hubtest.StartNode(hubtest.Options{Settings: settings})
	})
	return l
}

func closeShared(l *lazyNode) func() {
	return func() {
		if !l.started.Load() {
			return
		}
		if n, err := l.get(); err == nil {
			if err := n.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
}

func (l *lazyNode) use(t *testing.T) *hubtest.Node {
	t.Helper()
	t.Parallel()
	n, err := l.get()
	if err != nil {
		t.Fatal(err)
	}
	if !n.Running() {
		t.Fatal("the shared hub died during an earlier test")
	}
	n.ShowLogOnFailure(t)
	return n
}

// shared returns the patient hub, which creates unknown topics, and makes the test parallel.
func shared(t *testing.T) *hubtest.Node {
	t.Helper()
	return sharedNode.use(t)
}

// strict returns the hub that gives up early and creates no topics, and makes the test parallel.
func strict(t *testing.T) *hubtest.Node {
	t.Helper()
	return strictNode.use(t)
}

var topicCounter atomic.Int64

// topicName returns a unique name for a hosted topic.
func topicName(t *testing.T) string {
	name := strings.ToLower(t.Name())
	name = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, name)
	return fmt.Sprintf("%.60s-%d", name, topicCounter.Add(1))
}

// newTopic returns the URL of a unique hosted topic.
func newTopic(t *testing.T, n *hubtest.Node) string { return n.TopicURL(topicName(t)) }

// newRegisteredTopic is newTopic with the topic registered.
func newRegisteredTopic(t *testing.T, n *hubtest.Node) string {
	t.Helper()
	topic := newTopic(t, n)
	n.Register(t, topic)
	return topic
}

// subscribed returns a subscriber with an active subscription, and its callback.
func subscribed(t *testing.T, n *hubtest.Node, topic string, more ...string) (*hubtest.Subscriber, string) {
	t.Helper()
	s := hubtest.NewSubscriber(t)
	callback := s.Callback("/cb")
	n.Subscribe(t, topic, callback, more...)
	return s, callback
}

// wantStatus fails the test unless the response has one of the statuses.
func wantStatus(t *testing.T, what string, r *hubtest.Reply, codes ...int) {
	t.Helper()
	for _, c := range codes {
		if r.Status == c {
			return
		}
	}
	t.Fatalf("%s: got %v, want status %v", what, r, codes)
}

// wantRefusal fails the test unless the response is right for bad input: 4xx with one plain-text line that
// names the parameter (one of names).
func wantRefusal(t *testing.T, r *hubtest.Reply, names ...string) {
	t.Helper()
	if r.Status < 400 || r.Status > 499 {
		t.Errorf("got %v, want 4xx", r)
		return
	}
	wantPlainLine(t, r)
	for _, name := range names {
		if bytes.Contains(bytes.ToLower(r.Body), []byte(strings.ToLower(name))) {
			return
		}
	}
	t.Errorf("got %v, want a line naming %s", r, strings.Join(names, " or "))
}

// wantPlainLine fails the test unless the body is one readable line of plain text.
func wantPlainLine(t *testing.T, r *hubtest.Reply) {
	t.Helper()
	if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("got content type %q, want text/plain", ct)
	}
	line := bytes.TrimSuffix(r.Body, []byte("\n"))
	if len(bytes.TrimSpace(line)) == 0 || len(line) > 600 || bytes.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }) {
		t.Errorf("got body %q, want one line of readable text", r.Body)
	}
}

// wantBody fails the test unless got equals want.
func wantBody(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes %.80q, want %d bytes %.80q", what, len(got), got, len(want), want)
	}
}

// quietly asserts that a subscriber gets nothing more. Call it after another subscriber of the same topic has
// received the same message.
func quietly(t *testing.T, what string, count func() int) {
	t.Helper()
	hubtest.Quiet(t, 700*time.Millisecond, what, count)
}
