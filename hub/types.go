package hub

import (
	"strconv"
	"time"

	"quorumhub/hub/hubpb"
)

type (
	// TopicID numbers topics from 1 in the order of their creation; it is never reused.
	TopicID uint64
	// SubscriptionID numbers subscriptions from 1; a renewal keeps it, a new subscription after an end gets a new one.
	SubscriptionID uint64
	// RequestID numbers subscription requests from 1. It fences verifications: a late answer to an older
	// request of the same subscription finds its request gone (invariant I7).
	RequestID uint64
)

// String is the public form of the id, such as "s-17".
func (id SubscriptionID) String() string { return "s-" + strconv.FormatUint(uint64(id), 10) }

// String is the public form of the id, such as "r-17".
func (id RequestID) String() string { return "r-" + strconv.FormatUint(uint64(id), 10) }

// Topic is what subscribers subscribe to. Offsets of its messages count from 1.
type Topic struct {
	ID   TopicID
	Name string // a bare name for a topic hosted by the hub, else its normalised URL

	First       uint64 // offset of the oldest message retained; Head+1 when there is none
	Head        uint64 // offset of the newest message, 0 before the first
	CreatedAt   time.Time
	PublishedAt time.Time // of the newest message, zero before the first

	// Thin pings and the fetches they cause. A fetch is due while Ping > FetchedPing.
	Ping, FetchedPing uint64
	FetchError        string // reason class of the last fetch when it failed

	// Validators and hash of what was fetched last, for conditional requests and to skip unchanged content.
	ETag, LastModified string
	ContentHash        []byte
	LinkSelf           string // rel=self discovered by the fetch, empty: the topic's own URL

	Retention Retention // its own limits

	blobs []blobRef // retained messages with a body in parts, in order

	subscriptions []SubscriptionID // sorted
	groups        []GroupID        // sorted
	owned         map[string]int   // of these, by the node that delivers them
}

// Subscribers is the number of subscriptions of the topic.
func (t *Topic) Subscribers() int { return len(t.subscriptions) }

// Message is one message of a topic's log. Body, ContentType and Parts are shared and never changed.
type Message struct {
	Topic       TopicID
	Offset      uint64 // from 1 per topic
	Time        int64  // Unix nanoseconds, the leader's clock
	ContentType string
	Body        []byte
	LinkSelf    string // rel=self for deliveries, empty: the topic's own URL
	Headers     []Header

	// A body of more than MaxInlineBytes is in parts, and Body is nil: see NewBodyReader.
	Parts     []uint64 // their numbers, in order
	PartsSize int64    // bytes of all of them
}

// Header is a publisher's header that is kept with its message, so that a delivery key can name it.
type Header struct {
	Name, Value string // the name in canonical form
}

// Header is the value of a header that was kept, empty when the publisher sent none.
func (m *Message) Header(name string) string {
	if name == contentTypeHeader {
		return m.ContentType
	}
	for i := range m.Headers {
		if m.Headers[i].Name == name {
			return m.Headers[i].Value
		}
	}
	return ""
}

// Size is the number of bytes of the body, wherever it is.
func (m *Message) Size() int64 { return int64(len(m.Body)) + m.PartsSize }

// IsBlob reports whether the body is a blob, stored in parts.
func (m *Message) IsBlob() bool { return len(m.Parts) > 0 }

// ID is the message's identity on the wire: the same on every retry and from every node (invariant I3).
func (m *Message) ID() string {
	b := make([]byte, 0, 24)
	b = strconv.AppendUint(b, uint64(m.Topic), 10)
	b = append(b, '-')
	return string(strconv.AppendUint(b, m.Offset, 10))
}

