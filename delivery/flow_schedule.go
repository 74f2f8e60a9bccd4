package delivery

import (
	"slices"
	"time"

	"quorumhub/hub"
)

// newFlowLocked creates the flow that a subscription's lane belongs to.
func (d *Dispatcher) newFlowLocked(t *topicLanes, s *hub.Subscription) *flow {
	var o hub.Options
	if s.Options != nil {
		o = *s.Options
	}
	f := &flow{group: s.Group, topic: t, window: max(o.Window, 1), key: newKeying(o.Key), epoch: s.Assignment.Epoch,
		serial: o.Mode == hub.DeliveryOrdered, last: map[uint64]*entry{}}
	f.begin(&s.Cursor)
	t.flows = append(t.flows, f)
	if f.group != 0 {
		d.flows[f.group] = f
	}
	return f
}

// feedLocked offers claimable messages to the lanes of a flow, in turn. It is called whenever there may be more
// messages, or more lanes to take them.
func (d *Dispatcher) feedLocked(f *flow) {
	if f.draining {
		if f.running == 0 && f.stale == 0 && !f.released {
			d.releaseFlowLocked(f)
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
			d.readyLocked(l)
			n--
			if len(f.members) > 1 {
				f.turn, i = (f.turn+i+1)%len(f.members), -1
			}
		}
	}
}

// releaseFlowLocked releases a drained flow with its cursor.
func (d *Dispatcher) releaseFlowLocked(f *flow) {
	f.released = true
	for _, l := range f.members {
		d.setAsideLocked(l, laneReleasing)
		l.spare = nil
		d.markLocked(l)
	}
	d.markFlowLocked(f)
	d.urgent = true
	d.notify()
}

// setAsideLocked moves a lane of a flow out of the retry heap into another state.
func (d *Dispatcher) setAsideLocked(l *lane, to laneState) {
	if l.state == laneWaiting {
		d.retries.remove(l)
	}
	l.state = to
}

// attachWorkerLocked adds a worker to a lane of a flow. The lane is queued again if it can use another one.
func (d *Dispatcher) attachWorkerLocked(l *lane) {
	f := l.flow
	l.running++
	f.promised++
	l.state = laneIdle
	if l.running < l.width() && f.available() > f.promised {
		d.readyLocked(l)
	}
}

// detachWorkerLocked removes a worker from a lane of a flow.
func (d *Dispatcher) detachWorkerLocked(l *lane) {
	if l.running--; l.running == 0 && len(l.spare) > 1 {
		l.spare = l.spare[:1:1]
	}
}

// remindLocked schedules the next look at the flow's delayed messages.
func (d *Dispatcher) remindLocked(f *flow, due time.Duration) {
	if f.timer == nil {
		f.timer = &lane{flow: f, isTimer: true}
	}
	if f.timer.state == laneWaiting {
		if f.timer.due <= due {
			return
		}
		d.retries.remove(f.timer)
	}
	d.retries.add(f.timer, due)
	d.wakeTimekeeperLocked(due)
}

// wakeFlowLocked frees the flow's delayed messages that are due.
func (d *Dispatcher) wakeFlowLocked(f *flow) {
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
		d.remindLocked(f, next)
	}
	d.feedLocked(f)
}

// rewindFlowLocked moves a flow within the log. Attempts in flight finish first.
func (d *Dispatcher) rewindFlowLocked(f *flow, c *hub.Cursor) {
	f.gen++
	f.stale += f.running
	f.running = 0
	f.begin(c)
}

// dropFlowLocked removes a flow with its last lane.
func (d *Dispatcher) dropFlowLocked(f *flow) {
	if f.timer != nil && f.timer.state == laneWaiting {
		d.retries.remove(f.timer)
		f.timer.state = laneEnded
	}
	f.topic.flows = slices.DeleteFunc(f.topic.flows, func(o *flow) bool { return o == f })
	if d.flows[f.group] == f {
		delete(d.flows, f.group)
	}
}
