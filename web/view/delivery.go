package view

import (
	"context"
	"time"

	"quorumhub/hub"
)

// Deliveries reports the progress of deliveries. Safe for concurrent use.
type Deliveries interface {
	// Delivery asks the owner of a subscription, which may be another node. Errors are for operators: there is no owner, or it
	// does not answer.
	Delivery(ctx context.Context, id hub.SubscriptionID) (*Delivery, error)
	// Send has the owner of a subscription make one request to its callback, beside its deliveries, and waits for the outcome.
	// Errors are *hub.Error: nothing was sent, or the outcome is not known.
	Send(ctx context.Context, o Sending) (*Sent, error)
}

// Sending is one request to be made to a subscription's callback on request: a message of its topic, or a test message.
type Sending struct {
	Subscription hub.SubscriptionID `json:"subscription"`
	Offset       uint64             `json:"offset"` // of the message; 0: a test message
	ContentType  string             `json:"content_type,omitempty"`
	Body         []byte             `json:"body,omitempty"`
}

// Sent is a request that was made on request. Of the response there is the status only.
type Sent struct {
	Attempt
	Node      string  `json:"node"` // that made it
	MessageID string  `json:"message_id"`
	Size      int64   `json:"size"`   // bytes of the message
	Phases    *Phases `json:"phases"` // null without a response
	Header    []Field `json:"request_header"`
}

// Phases are how long the parts of a request took, in milliseconds. A connection that was there already took none.
type Phases struct {
	Lookup  float64 `json:"lookup_ms"`
	Connect float64 `json:"connect_ms"`
	TLS     float64 `json:"tls_ms"`
	Wait    float64 `json:"wait_ms"` // from the end of the request to the first byte of the response
}

// Field is a header field of a request. Of what is secret the value is masked.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Delivery is what the owner of a subscription knows about it, ahead of the replicated state. Of an endpoint's responses it
// contains the status only.
type Delivery struct {
	Node        string     `json:"node"`
	State       string     `json:"state"`    // idle, ready, sending, waiting, settling, …
	Progress    *Progress  `json:"progress"` // null from an older program
	NextAttempt *time.Time `json:"next_attempt_at"`
	Window      int        `json:"window_now"` // messages that may be in flight; overload narrows it
	Total       uint64     `json:"total"`      // attempts since this node became the owner
	Failed      uint64     `json:"failed"`
	SuccessRate *float64   `json:"success_rate"` // of Attempts; null if there are none
	Attempts    []Attempt  `json:"attempts"`     // at most the last 32, newest first
}

// Progress is how far the deliveries of a subscription have come. Its owner knows at once; the replicated cursor follows within
// delivery.cursor_flush, and is where another node would go on.
type Progress struct {
	Acknowledged uint64 `json:"acknowledged"` // offset of the last message that needs no further attempt, with all before it
	Ahead        uint64 `json:"ahead"`        // messages after it that need none either
	Lag          uint64 `json:"lag"`          // messages that still need one
	Head         uint64 `json:"head_offset"`
	Delivered    uint64 `json:"delivered"` // messages the callback has acknowledged in total
}

// Attempt is one attempt to deliver a message.
type Attempt struct {
	At        time.Time `json:"at"`
	Offset    uint64    `json:"offset"`
	Outcome   string    `json:"outcome"` // delivered, refused, down, gone or cancelled
	Status    int       `json:"status"`  // HTTP status; 0: no response
	LatencyMS float64   `json:"latency_ms"`
	Reason    string    `json:"reason"` // class of the failure
	Kind      string    `json:"kind"`   // delivery, replay or test; empty from an older program, which knows only the first
}

// Aside reports whether the attempt was made beside the subscription's deliveries, and so says nothing about their progress.
func (a *Attempt) Aside() bool { return a.Kind == "replay" || a.Kind == "test" }
