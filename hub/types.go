package hub

import (
	"strconv"
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

type (
	// TopicID numbers topics from 1 in order of creation; it is never reused.
	TopicID uint64
	// SubscriptionID numbers subscriptions from 1. A renewal keeps the ID; a subscription created after the old one
	// ended gets a new one.
	SubscriptionID uint64
	// RequestID numbers subscription requests from 1. It fences verifications: a late answer to an older request of
	// the same subscription finds its request gone (invariant I7).
	RequestID uint64
)

// String returns the public form of the ID, such as "s-17".
func (id SubscriptionID) String() string { return "s-" + strconv.FormatUint(uint64(id), 10) }

// String returns the public form of the ID, such as "r-17".
func (id RequestID) String() string { return "r-" + strconv.FormatUint(uint64(id), 10) }

// Topic is a named stream of messages. Offsets count from 1.
type Topic struct {
	ID   TopicID
	Name string // a bare name for a topic hosted by the hub, otherwise its normalised URL

	First       uint64 // offset of the oldest retained message; Head+1 if there is none
	Head        uint64 // offset of the newest message, 0 before the first
	CreatedAt   time.Time
	PublishedAt time.Time // of the newest message, zero before the first

	// Thin pings and the fetches they cause. A fetch is due while Ping > FetchedPing.
	Ping, FetchedPing uint64
	FetchError        string // reason class of the last fetch if it failed

	// Validators and hash of the last fetched content, for conditional requests and to skip unchanged content.
	ETag, LastModified string
	ContentHash        []byte
	LinkSelf           string // rel=self discovered by the fetch; empty: the topic's own URL

	Retention Retention // limits of its own

	Lifecycle *TopicLifecycle // nil: the topic is not deprecated

	Content *TopicContent // nil: in the deliveries, in the clear

	Owner string // principal that registered it or first published to it, empty: none
	// Provisional: a subscription created it, and counts it among its own, until the first publisher becomes the owner.
	Provisional bool

	stored storedBytes
	holder *holding // of the owner, nil: none

	blobs []blobRef // retained messages whose body is a blob, in order of offset

	subscriptions []SubscriptionID // sorted
	groups        []GroupID        // sorted
	owned         map[string]int   // number of these by owner
}

// Subscribers returns the number of subscriptions to the topic.
func (t *Topic) Subscribers() int { return len(t.subscriptions) }

// Belongs reports whether the topic belongs to a principal, who registered it or first published to it.
func (t *Topic) Belongs(principal string) bool {
	return principal != "" && t.Owner == principal && !t.Provisional
}

// StoredBytes returns the bytes of the topic's messages, as stored; never too low. It is 0 without an owner.
func (t *Topic) StoredBytes() uint64 { return t.stored.used() }

// Message is one message of a topic's log. Body, ContentType and Parts are shared and immutable.
type Message struct {
	Topic       TopicID
	Offset      uint64 // from 1 per topic
	Time        int64  // Unix nanoseconds, the leader's clock
	ContentType string
	Body        []byte
	LinkSelf    string // rel=self for deliveries; empty: the topic's own URL
	Headers     []Header

	// A body larger than MaxInlineBytes is a blob: it is stored as parts and Body is nil, see NewBodyReader.
	Parts     []uint64 // their numbers, in order
	PartsSize int64    // their total size in bytes
}

// Header is a publisher's header that is kept with the message, because a delivery key may name it or to be sent with deliveries.
type Header struct {
	Name, Value string // Name in canonical form
	Carried     bool   // sent with deliveries
}

// Header returns the value of a kept header, or "" if the publisher sent none.
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

// Size returns the size of the body in bytes, inline or blob.
func (m *Message) Size() int64 { return int64(len(m.Body)) + m.PartsSize }

// IsBlob reports whether the body is a blob, stored in parts.
func (m *Message) IsBlob() bool { return len(m.Parts) > 0 }

// ID returns the message's ID on the wire: the same on every retry and from every node (invariant I3).
func (m *Message) ID() string {
	b := make([]byte, 0, 24)
	b = strconv.AppendUint(b, uint64(m.Topic), 10)
	b = append(b, '-')
	return string(strconv.AppendUint(b, m.Offset, 10))
}

// Subscription is an active subscription: verified and not ended. Its lease may have expired already (see Expired);
// delivery checks it at send time (WebSub section 5.3.1, invariant I5).
type Subscription struct {
	ID           SubscriptionID
	Topic        TopicID
	TopicName    string
	TopicRaw     string // hub.topic as the subscriber sent it
	Callback     string // hub.callback as the subscriber sent it; deliveries use it verbatim
	CallbackKey  string // its normalised form
	SealedSecret []byte // see SecretBox; empty: deliveries are not signed
	// SealedHeaders are Credentials with the headers that the subscriber wants, bound to HeadersBinding; empty: none.
	SealedHeaders string
	// EncryptionKey is the public key to which deliveries are encrypted, as the subscriber gave it; empty: none.
	EncryptionKey string
	KeyNotice     KeyNotice // the nearest end of that key that was told
	Scheme        string    // SchemeStandardWebhooks: its signatures too; empty: X-Hub-Signature only
	Former        []FormerSecret
	Signature     string // the subscriber's choice: sha1, sha256, sha384 or sha512; empty: none
	// OperatorSignature is the operator's choice; see SignatureMethod.
	OperatorSignature string
	LeaseSeconds      int64
	ExpiresAt         time.Time
	RenewedAt         time.Time
	created           int64 // Unix nanoseconds; see CreatedAt
	Cursor            Cursor
	Assignment        Assignment
	Group             GroupID      // consumer group, 0: none; its cursor and owner are then the group's
	Options           *Options     // nil: the defaults
	Paused            bool         // nothing is delivered, the cursor stays, the lease keeps running
	PauseReason       PauseReason  // of a paused one
	Owner             string       // principal, empty: none
	Extra             []ExtraField // sorted by name; shared and immutable
}

// PauseReason is why a subscription is paused.
type PauseReason = hubpb.PauseReason

// Reasons of a pause.
const (
	PauseOperator   = hubpb.PauseReason_PAUSE_OPERATOR    // or not recorded
	PauseOwner      = hubpb.PauseReason_PAUSE_OWNER       // by its owner
	PauseOwnerEnded = hubpb.PauseReason_PAUSE_OWNER_ENDED // the owner's credential has ended
	PauseNotAllowed = hubpb.PauseReason_PAUSE_NOT_ALLOWED // the rule that allowed it is gone
)

// PauseReasonName returns the reason as lists and events spell it.
func PauseReasonName(r PauseReason) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "PAUSE_"))
}

