package conformance_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"quorumhub/test/hubtest"
)

// A subscription starts at the topic's head at the time of the verification request: nothing older is
// delivered, and nothing published before the callback answers is missing.
func TestSubscriptionBeginsWithItsVerification(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	n.Publish(t, topic, "text/plain", []byte("older"))
	gate := make(chan struct{})
	s := hubtest.NewSubscriber(t).OnIntent(func(r hubtest.Request) hubtest.Answer {
		return hubtest.Answer{Gate: gate, Body: []byte(r.Value("hub.challenge"))}
	})
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb")), 202)
	s.WaitIntent(t, "subscribe", 1)
	n.Publish(t, topic, "text/plain", []byte("meanwhile 1"))
	n.Publish(t, topic, "text/plain", []byte("meanwhile 2"))
	if got := s.CountDeliveries(); got != 0 {
		t.Errorf("got %d deliveries before the intent was confirmed, want none", got)
	}
	close(gate)
	n.WaitActive(t, topic, s.Callback("/cb"))
	n.Publish(t, topic, "text/plain", []byte("after"))
	s.WaitBody(t, "after")
	var got []string
	for _, d := range s.Deliveries() {
		got = append(got, string(d.Body))
	}
	if want := "meanwhile 1,meanwhile 2,after"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %s", got, want)
	}
}

func TestConcurrentPublishersGetOneOrder(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic)
	ledger := hubtest.NewLedger()
	ledger.Subscribed(callback, topic, 0)
	const publishers, each = 8, 25
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			var last uint64
			for i := range each {
				ack, err := n.TryPublish(topic, "text/plain", fmt.Appendf(nil, "publisher %d message %d", p, i))
				if err != nil {
					t.Error(err)
					return
				}
				if ack.Offset <= last {
					t.Errorf("publisher %d got offset %d after %d", p, ack.Offset, last)
				}
				last = ack.Offset
				ledger.Acknowledged(ack)
			}
		})
	}
	wg.Wait()
	n.WaitCursor(t, topic, callback, publishers*each)
	for _, d := range s.Deliveries() {
		ledger.Delivered(callback, d)
	}
	for what, err := range map[string]error{"balance": ledger.Balance(), "gaps": ledger.Contiguous()} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := ledger.Duplicates(); got != 0 {
		t.Errorf("got %d duplicate deliveries although nothing failed", got)
	}
}

// A topic is the same under each of the hub's URLs.
func TestAliasURLsMeanTheSameTopic(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"http.alias_urls": []string{"https://hub.example/base", "http://other.example"}}})
	name := topicName(t)
	s := hubtest.NewSubscriber(t)
	wantStatus(t, "subscribe", n.Request(t, "subscribe", "https://hub.example/base/topics/"+name, s.Callback("/cb")), 202)
	n.WaitActive(t, "", s.Callback("/cb"))
	if got := s.WaitIntent(t, "subscribe", 1).Value("hub.topic"); got != "https://hub.example/base/topics/"+name {
		t.Errorf("the verification request names topic %q", got)
	}
	n.Publish(t, n.TopicURL(name), "text/plain", []byte("1"))
	s.WaitBody(t, "1")
	n.Publish(t, "http://other.example/topics/"+name, "text/plain", []byte("2"))
	s.WaitBody(t, "2")
	if topic, ok := n.TopicNamed(t, name); !ok || topic.HeadOffset != 2 {
		t.Errorf("the topic is %+v, listed: %v", topic, ok)
	}
}

// Two processes would corrupt a shared data directory.
func TestDataDirectoryIsForOneProcess(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{})
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	second, err := hubtest.PrepareNode(hubtest.Options{Dir: t.TempDir(), Binary: hubtest.Binary(t)})
	if err != nil {
		t.Fatal(err)
	}
	second.Settings = second.Settings.With(hubtest.Settings{"data_dir": n.DataDir})
	wantRefusedStart(t, second, n.DataDir)
	n.Publish(t, topic, "text/plain", []byte("undisturbed"))
	s.WaitBody(t, "undisturbed")
	n.Kill(t)
	n.Restart(t)
	n.Publish(t, topic, "text/plain", []byte("again"))
	s.WaitBody(t, "again")
}

// A message that the hub gave up on becomes a dead letter.
func TestMessagesThatAreGivenUpAreListed(t *testing.T) {
	n := strict(t)
	topic := newRegisteredTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(422) })
	n.Subscribe(t, topic, s.Callback("/dead-end"))
	n.Publish(t, topic, "text/plain", []byte("unwanted"))
	n.WaitCursor(t, topic, s.Callback("/dead-end"), 1)
	hubtest.Eventually(t, "a dead letter", func() error {
		r := n.Do(t, http.MethodGet, "/v1/dead-letters", nil, nil)
		if r.Status != http.StatusOK || !strings.Contains(string(r.Body), s.Callback("/dead-end")) || !strings.Contains(string(r.Body), "422") {
			return fmt.Errorf("got %v, want a list naming %s and 422", r, s.Callback("/dead-end"))
		}
		return nil
	})
}

// The hub keeps working while messages arrive faster than it can deliver them.
func TestBacklogIsDeliveredOnceTheSubscriberIsBack(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Drop: true} })
	callback := s.Callback("/cb")
	n.Subscribe(t, topic, callback)
	ledger := hubtest.NewLedger()
	ledger.Subscribed(callback, topic, 0)
	const messages = 300
	for i := range messages {
		ledger.Acknowledged(n.Publish(t, topic, "application/octet-stream", append(fmt.Appendf(nil, "message %d ", i), make([]byte, 16<<10)...)))
	}
	failed := s.CountDeliveries()
	s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{} })
	n.WaitCursor(t, topic, callback, messages)
	for _, d := range s.Deliveries()[failed:] {
		ledger.Delivered(callback, d)
	}
	if err := ledger.Balance(); err != nil {
		t.Error(err)
	}
}
