package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// How much a worker reads ahead, and how much it sends for one lane before others that wait get their turn.
const (
	batchMessages = 32
	batchBytes    = 64 << 10
	turnMessages  = 64
)

// unreadable is the wait before reading again after the log could not be read.
const unreadable = time.Second

// keptEndpoints is how many lanes keep their prepared endpoint between messages; one takes about 1 KiB.
const keptEndpoints = 4096

type class uint8

const (
	classNone class = iota
	classFast
	classSlow
)

// worker serves one lane at a time. Dispatcher.mu guards all fields but batch, ctx and cancel, which only
// change while no attempt is under way, by its own goroutine.
type worker struct {
	lane    *lane
	class   class
	index   int           // in Dispatcher.running
	started time.Duration // of the attempt under way on the dispatcher's clock, 0: none
	extra   time.Duration // that it may take beyond the timeout

	ctx    context.Context
	cancel context.CancelCauseFunc
	batch  []hub.Message
}

// cut cancels the attempt under way. Callers hold mu.
func (w *worker) cut(cause error) {
	if w.started != 0 {
		w.cancel(cause)
	}
}

// now is the dispatcher's own clock; never 0.
func (d *Dispatcher) now() time.Duration { return time.Since(d.base) + 1 }

// schedule starts workers for what is ready, as far as there is room. Callers hold mu.
func (d *Dispatcher) schedule() {
	if !d.started {
		return
	}
	for {
		w := &worker{}
		l := d.take(w)
		if l == nil {
			return
		}
		w.index = len(d.running)
		d.running = append(d.running, w)
		d.workers.Add(1)
		go d.work(w, l)
		if len(d.running) == 1 {
			d.wakeTimekeeper(d.now() + d.period())
		}
	}
}

// take finds the next lane for a worker that has none, with a place in its class. Callers hold mu.
func (d *Dispatcher) take(w *worker) *lane {
	if d.closing || d.outOfTouch() || d.fast+d.slow >= d.o.MaxInFlight {
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
			d.served(l)
		} else {
			l.state, l.worker = laneRunning, w
		}
	}
	return l
}

// next gives a worker that is done with its lane another one, or takes the worker out. Callers hold mu.
func (d *Dispatcher) next(w *worker) *lane {
	l := w.lane
	if l.worker == w {
		l.worker = nil
	}
	if f := l.flow; f != nil {
		d.left(l)
		d.feed(f)
	}
	if l.invited && l.state != laneReady {
		l.invited = false
		d.invite(l.host)
	}
	if w.class == classFast {
		d.fast--
	} else {
		d.slow--
	}
	w.lane, w.class = nil, classNone
	l = d.take(w)
	if l == nil {
		last := d.running[len(d.running)-1]
		d.running[w.index], last.index = last, w.index
		d.running[len(d.running)-1] = nil
		d.running = d.running[:len(d.running)-1]
	}
	return l
}

// demote gives a worker's place among the fast ones back. Callers hold mu.
func (d *Dispatcher) demote(w *worker) {
	w.class = classSlow
	w.lane.slow = true
	d.fast--
	d.slow++
}

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

// serve sends a lane's messages, one after another, until it is caught up, fails, ends or has had its turn. It
// returns the lane to serve next.
func (d *Dispatcher) serve(w *worker, l *lane) *lane {
	w.batch = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	for sent := 0; ; {
		if !d.sendable(l) {
			return d.next(w)
		}
		from := l.done + 1
		for len(w.batch) > 0 && w.batch[0].Offset < from {
			w.batch = w.batch[1:]
		}
		if len(w.batch) == 0 || w.batch[0].Offset != from {
			if !d.read(w, l, from) {
				return d.next(w)
			}
			continue
		}
		m := &w.batch[0]
		l.facing = m.Time
		var res PushResult
		jumps := l.jumps
		switch e := l.endpoint; {
		case e != nil:
			res = d.send(w, l, e, m)
		default:
			res = d.prepare(l)
			if res.Outcome == 0 {
				continue
			}
		}
		if !d.attempted(l, m, res, jumps) {
			return d.next(w)
		}
		w.batch = w.batch[1:]
		sent++
		waiting := d.fastQ.len+d.slowQ.len > 0
		if waiting && (sent >= turnMessages || w.class == classSlow && d.slow > d.slowCap) && l.state == laneRunning {
			d.place(l)
			return d.next(w)
		}
	}
}

