package delivery

import (
	"errors"
	"slices"
	"time"

	"quorumhub/hub"
)

// feed offers what there is to claim to the lanes of a flow, in turn. It is called whenever there may be more, or
// somebody more to take it. Callers hold mu.
func (d *Dispatcher) feed(f *flow) {
	if f.draining {
		if f.running == 0 && f.stale == 0 && !f.released {
			d.releaseFlow(f)
		}
		return
	}
	n := f.available() - f.promised
	for _, l := range f.members {
		if l.state == laneReady {
			n--
		}
	}
	for i := 0; n > 0 && i < len(f.members); i++ {
		l := f.members[(f.turn+i)%len(f.members)]
		if l.state == laneIdle && l.running < l.width() && !l.paused {
			d.ready(l)
			n--
			if len(f.members) > 1 {
				f.turn, i = (f.turn+i+1)%len(f.members), -1
			}
		}
	}
}

// releaseFlow lets go of a drained flow, with its cursor. Callers hold mu.
func (d *Dispatcher) releaseFlow(f *flow) {
	f.released = true
	for _, l := range f.members {
		d.setAside(l, laneReleasing)
		l.spare = nil
		d.mark(l)
	}
	d.markFlow(f)
	d.urgent = true
	d.notify()
}

// setAside takes a lane of a flow out of wherever it is. Callers hold mu.
func (d *Dispatcher) setAside(l *lane, to laneState) {
	if l.state == laneWaiting {
		d.retries.remove(l)
	}
	l.state = to
}

// served takes a worker to a lane of a flow, which goes back into the queue when it has use for more. Callers hold mu.
func (d *Dispatcher) served(l *lane) {
	f := l.flow
	l.running++
	f.promised++
	l.state = laneIdle
	if l.running < l.width() && f.available() > f.promised {
		d.ready(l)
	}
}

// left takes a worker from a lane of a flow. Callers hold mu.
func (d *Dispatcher) left(l *lane) {
	if l.running--; l.running == 0 && len(l.spare) > 1 {
		l.spare = l.spare[:1:1]
	}
}

// serveFlow sends messages of a flow to one of its lanes until there is none, the lane fails or ends, or it has had
// its turn. It returns the lane to serve next.
func (d *Dispatcher) serveFlow(w *worker, l *lane) *lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := l.flow
	f.promised--
	for sent := 0; d.flowSendable(l); {
		e := d.claim(l)
		if e == nil {
			break
		}
		f.running++
		gen, begun := f.gen, standing{l.failures, l.narrowings}
		res, ok := d.attempt(w, l, e)
		if f.gen == gen {
			f.running--
		} else {
			f.stale--
		}
		if ok {
			d.booked(l, e, res, f.gen != gen, begun)
			sent++
		} else if f.gen == gen {
			f.giveBack(e)
		}
		d.feed(f)
		if len(f.members) > 1 {
			break // the next message is the next member's
		}
		waiting := d.fastQ.len+d.slowQ.len > 0
		if waiting && (sent >= max(1, turnMessages/l.running) || w.class == classSlow && d.slow > d.slowCap) {
			break
		}
	}
	next := d.next(w)
	d.schedule()
	return next
}

// flowSendable tells whether a message may be sent to the lane now, and puts it where it belongs if not. Callers hold mu.
func (d *Dispatcher) flowSendable(l *lane) bool {
	f := l.flow
	switch {
	case l.state != laneIdle && l.state != laneReady || f.draining || f.stale > 0 || d.closing:
		return false
	case l.running > l.width():
		return false
	case l.paused:
		l.state = lanePaused
		return false
	case d.outOfTouch():
		d.ready(l)
		return false
	case d.o.Clock.Now().UnixNano() >= l.expires: // at send time, for queued retries too (WebSub 5.3.1)
		l.state = laneExpired
		return false
	}
	return d.mayStart(l)
}

