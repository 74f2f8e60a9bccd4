package delivery

import (
	"cmp"
	"slices"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// Stats returns the current figures. Safe for concurrent use.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	s.Lanes, s.Fast, s.Slow = len(d.lanes), d.fast, d.slow
	s.Ready, s.Waiting, s.Unsaved = d.fastQ.len+d.slowQ.len, len(d.retries), len(d.dirty)
	s.OutOfTouch = d.outOfTouchLocked()
	return s
}

// LaneStatus is the status of delivery to one subscription on this node, ahead of the log.
type LaneStatus struct {
	State        string // idle, ready, sending, waiting, settling, expired, paused, blocked or releasing
	Offset       uint64 // last message that needs no further attempt, with all before it
	Ahead        uint64 // messages after Offset that need none either
	Remaining    uint64 // messages that still need one
	Head         uint64 // newest message of the topic
	Delivered    uint64 // messages the subscriber has acknowledged in total
	Attempts     uint32 // at the message after Offset
	Failures     uint64 // in a row
	FailingSince time.Time
	NextAttempt  time.Time     // of a waiting lane
	LastStatus   int           // HTTP status of the last attempt; 0: none
	LastReason   egress.Reason // class of the last failure; empty: none
	Window       int           // messages that may be in flight at once, fewer than requested after an overload
}

// Lane returns the status of delivery to a subscription; ok is false if this node does not deliver it.
func (d *Dispatcher) Lane(id hub.SubscriptionID) (LaneStatus, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[id]
	if l == nil {
		return LaneStatus{}, false
	}
	s := LaneStatus{Offset: l.done, Head: max(l.topic.head, l.done), Delivered: l.delivered, Attempts: l.attempts, Failures: l.failures,
		LastStatus: int(l.status), LastReason: l.reason, Window: 1}
	s.Remaining = s.Head - s.Offset
	s.State = [...]string{"idle", "ready", "sending", "waiting", "settling", "expired", "paused", "blocked", "releasing", "ended"}[l.state]
	if f := l.flow; f != nil {
		c := f.cursor(nil)
		s.Offset, s.Ahead, s.Remaining, s.Window = c.Offset, c.Ahead(), c.Remaining(s.Head), l.room()
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

// Attempt is one attempt to deliver a message.
type Attempt struct {
	At      time.Time
	Offset  uint64
	Outcome PushOutcome
	Status  int // HTTP status; 0: none
	Latency time.Duration
	Reason  egress.Reason
	Kind    Kind
}

// History is what a node remembers of its attempts for one subscription.
type History struct {
	Attempts      []Attempt // at most the last 32, newest first
	Total, Failed uint64    // all of KindDelivery since this node delivers the subscription
}

// History returns the remembered attempts for a subscription; ok is false if this node does not deliver it. Of
// responses, only the status is kept.
func (d *Dispatcher) History(id hub.SubscriptionID) (History, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[id]
	if l == nil || l.history == nil {
		return History{}, l != nil
	}
	h := History{Total: l.history.total, Failed: l.history.fails}
	l.history.newest(func(t *attempt) bool {
		h.Attempts = append(h.Attempts, Attempt{At: time.Unix(0, t.at), Offset: t.offset, Outcome: t.outcome, Status: int(t.status),
			Latency: time.Duration(t.latency) * time.Microsecond, Reason: t.reason.Value(), Kind: t.kind})
		return true
	})
	return h, true
}

// Backlog is what this node has yet to deliver.
type Backlog struct {
	Messages uint64    // over all its subscriptions
	Behind   int       // subscriptions with undelivered messages; a consumer group counts as one
	Oldest   time.Time // when the oldest of the messages was published, as far as known; zero: none
	Failing  int       // subscriptions whose last attempt failed
	// Worst are those that have been failing for longest, at most MaxWorst.
	Worst []Failing
}

// MaxWorst bounds Backlog.Worst.
const MaxWorst = 8

// Failing is a subscription whose last attempt failed.
type Failing struct {
	Subscription hub.SubscriptionID
	Topic        string
	Since        time.Time // of the first failure in a row
	Failures     uint64    // in a row
	Status       int       // HTTP status of the last attempt; 0: none
	Reason       egress.Reason
	Lag          uint64 // messages; of a group's members only the first one's is known
}

// scanTurn is how many lanes are looked at before others may use the dispatcher. It takes some tens of microseconds.
const scanTurn = 1024

// Backlog examines all subscriptions of this node, a few at a time: what changes meanwhile may be counted or not.
func (d *Dispatcher) Backlog() Backlog {
	var b Backlog
	oldest := int64(0)
	for from, more := 0, true; more; from += scanTurn {
		d.mu.Lock()
		for _, l := range d.order[min(from, len(d.order)):min(from+scanTurn, len(d.order))] {
			d.addBacklogLocked(&b, l, &oldest)
		}
		more = from+scanTurn < len(d.order)
		d.mu.Unlock()
	}
	if oldest != 0 {
		b.Oldest = time.Unix(0, oldest)
	}
	return b
}

func (d *Dispatcher) addBacklogLocked(b *Backlog, l *lane, oldest *int64) {
	lag, at := uint64(0), l.headOfLineAt
	switch f := l.flow; {
	case f != nil && f.members[0] == l:
		lag, at = f.backlog(l.topic.head)
	case f == nil && l.done < l.topic.head:
		lag = l.topic.head - l.done
	}
	if lag > 0 {
		b.Messages += lag
		b.Behind++
		if at != 0 && (*oldest == 0 || at < *oldest) {
			*oldest = at
		}
	}
	if l.failingSince == 0 {
		return
	}
	b.Failing++
	if n := len(b.Worst); n == MaxWorst && b.Worst[n-1].Since.UnixNano() <= l.failingSince {
		return
	}
	b.Worst = append(b.Worst, Failing{Subscription: l.id, Topic: l.topic.name, Since: time.Unix(0, l.failingSince), Failures: l.failures,
		Status: int(l.status), Reason: l.reason, Lag: lag})
	slices.SortFunc(b.Worst, func(a, c Failing) int {
		return cmp.Or(a.Since.Compare(c.Since), cmp.Compare(a.Subscription, c.Subscription))
	})
	b.Worst = b.Worst[:min(len(b.Worst), MaxWorst)]
}
