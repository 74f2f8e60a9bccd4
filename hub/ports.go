package hub

import (
	"context"
	"net/url"
	"time"

	"quorumhub/hub/hubpb"
)

// Clock tells the time. Tests supply their own.
type Clock interface {
	Now() time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now returns time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// Proposer writes events to the replicated log. Safe for concurrent use.
//
// Propose returns once the events are durable on a quorum and applied by the leader, with one result per event. The
// events of one call are applied together, in order. A refusal is not an error of Propose but a Result, see
// Result.Err. Errors are ErrNoLeader, ErrOverloaded, ErrStopping, ErrDiskFull, ErrAmbiguous or the context's.
type Proposer interface {
	Propose(ctx context.Context, events ...*hubpb.Event) ([]Result, error)
}

// StateReader gives access to the state as of the last applied entry. f runs under a read lock, so it must be short
// and must not keep references into the state.
type StateReader interface {
	View(f func(*State))
}

// MessageReader reads the message log. Safe for concurrent use.
type MessageReader interface {
	// Read returns the messages of a topic from offset from (>= 1): at most max messages and at most maxBytes of
	// bodies, but at least one message if there is one. Without a message at or after from the result is empty.
	// Errors are ErrTrimmed if messages from from on have been dropped, and ErrUnknownTopic.
	Read(topic TopicID, from uint64, max, maxBytes int) ([]Message, error)
}

// TimeIndex finds offsets by time. Safe for concurrent use.
type TimeIndex interface {
	// OffsetAt returns the offset of a topic's first retained message that is not older than at, or head+1 if there
	// is none. An unknown topic is ErrUnknownTopic.
	OffsetAt(topic TopicID, at time.Time) (uint64, error)
}

// PartReader reads the parts of blobs. Safe for concurrent use.
type PartReader interface {
	// ReadPart copies the bytes of a part from position at into p and returns their number, 0 at the end of the part.
	// A dropped part is ErrTrimmed.
	ReadPart(part uint64, at int, p []byte) (int, error)
}

// DeadLetterReader reads the messages of dead letters. Safe for concurrent use.
type DeadLetterReader interface {
	// ReadLetter returns the message of a dead letter, even if retention has dropped it from the message log. A dead
	// letter that no longer exists is ErrTrimmed.
	ReadLetter(ctx context.Context, d *DeadLetter) (Message, error)
}

// SecretBox seals hub.secret before it enters the log and opens it for signing (invariant I10). bound is
// authenticated with the secret, so a sealed secret moved to another subscription does not open. The result of Seal
// starts with the header that SealedWith reads.
type SecretBox interface {
	Seal(secret []byte, bound string) ([]byte, error)
	Open(sealed []byte, bound string) ([]byte, error)
}

// SecretBinding returns the bound argument of SecretBox for a subscription's secret.
func SecretBinding(topicName, callbackKey string) string {
	return "hub.secret\x00" + topicName + "\x00" + callbackKey
}

// Leadership reports whether this node currently decides for the cluster (leases, retention, placement).
type Leadership interface {
	IsLeader() bool
}

// CallbackBounds limits requests about callbacks, so that the hub cannot be used to attack others. Safe for
// concurrent use.
type CallbackBounds interface {
	// Admit returns a CodeLimited error if the caller of ctx must wait before a request about this callback. known
	// reports whether such a subscription already exists.
	Admit(ctx context.Context, callback *url.URL, known bool) error
	// Accepted records the ID of the request that was accepted.
	Accepted(ctx context.Context, id RequestID)
}

// NodeStatus is the leader's view of a member of the cluster.
type NodeStatus struct {
	ID    string
	Alive bool // it answers the leader; the leader itself is always alive
	// DeadFor is how long, at least, a node that is not alive has been without a new contact (see Cluster.Contact). It
	// counts from the node's last report to this leader, and not from before the last contact of any earlier leader.
	DeadFor time.Duration
	// Draining: the node is stopping or leaving. It gets no more subscriptions, and others take over those it has.
	Draining bool
	Weight   int // relative share of the subscriptions; below 1 counts as 1
}

// Cluster is the view of the cluster that placement and delivery require. Safe for concurrent use.
type Cluster interface {
	Leadership
	// Nodes returns all members, including this node and non-voters, in order of ID. It is meaningful on the leader
	// only.
	Nodes() []NodeStatus
	// Contact returns the age of this node's last contact: the last moment up to which it can prove that no leader, now
	// or later, counts its silence (NodeStatus.DeadFor) from an earlier one. It is 0 on an only voter, and the longest
	// Duration before the first contact.
	Contact() time.Duration
}

// ContactLease is how long after its last contact a node may deliver. A node whose lease has ended starts to deliver again
// only after it has met a mark of its own in the log (State.Resumed).
const ContactLease = 1500 * time.Millisecond
