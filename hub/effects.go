package hub

import "quorumhub/hub/hubpb"

// Effects is what applying entries did, for those who act on it: the store (messages, trims), and the
// delivery room (everything else). Values are copies; they stay valid.
type Effects struct {
	Messages      []Message        // appended, in log order
	Parts         []Message        // parts of large bodies added: Offset is the part's number, Body its bytes
	DroppedParts  uint64           // parts up to this one are gone; 0: nothing changed
	Subscriptions []Subscription   // created, renewed or assigned, each as it then was, in log order
	Ended         []Ended          // removed
	Requests      []Request        // recorded, to be verified
	Settled       []RequestID      // requests that are done with: verified, failed or replaced
	Pinged        []TopicID        // topics with a fetch due
	Trims         []Trim           // messages dropped
	Moved         []SubscriptionID // subscriptions whose cursor a trim moved forward
	RemovedTopics []TopicID
	Replays       []Replay  // dead letters to be sent once more
	Resumed       []Resumed // nodes' marks, see hubpb.DeliveryResumed
	Nodes         []Node    // admitted or changed, each as it then was, in log order
	KeysChanged   bool      // which keys seal secrets, see State.SealingKeys
}

// Resumed is the mark of a node that was out of touch.
type Resumed struct {
	Node string
	Mark uint64
}

// Replay names a dead letter to be sent once more to its subscription.
type Replay struct {
	Letter       uint64
	Subscription SubscriptionID
}

// Ended names a subscription that ended and why.
type Ended struct {
	ID     SubscriptionID
	Reason hubpb.EndReason
}

// Trim says that messages of a topic up to and including Through are gone.
type Trim struct {
	Topic   TopicID
	Through uint64
}

// Reset empties e and keeps its memory, for a caller that is done with what it handed out by value only.
func (e *Effects) Reset() { *e = Effects{} }

// Observer is told what was applied, in log order, by one goroutine. It must not block and must not call
// back into a Proposer and wait for it: the log stands still meanwhile.
type Observer interface {
	Applied(fx *Effects)
}
