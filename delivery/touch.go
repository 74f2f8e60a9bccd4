package delivery

import (
	"context"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// DefaultLease is how long a node delivers without hearing of the leader.
const DefaultLease = 1500 * time.Millisecond

// outOfTouch tells whether the node must not send: others may deliver its subscriptions. Callers hold mu.
func (d *Dispatcher) outOfTouch() bool {
	if d.leaseUntil == forever {
		return false
	}
	return d.lapsed || d.now() >= d.leaseUntil
}

// InTouch tells whether this node may send: it has heard of the cluster a moment ago and knows what was decided.
func (d *Dispatcher) InTouch() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.outOfTouch()
}

// keepLease is the one goroutine that watches the contact with the cluster. The lease ends by itself, so that a
// process that was stopped for a while sends nothing when it goes on, whatever wakes first.
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

// checkLease extends the lease by the last contact. A lease that has run out is not extended: contact alone does
// not say that everything was heard that was decided meanwhile. It is taken anew by meeting a mark of one's
// own in the log.
func (d *Dispatcher) checkLease(ctx context.Context) {
	seen := d.now() // before Contact, so that a pause in between makes the lease shorter, not longer
	contact := d.o.Contact()
	d.mu.Lock()
	now := d.now()
	if !d.lapsed && now >= d.leaseUntil {
		d.lapsed = true
		d.o.Log.Warn("out of touch with the cluster; deliveries wait", "contact", contact)
	}
	if !d.lapsed {
		d.leaseUntil = max(d.leaseUntil, seen-contact+d.o.Lease)
		d.mu.Unlock()
		return
	}
	if now >= d.leaseUntil+d.o.Lease/3 { // a short lapse repeats nothing
		for _, w := range d.running {
			w.cut(errOutOfTouch)
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
		return // there is no leader yet; the next tick tries again
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

// met is told of a mark in the log. Callers hold mu.
func (d *Dispatcher) met(r hub.Resumed) {
	if r.Node != d.o.Node || r.Mark != d.lastMark {
		return
	}
	select {
	case <-d.resumed:
	default:
	}
	d.resumed <- r.Mark
}

// resume goes on after a lapse: everything decided before since is applied here.
func (d *Dispatcher) resume(since time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leaseUntil = since + d.o.Lease; d.now() >= d.leaseUntil {
		return
	}
	d.lapsed = false
	d.schedule()
}
