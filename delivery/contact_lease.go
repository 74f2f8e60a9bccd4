package delivery

import (
	"context"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// DefaultLease is the default contact lease: how long a node delivers without hearing from the leader.
const DefaultLease = 1500 * time.Millisecond

// outOfTouchLocked reports whether the node must not send because others may deliver its subscriptions.
func (d *Dispatcher) outOfTouchLocked() bool {
	if d.leaseUntil == forever {
		return false
	}
	return d.lapsed || d.now() >= d.leaseUntil
}

// InTouch reports whether this node may send: it has recently heard from the leader and has caught up with the log.
func (d *Dispatcher) InTouch() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.outOfTouchLocked()
}

// keepLease runs in one goroutine and watches the contact with the leader. The lease expires by itself, so that a
// process that was suspended sends nothing when it resumes, whichever goroutine wakes first.
func (d *Dispatcher) keepLease(ctx context.Context) {
	defer d.loops.Done()
	tick := time.NewTicker(d.o.Lease / 8)
	defer tick.Stop()
	for {
		d.checkLease(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

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
	if now >= d.leaseUntil+d.o.Lease/3 { // a short lapse cuts nothing off
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
	ctx, cancel := context.WithTimeout(ctx, d.o.Lease)
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
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leaseUntil = since + d.o.Lease; d.now() >= d.leaseUntil {
		return
	}
	d.lapsed = false
	d.scheduleLocked()
}
