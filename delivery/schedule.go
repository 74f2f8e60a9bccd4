package delivery

import (
	"time"

	"quorumhub/hub"
)

// scheduleLocked starts workers for ready lanes as far as there is room.
func (d *Dispatcher) scheduleLocked() {
	if !d.started {
		return
	}
	for {
		w := &worker{}
		l := d.takeLocked(w)
		if l == nil {
			return
		}
		w.index = len(d.running)
		d.running = append(d.running, w)
		d.workers.Add(1)
		go d.work(w, l)
		if len(d.running) == 1 {
			d.wakeTimekeeperLocked(d.now() + d.period())
		}
	}
}

// takeLocked finds the next lane for a worker without one and takes a place in its class.
func (d *Dispatcher) takeLocked(w *worker) *lane {
	if d.closing || d.outOfTouchLocked() || d.fast+d.slow >= d.o.MaxInFlight {
		return nil
	}
	var l *lane
	if d.fast < d.o.Concurrency {
		if l = d.fastQ.pop(); l != nil {
			w.class = classFast
			d.fast++
		}
	}
	if l == nil && d.slow < d.slowCap {
		if l = d.slowQ.pop(); l != nil {
			w.class = classSlow
			d.slow++
		}
	}
	if l != nil {
		w.lane = l
		if l.flow != nil {
			d.attachWorkerLocked(l)
		} else {
			l.state, l.worker = laneRunning, w
		}
	}
	return l
}

// nextLocked takes a worker off its lane and gives it the next one, or retires it.
func (d *Dispatcher) nextLocked(w *worker) *lane {
	l := w.lane
	if l.worker == w {
		l.worker = nil
	}
	if f := l.flow; f != nil {
		d.detachWorkerLocked(l)
		d.feedLocked(f)
	}
	if l.invited && l.state != laneReady {
		l.invited = false
		d.inviteLocked(l.host)
	}
	if w.class == classFast {
		d.fast--
	} else {
		d.slow--
	}
	w.lane, w.class = nil, classNone
	l = d.takeLocked(w)
	if l == nil {
		last := d.running[len(d.running)-1]
		d.running[w.index], last.index = last, w.index
		d.running[len(d.running)-1] = nil
		d.running = d.running[:len(d.running)-1]
	}
	return l
}

// demoteLocked gives up a worker's place among the fast ones.
func (d *Dispatcher) demoteLocked(w *worker) {
	w.class = classSlow
	w.lane.slow = true
	d.fast--
	d.slow++
}

// growLocked records a topic's new head, published at the given time (Unix nanoseconds; 0: unknown), and wakes the
// lanes that had caught up.
func (d *Dispatcher) growLocked(id hub.TopicID, head uint64, published int64) {
	if d.heads[id] >= head {
		return
	}
	d.heads[id] = head
	t := d.topics[id]
	if t == nil {
		return
	}
	t.head = head
	for i, l := range t.idle {
		t.idle[i] = nil
		l.headOfLineAt = published
		d.readyLocked(l)
	}
	t.idle = t.idle[:0]
	for _, f := range t.flows {
		d.feedLocked(f)
	}
}

// placeLocked puts a lane that is nowhere where it belongs: among the idle or the ready ones.
func (d *Dispatcher) placeLocked(l *lane) {
	switch {
	case l.flow != nil:
		l.state = laneIdle
		d.feedLocked(l.flow)
	case l.draining:
		d.releaseLocked(l)
	case l.done >= l.topic.head:
		l.topic.park(l)
	default:
		d.readyLocked(l)
	}
}

func (d *Dispatcher) readyLocked(l *lane) {
	if l.slow {
		d.slowQ.push(l, &l.topic.slow)
	} else {
		d.fastQ.push(l, &l.topic.fast)
	}
}

// skipLocked moves a lane past messages that retention dropped.
func (d *Dispatcher) skipLocked(l *lane, through uint64) {
	if l.flow != nil {
		l.flow.skip(through)
		d.feedLocked(l.flow)
		return
	}
	if l.done >= through {
		return
	}
	l.done, l.attempts, l.refused = through, 0, 0
	if l.state == laneWaiting {
		d.retries.remove(l)
		d.placeLocked(l)
	}
}

// waitLocked puts a lane into the retry heap. A draining lane has nothing to wait for and is released.
func (d *Dispatcher) waitLocked(l *lane, delay time.Duration) {
	if l.draining {
		d.releaseLocked(l)
		return
	}
	due := d.now() + delay
	d.retries.add(l, due)
	d.wakeTimekeeperLocked(due)
}

// releaseLocked releases a drained lane with its cursor.
func (d *Dispatcher) releaseLocked(l *lane) {
	l.state, l.endpoint = laneReleasing, nil
	d.markLocked(l)
	d.urgent = true
	d.notify()
}
