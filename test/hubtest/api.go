package hubtest

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"
)

// Subscription is an item of GET /v1/subscriptions.
type Subscription struct {
	ID             string    `json:"id"`
	Topic          string    `json:"topic"`
	Callback       string    `json:"callback"`
	State          string    `json:"state"`
	Node           string    `json:"node"`
	LeaseExpiresAt Timestamp `json:"lease_expires_at"`
	Cursor         uint64    `json:"cursor"`
	Lag            uint64    `json:"lag"`
	Mode           string    `json:"mode"`
}

// Topic is an item of GET /v1/topics.
type Topic struct {
	Name          string `json:"name"`
	HeadOffset    uint64 `json:"head_offset"`
	FirstOffset   uint64 `json:"first_offset"`
	Subscriptions int    `json:"subscriptions"`
}

// Timestamp is a time in RFC 3339; the zero value stands for null and "".
type Timestamp struct{ time.Time }

// UnmarshalJSON parses the time.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	if s := string(b); s == "null" || s == `""` {
		t.Time = time.Time{}
		return nil
	}
	return t.Time.UnmarshalJSON(b)
}

// ListSubscriptions returns every subscription that the hub lists for a topic and a callback, across all
// pages. An empty argument does not filter.
func (n *Node) ListSubscriptions(topic, callback string) ([]Subscription, error) {
	query := url.Values{}
	if topic != "" {
		query.Set("topic", topic)
	}
	if callback != "" {
		query.Set("callback", callback)
	}
	return pages[Subscription](n, "/v1/subscriptions", query)
}

// ListTopics returns all topics.
func (n *Node) ListTopics() ([]Topic, error) {
	return pages[Topic](n, "/v1/topics", url.Values{})
}

func pages[T any](n *Node, path string, query url.Values) ([]T, error) {
	var all []T
	for range 10_000 {
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		target := path
		if len(query) > 0 {
			target += "?" + query.Encode()
		}
		if _, err := n.getJSON(target, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
	return nil, fmt.Errorf("GET %s: more than 10000 pages", path)
}

// TopicNamed returns the topic with that name and reports whether it is listed.
func (n *Node) TopicNamed(tb testing.TB, name string) (Topic, bool) {
	tb.Helper()
	topics, err := n.ListTopics()
	if err != nil {
		tb.Fatal(err)
	}
	if i := slices.IndexFunc(topics, func(t Topic) bool { return t.Name == name }); i >= 0 {
		return topics[i], true
	}
	return Topic{}, false
}

// Subscriptions is ListSubscriptions for a node that must answer.
func (n *Node) Subscriptions(tb testing.TB, topic, callback string) []Subscription {
	tb.Helper()
	subs, err := n.ListSubscriptions(topic, callback)
	if err != nil {
		tb.Fatal(err)
	}
	return subs
}

// WaitSubscription waits until want accepts the subscription of this topic and callback.
func (n *Node) WaitSubscription(tb testing.TB, topic, callback, what string, want func(Subscription) bool) Subscription {
	tb.Helper()
	var found Subscription
	Eventually(tb, what, func() error {
		subs, err := n.ListSubscriptions(topic, callback)
		if err != nil {
			return err
		}
		for _, s := range subs {
			if want(s) {
				found = s
				return nil
			}
		}
		return fmt.Errorf("subscriptions of %s at %s are %+v", topic, callback, subs)
	})
	return found
}

// WaitActive waits until the subscription is active.
func (n *Node) WaitActive(tb testing.TB, topic, callback string) Subscription {
	tb.Helper()
	return n.WaitSubscription(tb, topic, callback, "an active subscription", func(s Subscription) bool { return s.State == "active" })
}

// WaitCursor waits until the subscription has acknowledged the message at offset.
func (n *Node) WaitCursor(tb testing.TB, topic, callback string, offset uint64) Subscription {
	tb.Helper()
	return n.WaitSubscription(tb, topic, callback, fmt.Sprintf("cursor at %d", offset), func(s Subscription) bool { return s.Cursor >= offset })
}

// WaitGone waits until no subscription of this topic and callback is active or paused.
func (n *Node) WaitGone(tb testing.TB, topic, callback string) {
	tb.Helper()
	n.waitNone(tb, topic, callback, "active", "paused")
}

// WaitSettled waits until no request for this topic and callback is pending.
func (n *Node) WaitSettled(tb testing.TB, topic, callback string) {
	tb.Helper()
	n.waitNone(tb, topic, callback, "pending")
}

func (n *Node) waitNone(tb testing.TB, topic, callback string, states ...string) {
	tb.Helper()
	Eventually(tb, fmt.Sprintf("no subscription that is %v", states), func() error {
		subs, err := n.ListSubscriptions(topic, callback)
		if err != nil {
			return err
		}
		for _, s := range subs {
			if slices.Contains(states, s.State) {
				return fmt.Errorf("still there: %+v", s)
			}
		}
		return nil
	})
}
