package conformance_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"quorumhub/test/hubtest"
)

// A callback that says 429, without a word of when to come back, is sent less at a time, down to one message, and the whole
// window again when it has recovered. Nothing is lost, and each key's messages come in order.
func TestOverloadedCallbackIsSentLessAtATime(t *testing.T) {
	const window, keys = 16, 32
	n := shared(t)
	topic := newTopic(t, n)
	var mu sync.Mutex
	overloaded := true
	var taken []string
	s := hubtest.NewSubscriber(t).OnDelivery(func(r hubtest.Request) hubtest.Answer {
		mu.Lock()
		defer mu.Unlock()
		if overloaded {
			return hubtest.Status(429)
		}
		taken = append(taken, string(r.Body))
		return hubtest.Answer{}
	})
	sub := n.Subscribe(t, topic, s.Callback("/cb"), "hub.delivery_key", "json:/key", "hub.delivery_window", fmt.Sprint(window),
		"hub.retry.schedule", "1")
	both := n.Request(t, "subscribe", topic, s.Callback("/both"), "hub.retry.schedule", "5,300", "hub.retry.max_interval", "60")
	for _, param := range []string{"hub.retry.schedule", "hub.retry.max_interval"} {
		if both.Status != 400 || !strings.Contains(string(both.Body), param) {
			t.Errorf("a schedule and a longest wait: got %v, want 400 and %s", both, param)
		}
	}
	type content struct {
		Key int `json:"key"`
		N   int `json:"n"`
	}
	published := 0
	publish := func(count int) {
		for range count {
			body, err := json.Marshal(content{published % keys, published})
			if err != nil {
				t.Fatal(err)
			}
			n.Publish(t, topic, "application/json", body)
			published++
		}
	}
	wantWindow := func(want int) {
		t.Helper()
		hubtest.Eventually(t, fmt.Sprintf("the window is %d", want), func() error {
			var got struct {
				Options struct {
					RetrySchedule []int `json:"retry_schedule"`
				}
				Delivery struct {
					Window int `json:"window_now"`
				}
			}
			text := n.GetJSON(t, "/v1/subscriptions/"+sub.ID, &got)
			if got.Delivery.Window != want || !slices.Equal(got.Options.RetrySchedule, []int{1}) {
				return fmt.Errorf("got %s", text)
			}
			return nil
		})
	}
	wantWindow(window)
	publish(2 * window)
	wantWindow(1)
	mu.Lock()
	overloaded = false
	mu.Unlock()
	publish(8*window - 2*window)
	wantWindow(window) // 1+2+…+15 = 120 of 128 successes
	n.WaitCursor(t, topic, s.Callback("/cb"), uint64(published))

	mu.Lock()
	defer mu.Unlock()
	next := map[int]int{}
	seen := map[int]bool{}
	for _, body := range taken {
		var c content
		if err := json.Unmarshal([]byte(body), &c); err != nil {
			t.Fatal(err)
		}
		if seen[c.N] = true; c.N > next[c.Key]*keys+c.Key {
			t.Errorf("message %d of key %d came before the one before it", c.N, c.Key)
		}
		next[c.Key] = max(next[c.Key], c.N/keys+1)
	}
	if len(seen) != published {
		t.Errorf("%d of %d messages were taken", len(seen), published)
	}
}
