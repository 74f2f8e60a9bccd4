package delivery

import (
	"math"
	"slices"

	"quorumhub/hub"
)

// Reload adopts a state that replaced the previous one, after a snapshot was installed. It must not run concurrently
// with Applied.
func (d *Dispatcher) Reload() {
	d.load(d.forgetLocked)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.scheduleLocked()
}

// load adopts the state, after prepareLocked has compared the lanes with it. Lanes that the state lacks may have been
// applied since it was read, unless nothing is applied meanwhile.
//
// State and Applied can overtake each other: an entry may be in the state before Applied sees it, and Applied may see
// one while the state is being read. So load and Applied record in late the epoch under which another node got a
// subscription, and anything older is ignored. At most one call of Applied can lag behind.
func (d *Dispatcher) load(prepareLocked func([]hub.Subscription, []hub.Topic)) {
	d.mu.Lock()
	d.loading = true
	if d.late == nil {
		d.late = map[hub.SubscriptionID]uint64{}
	}
	d.mu.Unlock()

	var subs []hub.Subscription
	var topics []hub.Topic
	d.o.State.View(func(s *hub.State) {
		subs, topics = s.Subscriptions(0, 0, nil), s.Topics(0, 0)
	})

	d.mu.Lock()
	defer d.mu.Unlock()
	if prepareLocked != nil {
		prepareLocked(subs, topics)
	}
	for i := range topics {
		d.growLocked(topics[i].ID, topics[i].Head, 0)
	}
	for i := range subs {
		d.adoptLocked(&subs[i])
		if l := d.lanes[subs[i].ID]; l != nil {
			d.skipLocked(l, subs[i].Cursor.Offset)
		}
	}
	d.loading = false
}

// restartLocked drops the lanes that the state is about, so that they start from the cursors in it: what this node
// wrote in its run before may have come from the log after Start. It must run before anything is sent in this run. All lanes go
// before the first comes back, because the members of a group share a cursor.
func (d *Dispatcher) restartLocked(subs []hub.Subscription, _ []hub.Topic) {
	for i := range subs {
		if l := d.lanes[subs[i].ID]; l != nil && l.epoch <= subs[i].Assignment.Epoch {
			d.dropLocked(l, errMoved)
		}
	}
}

// forgetLocked drops lanes and topics that the state no longer has.
func (d *Dispatcher) forgetLocked(subs []hub.Subscription, topics []hub.Topic) {
	known := make(map[hub.SubscriptionID]struct{}, len(subs))
	for i := range subs {
		known[subs[i].ID] = struct{}{}
	}
	for id, l := range d.lanes {
		if _, ok := known[id]; !ok {
			d.dropLocked(l, errEnded)
		}
	}
	heads := make(map[hub.TopicID]struct{}, len(topics))
	for i := range topics {
		heads[topics[i].ID] = struct{}{}
	}
	for id := range d.heads {
		if _, ok := heads[id]; !ok {
			delete(d.heads, id)
		}
	}
}

// adoptLocked updates a lane from its subscription. The lane is created when the subscription is assigned to this
// node and dropped when it is assigned to another. After a renewal, the new secret, lease and callback apply from the
// next attempt on.
func (d *Dispatcher) adoptLocked(s *hub.Subscription) {
	a := &s.Assignment
	l := d.lanes[s.ID]
	if a.Node != d.o.Node {
		if d.loading {
			d.late[s.ID] = max(d.late[s.ID], a.Epoch)
		}
		if l != nil && a.Epoch > l.epoch {
			d.dropLocked(l, errMoved)
		}
		return
	}
	if a.Epoch < d.late[s.ID] || l != nil && a.Epoch < l.epoch {
		return
	}
	if l != nil && a.Epoch > l.epoch && l.reshaped(s) {
		d.dropLocked(l, errMoved)
		l = nil
	}
	if l == nil {
		l = d.newLaneLocked(s)
	}
	if f := l.flow; f != nil {
		d.adoptFlowLocked(f, l, s)
	} else if rewound := a.Rewound > l.epoch; a.Epoch > l.epoch { // assigned to this node again; attempts in flight under the old epoch are ignored
		l.epoch, l.draining = a.Epoch, false
		if l.state == laneReleasing {
			l.state = laneExpired
		}
		if rewound {
			d.moveLocked(l, &s.Cursor)
		} else {
			d.skipLocked(l, s.Cursor.Offset)
		}
		d.markLocked(l)
	}
	l.paused = s.Paused
	if renewed := s.RenewedAt.UnixNano(); renewed >= l.renewed {
		l.callback, l.callbackKey = s.Callback, s.CallbackKey
		l.link = d.linkOf(s)
		l.sealed, l.signature, l.webhooks = s.SealedSecret, s.SignatureMethod(), webhooksOf(s)
		l.wishes = wishesOf(s)
		l.expires, l.renewed = s.ExpiresAt.UnixNano(), renewed
		l.gen++
		l.endpoint, l.spare = nil, nil
		if l.options = s.Options; l.options == nil || l.options.Rate == 0 {
			l.pace = nil
		} else if rate := l.options.Rate; l.pace == nil || l.pace.interval != newPace(rate).interval {
			l.pace = newPace(rate)
		}
		d.joinHostLocked(l)
	}
	if l.flow != nil {
		if l.state == laneExpired || l.state == lanePaused && !l.paused {
			l.state = laneIdle
		}
		d.feedLocked(l.flow)
		return
	}
	if a.Next != "" && !l.draining {
		d.drainLocked(l)
	}
	if l.state == laneExpired || l.state == lanePaused && !l.paused { // or new, and so nowhere
		d.placeLocked(l)
	}
}