// Subscription is an active subscription: verified, not ended. Its lease may have run out already
// (see Expired); whoever delivers checks at send time (WebSub section 5.3.1, invariant I5).
type Subscription struct {
	ID           SubscriptionID
	Topic        TopicID
	TopicName    string
	TopicRaw     string // hub.topic as the subscriber sent it
	Callback     string // hub.callback as the subscriber sent it; used exactly so
	CallbackKey  string // its normal form
	SealedSecret []byte // see SecretBox; empty: deliveries are not signed
	Scheme       string // SchemeStandardWebhooks: its signatures too; empty: X-Hub-Signature only
	Former       []FormerSecret
	Signature    string // sha1, sha256, sha384 or sha512; empty: the hub's default
	LeaseSeconds int64
	ExpiresAt    time.Time
	RenewedAt    time.Time
	created      int64 // Unix nanoseconds; see CreatedAt
	Cursor       Cursor
	Assignment   Assignment
	Group        GroupID      // consumer group, 0: none; then place and owner are the group's
	Options      *Options     // nil: the defaults
	Paused       bool         // by an operator: nothing is delivered, the place is kept, the lease runs on
	Extra        []ExtraField // sorted by name; shared and never changed
}

// ExtraField is a field of a subscribe request that the hub keeps and does not understand.
type ExtraField struct{ Name, Value string }

// CreatedAt is when it was verified for the first time. (The field is a number because a time.Time more would take 32 bytes of
// each subscription.)
func (s *Subscription) CreatedAt() time.Time { return timeOf(s.created) }

// Expired tells whether the lease has run out at now.
func (s *Subscription) Expired(now time.Time) bool { return !now.Before(s.ExpiresAt) }

// Assignment says which node delivers a subscription (invariant I4).
type Assignment struct {
	Node  string // empty: none yet
	Epoch uint64 // rises with every change of hands, from 1 on; what carries an older one changes nothing
	Next  string // a planned move: who takes over once Node has stopped and said so; empty: none
	// Rewound is the epoch that the last rewind began: what Node did under an earlier one is no longer where the
	// subscription stands.
	Rewound uint64
}

// Cursor is how far a subscription has come.
type Cursor struct {
	Offset       uint64 // last message that needs no further attempt, and all before it
	Attempts     uint32 // attempts already made at Offset+1
	Refused      uint32 // of these, those answered with a definite refusal
	FailingSince int64  // Unix nanoseconds of the first failure since the last success, 0: none
	Delivered    uint64 // messages the subscriber acknowledged, all told
	Failures     uint64 // failed attempts in a row, over all messages
	// Where messages are done with out of order: of those behind Offset up to Through all are but the open ones. A copy
	// shares them; they are never changed.
	Through uint64
	Open    []OpenMessage // in order of offset

	Gap         uint64 // messages dropped by retention before they were delivered (invariant I9)
	DeadLetters uint64
}

// Request is a subscribe or unsubscribe request that waits for its verification of intent, or a
// notice (ModeDenied) that waits to be told to the callback.
type Request struct {
	ID          RequestID
	Mode        hubpb.Mode
	TopicName   string
	TopicRaw    string
	Callback    string
	CallbackKey string

	LeaseSeconds int64
	SealedSecret []byte
	Scheme       string
	SecretGrace  int64 // seconds
	Signature    string
	VerifyToken  string
	AutoRegister bool
	Options      Options
	Start        string // where a new subscription begins, see ParsePosition; empty: latest
	RequestedAt  time.Time
	Reason       string // ModeDenied: what the callback is told
	Extra        []ExtraField
}

// Modes of a Request.
const (
	ModeSubscribe   = hubpb.Mode_MODE_SUBSCRIBE
	ModeUnsubscribe = hubpb.Mode_MODE_UNSUBSCRIBE
	ModeDenied      = hubpb.Mode_MODE_DENIED
)

// ModeName is the mode as hub.mode spells it on the wire (WebSub sections 5.1 and 5.2).
func (r *Request) ModeName() string {
	switch r.Mode {
	case ModeSubscribe:
		return "subscribe"
	case ModeUnsubscribe:
		return "unsubscribe"
	case ModeDenied:
		return "denied"
	case hubpb.Mode_MODE_UNSPECIFIED: // no request has it
	}
	return r.Mode.String()
}
