package delivery

import (
	"unique"

	"quorumhub/delivery/egress"
)

const (
	keptAttempts   = 32 // attempts a lane remembers
	letterAttempts = 16 // of these, attempts at one message that go with its dead letter
	// keptHistories is how many lanes have a history; a full one takes about 1 KiB. Beyond it, the lane that has had
	// its history for longest loses it.
	keptHistories = 32768
)

// attempt is one remembered attempt.
type attempt struct {
	at      int64 // Unix nanoseconds at which it began
	offset  uint64
	latency uint32 // microseconds
	status  uint16
	outcome PushOutcome
	kind    Kind
	reason  unique.Handle[egress.Reason] // interned, so it costs one pointer
}

// history holds a lane's last attempts.
type history struct {
	ring         []attempt
	next         int    // where the next attempt goes in a full ring
	total, fails uint64 // since this node delivers the subscription
}

func (h *history) add(t attempt) {
	if t.kind == KindDelivery {
		h.total++
		if t.outcome != PushDelivered {
			h.fails++
		}
	}
	if len(h.ring) < keptAttempts {
		h.ring = append(h.ring, t)
		return
	}
	h.ring[h.next] = t
	h.next = (h.next + 1) % keptAttempts
}

// newest calls f with the attempts, newest first, until f returns false.
func (h *history) newest(f func(*attempt) bool) {
	for i := range h.ring {
		if !f(&h.ring[(h.next-1-i+2*len(h.ring))%len(h.ring)]) {
			return
		}
	}
}
