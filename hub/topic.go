package hub

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"

	"quorumhub/hub/hubpb"
)

// ContentHash returns the identity of content: the SHA-256 of content type and body.
func ContentHash(contentType string, body []byte) []byte {
	h := sha256.New()
	h.Write([]byte(contentType))
	h.Write([]byte{0})
	h.Write(body)
	return h.Sum(nil)
}

func (s *State) registerTopic(e *hubpb.TopicRegistered) Result {
	if id, ok := s.topicByName[e.Topic]; ok {
		return Result{Outcome: OutcomeTopicExists, Topic: id}
	}
	t, refused := s.createOwned(e.Topic, e.Caller)
	if t == nil {
		return refused
	}
	return Result{Topic: t.ID}
}

// createOwned creates a topic for a principal, unless its quota is reached: the result tells.
func (s *State) createOwned(name string, c *hubpb.Caller) (*Topic, Result) {
	owner := c.GetPrincipal()
	if strings.HasPrefix(name, reservedPrefix) {
		owner = "" // it is the hub's own
	}
	if used := s.held(owner).topics; owner != "" && reached(used, c.GetMaxTopics()) {
		return nil, quotaReached(QuotaTopics, used, c.GetMaxTopics())
	}
	t := s.createTopic(name)
	s.ownTopic(t, owner)
	s.recordLimits(c)
	return t, Result{}
}

// publishedTopic returns the topic to which a caller publishes that many bytes, and creates it if create is set. Without a
// topic the result tells why. The first to publish to a topic that nobody has registered becomes its owner.
func (s *State) publishedTopic(name string, create bool, c *hubpb.Caller, size sizer) (*Topic, Result) {
	t := s.findTopic(name, false)
	if c.GetPrincipal() != "" && (t == nil || t.unclaimed()) {
		if r := limitsOf(c).fits(s.held(c.Principal).stored, size); r.Outcome != OutcomeOK {
			return nil, r
		}
	}
	switch {
	case t == nil && create:
		return s.createOwned(name, c)
	case t == nil:
		return nil, Result{Outcome: OutcomeNoTopic}
	case t.Lifecycle.Retired():
		return nil, Result{Outcome: OutcomeRetired, Topic: t.ID}
	case c.GetPrincipal() != "" && t.unclaimed() && t.Owner != c.GetPrincipal():
		if used := s.held(c.Principal).topics; reached(used, c.MaxTopics) {
			return nil, quotaReached(QuotaTopics, used, c.MaxTopics)
		}
		s.ownTopic(t, c.Principal)
	}
	t.Provisional = t.Provisional && c.GetPrincipal() == ""
	return t, Result{}
}

// unclaimed reports whether the first publisher becomes the topic's owner.
func (t *Topic) unclaimed() bool { return t.Head == 0 && (t.Owner == "" || t.Provisional) }

func (s *State) createTopic(name string) *Topic {
	s.meta.NextTopic++
	t := &Topic{ID: TopicID(s.meta.NextTopic), Name: name, First: 1, CreatedAt: timeOf(s.meta.Now)}
	s.topics[t.ID] = t
	s.topicByName[name] = t.ID
	s.touch(TableTopic, uint64(t.ID))
	return t
}

// findTopic returns the topic of that name, or nil. If create is set, it creates a missing topic.
func (s *State) findTopic(name string, create bool) *Topic {
	if id, ok := s.topicByName[name]; ok {
		return s.topics[id]
	}
	if !create {
		return nil
	}
	return s.createTopic(name)
}

