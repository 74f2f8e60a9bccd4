package delivery

import (
	"slices"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	keptTries   = 32 // attempts that a lane remembers
	letterTries = 16 // of them, those about one message that its dead letter gets
	// keptHistories is how many lanes remember their attempts; a full memory takes some 800 bytes. Past it, who
	// has remembered the longest forgets.
	keptHistories = 32768
)

// try is one attempt as a lane remembers it.
type try struct {
	at      int64 // Unix nanoseconds of its start
	offset  uint64
	latency uint32 // microseconds
	status  uint16
	outcome PushOutcome
	reason  uint8 // index into reasons
}

// history holds a lane's last attempts.
type history struct {
	ring         []try
	next         int    // where the next one goes in a full ring
	total, fails uint64 // since this node delivers the subscription
}

func (h *history) add(t try) {
	h.total++
	if t.outcome != PushDelivered {
		h.fails++
	}
	if len(h.ring) < keptTries {
		h.ring = append(h.ring, t)
		return
	}
	h.ring[h.next] = t
	h.next = (h.next + 1) % keptTries
}

// newest calls f with the attempts, newest first, until it returns false.
func (h *history) newest(f func(*try) bool) {
	for i := range h.ring {
		if !f(&h.ring[(h.next-1-i+2*len(h.ring))%len(h.ring)]) {
			return
		}
	}
}

// reasons numbers the classes of failures.
func reasons() [15]egress.Reason {
	return [...]egress.Reason{egress.ReasonNone, egress.ReasonDenied, egress.ReasonUnreachable, egress.ReasonTimeout, egress.ReasonTLS, egress.ReasonStatus, egress.ReasonChallenge,
		egress.ReasonCancelled, egress.ReasonProtocol, egress.ReasonTooLarge, egress.ReasonRedirect, egress.ReasonEncoding, egress.ReasonURL, egress.ReasonSecret, egress.ReasonUnreadable}
}

func numberOf(r egress.Reason) uint8 {
	all := reasons()
	return uint8(max(slices.Index(all[:], r), 0))
}

// remember adds an attempt to the lane's history. Callers hold mu.
func (d *Dispatcher) remember(l *lane, offset uint64, res PushResult) {
	if l.past == nil {
		l.past = &history{}
		if len(d.pasts) < keptHistories {
			d.pasts = append(d.pasts, l)
		} else {
			d.pasts[d.pastsNext].past = nil
			d.pasts[d.pastsNext] = l
			d.pastsNext = (d.pastsNext + 1) % keptHistories
		}
	}
	l.past.add(try{at: d.o.Clock.Now().Add(-res.Latency).UnixNano(), offset: offset,
		latency: uint32(min(res.Latency/time.Microsecond, 1<<32-1)), status: uint16(res.Status), outcome: res.Outcome,
		reason: numberOf(res.Reason)})
}

// triesAt are the last attempts at one message that the lane remembers, oldest first. Callers hold mu.
func (d *Dispatcher) triesAt(l *lane, offset uint64) []*hubpb.Attempt {
	if l.past == nil {
		return nil
	}
	var out []*hubpb.Attempt
	names := reasons()
	l.past.newest(func(t *try) bool {
		if t.offset == offset && t.outcome != PushCancelled {
			out = append(out, &hubpb.Attempt{At: t.at, Status: int32(t.status), Latency: int64(t.latency) * 1000,
				Reason: string(names[t.reason]), Node: d.o.Node})
		}
		return len(out) < letterTries
	})
	slices.Reverse(out)
	return out
}

// Tried is one attempt to deliver a message.
type Tried struct {
	At      time.Time
	Offset  uint64
	Outcome PushOutcome
	Status  int // HTTP status, 0: none came
	Latency time.Duration
	Reason  egress.Reason
}

// History is what a node remembers of its attempts for one subscription.
type History struct {
	Tries         []Tried // the last 32 at most, newest first
	Total, Failed uint64  // all since this node delivers the subscription
}

// History returns what is remembered of a subscription's attempts, ok false when this node does not deliver to it.
// Nothing of what endpoints answered is kept but the status.
func (d *Dispatcher) History(id hub.SubscriptionID) (History, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lanes[id]
	if l == nil || l.past == nil {
		return History{}, l != nil
	}
	h := History{Total: l.past.total, Failed: l.past.fails}
	names := reasons()
	l.past.newest(func(t *try) bool {
		h.Tries = append(h.Tries, Tried{At: time.Unix(0, t.at), Offset: t.offset, Outcome: t.outcome, Status: int(t.status),
			Latency: time.Duration(t.latency) * time.Microsecond, Reason: names[t.reason]})
		return true
	})
	return h, true
}

// String is the outcome in words.
func (o PushOutcome) String() string {
	switch o {
	case PushDelivered:
		return "delivered"
	case PushGone:
		return "gone"
	case PushRefused:
		return "refused"
	case PushDown:
		return "down"
	case PushCancelled:
		return "cancelled"
	}
	return "none"
}

// Backlog is what this node has still to deliver.
type Backlog struct {
	Messages uint64    // over all its subscriptions
	Behind   int       // subscriptions that are behind
	Oldest   time.Time // when the oldest of the messages was published, as far as it was looked at; zero: none
}

// Backlog looks at all subscriptions of this node.
func (d *Dispatcher) Backlog() Backlog {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b Backlog
	var oldest int64
	for _, l := range d.lanes {
		if l.done >= l.topic.head {
			continue
		}
		b.Behind++
		b.Messages += l.topic.head - l.done
		if l.facing != 0 && (oldest == 0 || l.facing < oldest) {
			oldest = l.facing
		}
	}
	if oldest != 0 {
		b.Oldest = time.Unix(0, oldest)
	}
	return b
}
