package hub

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"quorumhub/hub/hubpb"
)

// Retention limits how much of a topic is kept. A nil field means the hub's setting, 0 means no limit.
type Retention struct {
	MaxAge   *time.Duration
	MaxBytes *int64 // approximate size of the bodies and what is stored with them
}

// IsDefault reports whether the topic has no limits of its own.
func (r Retention) IsDefault() bool { return r.MaxAge == nil && r.MaxBytes == nil }

func (r Retention) pb() *hubpb.Retention {
	if r.IsDefault() {
		return nil
	}
	p := &hubpb.Retention{MaxBytes: r.MaxBytes}
	if r.MaxAge != nil {
		ns := int64(*r.MaxAge)
		p.MaxAge = &ns
	}
	return p
}

func retentionFromPB(p *hubpb.Retention) (r Retention) {
	if p == nil {
		return r
	}
	r.MaxBytes = p.MaxBytes
	if p.MaxAge != nil {
		age := time.Duration(*p.MaxAge)
		r.MaxAge = &age
	}
	return r
}

// MinRetention is the shortest MaxAge a topic may have.
const MinRetention = time.Second

// SetRetention gives a topic limits of its own, or removes them. An unknown topic is CodeNotFound.
// Authorisation is up to the caller.
func (s *Service) SetRetention(ctx context.Context, topic string, r Retention) error {
	return s.setRetention(ctx, topic, r, "")
}

// SetOwnRetention is SetRetention for a topic that belongs to the caller of ctx. Limits that exceed those of
// Policy.Retention are CodeForbidden, and a topic that does not belong to the caller is CodeNotFound.
func (s *Service) SetOwnRetention(ctx context.Context, topic string, r Retention) error {
	if !s.OwnsTopic(ctx, topic) {
		return Result{Outcome: OutcomeNoTopic}.Err(topic)
	}
	if most := s.policy.Retention.MaxAge; most != nil && *most > 0 && r.MaxAge != nil && (*r.MaxAge == 0 || *r.MaxAge > *most) {
		return beyondHub("max_age", r.MaxAge.String(), most.String())
	}
	if most := s.policy.Retention.MaxBytes; most != nil && *most > 0 && r.MaxBytes != nil && (*r.MaxBytes == 0 || *r.MaxBytes > *most) {
		return beyondHub("max_bytes", strconv.FormatInt(*r.MaxBytes, 10), strconv.FormatInt(*most, 10))
	}
	return s.setRetention(ctx, topic, r, s.principal(ctx))
}

// beyondHub is the error for a limit that a topic's owner may not choose.
func beyondHub(limit, is, most string) error {
	return &Error{Code: CodeForbidden, Param: limit, Message: "is " + is + " (0: no limit), but the owner of a topic stays within the hub's retention." +
		limit + "; expected at most " + most + ", or none for the hub's own"}
}

func (s *Service) setRetention(ctx context.Context, topic string, r Retention, owner string) error {
	if r.MaxAge != nil && *r.MaxAge != 0 && *r.MaxAge < MinRetention {
		return ParamErrorf("max_age", "is %s; expected 0 (no limit) or at least %s", *r.MaxAge, MinRetention)
	}
	if r.MaxBytes != nil && *r.MaxBytes < 0 {
		return ParamErrorf("max_bytes", "is %d; expected 0 (no limit) or more", *r.MaxBytes)
	}
	_, err := s.propose(ctx, topic, &hubpb.Event{Kind: &hubpb.Event_RetentionSet{RetentionSet: &hubpb.RetentionSet{Topic: topic, Retention: r.pb(), Owner: owner}}})
	return err
}

func (s *State) setRetention(e *hubpb.RetentionSet) Result {
	t := s.findTopic(e.Topic, false)
	if t == nil {
		return Result{Outcome: OutcomeNoTopic}
	}
	if e.Owner != "" && !t.Belongs(e.Owner) {
		return Result{Outcome: OutcomeNotOwner}
	}
	t.Retention = retentionFromPB(e.Retention)
	s.touch(TableTopic, uint64(t.ID))
	return Result{Topic: t.ID}
}

// TopicLimit is a topic that has limits of its own.
type TopicLimit struct {
	Topic TopicID
	Retention
}

// TopicLimits returns the topics that have limits of their own, in order of ID.
func (s *State) TopicLimits() (out []TopicLimit) {
	for id, t := range s.topics {
		if !t.Retention.IsDefault() {
			out = append(out, TopicLimit{id, t.Retention})
		}
	}
	slices.SortFunc(out, func(a, b TopicLimit) int { return cmp.Compare(a.Topic, b.Topic) })
	return out
}
