package delivery

import (
	"context"
	"time"

	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// record runs in one goroutine and writes outcomes into the log: settlements at once, cursors every CursorFlush in
// one event, or sooner if another node waits for one. What fails is retried with the next write.
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
			d.o.Log.Warn("cannot record deliveries yet; will retry", "error", err)
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

// write proposes all settlements and, if cursors is true, the cursors that moved.
func (d *Dispatcher) write(ctx context.Context, cursors bool) error {
	for {
		d.mu.Lock()
		n := min(len(d.settle), maxSettlements)
		batch := d.settle[:n:n]
		events := make([]*hubpb.Event, 0, n)
		for i := range batch {
			events = append(events, batch[i].eventLocked())
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
				d.settledEntryLocked(&batch[i], results[i].Outcome)
			} else {
				d.settledLocked(&batch[i], results[i].Outcome)
			}
		}
		d.settle = d.settle[n:]
		if len(d.settle) == 0 {
			d.settle = nil
		}
		d.scheduleLocked()
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
					d.markLocked(l)
				}
			}
			for _, f := range flows {
				d.markFlowLocked(f)
			}
			d.mu.Unlock()
			return err
		}
	}
	return nil
}

// takeDirty takes the cursors that moved and returns the event that records them.
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

const (
	maxSettlements = 256      // in one proposal
	maxCursors     = 2000     // in one event, some 80 KiB
	maxCursorBytes = 64 << 10 // of open messages, in one event
	finalWrites    = 3        // attempts to write the last cursors
	finalTime      = 5 * time.Second
	unapplied      = time.Second // for what made a settlement stale to arrive here
)

// settledLocked lets a lane go on once its settlement is in the log.
func (d *Dispatcher) settledLocked(s *settlement, outcome hub.Outcome) {
	l := s.lane
	if l.state != laneSettling {
		return // ended meanwhile, or owned by another node
	}
	if l.epoch != s.epoch || !s.gone && l.rewinds != s.rewinds {
		d.placeLocked(l) // reassigned meanwhile: the event was stale
		return
	}
	if s.gone {
		if l.gen != s.gen {
			d.placeLocked(l)
			return
		}
		d.o.Log.Info("subscription ended: its callback is gone (410)", "subscription", l.id.String(), "topic", l.topic.name)
		d.endLocked(l.id)
		return
	}
	if outcome == hub.OutcomeStale { // for a reason that this node has not applied yet; there is no dead letter
		d.waitLocked(l, max(s.delay, unapplied))
		return
	}
	d.stats.DeadLettered++
	d.o.Log.Warn("message given up", "subscription", l.id.String(), "topic", l.topic.name, "offset", s.offset,
		"attempts", s.attempts, "status", s.status, "reason", string(s.reason))
	if s.offset > l.done {
		l.done, l.attempts, l.refused = s.offset, 0, 0
	}
	d.markLocked(l)
	if s.delay > 0 && l.done < l.topic.head {
		d.waitLocked(l, s.delay)
		return
	}
	d.placeLocked(l)
}

// settledEntryLocked finishes a message that a flow has given up. If the event was stale, the message is sent again.
func (d *Dispatcher) settledEntryLocked(s *settlement, outcome hub.Outcome) {
	f := s.lane.flow
	if f.gen != s.flowGen || s.entry.state != entrySettling {
		return
	}
	switch {
	case s.void, outcome == hub.OutcomeStale && len(f.members) == 0:
		f.giveBack(s.entry)
		d.feedLocked(f)
		return
	case outcome == hub.OutcomeStale:
		d.delayLocked(f, s.entry, unapplied)
		return
	}
	d.stats.DeadLettered++
	d.o.Log.Warn("message given up", "subscription", s.lane.id.String(), "topic", f.topic.name, "offset", s.offset,
		"attempts", s.attempts, "status", s.status, "reason", string(s.reason))
	f.finish(s.entry)
	d.markFlowLocked(f)
	d.feedLocked(f)
}
