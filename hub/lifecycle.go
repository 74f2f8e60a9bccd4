package hub

import (
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

// EventsTopic is the hosted topic to which the hub publishes what happens to subscriptions, as JSON (see Lifecycle).
// It comes into being with its first subscription, or when it is registered. Only the hub publishes to it.
const EventsTopic = "hub.events"

// reservedPrefix starts the names of the hub's own topics.
const reservedPrefix = "hub."

// failingAfter is the number of consecutive failed attempts from which a subscription counts as failing. It is part
// of the fold, so it may change only with a new feature level.
const failingAfter = 3

// Types of Lifecycle messages.
const (
	LifecycleVerified  = "subscription.verified"
	LifecycleImported  = "subscription.imported"
	LifecycleRenewed   = "subscription.renewed"
	LifecycleExpired   = "subscription.expired"
	LifecycleFailing   = "subscription.failing"
	LifecycleRecovered = "subscription.recovered"
	LifecycleExhausted = "subscription.exhausted"
	LifecycleGap       = "subscription.gap"
	LifecyclePaused    = "subscription.paused"
	LifecycleResumed   = "subscription.resumed"
	LifecycleEnded     = "subscription.ended"
	// A request came to nothing: the hub refused it, or its callback did not confirm it.
	LifecycleDenied     = "subscription.denied"
	LifecycleUnverified = "subscription.verification_failed"
	LifecycleReassigned = "subscription.reassigned" // it has another owner
	// A topic was marked; these have no subscription and no callback.
	LifecycleKeyEnding = "subscription.key_ending" // its encryption key

	LifecycleTopicDeprecated = "topic.deprecated"
	LifecycleTopicRetired    = "topic.retired"
	LifecycleTopicReinstated = "topic.reinstated" // the mark was removed

	// Somebody has logged in or out; these have neither a topic nor a subscription.
	LifecycleSessionStarted = "session.started"
	LifecycleSessionEnded   = "session.ended" // before its time
)

// Lifecycle is a message of EventsTopic: something that happened to a subscription or a topic. It is written in the same step of
// the fold as the change it reports, so that none is lost or repeated.
//
// For subscriptions to EventsTopic itself, failing, recovered and exhausted are not published: each would be one more
// message to fail, endlessly.
type Lifecycle struct {
	ID           string `json:"id"` // the message's ID, as in X-Hub-Message-Id
	Type         string `json:"type"`
	Time         string `json:"time"`                   // RFC 3339, the log's time
	Subscription string `json:"subscription,omitempty"` // s-17; of a request without a subscription this and cursor and lease_expires_at are missing
	Topic        string `json:"topic"`                  // topic name; not of sessions
	Callback     string `json:"callback"`               // not of topics
	Node         string `json:"node,omitempty"`         // owner
	Cursor       uint64 `json:"cursor"`                 // this message and all before it need no further attempt
	LeaseEndsAt  string `json:"lease_expires_at"`

	FailingSince string `json:"failing_since,omitempty"` // failing
	Failures     uint64 `json:"failures,omitempty"`      // failing: consecutive failed attempts

	DeadLetter string `json:"dead_letter,omitempty"` // exhausted: ID of the dead letter, d-17
	MessageID  string `json:"message_id,omitempty"`  // exhausted
	Attempts   uint32 `json:"attempts,omitempty"`    // exhausted
	Status     int32  `json:"status,omitempty"`      // exhausted: last HTTP status, if any

	GapFrom     uint64 `json:"gap_from,omitempty"` // gap: first and last offset that retention dropped before delivery
	GapThrough  uint64 `json:"gap_through,omitempty"`
	GapMessages uint64 `json:"gap_messages,omitempty"`

	Request string `json:"request,omitempty"` // denied and verification_failed: ID of the request, r-17; Status and Attempts are its callback's
	Mode    string `json:"mode,omitempty"`    // denied and verification_failed: subscribe or unsubscribe

	Successor    string `json:"successor,omitempty"` // of a topic: name of the topic to use instead
	DeprecatedAt string `json:"deprecated_at,omitempty"`
	SunsetAt     string `json:"sunset_at,omitempty"`

	KeyEndsAt string `json:"key_ends_at,omitempty"` // key_ending; missing: not known

	Session  string `json:"session,omitempty"`  // session.started and session.ended: the start of its ID; missing if several ended at once
	Sessions uint64 `json:"sessions,omitempty"` // how many

	// Reason is, if key_ending: month, week, day or ended; exhausted: the class of the last failure; paused: owner, owner_ended or not_allowed, empty for an
	// operator; ended: unsubscribed, gone, operator, owner, owner_ended,
	// topic_deregistered or topic_retired; session.ended: logout, operator, provider (the identity provider), replaced (by another login in the
	// same browser), limit (too many of one principal), owner_ended, key_revoked or new_cluster; denied and
	// verification_failed: why the request came to nothing.
	Reason string `json:"reason,omitempty"`

	Owner string `json:"owner,omitempty"` // principal that owns the subscription, or has logged in; without either, who asked
}

// checkReserved keeps clients from using the hub's own topics.
func checkReserved(a Action, topic string) error {
	if !strings.HasPrefix(topic, reservedPrefix) {
		return nil
	}
	switch {
	case a == ActionPublish:
		return &Error{Code: CodeForbidden, Param: "hub.topic", Message: quote(topic) + " is reserved; only the hub publishes to topics whose names begin with " + reservedPrefix}
	case (a == ActionRegister || a == ActionSubscribe) && topic != EventsTopic:
		return &Error{Code: CodeForbidden, Param: "hub.topic", Message: quote(topic) + " does not exist; of the names that begin with " + reservedPrefix + " there is " + EventsTopic}
	}
	return nil
}

// Reserved reports whether only the hub publishes to a topic.
func Reserved(topic string) bool { return strings.HasPrefix(topic, reservedPrefix) }

// announce publishes to EventsTopic, if it exists, what happened to a subscription.
func (s *State) announce(kind string, sub *Subscription, fx *Effects, add func(*Lifecycle)) {
	t := s.topics[s.topicByName[EventsTopic]]
	if t == nil {
		return
	}
	v := s.view(sub)
	m := Message{Topic: t.ID, Offset: t.Head + 1}
	e := Lifecycle{ID: m.ID(), Type: kind, Time: stamp(s.meta.Now), Subscription: sub.ID.String(), Topic: sub.TopicName, Callback: sub.Callback,
		Node: v.Assignment.Node, Cursor: v.Cursor.Offset, LeaseEndsAt: stamp(nanos(sub.ExpiresAt))}
	if s.hasQuotas() {
		e.Owner = sub.Owner
	}
	if add != nil {
		add(&e)
	}
	s.append(t, Message{ContentType: "application/json", Body: e.json()}, fx)
}

// announceFailed announces a request that came to nothing. Of a subscription that belongs to somebody else it tells
// that one's ID, and not who asked.
func (s *State) announceFailed(f *FailedRequest, fx *Effects) {
	t := s.topics[s.topicByName[EventsTopic]]
	if t == nil {
		return
	}
	kind := LifecycleUnverified
	switch f.Reason {
	case FailedNotOwner, FailedUnknownTopic, FailedGroup, FailedQuota, FailedRetired:
		kind = LifecycleDenied
	}
	tell := func(e *Lifecycle) {
		e.Request, e.Mode, e.Reason, e.Status, e.Attempts = f.ID.String(), f.ModeName(), f.Reason, f.Status, f.Attempts
	}
	if id, ok := s.subByKey[subscriptionKey{s.topicByName[f.TopicName], f.CallbackKey}]; ok {
		s.announce(kind, s.subs[id], fx, tell)
		return
	}
	m := Message{Topic: t.ID, Offset: t.Head + 1}
	e := Lifecycle{ID: m.ID(), Type: kind, Time: stamp(s.meta.Now), Topic: f.TopicName, Callback: f.Callback}
	if s.hasQuotas() {
		e.Owner = f.Owner
	}
	tell(&e)
	s.append(t, Message{ContentType: "application/json", Body: e.json()}, fx)
}

// stamp formats a time of the fold (Unix nanoseconds) for JSON.
func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// announceFailing announces that a subscription starts to fail or has recovered. before is the previous number of
// consecutive failed attempts.
func (s *State) announceFailing(sub *Subscription, before uint64, fx *Effects) {
	c := &sub.Cursor
	switch was, is := before >= failingAfter, c.Failures >= failingAfter; {
	case was == is || sub.TopicName == EventsTopic:
	case is:
		s.announce(LifecycleFailing, sub, fx, func(e *Lifecycle) {
			e.Failures = c.Failures
			if c.FailingSince != 0 {
				e.FailingSince = stamp(c.FailingSince)
			}
		})
	default:
		s.announce(LifecycleRecovered, sub, fx, nil)
	}
}

func (s *State) announceExhausted(sub *Subscription, d *DeadLetter, fx *Effects) {
	if sub.TopicName == EventsTopic {
		return
	}
	s.announce(LifecycleExhausted, sub, fx, func(e *Lifecycle) {
		e.DeadLetter, e.MessageID, e.Attempts, e.Status, e.Reason = DeadLetterID(d.ID), d.MessageID(), d.Attempts, d.Status, d.Reason
	})
}

// announceGap announces that messages were lost; some of those in between may have been delivered out of order.
func (s *State) announceGap(sub *Subscription, from, through, lost uint64, fx *Effects) {
	s.announce(LifecycleGap, sub, fx, func(e *Lifecycle) { e.GapFrom, e.GapThrough, e.GapMessages = from, through, lost })
}

func (s *State) announceEnd(sub *Subscription, reason hubpb.EndReason, fx *Effects) {
	if reason == hubpb.EndReason_END_EXPIRED {
		s.announce(LifecycleExpired, sub, fx, nil)
		return
	}
	s.announce(LifecycleEnded, sub, fx, func(e *Lifecycle) { e.Reason = strings.ToLower(strings.TrimPrefix(reason.String(), "END_")) })
}
