package conformance_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"quorumhub/test/hubtest"
)

// sometimesOverloaded is a subscriber that answers 429, without Retry-After, while it is overloaded, and otherwise
// records what it accepts.
type sometimesOverloaded struct {
	*hubtest.Subscriber

	mu         sync.Mutex
	overloaded bool
	accepted   [][]byte
}

func newOverloaded(t *testing.T) *sometimesOverloaded {
	t.Helper()
	s := &sometimesOverloaded{Subscriber: hubtest.NewSubscriber(t), overloaded: true}
	s.OnDelivery(func(r hubtest.Request) hubtest.Answer {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.overloaded {
			return hubtest.Status(429)
		}
		s.accepted = append(s.accepted, r.Body)
		return hubtest.Answer{}
	})
	return s
}

func (s *sometimesOverloaded) recover() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.overloaded = false
}

// keyedContent is the body of a message with a delivery key: message N has key N modulo the number of keys.
type keyedContent struct {
	Key int `json:"key"`
	N   int `json:"n"`
}

// wantEachKeyInOrder asserts that all published messages were accepted, and those of each key in order.
func (s *sometimesOverloaded) wantEachKeyInOrder(t *testing.T, published, keys int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[int]int{}
	seen := map[int]bool{}
	for _, body := range s.accepted {
		var c keyedContent
		if err := json.Unmarshal(body, &c); err != nil {
			t.Fatal(err)
		}
		if seen[c.N] = true; c.N > next[c.Key]*keys+c.Key {
			t.Errorf("message %d of key %d arrived before the previous message of that key", c.N, c.Key)
		}
		next[c.Key] = max(next[c.Key], c.N/keys+1)
	}
	if len(seen) != published {
		t.Errorf("%d of %d messages were accepted", len(seen), published)
	}
}

// waitWindow waits until the hub shows this current window, and asserts the subscription's retry schedule.
func waitWindow(t *testing.T, n *hubtest.Node, subscription string, want int) {
	t.Helper()
	hubtest.Eventually(t, fmt.Sprintf("window of %d", want), func() error {
		var got struct {
			Options struct {
				RetrySchedule []int `json:"retry_schedule"`
			}
			Delivery struct {
				Window int `json:"window_now"`
			}
		}
		text := n.GetJSON(t, "/v1/subscriptions/"+subscription, &got)
		if got.Delivery.Window != want || !slices.Equal(got.Options.RetrySchedule, []int{1}) {
			return fmt.Errorf("got %s", text)
		}
		return nil
	})
}

// A callback that answers 429 gets fewer messages at a time, down to one, and the whole window again once it has
// recovered. Nothing is lost, and the messages of each key arrive in order.
func TestOverloadedCallbackIsSentLessAtATime(t *testing.T) {
	const window, keys = 16, 32
	n := shared(t)
	topic := newTopic(t, n)
	s := newOverloaded(t)
	sub := n.Subscribe(t, topic, s.Callback("/cb"), "hub.delivery_key", "json:/key", "hub.delivery_window", fmt.Sprint(window),
		"hub.retry.schedule", "1")
	published := 0
	publish := func(count int) {
		for range count {
			body, err := json.Marshal(keyedContent{published % keys, published})
			if err != nil {
				t.Fatal(err)
			}
			n.Publish(t, topic, "application/json", body)
			published++
		}
	}
	waitWindow(t, n, sub.ID, window)
	publish(2 * window)
	waitWindow(t, n, sub.ID, 1)
	s.recover()
	publish(8*window - 2*window)
	waitWindow(t, n, sub.ID, window) // takes 1+2+…+15 = 120 of 128 successes
	n.WaitCursor(t, topic, s.Callback("/cb"), uint64(published))
	s.wantEachKeyInOrder(t, published, keys)
}

func TestRetryScheduleExcludesMaxInterval(t *testing.T) {
	n := shared(t)
	r := n.Request(t, "subscribe", newTopic(t, n), "http://127.0.0.1:1025/cb", "hub.retry.schedule", "5,300", "hub.retry.max_interval", "60")
	wantStatus(t, "subscribe with both", r, 400)
	for _, param := range []string{"hub.retry.schedule", "hub.retry.max_interval"} {
		wantRefusal(t, r, param)
	}
}
