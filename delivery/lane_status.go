package delivery

import (
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// Stats are figures about a Dispatcher.
type Stats struct {
	// Since the start.
	Attempts, Delivered, Failed, DeadLettered, Gone uint64
	// At the moment.
	Lanes   int // subscriptions
	Fast    int // attempts under way, or lanes between two of them, in the fast class
	Slow    int // the same in the slow class
	Ready   int // lanes that wait for a place
	Waiting int // lanes that wait for their next attempt
	Unsaved int // cursors not written yet

	OutOfTouch bool // nothing is sent until the node has caught up with the cluster
}

// Stats returns the current figures.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Lanes, s.Fast, s.Slow = len(d.lanes), d.fast, d.slow
	s.Ready, s.Waiting, s.Unsaved = d.fastQ.len+d.slowQ.len, len(d.retries), len(d.dirty)
	s.OutOfTouch = d.outOfTouch()
	return s
}

// LaneStatus is how delivery to one subscription stands on this node, ahead of what is in the log.
type LaneStatus struct {
	State        string // idle, ready, sending, waiting, settling, expired, paused, blocked or releasing
	Offset       uint64 // last message that needs no further attempt
	Attempts     uint32 // at the message behind it
	Failures     uint64 // in a row
	FailingSince time.Time
	NextAttempt  time.Time     // waiting: when
	LastStatus   int           // HTTP status of the last attempt, 0: none came
	LastReason   egress.Reason // class of its failure, empty: none
	Window       int           // messages that may be under way at a time, fewer than asked for after an overload
}

// Lane returns how delivery to a subscription stands, ok false when this node does not deliver to it.
func (d *Dispatcher) Lane(id hub.SubscriptionID) (LaneStatus, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[id]
	if l == nil {
		return LaneStatus{}, false
	}
	s := LaneStatus{Offset: l.done, Attempts: l.attempts, Failures: l.failures, LastStatus: int(l.status), LastReason: l.reason, Window: 1}
	s.State = [...]string{"idle", "ready", "sending", "waiting", "settling", "expired", "paused", "blocked", "releasing", "ended"}[l.state]
	if f := l.flow; f != nil {
		s.Offset, s.Window = f.done, l.room()
		if l.running > 0 && (l.state == laneIdle || l.state == laneReady) {
			s.State = "sending"
		}
	}
	if l.failingSince != 0 {
		s.FailingSince = time.Unix(0, l.failingSince)
	}
	if l.state == laneWaiting {
		s.NextAttempt = d.o.Clock.Now().Add(l.due - d.now())
	}
	return s, true
}