// sendable tells whether the lane may send now, and puts it where it belongs if not. Callers hold mu.
func (d *Dispatcher) sendable(l *lane) bool {
	switch {
	case l.state != laneRunning:
		return false
	case l.draining:
		d.release(l)
		return false
	case l.paused:
		l.state = lanePaused
		return false
	case d.closing:
		l.state = laneExpired // nowhere: nothing will be sent any more
		return false
	case l.done >= l.topic.head:
		l.topic.park(l)
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

// read fills the worker's batch. mu is held, but not while reading.
func (d *Dispatcher) read(w *worker, l *lane, from uint64) bool {
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
	case moved >= from: // retention was faster; the gap is in the subscription's record (invariant I9)
		d.skip(l, moved)
		return true
	case err != nil && !errors.Is(err, hub.ErrTrimmed) && !errors.Is(err, hub.ErrUnknownTopic):
		d.o.Log.Error("cannot read the message log; delivery waits", "topic", l.topic.name, "offset", from, "error", err)
	}
	d.wait(l, unreadable)
	return false
}

// prepare builds the lane's endpoint. A result other than zero is a failed attempt. mu is held, but not while
// building.
func (d *Dispatcher) prepare(l *lane) PushResult {
	callback, gen := l.callback, l.gen
	c := credentials{l.sealed, l.signature, hub.SecretBinding(l.topic.name, l.callbackKey), l.webhooks}
	d.mu.Unlock()
	e, res, err := d.endpoint(callback, c)
	d.mu.Lock()
	switch {
	case l.gen != gen || l.state != laneRunning:
		return PushResult{} // renewed or ended meanwhile: look again
	case err != nil:
		d.o.Log.Error("cannot deliver", "subscription", l.id.String(), "topic", l.topic.name, "error", err)
		return res
	}
	l.endpoint = e
	d.keep(l)
	return PushResult{}
}

func (d *Dispatcher) endpoint(callback string, c credentials) (*Endpoint, PushResult, error) {
	var signer *Signer
	var webhooks *WebhookSigner
	if len(c.sealed) > 0 {
		// Without the secret nothing may go out: an unsigned message is worth nothing to this subscriber.
		secret, err := d.o.Secrets.Open(c.sealed, c.bound)
		if err == nil && c.webhooks != nil {
			webhooks, err = d.webhookSigner(secret, c.webhooks.former, c.bound)
		}
		if err != nil {
			return nil, PushResult{Outcome: PushDown, Reason: egress.ReasonSecret}, fmt.Errorf("open the subscription's secret: %w", err)
		}
		if c.signature == "" {
			c.signature = d.o.Signature
		}
		if signer, err = NewSigner(c.signature, secret); err != nil {
			return nil, PushResult{Outcome: PushDown, Reason: egress.ReasonSecret}, err
		}
	}
	e, err := d.o.Pusher.NewEndpoint(callback, signer)
	if err != nil {
		return nil, PushResult{Outcome: PushRefused, Reason: egress.ReasonURL}, err
	}
	e.webhooks = webhooks
	return e, PushResult{}, nil
}

// keep puts the lane among those that keep their endpoint; the longest kept one makes room.
func (d *Dispatcher) keep(l *lane) {
	if l.hot {
		return
	}
	l.hot = true
	if len(d.hot) < keptEndpoints {
		d.hot = append(d.hot, l)
		return
	}
	old := d.hot[d.hotNext]
	old.hot, old.endpoint = false, nil
	d.hot[d.hotNext] = l
	d.hotNext = (d.hotNext + 1) % len(d.hot)
}

// send makes one attempt. mu is held, but not while sending.
func (d *Dispatcher) send(w *worker, l *lane, e *Endpoint, m *hub.Message) PushResult {
	t := l.topic
	link := t.link
	if m.LinkSelf != "" {
		if t.self != m.LinkSelf {
			t.self, t.slink = m.LinkSelf, LinkHeader(d.o.HubURL, m.LinkSelf)
		}
		link = t.slink
	}
	w.started, w.extra = d.now(), blobTime(m)
	d.enter(l)
	h := l.host
	d.mu.Unlock()
	res := d.o.Pusher.Push(w.ctx, e, contentOf(m, d.o.Parts, link))
	if d.o.Attempted != nil {
		d.o.Attempted(t.id, res)
	}
	d.mu.Lock()
	d.exit(h)
	w.started = 0
	if w.ctx.Err() != nil {
		if d.ctx.Err() != nil {
			d.closing = true
		}
		w.ctx, w.cancel = egress.WithCancelConn(d.ctx)
	}
	return res
}

// attempted books one attempt and tells whether the lane may go on at once. jumps is the lane's from before the
// attempt. Callers hold mu.
func (d *Dispatcher) attempted(l *lane, m *hub.Message, res PushResult, jumps uint32) bool {
	d.stats.Attempts++
	d.remember(l, m.Offset, res)
	if l.state != laneRunning {
		return false // ended meanwhile
	}
	l.status, l.reason = int32(res.Status), res.Reason
	switch {
	case res.Outcome == PushDelivered:
		d.stats.Delivered++
		l.delivered++
		l.failures, l.failingSince, l.overloads = 0, 0, 0
		l.slow = res.Latency >= d.o.SlowAfter
		if m.Offset > l.done && l.jumps == jumps {
			l.done, l.attempts, l.refused = m.Offset, 0, 0
		}
		d.mark(l)
		return true
	case res.Outcome == PushCancelled:
		return true // says nothing; sendable decides
	case res.Outcome == PushGone:
		d.stats.Gone++
		d.hand(settlement{lane: l, gone: true, gen: l.gen})
		return false
	}
	d.failed(l, m, res, jumps)
	return false
}

// failed books a failed attempt: wait and try again, or give the message up. Callers hold mu.
func (d *Dispatcher) failed(l *lane, m *hub.Message, res PushResult, jumps uint32) {
	d.stats.Failed++
	now := d.o.Clock.Now()
	policy := d.o.Retry.With(l.options)
	l.failures++
	l.countOverload(res)
	if l.failingSince == 0 {
		l.failingSince = now.UnixNano()
	}
	l.slow = res.Outcome == PushDown
	d.mark(l)
	if m.Offset != l.done+1 || l.jumps != jumps { // retention dropped it meanwhile, or the lane was put elsewhere
		d.wait(l, policy.Delay(res.failure(l.failures, l.refused, l.overloads)))
		return
	}
	l.attempts++
	if res.Outcome == PushRefused {
		l.refused++
	}
	delay := policy.Delay(res.failure(l.failures, l.refused, l.overloads))
	if !policy.Exhausted(l.attempts, l.refused, m.Time, l.failingSince, now) {
		d.wait(l, delay)
		return
	}
	s := settlement{lane: l, jumps: l.jumps, offset: m.Offset, attempts: l.attempts, status: l.status, reason: res.Reason,
		tries: d.triesAt(l, m.Offset), size: int(m.Size()), published: m.Time, contentType: m.ContentType}
	if res.Outcome == PushDown {
		s.delay = delay // the next message meets the same endpoint
	}
	d.hand(s)
}

// wait puts a lane into the retry heap; one that is drained has nothing to wait for. Callers hold mu.
func (d *Dispatcher) wait(l *lane, delay time.Duration) {
	if l.draining {
		d.release(l)
		return
	}
	due := d.now() + delay
	d.retries.add(l, due)
	d.wakeTimekeeper(due)
}
