package delivery

import (
	"slices"
	"time"
	"unique"

	"quorumhub/delivery/egress"
	"quorumhub/hub/hubpb"
)

const (
	keptAttempts   = 32 // attempts that a lane remembers
	letterAttempts = 16 // of them, those about one message that its dead letter gets
	// keptHistories is how many lanes remember their attempts; a full memory takes some 800 bytes. Past it, who
	// has remembered the longest forgets.
	keptHistories = 32768
)

// attempt is one attempt as a lane remembers it.
type attempt struct {
	at      int64 // Unix nanoseconds of its start
	offset  uint64
	latency uint32 // microseconds
	status  uint16
	outcome PushOutcome
	reason  unique.Handle[egress.Reason] // interned: a reason costs a pointer
}

// history holds a lane's last attempts.
type history struct {
	ring         []attempt
	next         int    // where the next one goes in a full ring
	total, fails uint64 // since this node delivers the subscription
}

func (h *history) add(t attempt) {
	h.total++
	if t.outcome != PushDelivered {
		h.fails++
	}
	if len(h.ring) < keptAttempts {
		h.ring = append(h.ring, t)
		return
	}
	h.ring[h.next] = t
	h.next = (h.next + 1) % keptAttempts
}

// newest calls f with the attempts, newest first, until it returns false.
func (h *history) newest(f func(*attempt) bool) {
	for i := range h.ring {
		if !f(&h.ring[(h.next-1-i+2*len(h.ring))%len(h.ring)]) {
			return
		}
	}
}

// rememberLocked adds an attempt to the lane's history. Callers hold mu.
func (d *Dispatcher) rememberLocked(l *lane, offset uint64, res PushResult) {
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
		latency: uint32(min(res.Latency/time.Microsecond, 1<<32-1)), status: uint16(res.Status), outcome: res.Outcome,
		reason: unique.Make(res.Reason)})
}

// attemptsAtLocked are the last attempts at one message that the lane remembers, oldest first. Callers hold mu.
func (d *Dispatcher) attemptsAtLocked(l *lane, offset uint64) []*hubpb.Attempt {
	if l.history == nil {
		return nil
	}
	var out []*hubpb.Attempt
	l.history.newest(func(t *attempt) bool {
		if t.offset == offset && t.outcome != PushCancelled {
			out = append(out, &hubpb.Attempt{At: t.at, Status: int32(t.status), Latency: int64(t.latency) * 1000,
				Reason: string(t.reason.Value()), Node: d.o.Node})
		}
		return len(out) < letterAttempts
	})
	slices.Reverse(out)
	return out
}
