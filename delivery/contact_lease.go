package delivery

import (
	"context"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// outOfTouchLocked reports whether the node must not send because others may deliver its subscriptions.
func (d *Dispatcher) outOfTouchLocked() bool {
	if d.leaseUntil == forever {
		return false
	}
	return d.lapsed || d.now() >= d.leaseUntil
}

// InTouch reports whether this node may send: its contact with the leader is recent and it has caught up with the log.
func (d *Dispatcher) InTouch() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.outOfTouchLocked()
}

// keepLease runs in one goroutine and watches the contact with the leader. The lease expires by itself, so that a
// process that was suspended sends nothing when it resumes, whichever goroutine wakes first.
func (d *Dispatcher) keepLease(ctx context.Context) {
	defer d.loops.Done()
	for {
		d.checkLease(ctx)
		wait := time.NewTimer(d.nextCheck())
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// lastLook is how long before the end of the lease the contact is looked at once more.
const lastLook = 10 * time.Millisecond

// nextCheck returns the time until the next checkLease: in time to extend the lease by the newest contact, and to cut off
// what is in flight.
func (d *Dispatcher) nextCheck() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait, now := d.o.Lease/8, d.now()
	if left := d.leaseUntil - lastLook - now; left > 0 {
		wait = min(wait, left)
	}
	if d.cutFor != d.leaseUntil {
		wait = min(wait, max(0, d.cutAtLocked()-now))
	}
	return wait
}

// cutAtLocked returns when requests in flight are cut off unless the lease is extended. A short lapse cuts nothing off.
func (d *Dispatcher) cutAtLocked() time.Duration { return d.leaseUntil + d.o.Lease/3 }

// checkLease extends the lease by the last contact. An expired lease is not extended, because contact alone does not
// mean that this node has heard everything decided meanwhile. It is renewed by meeting a mark of this node's own in
// the log.
func (d *Dispatcher) checkLease(ctx context.Context) {
	seen := d.now() // before Contact, so that a pause in between shortens the lease
	contact := d.o.Contact()
	d.mu.Lock()
	now := d.now()
	if !d.lapsed && now >= d.leaseUntil {
		d.lapsed = true
		d.o.Log.Warn("out of touch with the cluster; deliveries are suspended", "contact", contact)
	}
	if !d.lapsed {
		d.leaseUntil = max(d.leaseUntil, seen-contact+d.o.Lease)
		d.mu.Unlock()
		return
	}
	limit := d.o.Lease // for the mark, which must not delay the cut
	if left := d.cutAtLocked() - now; left > 0 {
		limit = min(limit, left)
	} else {
		d.cutFor = d.leaseUntil
		for _, w := range d.running {
			w.cutLocked(errOutOfTouch)
		}
	}
	d.lastMark++
	mark := d.lastMark
	d.mu.Unlock()
	if contact >= d.o.Lease {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := d.o.Proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_DeliveryResumed{
		DeliveryResumed: &hubpb.DeliveryResumed{Node: d.o.Node, Mark: mark}}})
	if err != nil {
		return // no leader yet; the next tick tries again
	}
	for {
		select {
		case met := <-d.resumed:
			if met == mark {
				d.resume(seen)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// metLocked receives a mark from the log.
func (d *Dispatcher) metLocked(r hub.Resumed) {
	if r.Node != d.o.Node || r.Mark != d.lastMark {
		return
	}
	select {
	case <-d.resumed:
	default:
	}
	d.resumed <- r.Mark
}

// resume ends a lapse: everything decided before since has been applied here.
func (d *Dispatcher) resume(since time.Duration) {
	if !d.resumedOnce {
		d.load(d.restartLocked)
		d.resumedOnce = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leaseUntil = since + d.o.Lease; d.now() >= d.leaseUntil {
		return
	}
	d.lapsed = false
	d.scheduleLocked()
}
