package hub

import "quorumhub/hub/hubpb"

// Effects lists what applying entries changed, for those who act on it: the store acts on messages, parts and trims,
// the delivery engine on the rest. Values are copies and stay valid.
type Effects struct {
	Messages      []Message        // appended, in log order
	Parts         []Message        // blob parts added: Offset is the part's number, Body its bytes
	DroppedParts  uint64           // parts up to and including this one were dropped; 0: none
	PartsReleased bool             // some parts are no longer in use
	Subscriptions []Subscription   // created, renewed or assigned, each as it was then, in log order
	Ended         []Ended          // removed
	Requests      []Request        // recorded, to be verified
	Settled       []RequestID      // requests no longer pending: verified, failed or replaced
	Failed        []FailedRequest  // requests that came to nothing
	Pinged        []TopicID        // topics with a fetch due
	Trims         []Trim           // messages dropped by retention
	Moved         []SubscriptionID // subscriptions whose cursor a trim moved forward
	RemovedTopics []TopicID
	Marked        []TopicID // topics that were deprecated, retired or reinstated
	Content       []TopicID // topics whose content subscriptions get in another way
	Replays       []Replay  // dead letters to be sent once more
	Resumed       []Resumed // marks of nodes, see hubpb.DeliveryResumed
	Nodes         []Node    // admitted or changed, each as it was then, in log order
	KeysChanged   bool      // State.SealingKeys changed
	// CallbacksChanged: credentials that operators set for callbacks changed.
	CallbacksChanged bool
	// GatewayChanged: the gateway has another registry (State.Gateway).
	GatewayChanged bool
}

// Resumed is the mark of a node that resumes delivery after it was out of contact.
type Resumed struct {
	Node string
	Mark uint64
}

// Replay names a dead letter to be sent once more to its subscription.
type Replay struct {
	Letter       uint64
	Subscription SubscriptionID
}

// Ended names a subscription that ended, and the reason.
type Ended struct {
	ID     SubscriptionID
	Reason hubpb.EndReason
}

// Trim reports that the messages of a topic up to and including Through were dropped.
type Trim struct {
	Topic   TopicID
	Through uint64
}

// Observer receives the effects of applied entries, in log order, from a single goroutine. The log stands still while
// Applied runs, so Applied must not block, and must not wait for a Proposer.
type Observer interface {
	Applied(fx *Effects)
}
