package delivery

import (
	"context"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// settlement is something that must be in the log before its lane goes on: a message given up, or the end of
// a subscription whose callback is gone.
type settlement struct {
	lane     *lane
	gone     bool
	entry    *entry // given up by a flow
	flowGen  uint32
	void     bool   // given up by a flow, and overtaken before it was proposed
	gen      uint32 // gone: of the subscription that was answered 410
	epoch    uint64 // the one it was proposed under
	jumps    uint32 // given up: the lane's; a message given up where the lane no longer stands is not
	offset   uint64
	attempts uint32
	status   int32
	reason   egress.Reason
	delay    time.Duration // wait before the lane's next message

	// Of the message given up.
	tries       []*hubpb.Attempt
	size        int
	published   int64
	contentType string
}

const (
	maxSettlements = 256      // in one proposal
	maxCursors     = 2000     // in one event, some 80 KiB
	maxCursorBytes = 64 << 10 // of open messages in one event
	finalWrites    = 3        // tries to write the last cursors,
	finalTime      = 5 * time.Second
)

// hand gives a settlement to the recorder; the lane waits. Callers hold mu.
func (d *Dispatcher) hand(s settlement) {
	s.lane.state = laneSettling
	d.settle = append(d.settle, s)
	d.notify()
}

// mark notes that a lane's cursor is to be written. Callers hold mu.
func (d *Dispatcher) mark(l *lane) {
	if l.dirty {
		return
	}
	l.dirty = true
	d.dirty = append(d.dirty, l)
	if len(d.dirty) == 1 {
		d.notify()
	}
}

func (d *Dispatcher) notify() {
	select {
	case d.note <- struct{}{}:
	default:
	}
}

// record is the one goroutine that writes what delivery came to into the log: settlements as they come, cursors
// every CursorFlush in one event, sooner when another node waits for one. What could not be written stays and is written with the next try.
func (d *Dispatcher) record() {
	defer d.loops.Done()
	timer := time.NewTimer(0)
	<-timer.C
	armed, failures := false, 0
	arm := func(after time.Duration) {
		timer.Reset(after)
		armed = true
	}
	retry := retry.Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second}
	for {
		var flush bool
		select {
		case <-d.note:
			if failures > 0 {
				continue // the retry timer runs
			}
			d.mu.Lock()
			flush = d.urgent
			d.mu.Unlock()
		case <-timer.C:
			armed, flush = false, true
		case <-d.final:
			timer.Stop()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), finalTime)
			defer cancel()
			for range finalWrites {
				if d.flushed = d.write(ctx, true); d.flushed == nil {
					break
				}
			}
			return
		}
		if err := d.write(d.ctx, flush); err != nil {
			failures++
			d.o.Log.Warn("cannot record deliveries yet; trying again", "error", err)
			arm(d.o.CursorFlush + retry.Delay(failures, 0))
			continue
		}
		failures = 0
		d.mu.Lock()
		left := len(d.dirty)+len(d.dirtyFlows) > 0
		d.mu.Unlock()
		if left && !armed {
			arm(d.o.CursorFlush)
		}
	}
}

// write proposes all settlements and, with cursors, the cursors that moved.
func (d *Dispatcher) write(ctx context.Context, cursors bool) error {
	for {
		d.mu.Lock()
		n := min(len(d.settle), maxSettlements)
		batch := d.settle[:n:n]
		events := make([]*hubpb.Event, 0, n)
		for i := range batch {
			events = append(events, batch[i].event())
		}
		d.mu.Unlock()
		if n == 0 {
			break
		}
		results, err := retry.ProposeOnce(ctx, d.o.Proposer, events...)
		if err != nil {
			return err
		}
		d.mu.Lock()
		for i := range batch {
			if batch[i].entry != nil {
				d.settledEntry(&batch[i], results[i].Outcome)
			} else {
				d.settled(&batch[i])
			}
		}
		d.settle = d.settle[n:]
		if len(d.settle) == 0 {
			d.settle = nil
		}
		d.schedule()
		d.mu.Unlock()
	}
	for cursors {
		lanes, flows, event := d.takeDirty()
		if len(lanes)+len(flows) == 0 {
			break
		}
		if _, err := retry.ProposeOnce(ctx, d.o.Proposer, event); err != nil {
			d.mu.Lock()
			for _, l := range lanes {
				if l.state != laneEnded {
					d.mark(l)
				}
			}
			for _, f := range flows {
				d.markFlow(f)
			}
			d.mu.Unlock()
			return err
		}
	}
	return nil
}

// event is what to propose for a settlement. An end that a renewal has overtaken, and a message given up before a rewind, become nothing: a cursor
// event without cursors. Callers hold mu.
func (s *settlement) event() *hubpb.Event {
	s.epoch = s.lane.epoch
	switch {
	case s.entry != nil:
		return s.entryEvent()
	case s.gone && s.lane.gen == s.gen:
		return goneEvent(s.lane.id, s.lane.renewed, s.epoch)
	case s.gone || s.lane.jumps != s.jumps:
		return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{}}}
	}
	return &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
		Subscription: uint64(s.lane.id), Offset: s.offset, Attempts: s.attempts, Status: s.status, Reason: string(s.reason), Epoch: s.epoch,
		Tries: s.tries, Size: uint64(s.size), PublishedAt: s.published, ContentType: s.contentType}}}
}

// goneEvent ends a subscription whose callback answered 410, unless it was renewed or given to another node meanwhile.
func goneEvent(id hub.SubscriptionID, renewed int64, epoch uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
		Subscriptions: []uint64{uint64(id)}, Reason: hubpb.EndReason_END_GONE, RenewedAt: []int64{renewed}, Epochs: []uint64{epoch}}}}
}

