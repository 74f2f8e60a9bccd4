package delivery

import (
	"math"
	"slices"

	"quorumhub/hub"
)

// Reload brings the picture up to a state that did not come about entry by entry: after a snapshot was
// installed. It must not run at the same time as Applied.
func (d *Dispatcher) Reload() {
	d.load(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.schedule()
}

// load brings the picture up to the state. With replaced, what the state does not hold is gone; without, it
// may have been applied since.
//
// State and Applied can overtake each other: an entry may be in the state before Applied brings it, and Applied
// may bring one while the state is being read. So load and Applied leave in late with which epoch another node had
// got a subscription, and what is older counts for nothing. At most one call of Applied can lag behind.
func (d *Dispatcher) load(replaced bool) {
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
	if replaced {
		d.forget(subs, topics)
	}
	for i := range topics {
		d.grow(topics[i].ID, topics[i].Head, 0)
	}
	for i := range subs {
		d.adopt(&subs[i])
		if l := d.lanes[subs[i].ID]; l != nil {
			d.skip(l, subs[i].Cursor.Offset)
		}
	}
	d.loading = false
}

// forget drops what is not there any more.
func (d *Dispatcher) forget(subs []hub.Subscription, topics []hub.Topic) {
	known := make(map[hub.SubscriptionID]struct{}, len(subs))
	for i := range subs {
		known[subs[i].ID] = struct{}{}
	}
	for id, l := range d.lanes {
		if _, ok := known[id]; !ok {
			d.drop(l, errEnded)
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

// adopt brings a lane up to its subscription: it comes with the assignment to this node and goes with that to
// another one; after a renewal, secret, lease and callback hold from the next attempt on. Callers hold mu.
func (d *Dispatcher) adopt(s *hub.Subscription) {
	a := &s.Assignment
	l := d.lanes[s.ID]
	if a.Node != d.o.Node {
		if d.loading {
			d.late[s.ID] = max(d.late[s.ID], a.Epoch)
		}
		if l != nil && a.Epoch > l.epoch {
			d.drop(l, errMoved)
		}
		return
	}
	if a.Epoch < d.late[s.ID] || l != nil && a.Epoch < l.epoch {
		return
	}
	if l != nil && a.Epoch > l.epoch && l.reshaped(s) {
		d.drop(l, errMoved)
		l = nil
	}
	if l == nil {
		l = d.newLane(s)
	}
	if f := l.flow; f != nil {
		d.adoptFlow(f, l, s)
	} else if rewound := a.Rewound > l.epoch; a.Epoch > l.epoch { // given back to this node; what was on its way under the old epoch counts for nothing
		l.epoch, l.draining = a.Epoch, false
		if l.state == laneReleasing {
			l.state = laneExpired
		}
		if rewound {
			d.put(l, &s.Cursor)
		} else {
			d.skip(l, s.Cursor.Offset)
		}
		d.mark(l)
	}
	l.paused = s.Paused
	if renewed := s.RenewedAt.UnixNano(); renewed >= l.renewed {
		l.callback, l.callbackKey = s.Callback, s.CallbackKey
		l.sealed, l.signature, l.webhooks = s.SealedSecret, s.Signature, webhooksOf(s)
		l.expires, l.renewed = s.ExpiresAt.UnixNano(), renewed
		l.gen++
		l.endpoint, l.spare = nil, nil
		if l.options = s.Options; l.options == nil || l.options.Rate == 0 {
			l.pace = nil
		} else if rate := l.options.Rate; l.pace == nil || l.pace.interval != newPace(rate).interval {
			l.pace = newPace(rate)
		}
		d.visit(l)
	}
	if l.flow != nil {
		if l.state == laneExpired || l.state == lanePaused && !l.paused {
			l.state = laneIdle
		}
		d.feed(l.flow)
		return
	}
	if a.Next != "" && !l.draining {
		d.drain(l)
	}
	if l.state == laneExpired || l.state == lanePaused && !l.paused { // or new: it is nowhere
		d.place(l)
	}
}

// adoptFlow brings a flow up to an assignment of one of its lanes. Callers hold mu, and feed it.
func (d *Dispatcher) adoptFlow(f *flow, l *lane, s *hub.Subscription) {
	a := &s.Assignment
	rewound := a.Rewound > f.epoch
	l.epoch = max(l.epoch, a.Epoch)
	if a.Epoch > f.epoch {
		f.epoch, f.draining = a.Epoch, false
		if rewound {
			d.rewindFlow(f, &s.Cursor)
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
			m.epoch = a.Epoch // they follow in the same entry
			d.mark(m)
		}
		d.markFlow(f)
	}
	if a.Next != "" && a.Epoch == f.epoch {
		f.draining = true
	}
}

// put moves a lane to another place in the log. Callers hold mu and place it if it is nowhere then.
func (d *Dispatcher) put(l *lane, c *hub.Cursor) {
	l.done, l.attempts, l.refused = c.Offset, c.Attempts, c.Refused
	l.jumps++
	switch l.state {
	case laneIdle:
		l.topic.unpark(l)
	case laneWaiting:
		d.retries.remove(l)
	default:
		return // running, or waiting for its settlement: it goes on from where it is now when it comes by
	}
	l.state = laneExpired
}

func (d *Dispatcher) newLane(s *hub.Subscription) *lane {
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
	if flowing(s) {
		f := d.flows[s.Group]
		if f == nil {
			f = d.newFlow(t, s)
		}
		l.flow, l.sick, l.state = f, c.Failures > 0, laneIdle
		f.members = append(f.members, l)
	}
	return l
}

// drain lets a lane come to rest, so that another node can go on where it stopped: what is under way is
// finished and booked, nothing new is sent. Callers hold mu.
func (d *Dispatcher) drain(l *lane) {
	l.draining = true
	switch l.state {
	case laneIdle:
		l.topic.unpark(l)
	case laneWaiting:
		d.retries.remove(l)
	case laneExpired, lanePaused:
	case laneRunning:
		return // comes by when the attempt is booked
	default:
		return // comes by sendable or place
	}
	d.release(l)
}

// release lets go of a drained lane, with its cursor. Callers hold mu.
func (d *Dispatcher) release(l *lane) {
	l.state, l.endpoint = laneReleasing, nil
	d.mark(l)
	d.urgent = true
	d.notify()
}

// end takes the lane of a subscription that ended away at once, whatever it is doing (invariant I5).
func (d *Dispatcher) end(id hub.SubscriptionID) {
	if d.loading {
		d.late[id] = math.MaxUint64
	}
	if l := d.lanes[id]; l != nil {
		d.drop(l, errEnded)
	}
}

// drop takes a lane away at once and cuts off what is under way. Callers hold mu.
func (d *Dispatcher) drop(l *lane, cause error) {
	delete(d.lanes, l.id)
	d.leave(l)
	if l.invited {
		l.invited = false
	}
	if f := l.flow; f != nil {
		d.dropMember(f, l, cause)
	}
	switch l.state {
	case laneIdle:
		if l.flow == nil {
			l.topic.unpark(l)
		}
	case laneWaiting:
		d.retries.remove(l)
	case laneRunning:
		l.worker.cut(cause)
	default: // nowhere, or in a ready queue, which skips lanes that ended
	}
	l.state = laneEnded
	l.endpoint, l.spare = nil, nil
	l.topic.lanes--
	if l.topic.lanes == 0 {
		delete(d.topics, l.topic.id)
	}
}

// dropMember takes a lane out of its flow. What is under way to it is cut off, and goes to the others.
func (d *Dispatcher) dropMember(f *flow, l *lane, cause error) {
	for _, w := range d.running {
		if w.lane == l {
			w.cut(cause)
		}
	}
	f.members = slices.DeleteFunc(f.members, func(o *lane) bool { return o == l })
	if len(f.members) == 0 {
		d.dropFlow(f)
		return
	}
	f.turn %= len(f.members)
	d.feed(f)
}
