package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// Request is a subscribe or unsubscribe request as the admin API lists it.
type Request struct {
	ID          string `json:"id"`
	Mode        string `json:"mode"`
	Topic       string `json:"topic"`
	Callback    string `json:"callback"`
	State       string `json:"state"`
	Reason      string `json:"reason"`
	Status      int    `json:"status"`
	Attempts    int    `json:"attempts"`
	RequestedAt string `json:"requested_at"`
	SettledAt   string `json:"settled_at"`
	Owner       string `json:"owner"`
}

// Why says in words why the request failed.
func (r *Request) Why() string {
	switch r.Reason {
	case "not_owner":
		return "the subscription belongs to another principal"
	case "quota":
		return "a quota is reached"
	case "group_conflict":
		return "the consumer group has another mode, window or key"
	case "unknown-topic":
		return "the topic is not registered"
	}
	text := "the callback did not confirm: " + terminal.OneLine(r.Reason)
	if r.Status != 0 {
		text += fmt.Sprintf(" (HTTP status %d)", r.Status)
	}
	if r.Attempts > 1 {
		text += fmt.Sprintf(" after %d calls", r.Attempts)
	}
	return text
}

// Accepted is an intent that the hub has accepted and will verify. The zero value is of a hub that does not name its requests.
type Accepted struct {
	ID    string
	index string // from which on the hub's state contains it
}

// Outcome is what became of an accepted intent.
type Outcome string

// Outcomes. An intent that failed is an error.
const (
	Confirmed Outcome = "confirmed" // the callback confirmed it
	Waiting   Outcome = "pending"   // the hub goes on asking the callback
	Unknown   Outcome = "accepted"  // the hub does not tell this caller
)

// settlePause is the time between two looks at a request.
const settlePause = 200 * time.Millisecond

// confirmed checks that an intent which is neither pending nor among the failed ones has had its effect: a hub of which a node is of an
// older version does not keep those that failed.
func (c *Client) confirmed(ctx context.Context, a Accepted, i Intent, query url.Values) (Outcome, error) {
	items, err := c.List(ctx, "/v1/subscriptions", query)
	if err != nil {
		return Unknown, nil //nolint:nilerr // as in Settled
	}
	there := false
	for _, raw := range items {
		var sub Subscription
		if err := json.Unmarshal(raw, &sub); err != nil {
			return Unknown, c.Unexpected("/v1/subscriptions", err)
		}
		there = there || sub.State == "active" || sub.State == "paused"
	}
	if there != (i.Mode == "subscribe") {
		return Unknown, exit.With(exit.Refused, fmt.Errorf("%s %s: the callback did not confirm; the hub's log says why", i.Mode, a.ID))
	}
	return Confirmed, nil
}

// Settled waits for the outcome of an accepted intent until ctx ends.
func (c *Client) Settled(ctx context.Context, a Accepted, i Intent) (Outcome, error) {
	if a.ID == "" {
		return Unknown, nil
	}
	query := url.Values{"topic": {c.topicAt(c.base(), i.Topic)}, "callback": {i.Callback}}
	if a.index != "" {
		query.Set("min_index", a.index)
	}
	tick := time.NewTicker(settlePause)
	defer tick.Stop()
	for {
		body, err := c.Call(ctx, http.MethodGet, "/v1/requests?"+query.Encode(), nil, "items")
		switch {
		case ctx.Err() != nil:
			return Waiting, nil
		case err != nil:
			return Unknown, nil // the intent was accepted; the hub does not tell what became of it
		}
		var page struct{ Items []Request }
		if err := json.Unmarshal(body, &page); err != nil {
			return Unknown, c.Unexpected("/v1/requests", err)
		}
		state := ""
		for n := range page.Items {
			if r := &page.Items[n]; r.ID == a.ID {
				if state = r.State; state == "failed" {
					return Unknown, exit.With(exit.Refused, fmt.Errorf("%s %s: %s", i.Mode, a.ID, r.Why()))
				}
			}
		}
		if state == "" {
			return c.confirmed(ctx, a, i, query)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Waiting, nil
		}
	}
}