// deregisterTopic removes a topic with its messages and ends its subscriptions; their callbacks are notified.
func (s *State) deregisterTopic(e *hubpb.TopicDeregistered, fx *Effects) Result {
	t := s.findTopic(e.Topic, false)
	if t == nil {
		return Result{Outcome: OutcomeNoTopic}
	}
	if e.Owner != "" && !t.Belongs(e.Owner) {
		return Result{Outcome: OutcomeNotOwner}
	}
	delete(s.topicByName, t.Name) // first, so that nothing is published to the topic being removed
	for _, id := range slices.Clone(t.subscriptions) {
		s.denyNotice(s.subs[id], "the topic was deregistered", fx)
		s.endSubscription(id, hubpb.EndReason_END_TOPIC_DEREGISTERED, fx)
	}
	s.forgetBlobs(t, t.Head, fx)
	s.ownTopic(t, "")
	delete(s.topics, t.ID)
	delete(s.marked, t.ID)
	delete(s.contents, t.ID)
	s.touch(TableTopic, uint64(t.ID))
	s.idempotency.removeTopic(s, t.ID)
	s.releaseParts(fx)
	fx.RemovedTopics = append(fx.RemovedTopics, t.ID)
	return Result{Topic: t.ID}
}

func (s *State) publish(e *hubpb.MessagePublished, fx *Effects) Result {
	m := Message{ContentType: e.ContentType, Body: e.Body, Headers: headersFrom(e.Headers)}
	return s.publishOnce(e, func() uint64 { return storedSize(&m) }, func(t *Topic) (uint64, bool) { return s.append(t, m, fx), true })
}

func (s *State) publishBatch(e *hubpb.BatchPublished, fx *Effects) Result {
	size := func() (n uint64) {
		for _, item := range e.Items {
			n += storedSize(&Message{ContentType: item.ContentType, Body: item.Body})
		}
		return n
	}
	return s.publishOnce(e, size, func(t *Topic) (uint64, bool) {
		first := t.Head + 1
		for _, item := range e.Items {
			s.append(t, Message{ContentType: item.ContentType, Body: item.Body}, fx)
		}
		return first, true
	})
}

// publication is what the events that publish have in common.
type publication interface {
	GetTopic() string
	GetAutoRegister() bool
	GetIdempotencyKey() []byte
	GetContentHash() []byte
	GetKeyWindow() uint32
	GetCaller() *hubpb.Caller
}

// publishOnce finds the topic and calls write, unless the idempotency key is known or the size exceeds a quota. write
// returns the offset of the first message, or false if the content is no longer complete.
func (s *State) publishOnce(e publication, size sizer, write func(t *Topic) (offset uint64, ok bool)) Result {
	t, refused := s.publishedTopic(e.GetTopic(), e.GetAutoRegister(), e.GetCaller(), size)
	if t == nil {
		return refused
	}
	key := e.GetIdempotencyKey()
	if len(key) > 0 {
		if r, known := s.idempotency.seen(s, t.ID, e); known {
			return r
		}
	}
	if refused := s.roomFor(t, size, e.GetCaller()); refused.Outcome != OutcomeOK {
		return refused
	}
	offset, ok := write(t)
	if !ok {
		return Result{Outcome: OutcomeStale, Topic: t.ID}
	}
	r := Result{Topic: t.ID, Offset: offset}
	if len(key) > 0 {
		r.ID = uint64(s.idempotency.add(s, t.ID, e, offset))
	}
	return r
}

func (s *State) append(t *Topic, m Message, fx *Effects) uint64 {
	t.Head++
	t.PublishedAt = timeOf(s.meta.Now)
	m.Topic, m.Offset, m.Time = t.ID, t.Head, s.meta.Now
	fx.Messages = append(fx.Messages, m)
	if m.IsBlob() {
		r := blobRef{offset: m.Offset, part: m.Parts[0]}
		if s.hasOwners() {
			r.parts = m.Parts
		}
		t.blobs = append(t.blobs, r)
		s.dirty[messageBlobKey(t.ID, m.Offset)] = struct{}{}
	}
	s.countStored(t, &m)
	s.meta.PublishedMessages++
	s.meta.PublishedBytes += uint64(m.Size())
	s.touch(TableTopic, uint64(t.ID))
	return t.Head
}