// ExtraField is a field of a subscribe request that the hub keeps without interpreting it.
type ExtraField struct{ Name, Value string }

// CreatedAt returns when the subscription was first verified. (The field is a number because another time.Time would
// cost 32 bytes per subscription.)
func (s *Subscription) CreatedAt() time.Time { return timeOf(s.created) }

// Expired reports whether the lease has expired at now.
func (s *Subscription) Expired(now time.Time) bool { return !now.Before(s.ExpiresAt) }

// Assignment names the node that delivers a subscription (invariant I4).
type Assignment struct {
	Node  string // empty: none yet
	Epoch uint64 // rises with every change of owner or cursor, from 1; writes under an older epoch are stale and ignored
	Next  string // planned move: takes over once Node has released the subscription; empty: none
	// Rewound is the epoch that the last rewind started. What Node delivered under an earlier epoch says nothing
	// about the present cursor.
	Rewound uint64
}

// Cursor is the delivery progress of a subscription.
type Cursor struct {
	Offset       uint64 // this message and all before it need no further attempt
	Attempts     uint32 // attempts made so far at Offset+1
	Refused      uint32 // of these, definite refusals
	FailingSince int64  // Unix nanoseconds of the first failure since the last success, 0: none
	Delivered    uint64 // messages the subscriber has acknowledged in total
	Failures     uint64 // consecutive failed attempts, over all messages
	// Out-of-order progress: after Offset and up to Through, every message needs no further attempt except the Open
	// ones. Copies of a cursor share Open; it is immutable.
	Through uint64
	Open    []OpenMessage // in order of offset

	Gap         uint64 // messages dropped by retention before they were delivered (invariant I9)
	DeadLetters uint64
}

// Request is a subscribe or unsubscribe request waiting for verification of intent, or a notice (ModeDenied) waiting
// to be sent to the callback.
type Request struct {
	ID          RequestID
	Mode        hubpb.Mode
	TopicName   string
	TopicRaw    string
	Callback    string
	CallbackKey string

	LeaseSeconds  int64
	SealedHeaders string // as in Subscription
	EncryptionKey string // as in Subscription
	SealedSecret  []byte
	Scheme        string // SchemeStandardWebhooks: its signatures too; empty: X-Hub-Signature only
	SecretGrace   int64  // seconds
	Signature     string
	VerifyToken   string
	AutoRegister  bool
	Options       Options
	Start         string // where a new subscription starts, see ParsePosition; empty: latest
	RequestedAt   time.Time
	Reason        string // ModeDenied: sent to the callback as hub.reason
	Extra         []ExtraField
	Owner         string        // principal who asked, empty: none
	caller        *hubpb.Caller // whose rights and limits apply; nil: none
}

// Modes of a Request.
const (
	ModeSubscribe   = hubpb.Mode_MODE_SUBSCRIBE
	ModeUnsubscribe = hubpb.Mode_MODE_UNSUBSCRIBE
	ModeDenied      = hubpb.Mode_MODE_DENIED
)

// ModeName returns the mode as hub.mode spells it on the wire (WebSub sections 5.1 and 5.2).
func (r *Request) ModeName() string {
	switch r.Mode {
	case ModeSubscribe:
		return "subscribe"
	case ModeUnsubscribe:
		return "unsubscribe"
	case ModeDenied:
		return "denied"
	case hubpb.Mode_MODE_UNSPECIFIED: // never stored
	}
	return r.Mode.String()
}
