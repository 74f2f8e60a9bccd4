package delivery

import (
	"errors"

	"quorumhub/hub"
)

// serveFlow sends a flow's messages to one of its lanes until none is left, the lane fails or ends, or it has had its
// turn. It returns the lane to serve next.
func (d *Dispatcher) serveFlow(w *worker, l *lane) *lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := l.flow
	f.promised--
	for sent := 0; d.flowSendableLocked(l); {
		e := d.claimUnlocks(l)
		if e == nil {
			break
		}
		f.running++
		gen, begun := f.gen, standing{l.failures, l.narrowings}
		res, ok := d.attemptUnlocks(w, l, e)
		if f.gen == gen {
			f.running--
		} else {
			f.stale--
		}
		if ok {
			d.bookFlowAttemptLocked(l, e, res, f.gen != gen, begun)
			sent++
		} else if f.gen == gen {
			f.giveBack(e)
		}
		d.feedLocked(f)
		if len(f.members) > 1 {
			break // the next message belongs to the next member
		}
		waiting := d.fastQ.len+d.slowQ.len > 0
		if waiting && (sent >= max(1, turnMessages/l.running) || w.class == classSlow && d.slow > d.slowCap) {
			break
		}
	}
	next := d.nextLocked(w)
	d.scheduleLocked()
	return next
}

// flowSendableLocked reports whether a message may be sent to the lane now. If not, it puts the lane where it
// belongs.
func (d *Dispatcher) flowSendableLocked(l *lane) bool {
	f := l.flow
	switch {
	case l.state != laneIdle && l.state != laneReady || f.draining || f.stale > 0 || d.closing:
		return false
	case l.running > l.width():
		return false
	case l.paused:
		l.state = lanePaused
		return false
	case d.outOfTouchLocked():
		d.readyLocked(l)
		return false
	case d.o.Clock.Now().UnixNano() >= l.expires: // at send time, for queued retries too (WebSub section 5.3.1)
		l.state = laneExpired
		return false
	}
	return d.mayStartLocked(l)
}

// claimUnlocks takes the next message for a lane, with its body. It returns nil if there is none.
func (d *Dispatcher) claimUnlocks(l *lane) *entry {
	f := l.flow
	for l.state == laneIdle || l.state == laneReady {
		if e := f.take(); e != nil {
			gen := f.gen
			if d.loadBodyUnlocks(f, e) && (l.state == laneIdle || l.state == laneReady) {
				return e
			}
			if f.gen == gen {
				f.giveBack(e)
			}
			continue
		}
		if f.reading || f.draining || f.stale > 0 || f.topic.head < f.next || f.room() <= 0 || f.serial && f.unfinished() > 0 {
			return nil
		}
		if !d.readAheadUnlocks(f) {
			return nil
		}
	}
	return nil
}

// readAheadUnlocks reads the flow's next messages and reports whether to look again.
func (d *Dispatcher) readAheadUnlocks(f *flow) bool {
	from, gen, topic := f.next, f.gen, f.topic.id
	n := min(batchMessages, f.room())
	f.reading = true
	d.mu.Unlock()
	batch, err := d.o.Messages.Read(topic, from, n, batchBytes)
	d.mu.Lock()
	f.reading = false
	switch {
	case f.gen != gen:
		return true
	case err != nil || len(batch) == 0:
		d.awaitLogUnlocks(f, from, err)
		return false
	}
	for i := range batch {
		f.add(batch[i])
	}
	return true
}

// loadBodyUnlocks reads the body of a claimed message again if it was dropped from memory.
func (d *Dispatcher) loadBodyUnlocks(f *flow, e *entry) bool {
	if e.loaded {
		return true
	}
	topic, offset, gen := f.topic.id, e.m.Offset, f.gen
	d.mu.Unlock()
	batch, err := d.o.Messages.Read(topic, offset, 1, 1)
	d.mu.Lock()
	switch {
	case f.gen != gen || e.state != entryClaimed:
		return false
	case err != nil || len(batch) == 0 || batch[0].Offset != offset:
		e.state = entryDelayed
		e.due = d.now() + unreadable
		f.delayed = append(f.delayed, e)
		d.awaitLogUnlocks(f, offset, err)
		return false
	}
	e.m, e.loaded = batch[0], true
	f.buffered += len(e.m.Body)
	return true
}

// awaitLogUnlocks schedules the next read of a log that could not be read, or skips what retention dropped according
// to the state.
func (d *Dispatcher) awaitLogUnlocks(f *flow, offset uint64, err error) {
	if errors.Is(err, hub.ErrTrimmed) {
		var first uint64
		id := f.topic.id
		d.mu.Unlock()
		d.o.State.View(func(s *hub.State) {
			if t, ok := s.TopicByID(id); ok {
				first = t.First
			}
		})
		d.mu.Lock()
		if first > offset {
			f.skip(first - 1) // the gap is in the subscription's record (invariant I9)
			return
		}
	} else if err != nil && !errors.Is(err, hub.ErrUnknownTopic) {
		d.o.Log.Error("cannot read the message log; will retry", "topic", f.topic.name, "offset", offset, "error", err)
	}
	d.remindLocked(f, d.now()+unreadable)
}

// attemptUnlocks makes one attempt; ok is false if none was made.
func (d *Dispatcher) attemptUnlocks(w *worker, l *lane, e *entry) (res PushResult, ok bool) {
	gen := l.gen
	var ep *Endpoint
	if n := len(l.spare); n > 0 {
		ep, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		if ep, res = d.newEndpointUnlocks(l); ep == nil {
			return res, res.Outcome != 0
		}
	}
	if l.gen != gen || e.state != entryClaimed || !d.flowSendableLocked(l) {
		return PushResult{}, false
	}
	res = d.sendUnlocks(w, l, ep, &e.m)
	if l.gen == gen && l.state != laneEnded && len(l.spare) < l.flow.window {
		l.spare = append(l.spare, ep)
	}
	return res, true
}
