package delivery

import (
	"slices"
	"time"
	"unique"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// bookAttemptLocked records one attempt and reports whether the lane may go on at once. rewinds is the lane's value
// from before the attempt.
func (d *Dispatcher) bookAttemptLocked(l *lane, m *hub.Message, res PushResult, rewinds uint32) bool {
	d.stats.Attempts++
	d.rememberLocked(l, m.Offset, res, KindDelivery)
	if l.state != laneRunning {
		return false // the lane ended meanwhile
	}
	l.status, l.reason = int32(res.Status), res.Reason
	switch {
	case res.Outcome == PushDelivered:
		d.stats.Delivered++
		l.delivered++
		l.failures, l.failingSince, l.overloads = 0, 0, 0
		l.slow = res.Latency >= d.o.SlowAfter
		if m.Offset > l.done && l.rewinds == rewinds {
			l.done, l.attempts, l.refused = m.Offset, 0, 0
		}
		d.markLocked(l)
		return true
	case res.Outcome == PushCancelled:
		return true // says nothing about the endpoint; sendableLocked decides
	case res.Outcome == PushGone:
		d.stats.Gone++
		d.settleLocked(settlement{lane: l, gone: true, gen: l.gen})
		return false
	}
	d.bookFailureLocked(l, m, res, rewinds)
	return false
}

// bookFailureLocked records a failed attempt, and either schedules the next one or gives the message up.
func (d *Dispatcher) bookFailureLocked(l *lane, m *hub.Message, res PushResult, rewinds uint32) {
	d.stats.Failed++
	now := d.o.Clock.Now()
	policy := d.o.Retry.With(l.options)
	l.failures++
	l.countOverload(res)
	if l.failingSince == 0 {
		l.failingSince = now.UnixNano()
	}
	l.slow = res.Outcome == PushDown
	d.markLocked(l)
	if m.Offset != l.done+1 || l.rewinds != rewinds { // retention dropped the message meanwhile, or the lane moved
		d.waitLocked(l, policy.Delay(res.failure(l.failures, l.refused, l.overloads)))
		return
	}
	l.attempts++
	if res.Outcome == PushRefused {
		l.refused++
	}
	delay := policy.Delay(res.failure(l.failures, l.refused, l.overloads))
	if !policy.Exhausted(l.attempts, l.refused, m.Time, l.failingSince, now) {
		d.waitLocked(l, delay)
		return
	}
	s := settlement{lane: l, rewinds: l.rewinds, offset: m.Offset, attempts: l.attempts, status: l.status, reason: res.Reason,
		attemptLog: d.attemptsAtLocked(l, m.Offset), size: int(m.Size()), published: m.Time, contentType: m.ContentType}
	if res.Outcome == PushDown {
		s.delay = delay // the next message would meet the same endpoint
	}
	d.settleLocked(s)
}

// bookFlowAttemptLocked records an attempt of a flow. stale means that it was made before a rewind; begun is the
// lane's standing when it began.
func (d *Dispatcher) bookFlowAttemptLocked(l *lane, e *entry, res PushResult, stale bool, begun standing) {
	d.stats.Attempts++
	d.rememberLocked(l, e.m.Offset, res, KindDelivery)
	f := l.flow
	if l.state != laneEnded {
		l.status, l.reason = int32(res.Status), res.Reason
	}
	if res.Outcome == PushDelivered {
		d.stats.Delivered++
		if !stale {
			f.finish(e)
			d.markFlowLocked(f)
		}
		if l.state != laneEnded {
			l.delivered++
			l.failures, l.failingSince, l.overloads = 0, 0, 0
			l.widen(begun)
			l.slow = res.Latency >= d.o.SlowAfter
			d.recoveredLocked(l)
			d.markLocked(l)
		}
		return
	}
	if res.Outcome == PushCancelled || res.Outcome == PushGone || l.state == laneEnded {
		if !stale {
			f.giveBack(e)
		}
		if res.Outcome == PushGone && l.state != laneEnded && l.state != laneSettling && l.state != laneReleasing {
			d.stats.Gone++
			d.setAsideLocked(l, laneSettling)
			d.settleLocked(settlement{lane: l, gone: true, gen: l.gen})
		}
		return
	}
	d.stats.Failed++
	d.bookFlowFailureLocked(l, e, res, stale, begun)
}

// recoveredLocked opens the window of an endpoint that answers again.
func (d *Dispatcher) recoveredLocked(l *lane) {
	if l.sick && l.state == laneWaiting {
		d.setAsideLocked(l, laneIdle)
	}
	l.sick = false
}

// bookFlowFailureLocked records a failed attempt of a flow. An endpoint that is down is left alone for a while, and
// its message is free for other lanes. A refused message waits, while its endpoint gets others.
func (d *Dispatcher) bookFlowFailureLocked(l *lane, e *entry, res PushResult, stale bool, begun standing) {
	f := l.flow
	now := d.o.Clock.Now()
	if l.failingSince == 0 {
		l.failingSince = now.UnixNano()
	}
	down := res.Outcome == PushDown
	if l.failures == begun.failures { // of several attempts that failed together, one counts
		l.failures++
	}
	if !res.overloaded() || l.narrowings == begun.narrowings { // likewise one of several overloads, whatever succeeded between them
		l.countOverload(res)
		l.narrow(res)
	}
	policy := d.o.Retry.With(l.options)
	if down {
		l.slow, l.sick = true, true
		if l.state == laneIdle || l.state == laneReady {
			d.waitLocked(l, policy.Delay(res.failure(l.failures, 0, l.overloads)))
		}
	} else {
		d.recoveredLocked(l)
	}
	d.markLocked(l)
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
	d.markFlowLocked(f)
	if policy.Exhausted(e.attempts, e.refused, e.m.Time, since, now) {
		e.state = entrySettling
		d.settle = append(d.settle, settlement{lane: l, entry: e, flowGen: f.gen, offset: e.m.Offset, attempts: e.attempts,
			status: int32(res.Status), reason: res.Reason, attemptLog: d.attemptsAtLocked(l, e.m.Offset), size: int(e.m.Size()),
			published: e.m.Time, contentType: e.m.ContentType})
		d.notify()
		return
	}
	if down {
		f.giveBack(e)
		return
	}
	d.delayLocked(f, e, policy.Delay(res.failure(0, e.refused, 0)))
}

// delayLocked puts a message of a flow off.
func (d *Dispatcher) delayLocked(f *flow, e *entry, wait time.Duration) {
	f.unload(e)
	e.state, e.due = entryDelayed, d.now()+wait
	f.delayed = append(f.delayed, e)
	d.remindLocked(f, e.due)
}

// remember adds an attempt beside the lane to its history.
func (d *Dispatcher) remember(id hub.SubscriptionID, offset uint64, res PushResult, kind Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lanes[id]; l != nil {
		d.rememberLocked(l, offset, res, kind)
	}
}

// rememberLocked adds an attempt to the lane's history.
func (d *Dispatcher) rememberLocked(l *lane, offset uint64, res PushResult, kind Kind) {
	if l.history == nil {
		l.history = &history{}
		if len(d.histories) < keptHistories {
			d.histories = append(d.histories, l)
		} else {
			d.histories[d.nextHistory].history = nil
			d.histories[d.nextHistory] = l
			d.nextHistory = (d.nextHistory + 1) % keptHistories
		}
	}
	l.history.add(attempt{at: d.o.Clock.Now().Add(-res.Latency).UnixNano(), offset: offset,
		latency: uint32(min(res.Latency/time.Microsecond, 1<<32-1)), status: uint16(res.Status), outcome: res.Outcome, kind: kind,
		reason: unique.Make(res.Reason)})
}

// attemptsAtLocked returns the remembered attempts at one message, oldest first.
func (d *Dispatcher) attemptsAtLocked(l *lane, offset uint64) []*hubpb.Attempt {
	if l.history == nil {
		return nil
	}
	var out []*hubpb.Attempt
	l.history.newest(func(t *attempt) bool {
		if t.offset == offset && t.outcome != PushCancelled && t.kind == KindDelivery {
			out = append(out, &hubpb.Attempt{At: t.at, Status: int32(t.status), Latency: int64(t.latency) * 1000,
				Reason: string(t.reason.Value()), Node: d.o.Node})
		}
		return len(out) < letterAttempts
	})
	slices.Reverse(out)
	return out
}
