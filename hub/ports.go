package hub

import (
	"context"
	"net/url"
	"time"

	"quorumhub/hub/hubpb"
)

// Clock tells the time. Tests bring their own.
type Clock interface {
	Now() time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// Proposer brings events into the replicated log. Safe for concurrent use.
//
// Propose returns when the events are durable on a quorum and applied on this node's leader, with one
// result an event; the events of one call are applied together, in order. A result that refuses is no error
// of Propose: see Result.Err. Errors are ErrNoLeader, ErrOverloaded, ErrStopping, ErrDiskFull, ErrAmbiguous or the context's.
type Proposer interface {
	Propose(ctx context.Context, events ...*hubpb.Event) ([]Result, error)
}

// StateReader gives access to the state as of the last applied entry. f runs under a read lock: it
// must be short, and keep nothing it got by reference.
type StateReader interface {
	View(f func(*State))
}

// MessageReader reads the message log. Safe for concurrent use.
type MessageReader interface {
	// Read returns the messages of a topic from offset from on (from >= 1), at most max of them and at most
	// maxBytes of bodies (but at least one when there is one). No message at or after from is an empty result,
	// not an error; messages already dropped are ErrTrimmed; an unknown topic is ErrUnknownTopic.
	Read(topic TopicID, from uint64, max, maxBytes int) ([]Message, error)
}

// TimeIndex finds places in the message log by time. Safe for concurrent use.
type TimeIndex interface {
	// OffsetAt is the offset of the first retained message of a topic that is not older than at, one above the
	// head when there is none. An unknown topic is ErrUnknownTopic.
	OffsetAt(topic TopicID, at time.Time) (uint64, error)
}

// PartReader reads the parts of large bodies. Safe for concurrent use.
type PartReader interface {
	// ReadPart copies what a part holds from position at on to p and returns how much that was; 0 at the end of
	// the part. A part that is gone is ErrTrimmed.
	ReadPart(part uint64, at int, p []byte) (int, error)
}

// DeadLetterReader reads what dead letters are about. Safe for concurrent use.
type DeadLetterReader interface {
	// ReadLetter returns the message of a dead letter, also when the message log holds it no longer. A letter that
	// is gone is ErrTrimmed.
	ReadLetter(ctx context.Context, d *DeadLetter) (Message, error)
}

// SecretBox seals hub.secret before it enters the log and opens it to sign (invariant I10). bound is
// authenticated with the secret: a sealed secret moved to another subscription does not open. What Seal returns begins as
// SealedWith reads it.
type SecretBox interface {
	Seal(secret []byte, bound string) ([]byte, error)
	Open(sealed []byte, bound string) ([]byte, error)
}

// SecretBinding is the bound argument of SecretBox for a subscription's secret.
func SecretBinding(topicName, callbackKey string) string {
	return "hub.secret\x00" + topicName + "\x00" + callbackKey
}

// Leadership tells whether this node decides for the cluster at the moment (leases, retention, placement).
type Leadership interface {
	IsLeader() bool
}

// CallbackBounds keep requests about callbacks within bounds, so that the hub is no tool against others. Safe for
// concurrent use.
type CallbackBounds interface {
	// Admit refuses, with CodeLimited, a request of the caller of ctx about a callback; known says that there is such a
	// subscription.
	Admit(ctx context.Context, callback *url.URL, known bool) error
	// Taken tells of the request that came of it.
	Taken(ctx context.Context, id RequestID)
}

// NodeStatus is a member of the cluster as the leader sees it.
type NodeStatus struct {
	ID    string
	Alive bool // it answers the leader; the leader itself always
	// DeadFor is how long the leader has not heard of a node that is not alive. A leader that has not heard of
	// it since it leads counts from the moment it came to lead, or, for the leader before it, from that one's last word.
	DeadFor time.Duration
	// Draining: it stops or leaves. It is given nothing more, and what it has goes to others.
	Draining bool
	Weight   int // its share of the subscriptions in proportion to the others'; below 1 counts as 1
}

// Cluster is what placing and delivering subscriptions need to know of the cluster. Safe for concurrent use.
type Cluster interface {
	Leadership
	// Nodes are all members, this one and those that do not vote included, in order of id. It is meaningful on
	// the leader only.
	Nodes() []NodeStatus
	// Contact is how long ago this node heard of the leader, or as the leader of a quorum: it measures how
	// old this node's picture of the cluster may be. 0 on the only voter; the longest Duration before the first word.
	Contact() time.Duration
}