// ping records that a topic has changed and must be fetched. Without subscribers there is no need to fetch, and the
// ping counts as answered.
func (s *State) ping(e *hubpb.TopicPinged, fx *Effects) Result {
	t, refused := s.publishedTopic(e.Topic, e.AutoRegister, e.Caller, oneByte)
	if t == nil {
		return refused
	}
	if refused := s.roomFor(t, oneByte, e.Caller); refused.Outcome != OutcomeOK {
		return refused
	}
	t.Ping++
	if len(t.subscriptions) == 0 {
		t.FetchedPing = t.Ping
	} else {
		fx.Pinged = append(fx.Pinged, t.ID)
	}
	s.touch(TableTopic, uint64(t.ID))
	return Result{Topic: t.ID}
}

// fetched records the result of fetching a topic and publishes the content if it changed.
func (s *State) fetched(e *hubpb.TopicFetched, fx *Effects) Result {
	t := s.topics[TopicID(e.Topic)]
	if t == nil {
		return Result{Outcome: OutcomeNoTopic}
	}
	if e.Ping <= t.FetchedPing {
		return Result{Outcome: OutcomeStale, Topic: t.ID}
	}
	t.FetchedPing = min(e.Ping, t.Ping)
	t.FetchError = e.Reason
	r := Result{Topic: t.ID}
	m := Message{ContentType: e.ContentType, Body: e.Body, LinkSelf: e.LinkSelf}
	changed := e.Outcome == hubpb.FetchOutcome_FETCH_CHANGED && !bytes.Equal(t.ContentHash, e.ContentHash)
	if changed && t.roomFor(func() uint64 { return storedSize(&m) + e.Size }).Outcome != OutcomeOK {
		t.FetchError, changed = FailedQuota, false // the next ping fetches it again, as nothing is remembered of it
	} else if e.Outcome == hubpb.FetchOutcome_FETCH_CHANGED || e.Outcome == hubpb.FetchOutcome_FETCH_UNCHANGED {
		t.ETag, t.LastModified = e.Etag, e.LastModified
	}
	if changed {
		if len(e.Blob) == 0 || s.takeBlob(e.Blob, e.Parts, e.Size, &m) {
			t.ContentHash, t.LinkSelf = e.ContentHash, e.LinkSelf
			r.Offset = s.append(t, m, fx)
		} else {
			t.FetchedPing = min(t.FetchedPing, t.Ping-1) // its parts have been dropped: fetch again
			r.Outcome = OutcomeStale
		}
	}
	s.dropBlob(e.Blob, fx)
	if t.FetchedPing < t.Ping {
		fx.Pinged = append(fx.Pinged, t.ID)
	}
	s.touch(TableTopic, uint64(t.ID))
	return r
}

// trim drops messages by retention. Subscriptions that had not received them are moved over the gap, which is
// counted: nothing disappears silently (invariant I9).
func (s *State) trim(e *hubpb.LogTrimmed, fx *Effects) Result {
	for _, r := range e.Ranges {
		t := s.topics[TopicID(r.Topic)]
		if t == nil {
			continue
		}
		through := min(r.Through, t.Head)
		if through < t.First {
			continue
		}
		t.First = through + 1
		s.freeStored(t, through)
		s.forgetBlobs(t, through, fx)
		s.touch(TableTopic, r.Topic)
		fx.Trims = append(fx.Trims, Trim{Topic: t.ID, Through: through})
		for _, id := range t.subscriptions {
			if sub := s.subs[id]; sub.Group == 0 {
				s.drop(s.unitOf(sub), through, fx)
			}
		}
		for _, id := range t.groups {
			s.drop(s.groupUnit(s.groups[id]), through, fx)
		}
	}
	s.releaseParts(fx)
	return Result{}
}

// drop moves a unit past dropped messages.
func (s *State) drop(u unit, through uint64, fx *Effects) {
	if u.cursor.Offset >= through {
		return
	}
	from := u.cursor.Offset + 1
	lost := u.cursor.drop(through)
	s.meta.GapMessages += lost
	u.touchCursor(s)
	fx.Moved = append(fx.Moved, u.first())
	if lost > 0 {
		s.announceGap(s.subs[u.first()], from, through, lost, fx)
	}
}
