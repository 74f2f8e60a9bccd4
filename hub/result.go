package hub

import "quorumhub/hub/hubpb"

// Outcome is the outcome of applying one event.
type Outcome uint32

const (
	OutcomeOK        Outcome = iota
	OutcomeDuplicate         // a repetition of an earlier publication, whose offset is in the result
	OutcomeNoTopic           // the topic does not exist
	OutcomeTopicExists
	OutcomeKeyConflict // the idempotency key was used with other content
	OutcomeStale       // the request, subscription or assignment has been replaced; nothing changed
	OutcomeForgotten   // a repeated batch whose result is no longer remembered; it was not applied again
	OutcomeNotFound    // the API key or access rule does not exist
	OutcomeFull        // a limit on the number of such items is reached
	// OutcomeGroupConflict: the other members of the consumer group use another mode, window or key.
	OutcomeGroupConflict
	OutcomeKeyRetired // the secret is sealed with a key that has been retired; nothing changed
	// OutcomeNotOwner: it belongs to another principal, who alone may change it.
	OutcomeNotOwner
	// OutcomeQuota: a quota of the caller is reached: ID names it, Offset is what is in use, and Topic the limit.
	OutcomeQuota
	OutcomeRetired // the topic is retired: it takes no publications and no subscriptions
)

// Result is the outcome of one event and what it created.
type Result struct {
	Outcome Outcome
	Topic   TopicID
	Offset  uint64 // of the published message
	ID      uint64 // of the created request, subscription or dead letter; of a message: idempotency keys forgotten for its own
}

// BatchResult holds the results of one batch of an entry: one list per proposal, one result per event.
type BatchResult struct {
	Seq       uint64
	Proposals [][]Result
}

// Err returns the outcome as an error, or nil for OutcomeOK and OutcomeDuplicate. name is the subject of the event:
// the topic, for most.
func (r Result) Err(name string) error {
	switch r.Outcome {
	case OutcomeOK, OutcomeDuplicate:
		return nil
	case OutcomeNoTopic:
		return Errorf(CodeNotFound, "topic %q is not registered with this hub; register it first (hub.mode=register, or quorumhub topics register)", name)
	case OutcomeTopicExists:
		return Errorf(CodeConflict, "topic %q is already registered", name)
	case OutcomeKeyConflict:
		return Errorf(CodeUnprocessable, "Idempotency-Key was used before with other content for topic %q; use a new key", name)
	case OutcomeStale:
		return Errorf(CodeConflict, "it has been replaced by something newer")
	case OutcomeGroupConflict:
		return Errorf(CodeConflict, "the consumer group has another delivery mode, window or key")
	case OutcomeKeyRetired:
		return Errorf(CodeUnavailable, "the sealing key has just been rotated; try again")
	case OutcomeNotOwner:
		return Errorf(CodeForbidden, "%q belongs to another principal", name)
	case OutcomeQuota:
		return overQuota(r.quotaUse())
	case OutcomeRetired:
		return &Error{Code: CodeRetired, Param: "topic", Message: quote(name) + " was retired"}
	case OutcomeForgotten:
		return ErrAmbiguous
	case OutcomeNotFound:
		return Errorf(CodeNotFound, "%q does not exist", name)
	case OutcomeFull:
		return Errorf(CodeUnavailable, "the limit on stored items is reached; try again later")
	}
	return Errorf(CodeInternal, "unknown outcome %d", r.Outcome)
}

func resultFromPB(p *hubpb.EventResult) Result {
	return Result{Outcome: Outcome(p.Code), Topic: TopicID(p.Topic), Offset: p.Offset, ID: p.Id}
}

func (r Result) pb() *hubpb.EventResult {
	return &hubpb.EventResult{Code: uint32(r.Outcome), Topic: uint64(r.Topic), Offset: r.Offset, Id: r.ID}
}
