package delivery

import (
	"context"
	"time"

	"quorumhub/delivery/retry"
	"quorumhub/hub/hubpb"
)

// settleLocked hands a settlement to the recorder. Its lane waits.
func (d *Dispatcher) settleLocked(s settlement) {
	s.lane.state = laneSettling
	d.settle = append(d.settle, s)
	d.notify()
}

// markLocked has a lane's cursor written.
func (d *Dispatcher) markLocked(l *lane) {
	if l.dirty {
		return
	}
	l.dirty = true
	d.dirty = append(d.dirty, l)
	if len(d.dirty) == 1 {
		d.notify()
	}
}

// markFlowLocked has a flow's cursor written.
func (d *Dispatcher) markFlowLocked(f *flow) {
	if f.group == 0 {
		if len(f.members) > 0 {
			d.markLocked(f.members[0])
		}
		return
	}
	if f.dirty {
		return
	}
	f.dirty = true
	d.dirtyFlows = append(d.dirtyFlows, f)
	d.notify()
}

func (d *Dispatcher) notify() {
	select {
	case d.note <- struct{}{}:
	default:
	}
}

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
				d.settledLocked(&batch[i])
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
)
