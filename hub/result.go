package hub

import "quorumhub/hub/hubpb"

// Outcome says what applying one event came to.
type Outcome uint32

const (
	OutcomeOK        Outcome = iota
	OutcomeDuplicate         // an idempotent repetition: the first one's offset is in the result
	OutcomeNoTopic           // the topic does not exist
	OutcomeTopicExists
	OutcomeKeyConflict // the idempotency key was used with other content
	OutcomeStale       // the request, subscription or assignment is no longer the current one; nothing changed
	OutcomeForgotten   // a repeated batch too old to be answered; it was not applied again
	OutcomeNotFound    // the API key or rule does not exist
	OutcomeFull        // no room is left for more of it
	// OutcomeGroupConflict: the members of the consumer group want their messages in another order.
	OutcomeGroupConflict
	OutcomeKeyRetired // the secret is sealed with a key that was retired meanwhile; nothing changed
)

// Result is the outcome of one event, with what it made.
type Result struct {
	Outcome Outcome
	Topic   TopicID
	Offset  uint64 // of the message published
	ID      uint64 // of the request, subscription or dead letter made
}

// BatchResult answers one batch of an entry: one list a proposal, one result an event.
type BatchResult struct {
	Seq       uint64
	Proposals [][]Result
}

// Err is the refusal in words, nil for OutcomeOK and OutcomeDuplicate. name is what the event was about: the topic, for most.
func (r Result) Err(name string) error {
	switch r.Outcome {
	case OutcomeOK, OutcomeDuplicate:
		return nil
	case OutcomeNoTopic:
		return Errorf(CodeNotFound, "topic %q is not registered with this hub; register it first (hub.mode=register)", name)
	case OutcomeTopicExists:
		return Errorf(CodeConflict, "topic %q is already registered", name)
	case OutcomeKeyConflict:
		return Errorf(CodeUnprocessable, "Idempotency-Key was used within the last day with other content for topic %q; use a new key", name)
	case OutcomeStale:
		return Errorf(CodeConflict, "this was replaced by something newer")
	case OutcomeGroupConflict:
		return Errorf(CodeConflict, "the consumer group has another delivery mode, window or key")
	case OutcomeKeyRetired:
		return Errorf(CodeUnavailable, "the key that seals secrets was changed just now; try again")
	case OutcomeForgotten:
		return ErrAmbiguous
	case OutcomeNotFound:
		return Errorf(CodeNotFound, "%q does not exist", name)
	case OutcomeFull:
		return Errorf(CodeUnavailable, "too many are kept at present; try again later")
	}
	return Errorf(CodeInternal, "unknown outcome %d", r.Outcome)
}

func resultFromPB(p *hubpb.EventResult) Result {
	return Result{Outcome: Outcome(p.Code), Topic: TopicID(p.Topic), Offset: p.Offset, ID: p.Id}
}

func (r Result) pb() *hubpb.EventResult {
	return &hubpb.EventResult{Code: uint32(r.Outcome), Topic: uint64(r.Topic), Offset: r.Offset, Id: r.ID}
}
