package view

import "time"

// Message is a message of a topic, without its content.
type Message struct {
	ID          string    `json:"id"`
	Topic       string    `json:"topic"`
	Offset      uint64    `json:"offset"`
	PublishedAt time.Time `json:"published_at"` // when it was committed
	ContentType string    `json:"content_type"`
	Size        int64     `json:"size"`
	// Publisher is who published it; known only if it was found by its idempotency key.
	Publisher string `json:"publisher,omitempty"`
}

// States of a message with regard to one subscription.
const (
	MessageDelivered = "delivered"   // the callback has acknowledged it
	MessageDone      = "done"        // it needs no further attempt: acknowledged, or passed over by a rewind
	MessagePending   = "pending"     // it still needs an attempt
	MessageLetter    = "dead_letter" // the hub gave it up
	MessageEarlier   = "earlier"     // published before the subscription was made
)

// MessageDelivery is what has become of a message with regard to one subscription.
type MessageDelivery struct {
	Subscription string    `json:"subscription"`
	Callback     string    `json:"callback"`
	Owner        string    `json:"owner,omitempty"`
	Node         string    `json:"node"` // that delivers the subscription
	State        string    `json:"state"`
	DeadLetter   string    `json:"dead_letter,omitempty"` // its ID
	Attempts     []Attempt `json:"attempts"`              // those at the message that are remembered, newest first
	// Unknown says why the attempts are not known; empty: they are.
	Unknown string `json:"attempts_unknown,omitempty"`
}

// MessageWay is the whole way of a message.
type MessageWay struct {
	Message
	Deliveries []MessageDelivery `json:"deliveries"`
	Next       string            `json:"next"` // cursor of the next deliveries, empty after the last
}