// claim takes the next message for a lane, with its body, nil when there is none. mu is held, but not while reading.
func (d *Dispatcher) claim(l *lane) *entry {
	f := l.flow
	for l.state == laneIdle || l.state == laneReady {
		if e := f.take(); e != nil {
			gen := f.gen
			if d.loaded(f, e) && (l.state == laneIdle || l.state == laneReady) {
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
		if !d.readAhead(f) {
			return nil
		}
	}
	return nil
}

// readAhead reads the next messages of a flow.
func (d *Dispatcher) readAhead(f *flow) bool {
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
		d.unread(f, from, err)
		return false
	}
	for i := range batch {
		f.add(batch[i])
	}
	return true
}

// loaded brings back the body of a claimed message that was let go of.
func (d *Dispatcher) loaded(f *flow, e *entry) bool {
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
		d.unread(f, offset, err)
		return false
	}
	e.m, e.loaded = batch[0], true
	f.buffered += len(e.m.Body)
	return true
}

// unread waits until the log can be read again; what retention dropped is skipped when the state says so. mu is held, but
// not while looking at the state.
func (d *Dispatcher) unread(f *flow, offset uint64, err error) {
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
		d.o.Log.Error("cannot read the message log; delivery waits", "topic", f.topic.name, "offset", offset, "error", err)
	}
	d.remind(f, d.now()+unreadable)
}

// attempt makes one attempt; ok is false when none was made. mu is held, but not while sending.
func (d *Dispatcher) attempt(w *worker, l *lane, e *entry) (res PushResult, ok bool) {
	gen := l.gen
	var ep *Endpoint
	if n := len(l.spare); n > 0 {
		ep, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		var made bool
		if ep, res, made = d.build(l); !made {
			return res, res.Outcome != 0
		}
	}
	if l.gen != gen || e.state != entryClaimed || !d.flowSendable(l) {
		return PushResult{}, false
	}
	res = d.send(w, l, ep, &e.m)
	if l.gen == gen && l.state != laneEnded && len(l.spare) < l.flow.window {
		l.spare = append(l.spare, ep)
	}
	return res, true
}

// build makes an endpoint for a lane; a result other than zero is a failed attempt. mu is held, but not while building.
func (d *Dispatcher) build(l *lane) (*Endpoint, PushResult, bool) {
	callback, gen := l.callback, l.gen
	c := credentials{l.sealed, l.signature, hub.SecretBinding(l.topic.name, l.callbackKey), l.webhooks}
	d.mu.Unlock()
	e, res, err := d.endpoint(callback, c)
	d.mu.Lock()
	switch {
	case l.gen != gen:
		return nil, PushResult{}, false // renewed meanwhile: look again
	case err != nil:
		d.o.Log.Error("cannot deliver", "subscription", l.id.String(), "topic", l.topic.name, "error", err)
		return nil, res, false
	}
	return e, PushResult{}, true
}

// booked takes an attempt into account. stale says that it was made before a rewind, begun how the lane stood when it
// began. Callers hold mu.
func (d *Dispatcher) booked(l *lane, e *entry, res PushResult, stale bool, begun standing) {
	d.stats.Attempts++
	d.remember(l, e.m.Offset, res)
	f := l.flow
	if l.state != laneEnded {
		l.status, l.reason = int32(res.Status), res.Reason
	}
	if res.Outcome == PushDelivered {
		d.stats.Delivered++
		if !stale {
			f.finish(e)
			d.markFlow(f)
		}
		if l.state != laneEnded {
			l.delivered++
			l.failures, l.failingSince, l.overloads = 0, 0, 0
			l.widen(begun)
			l.slow = res.Latency >= d.o.SlowAfter
			d.recovered(l)
			d.mark(l)
		}
		return
	}
	if res.Outcome == PushCancelled || res.Outcome == PushGone || l.state == laneEnded {
		if !stale {
			f.giveBack(e)
		}
		if res.Outcome == PushGone && l.state != laneEnded && l.state != laneSettling && l.state != laneReleasing {
			d.stats.Gone++
			d.setAside(l, laneSettling)
			d.hand(settlement{lane: l, gone: true, gen: l.gen})
		}
		return
	}
	d.stats.Failed++
	d.flowFailed(l, e, res, stale, begun)
}

// recovered opens the window of an endpoint that answers again.
func (d *Dispatcher) recovered(l *lane) {
	if l.sick && l.state == laneWaiting {
		d.setAside(l, laneIdle)
	}
	l.sick = false
}

