package delivery

import (
	"cmp"
	"errors"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// How much a worker reads ahead, and how much it sends for one lane before waiting lanes get their turn.
const (
	batchMessages = 32
	batchBytes    = 64 << 10
	turnMessages  = 64
)

// unreadable is the wait before the next read of a log that could not be read.
const unreadable = time.Second

func (d *Dispatcher) work(w *worker, l *lane) {
	defer d.workers.Done()
	w.ctx, w.cancel = egress.WithCancelConn(d.ctx)
	for l != nil {
		if l.flow != nil {
			l = d.serveFlow(w, l)
		} else {
			l = d.serve(w, l)
		}
	}
	w.cancel(nil)
}

// serve sends a lane's messages, one after another, until the lane has caught up, fails, ends or has had its turn. It
// returns the lane to serve next.
func (d *Dispatcher) serve(w *worker, l *lane) *lane {
	w.batch = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	for sent := 0; ; {
		if !d.sendableLocked(l) {
			return d.nextLocked(w)
		}
		from := l.done + 1
		for len(w.batch) > 0 && w.batch[0].Offset < from {
			w.batch = w.batch[1:]
		}
		if len(w.batch) == 0 || w.batch[0].Offset != from {
			if !d.readUnlocks(w, l, from) {
				return d.nextLocked(w)
			}
			continue
		}
		m := &w.batch[0]
		l.headOfLineAt = m.Time
		var res PushResult
		rewinds := l.rewinds
		if l.endpoint != nil {
			res = d.sendUnlocks(w, l, l.endpoint, m)
		} else if res = d.warmUnlocks(l); res.Outcome == 0 {
			continue
		}
		if !d.bookAttemptLocked(l, m, res, rewinds) {
			return d.nextLocked(w)
		}
		w.batch = w.batch[1:]
		sent++
		waiting := d.fastQ.len+d.slowQ.len > 0
		if waiting && (sent >= turnMessages || w.class == classSlow && d.slow > d.slowCap) && l.state == laneRunning {
			d.placeLocked(l)
			return d.nextLocked(w)
		}
	}
}

// sendableLocked reports whether the lane may send now. If not, it puts the lane where it belongs.
func (d *Dispatcher) sendableLocked(l *lane) bool {
	switch {
	case l.state != laneRunning:
		return false
	case l.draining:
		d.releaseLocked(l)
		return false
	case l.paused:
		l.state = lanePaused
		return false
	case d.closing:
		l.state = laneExpired // nowhere: nothing is sent any more
		return false
	case l.done >= l.topic.head:
		l.topic.park(l)
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

// readUnlocks fills the worker's batch.
func (d *Dispatcher) readUnlocks(w *worker, l *lane, from uint64) bool {
	topic := l.topic.id
	d.mu.Unlock()
	batch, err := d.o.Messages.Read(topic, from, batchMessages, batchBytes)
	var moved uint64
	if errors.Is(err, hub.ErrTrimmed) {
		d.o.State.View(func(s *hub.State) {
			if sub, ok := s.Subscription(l.id); ok {
				moved = sub.Cursor.Offset
			}
		})
	}
	d.mu.Lock()
	if l.state != laneRunning {
		return false
	}
	switch {
	case err == nil && len(batch) > 0:
		w.batch = batch
		return true
	case moved >= from: // retention dropped the messages; the gap is in the subscription's record (invariant I9)
		d.skipLocked(l, moved)
		return true
	case err != nil && !errors.Is(err, hub.ErrTrimmed) && !errors.Is(err, hub.ErrUnknownTopic):
		d.o.Log.Error("cannot read the message log; will retry", "topic", l.topic.name, "offset", from, "error", err)
	}
	d.waitLocked(l, unreadable)
	return false
}

// sendUnlocks makes one attempt.
func (d *Dispatcher) sendUnlocks(w *worker, l *lane, e *Endpoint, m *hub.Message) PushResult {
	t := l.topic
	link := cmp.Or(l.link, t.link)
	if m.LinkSelf != "" {
		if t.self != m.LinkSelf {
			t.self, t.slink = m.LinkSelf, LinkHeader(d.o.HubURL, m.LinkSelf)
		}
		link = t.slink
	}
	w.started, w.extra = d.now(), blobTime(m)
	d.enterHostLocked(l)
	h := l.host
	d.mu.Unlock()
	res := d.o.push(w.ctx, e, m, t.name, link)
	if d.o.Attempted != nil {
		d.o.Attempted(t.id, res)
	}
	d.mu.Lock()
	d.exitHostLocked(h)
	w.started = 0
	if w.ctx.Err() != nil {
		if d.ctx.Err() != nil {
			d.closing = true
		}
		w.ctx, w.cancel = egress.WithCancelConn(d.ctx)
	}
	return res
}