// settled lets a lane go on after its settlement is in the log. Callers hold mu.
func (d *Dispatcher) settled(s *settlement) {
	l := s.lane
	if l.state != laneSettling {
		return // ended meanwhile, or another node's
	}
	if l.epoch != s.epoch || !s.gone && l.jumps != s.jumps {
		d.place(l) // assigned anew meanwhile: what was proposed has changed nothing
		return
	}
	if s.gone {
		if l.gen != s.gen {
			d.place(l)
			return
		}
		d.o.Log.Info("subscription ended: its callback is gone (410)", "subscription", l.id.String(), "topic", l.topic.name)
		d.end(l.id)
		return
	}
	d.stats.DeadLettered++
	d.o.Log.Warn("message given up", "subscription", l.id.String(), "topic", l.topic.name, "offset", s.offset,
		"attempts", s.attempts, "status", s.status, "reason", string(s.reason))
	if s.offset > l.done {
		l.done, l.attempts, l.refused = s.offset, 0, 0
	}
	d.mark(l)
	if s.delay > 0 && l.done < l.topic.head {
		d.wait(l, s.delay)
		return
	}
	d.place(l)
}

// takeDirty takes cursors that moved, as the event to propose.
func (d *Dispatcher) takeDirty() ([]*lane, []*flow, *hubpb.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.urgent = false
	n := min(len(d.dirty), maxCursors)
	lanes := make([]*lane, 0, n)
	rows := make([]hubpb.Cursor, n)
	cursors := make([]*hubpb.Cursor, 0, n)
	size := 0
	for i, l := range d.dirty[:n] {
		if size >= maxCursorBytes {
			n = i
			break
		}
		l.dirty = false
		if l.state == laneEnded {
			continue
		}
		c := &rows[len(cursors)]
		c.Subscription, c.Offset, c.Attempts, c.FailingSince = uint64(l.id), l.done, l.attempts, l.failingSince
		c.Delivered, c.Failures, c.Refused = l.delivered, l.failures, l.refused
		c.Epoch, c.Released = l.epoch, l.state == laneReleasing
		if f := l.flow; f != nil {
			size += f.fill(c)
		}
		lanes, cursors = append(lanes, l), append(cursors, c)
	}
	clear(d.dirty[:n])
	d.dirty = d.dirty[n:]
	if len(d.dirty) == 0 {
		d.dirty = nil
	}
	var flows []*flow
	for len(d.dirtyFlows) > 0 && size < maxCursorBytes {
		f := d.dirtyFlows[0]
		d.dirtyFlows[0] = nil
		d.dirtyFlows, f.dirty = d.dirtyFlows[1:], false
		if len(f.members) == 0 {
			continue
		}
		c := f.pb(nil)
		size += 16 * len(c.Open)
		flows, cursors = append(flows, f), append(cursors, c)
	}
	if len(d.dirtyFlows) == 0 {
		d.dirtyFlows = nil
	}
	return lanes, flows, &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{
		CursorsAdvanced: &hubpb.CursorsAdvanced{Node: d.o.Node, Cursors: cursors}}}
}

// fill makes the cursor of a lane that of its flow. A member of a group speaks of itself only. It returns about how
// many bytes that takes.
func (f *flow) fill(c *hubpb.Cursor) int {
	c.Attempts, c.Refused = 0, 0
	if f.group != 0 {
		c.Offset, c.Released = 0, false
		return 0
	}
	at := f.pb(nil)
	c.Offset, c.Through, c.Open = at.Offset, at.Through, at.Open
	return 16 * len(c.Open)
}

// pb is the flow's cursor as events hold it, with one message taken for done with.
func (f *flow) pb(without *entry) *hubpb.Cursor {
	at := f.cursor(without)
	c := &hubpb.Cursor{Group: uint64(f.group), Offset: at.Offset, Through: at.Through, Epoch: f.epoch, Released: f.released}
	for i := range at.Open {
		o := &at.Open[i]
		c.Open = append(c.Open, &hubpb.OpenMessage{Offset: o.Offset, Attempts: o.Attempts, Refused: o.Refused, Since: o.Since})
	}
	return c
}

// entryEvent is what to propose for a message given up by a flow. It carries the cursor behind it, for those between
// may be done with or not. Callers hold mu.
func (s *settlement) entryEvent() *hubpb.Event {
	l, f := s.lane, s.lane.flow
	if s.void = l.state == laneEnded || f.gen != s.flowGen || s.entry.state != entrySettling; s.void {
		return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{}}}
	}
	c := f.pb(s.entry)
	c.Released = false
	if f.group == 0 {
		c.Delivered, c.Failures, c.FailingSince = l.delivered, l.failures, l.failingSince
	}
	return &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
		Subscription: uint64(l.id), Offset: s.offset, Attempts: s.attempts, Status: s.status, Reason: string(s.reason),
		Epoch: f.epoch, Cursor: c, Tries: s.tries, Size: uint64(s.size), PublishedAt: s.published, ContentType: s.contentType}}}
}

// settledEntry goes on after a message of a flow was given up, or gives it to another lane if that came to nothing.
// Callers hold mu.
func (d *Dispatcher) settledEntry(s *settlement, outcome hub.Outcome) {
	f := s.lane.flow
	if f.gen != s.flowGen || s.entry.state != entrySettling {
		return
	}
	if s.void || outcome == hub.OutcomeStale {
		f.giveBack(s.entry)
		d.feed(f)
		return
	}
	d.stats.DeadLettered++
	d.o.Log.Warn("message given up", "subscription", s.lane.id.String(), "topic", f.topic.name, "offset", s.offset,
		"attempts", s.attempts, "status", s.status, "reason", string(s.reason))
	f.finish(s.entry)
	d.markFlow(f)
	d.feed(f)
}