// flowFailed books a failed attempt. An endpoint that is down is left alone for a while, and its message is free for
// the others; a message that was refused waits, and the endpoint goes on with others. Callers hold mu.
func (d *Dispatcher) flowFailed(l *lane, e *entry, res PushResult, stale bool, begun standing) {
	f := l.flow
	now := d.o.Clock.Now()
	if l.failingSince == 0 {
		l.failingSince = now.UnixNano()
	}
	down := res.Outcome == PushDown
	if l.failures == begun.failures { // of several attempts that failed together one counts
		l.failures++
	}
	if !res.overloaded() || l.narrowings == begun.narrowings { // and one of several overloads, whatever succeeded between them
		l.countOverload(res)
		l.narrow(res)
	}
	policy := d.o.Retry.With(l.options)
	if down {
		l.slow, l.sick = true, true
		if l.state == laneIdle || l.state == laneReady {
			d.wait(l, policy.Delay(res.failure(l.failures, 0, l.overloads)))
		}
	} else {
		d.recovered(l)
	}
	d.mark(l)
	if stale || e.state != entryClaimed {
		return
	}
	e.attempts++
	since := l.failingSince
	if e.since == 0 {
		e.since = now.UnixNano()
	}
	if !down {
		e.refused++
		since = e.since
	}
	d.markFlow(f)
	if policy.Exhausted(e.attempts, e.refused, e.m.Time, since, now) {
		e.state = entrySettling
		d.settle = append(d.settle, settlement{lane: l, entry: e, flowGen: f.gen, offset: e.m.Offset, attempts: e.attempts,
			status: int32(res.Status), reason: res.Reason, tries: d.triesAt(l, e.m.Offset), size: int(e.m.Size()),
			published: e.m.Time, contentType: e.m.ContentType})
		d.notify()
		return
	}
	if down {
		f.giveBack(e)
		return
	}
	f.unload(e)
	e.state, e.due = entryDelayed, d.now()+policy.Delay(res.failure(0, e.refused, 0))
	f.delayed = append(f.delayed, e)
	d.remind(f, e.due)
}

// remind sees to it that the flow is looked at again at due. Callers hold mu.
func (d *Dispatcher) remind(f *flow, due time.Duration) {
	if f.timer == nil {
		f.timer = &lane{flow: f, clock: true}
	}
	if f.timer.state == laneWaiting {
		if f.timer.due <= due {
			return
		}
		d.retries.remove(f.timer)
	}
	d.retries.add(f.timer, due)
	d.wakeTimekeeper(due)
}

// rung makes the messages of a flow free that are due. Callers hold mu.
func (d *Dispatcher) rung(f *flow) {
	f.timer.state = laneEnded // nowhere
	now := d.now()
	next := forever
	f.delayed = slices.DeleteFunc(f.delayed, func(e *entry) bool {
		if e.state == entryDelayed && e.due > now {
			next = min(next, e.due)
			return false
		}
		if e.state == entryDelayed {
			e.state = entryFree
			f.free = append(f.free, e)
		}
		return true
	})
	if next < forever {
		d.remind(f, next)
	}
	d.feed(f)
}

// rewind puts a flow elsewhere in the log. What is under way is finished first. Callers hold mu.
func (d *Dispatcher) rewindFlow(f *flow, c *hub.Cursor) {
	f.gen++
	f.stale += f.running
	f.running = 0
	f.begin(c)
}

// markFlow notes that a flow's cursor is to be written. Callers hold mu.
func (d *Dispatcher) markFlow(f *flow) {
	if f.group == 0 {
		if len(f.members) > 0 {
			d.mark(f.members[0])
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

// dropFlow takes a flow away with its last lane. Callers hold mu.
func (d *Dispatcher) dropFlow(f *flow) {
	if f.timer != nil && f.timer.state == laneWaiting {
		d.retries.remove(f.timer)
		f.timer.state = laneEnded
	}
	f.topic.flows = slices.DeleteFunc(f.topic.flows, func(o *flow) bool { return o == f })
	if d.flows[f.group] == f {
		delete(d.flows, f.group)
	}
}
