package hub

import (
	"cmp"
	"context"
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// TopicContent is how subscriptions get the content of a topic's messages. Immutable.
type TopicContent struct {
	// ByReference: all subscriptions get references in place of content. Otherwise those do that ask for it, if Uses is not 0.
	ByReference bool
	Uses        int           // of a reference; 0: the topic offers none
	For         time.Duration // how long a reference is good
	// SamePrincipal: only the owner of the subscription may use it; otherwise whoever has it.
	SamePrincipal bool
	// RequireEncryption refuses subscriptions without a key to encrypt to.
	RequireEncryption bool

	revokedThrough uint64   // messages up to this one are no longer given out by reference
	revoked        []uint64 // nor are these
}

// Bounds and defaults of references.
const (
	MaxReferenceUses     = 1000
	DefaultReferenceUses = 3
	DefaultReferenceTime = 24 * time.Hour
	MinReferenceTime     = time.Second
	MaxReferenceTime     = 30 * 24 * time.Hour
	// maxRevoked bounds the revoked messages of a topic. It is part of the fold.
	maxRevoked = 1000
)

// References reports whether references may be made. It may be called on nil.
func (c *TopicContent) References() bool { return c != nil && c.Uses > 0 }

// Encrypts reports whether nothing may be sent in the clear. It may be called on nil.
func (c *TopicContent) Encrypts() bool { return c != nil && c.RequireEncryption }

// Revoked reports whether a message is no longer given out by reference. It may be called on nil.
func (c *TopicContent) Revoked(offset uint64) bool {
	if c == nil {
		return false
	}
	_, found := slices.BinarySearch(c.revoked, offset)
	return found || offset <= c.revokedThrough
}

// plain reports whether there is nothing to record.
func (c *TopicContent) plain() bool {
	return !c.ByReference && c.Uses == 0 && !c.RequireEncryption && c.revokedThrough == 0 && len(c.revoked) == 0
}

func (c *TopicContent) pb() *hubpb.TopicContent {
	if c == nil {
		return nil
	}
	return &hubpb.TopicContent{ByReference: c.ByReference, Uses: uint32(c.Uses), ValidFor: int64(c.For), SamePrincipal: c.SamePrincipal,
		RequireEncryption: c.RequireEncryption, RevokedThrough: c.revokedThrough, Revoked: c.revoked}
}

func contentFromPB(p *hubpb.TopicContent) *TopicContent {
	if p == nil {
		return nil
	}
	return &TopicContent{ByReference: p.ByReference, Uses: int(p.Uses), For: time.Duration(p.ValidFor), SamePrincipal: p.SamePrincipal,
		RequireEncryption: p.RequireEncryption, revokedThrough: p.RevokedThrough, revoked: p.Revoked}
}

// changedTopic returns the topic of a change that its owner, or an operator, makes; nil: the result tells why.
func (s *State) changedTopic(name, owner string) (*Topic, Result) {
	t := s.findTopic(name, false)
	switch {
	case t == nil:
		return nil, Result{Outcome: OutcomeNoTopic}
	case owner != "" && !t.Belongs(owner):
		return nil, Result{Outcome: OutcomeNotOwner}
	}
	return t, Result{Topic: t.ID}
}

func (s *State) setContent(e *hubpb.TopicContentSet, fx *Effects) Result {
	t, res := s.changedTopic(e.Topic, e.Owner)
	if t == nil {
		return res
	}
	c := contentFromPB(e.Content)
	if c == nil {
		c = &TopicContent{}
	}
	if was := t.Content; was != nil {
		c.revokedThrough, c.revoked = was.revokedThrough, was.revoked
	} else {
		c.revokedThrough, c.revoked = 0, nil
	}
	s.replaceContent(t, c, fx)
	return res
}

// revokeContent ends references for good: those that are made later, by a repetition or a rewind, too.
func (s *State) revokeContent(e *hubpb.SharedContentRevoked, fx *Effects) Result {
	t, res := s.changedTopic(e.Topic, e.Owner)
	if t == nil {
		return res
	}
	var c TopicContent
	if t.Content != nil {
		c = *t.Content
	}
	c.revoked = slices.Clone(c.revoked)
	switch {
	case e.Offset > t.Head:
		return Result{Outcome: OutcomeNotFound, Topic: t.ID}
	case e.Offset == 0:
		c.revokedThrough = t.Head
	case !c.Revoked(e.Offset):
		at, _ := slices.BinarySearch(c.revoked, e.Offset)
		c.revoked = slices.Insert(c.revoked, at, e.Offset)
	}
	c.revoked = slices.DeleteFunc(c.revoked, func(offset uint64) bool { return offset <= c.revokedThrough || offset < t.First })
	if len(c.revoked) > maxRevoked {
		return Result{Outcome: OutcomeFull, Topic: t.ID}
	}
	s.replaceContent(t, &c, fx)
	return res
}

func (s *State) replaceContent(t *Topic, c *TopicContent, fx *Effects) {
	if t.Content = c; c.plain() {
		t.Content = nil
	}
	s.noteContent(t)
	s.touch(TableTopic, uint64(t.ID))
	fx.Content = append(fx.Content, t.ID)
}

// noteContent keeps the list of topics whose content is not simply delivered.
func (s *State) noteContent(t *Topic) {
	if t.Content == nil {
		delete(s.contents, t.ID)
		return
	}
	s.contents[t.ID] = struct{}{}
}

// SetTopicContent says how subscriptions get a topic's content; nil: in the deliveries. Owners may do so for their own topics, of which
// others learn nothing (CodeNotFound).
func (s *Service) SetTopicContent(ctx context.Context, topic string, c *TopicContent, operator bool) error {
	if c == nil {
		c = &TopicContent{}
	}
	switch {
	case c.ByReference && c.Uses == 0:
		return ParamErrorf("share.uses", "is missing; expected how often a reference may be used, 1 to %d", MaxReferenceUses)
	case c.Uses < 0 || c.Uses > MaxReferenceUses:
		return ParamErrorf("share.uses", "is %d; expected 1 to %d", c.Uses, MaxReferenceUses)
	case c.Uses > 0 && (c.For < MinReferenceTime || c.For > MaxReferenceTime):
		return ParamErrorf("share.for", "is %s; expected %s to %s", c.For, MinReferenceTime, MaxReferenceTime)
	}
	owner, err := s.changerOf(ctx, topic, operator)
	if err != nil {
		return err
	}
	if err := s.knowsGateway("the content of topics by reference or encrypted"); err != nil {
		return err
	}
	_, err = s.propose(ctx, topic, &hubpb.Event{Kind: &hubpb.Event_TopicContentSet{TopicContentSet: &hubpb.TopicContentSet{Topic: topic, Content: c.pb(), Owner: owner}}})
	return err
}

// RevokeReferences ends the references to one message of a topic, or with offset 0 to all up to the newest, for good. Owners may do so
// for their own topics.
func (s *Service) RevokeReferences(ctx context.Context, topic string, offset uint64, operator bool) error {
	owner, err := s.changerOf(ctx, topic, operator)
	if err != nil {
		return err
	}
	if err := s.knowsGateway("content by reference"); err != nil {
		return err
	}
	res, err := s.proposeOne(ctx, &hubpb.Event{Kind: &hubpb.Event_SharedContentRevoked{SharedContentRevoked: &hubpb.SharedContentRevoked{Topic: topic, Offset: offset, Owner: owner}}})
	switch {
	case err != nil:
		return err
	case res.Outcome == OutcomeNotFound:
		return &Error{Code: CodeNotFound, Param: "offset", Message: "does not exist yet; expected that of a message of the topic"}
	case res.Outcome == OutcomeFull:
		return Errorf(CodeConflict, "the topic has %d messages revoked one by one; expected offset 0, which revokes all up to the newest", maxRevoked)
	}
	return res.Err(topic)
}

// changerOf returns the owner as whom the caller changes a topic; empty: it is an operator.
func (s *Service) changerOf(ctx context.Context, topic string, operator bool) (string, error) {
	if operator {
		return "", nil
	}
	if !s.OwnsTopic(ctx, topic) {
		return "", Result{Outcome: OutcomeNoTopic}.Err(topic)
	}
	return cmp.Or(s.principal(ctx), ""), nil
}

// proposeOne proposes one event and returns its result.
func (s *Service) proposeOne(ctx context.Context, e *hubpb.Event) (Result, error) {
	res, err := s.proposer.Propose(ctx, e)
	if err != nil {
		return Result{}, err
	}
	return res[0], nil
}