// adoptFlowLocked updates a flow from an assignment of one of its lanes. The caller feeds it.
func (d *Dispatcher) adoptFlowLocked(f *flow, l *lane, s *hub.Subscription) {
	a := &s.Assignment
	rewound := a.Rewound > f.epoch
	l.epoch = max(l.epoch, a.Epoch)
	if a.Epoch > f.epoch {
		f.epoch, f.draining = a.Epoch, false
		if rewound {
			d.rewindFlowLocked(f, &s.Cursor)
		} else {
			f.skip(s.Cursor.Offset)
		}
		if f.released {
			f.released = false
			for _, m := range f.members {
				if m.state == laneReleasing {
					m.state = laneIdle
				}
			}
		}
		for _, m := range f.members {
			m.epoch = a.Epoch // their own assignments follow in the same entry
			d.markLocked(m)
		}
		d.markFlowLocked(f)
	}
	if a.Next != "" && a.Epoch == f.epoch {
		f.draining = true
	}
}

// moveLocked moves a lane within the log. The caller places it if it is nowhere then.
func (d *Dispatcher) moveLocked(l *lane, c *hub.Cursor) {
	l.done, l.attempts, l.refused = c.Offset, c.Attempts, c.Refused
	l.rewinds++
	switch l.state {
	case laneIdle:
		l.topic.unpark(l)
	case laneWaiting:
		d.retries.remove(l)
	default:
		return // running or settling: it goes on from the new position
	}
	l.state = laneExpired
}

// linkOf returns the Link header of a subscription, or "" if it is that of its topic.
func (d *Dispatcher) linkOf(s *hub.Subscription) string {
	self := selfOf(d.o.Namer, s)
	if self == d.o.Namer.URL(s.TopicName) {
		return ""
	}
	return LinkHeader(d.o.HubURL, self)
}

func (d *Dispatcher) newLaneLocked(s *hub.Subscription) *lane {
	t := d.topics[s.Topic]
	if t == nil {
		t = &topicLanes{id: s.Topic, name: s.TopicName, link: LinkHeader(d.o.HubURL, d.o.Namer.URL(s.TopicName))}
		d.topics[s.Topic] = t
	}
	t.head = d.heads[t.id]
	t.lanes++
	c := &s.Cursor
	l := &lane{id: s.ID, topic: t, state: laneExpired, epoch: s.Assignment.Epoch, done: c.Offset, attempts: c.Attempts,
		failures: c.Failures, refused: c.Refused, failingSince: c.FailingSince, delivered: c.Delivered, slow: c.Failures > 0}
	d.lanes[s.ID] = l
	l.place = int32(len(d.order))
	d.order = append(d.order, l)
	if flowing(s) {
		f := d.flows[s.Group]
		if f == nil {
			f = d.newFlowLocked(t, s)
		}
		l.flow, l.sick, l.state = f, c.Failures > 0, laneIdle
		f.members = append(f.members, l)
	}
	return l
}

// drainLocked brings a lane to rest, so that another node can go on where it stopped: the attempt in flight is
// finished and recorded, and nothing new is sent.
func (d *Dispatcher) drainLocked(l *lane) {
	l.draining = true
	switch l.state {
	case laneIdle:
		l.topic.unpark(l)
	case laneWaiting:
		d.retries.remove(l)
	case laneExpired, lanePaused:
	case laneRunning:
		return // released once the attempt is recorded
	default:
		return // released by sendableLocked or placeLocked
	}
	d.releaseLocked(l)
}

// endLocked removes the lane of an ended subscription at once, whatever it is doing (invariant I5).
func (d *Dispatcher) endLocked(id hub.SubscriptionID) {
	if d.loading {
		d.late[id] = math.MaxUint64
	}
	if l := d.lanes[id]; l != nil {
		d.dropLocked(l, errEnded)
	}
}

// dropLocked removes a lane at once and cuts off its attempts in flight.
func (d *Dispatcher) dropLocked(l *lane, cause error) {
	delete(d.lanes, l.id)
	last := len(d.order) - 1
	d.order[last].place = l.place
	d.order[l.place] = d.order[last]
	d.order[last] = nil
	d.order = d.order[:last]
	d.leaveHostLocked(l)
	if l.invited {
		l.invited = false
	}
	if f := l.flow; f != nil {
		d.dropMemberLocked(f, l, cause)
	}
	switch l.state {
	case laneIdle:
		if l.flow == nil {
			l.topic.unpark(l)
		}
	case laneWaiting:
		d.retries.remove(l)
	case laneRunning:
		l.worker.cutLocked(cause)
	default: // nowhere, or in a ready queue, which skips ended lanes
	}
	l.state = laneEnded
	l.endpoint, l.spare = nil, nil
	l.topic.lanes--
	if l.topic.lanes == 0 {
		delete(d.topics, l.topic.id)
	}
}

// dropMemberLocked removes a lane from its flow. Its attempts in flight are cut off, and their messages go to other
// members.
func (d *Dispatcher) dropMemberLocked(f *flow, l *lane, cause error) {
	for _, w := range d.running {
		if w.lane == l {
			w.cutLocked(cause)
		}
	}
	f.members = slices.DeleteFunc(f.members, func(o *lane) bool { return o == l })
	if len(f.members) == 0 {
		d.dropFlowLocked(f)
		return
	}
	f.turn %= len(f.members)
	d.feedLocked(f)
}
