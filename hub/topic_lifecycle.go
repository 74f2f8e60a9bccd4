package hub

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

// A topic's owner may announce its end: the topic is deprecated, perhaps with a successor and a sunset, when it is retired.
// A retired topic takes no publications and no subscriptions. Its subscriptions get what is stored, and end then.

// TopicLifecycle is the mark of a topic that is deprecated or retired. Immutable.
type TopicLifecycle struct {
	DeprecatedAt time.Time
	SunsetAt     time.Time // when it is retired; zero: not decided
	RetiredAt    time.Time // zero: it is not retired
	Successor    string    // name of the topic to use instead; empty: none
}

// Retired reports whether the topic takes no publications and no subscriptions. It may be called on nil.
func (l *TopicLifecycle) Retired() bool { return l != nil && !l.RetiredAt.IsZero() }

func (l *TopicLifecycle) pb() *hubpb.TopicLifecycle {
	if l == nil {
		return nil
	}
	return &hubpb.TopicLifecycle{DeprecatedAt: nanos(l.DeprecatedAt), SunsetAt: nanos(l.SunsetAt), RetiredAt: nanos(l.RetiredAt), Successor: l.Successor}
}

func lifecycleFromPB(p *hubpb.TopicLifecycle) *TopicLifecycle {
	if p == nil {
		return nil
	}
	return &TopicLifecycle{DeprecatedAt: timeOf(p.DeprecatedAt), SunsetAt: timeOf(p.SunsetAt), RetiredAt: timeOf(p.RetiredAt), Successor: p.Successor}
}

// setLifecycle sets a topic's mark, or removes it.
func (s *State) setLifecycle(e *hubpb.TopicLifecycleSet, fx *Effects) Result {
	t := s.findTopic(e.Topic, false)
	if t == nil {
		return Result{Outcome: OutcomeNoTopic}
	}
	l := lifecycleFromPB(e.Lifecycle)
	if l != nil {
		if was := t.Lifecycle; l.DeprecatedAt.IsZero() && was != nil {
			l.DeprecatedAt = was.DeprecatedAt
		} else if l.DeprecatedAt.IsZero() {
			l.DeprecatedAt = timeOf(s.meta.Now)
		}
		if l.Retired() {
			l.RetiredAt = timeOf(s.meta.Now)
			if t.Lifecycle.Retired() {
				l.RetiredAt = t.Lifecycle.RetiredAt
			}
		}
	}
	if t.Lifecycle == l || t.Lifecycle != nil && l != nil && *t.Lifecycle == *l {
		return Result{Outcome: OutcomeDuplicate, Topic: t.ID}
	}
	s.mark(t, l, fx)
	return Result{Topic: t.ID}
}

// mark gives a topic another mark and announces it.
func (s *State) mark(t *Topic, l *TopicLifecycle, fx *Effects) {
	t.Lifecycle = l
	kind := LifecycleTopicDeprecated
	switch {
	case l == nil:
		kind = LifecycleTopicReinstated
		delete(s.marked, t.ID)
	case l.Retired():
		kind = LifecycleTopicRetired
	}
	if l != nil {
		s.marked[t.ID] = struct{}{}
	}
	s.touch(TableTopic, uint64(t.ID))
	fx.Marked = append(fx.Marked, t.ID)
	events := s.topics[s.topicByName[EventsTopic]]
	if events == nil {
		return
	}
	m := Message{Topic: events.ID, Offset: events.Head + 1}
	e := Lifecycle{ID: m.ID(), Type: kind, Time: stamp(s.meta.Now), Topic: t.Name}
	if l != nil {
		e.DeprecatedAt, e.Successor = stamp(nanos(l.DeprecatedAt)), l.Successor
		if !l.SunsetAt.IsZero() {
			e.SunsetAt = stamp(nanos(l.SunsetAt))
		}
	}
	s.append(events, Message{ContentType: "application/json", Body: e.json()}, fx)
}

// retireTopics retires topics whose sunset has passed by the log's clock.
func (s *State) retireTopics(e *hubpb.TopicsRetired, fx *Effects) Result {
	retired := 0
	for _, id := range e.Topics {
		t := s.topics[TopicID(id)]
		if t == nil || !t.Lifecycle.due(s.meta.Now) {
			continue
		}
		l := *t.Lifecycle
		l.RetiredAt = timeOf(s.meta.Now)
		s.mark(t, &l, fx)
		retired++
	}
	return Result{ID: uint64(retired)}
}

// due reports whether the sunset has passed at now, Unix nanoseconds, and the topic is not retired yet.
func (l *TopicLifecycle) due(now int64) bool {
	return l != nil && !l.Retired() && !l.SunsetAt.IsZero() && nanos(l.SunsetAt) <= now
}

// PastSunset returns the topics that are to be retired at now, in order.
func (s *State) PastSunset(now time.Time) (ids []TopicID) {
	for _, id := range slices.Sorted(maps.Keys(s.marked)) {
		if s.topics[id].Lifecycle.due(nanos(now)) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Drained returns at most max subscriptions of retired topics that have received everything, in order of topic.
func (s *State) Drained(max int) (ids []SubscriptionID) {
	for _, topic := range slices.Sorted(maps.Keys(s.marked)) {
		for _, id := range s.topics[topic].subscriptions {
			if len(ids) == max {
				return ids
			}
			if s.drained(s.subs[id]) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// drained reports whether a subscription has received everything of a retired topic.
func (s *State) drained(sub *Subscription) bool {
	t := s.topics[sub.Topic]
	return t.Lifecycle.Retired() && s.unitOf(sub).cursor.Offset >= t.Head
}

// endDrained ends a subscription that has received everything of a retired topic, and tells its callback.
func (s *State) endDrained(sub *Subscription, fx *Effects) {
	why := "the topic was retired"
	if l := s.topics[sub.Topic].Lifecycle; l.Successor != "" {
		why += "; its successor is " + l.Successor
	}
	s.denyNotice(sub, why, fx)
	s.endSubscription(sub.ID, hubpb.EndReason_END_TOPIC_RETIRED, fx)
}

// TopicMark is what SetTopicLifecycle sets.
type TopicMark struct {
	DeprecatedAt time.Time // zero: now, or as before
	SunsetAt     time.Time // zero: not decided
	Successor    string    // name of a topic; empty: none
	Retire       bool      // at once; what was announced before and is not given again stays
}

// SetTopicLifecycle deprecates or retires a topic; nil removes the mark. An unknown topic is CodeNotFound.
// Authorisation is up to the caller.
func (s *Service) SetTopicLifecycle(ctx context.Context, topic string, m *TopicMark, by string) error {
	ev := &hubpb.TopicLifecycleSet{Topic: topic, By: by}
	if m != nil {
		if err := s.checkMark(topic, m); err != nil {
			return err
		}
		l := TopicLifecycle{DeprecatedAt: m.DeprecatedAt, SunsetAt: m.SunsetAt, Successor: m.Successor}
		if m.Retire {
			l.RetiredAt = s.now() // the fold takes the log's time
			if was := s.TopicLifecycle(topic); was != nil {
				l.Successor, l.SunsetAt = cmp.Or(l.Successor, was.Successor), cmp.Or(l.SunsetAt, was.SunsetAt)
			}
		}
		ev.Lifecycle = l.pb()
	}
	if err := s.knowsGateway("deprecating a topic"); err != nil {
		return err
	}
	_, err := s.propose(ctx, topic, &hubpb.Event{Kind: &hubpb.Event_TopicLifecycleSet{TopicLifecycleSet: ev}})
	return err
}

func (s *Service) checkMark(topic string, m *TopicMark) error {
	switch {
	case strings.HasPrefix(topic, reservedPrefix):
		return &Error{Code: CodeForbidden, Param: "topic", Message: quote(topic) + " is the hub's own; it cannot be deprecated"}
	case m.Successor == topic:
		return ParamErrorf("successor", "is the topic itself; expected another one")
	case !m.Retire && !m.SunsetAt.IsZero() && m.SunsetAt.Before(cmp.Or(m.DeprecatedAt, s.now())):
		return ParamErrorf("sunset_at", "is %s, before the topic is deprecated; expected a later time, or retire: true to retire it at once", m.SunsetAt.UTC().Format(time.RFC3339))
	}
	for name, at := range map[string]time.Time{"deprecated_at": m.DeprecatedAt, "sunset_at": m.SunsetAt} {
		if !at.IsZero() && (at.Year() < 1970 || at.Year() > 2200) {
			return ParamErrorf(name, "is %s; expected a time from 1970 to 2200", at.UTC().Format(time.RFC3339))
		}
	}
	// Pointing at something that does not exist would help nobody, and two topics that name each other would mislead.
	if m.Successor == "" {
		return nil
	}
	known, back := false, false
	s.state.View(func(st *State) {
		at := m.Successor
		for range len(st.topics) {
			t := st.topics[st.topicByName[at]]
			if t == nil {
				break
			}
			known = true
			if back = t.Name == topic; back || t.Lifecycle == nil || t.Lifecycle.Successor == "" {
				break
			}
			at = t.Lifecycle.Successor
		}
	})
	switch {
	case back:
		return ParamErrorf("successor", "is %s, whose own successor leads back to this topic; expected another one", quote(m.Successor))
	case !known:
		return ParamErrorf("successor", "is %s, which is no topic of this hub; register it first", quote(m.Successor))
	}
	return nil
}

// TopicLifecycle returns the mark of a topic; nil: none.
func (s *Service) TopicLifecycle(topic string) (l *TopicLifecycle) {
	s.state.View(func(st *State) {
		if t := st.topics[st.topicByName[topic]]; t != nil {
			l = t.Lifecycle
		}
	})
	return l
}

// refuseRetired returns the error for publishing or subscribing to a topic that is retired, or nil.
func (s *Service) refuseRetired(topic string) error {
	if l := s.TopicLifecycle(topic); l.Retired() {
		return s.retired(topic, l)
	}
	return nil
}

// retired returns the error for a retired topic.
func (s *Service) retired(topic string, l *TopicLifecycle) *Error {
	e := &Error{Code: CodeRetired, Param: "topic", Message: quote(topic) + " was retired"}
	if l != nil && l.Successor != "" {
		e.Successor = s.namer.URL(l.Successor)
		e.Message += "; its successor is " + e.Successor
	}
	return e
}
