package hubtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Ledger records, outside the hub, what the hub promised and what it did: every acknowledged publish, every
// subscription with its lifetime, every delivery. Safe for concurrent use.
//
// Each check returns an error that lists what is wrong, limited to a few lines of each kind.
type Ledger struct {
	mu   sync.Mutex
	acks map[string]map[uint64]Ack // topic, offset
	subs map[string]*account
	bad  []error // breaches found while recording
}

// account is one subscription in the ledger.
type account struct {
	topic      string
	after      uint64 // greater offsets are due
	end        time.Time
	deliveries []delivered
}

type delivered struct {
	offset uint64
	id     string
	at     time.Time
	sum    [sha256.Size]byte
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{acks: map[string]map[uint64]Ack{}, subs: map[string]*account{}}
}

// Acknowledged records an acknowledged publish. Two acknowledgements of one offset with different content or
// IDs are a breach.
func (l *Ledger) Acknowledged(a Ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acks[a.Topic] == nil {
		l.acks[a.Topic] = map[uint64]Ack{}
	}
	if old, ok := l.acks[a.Topic][a.Offset]; ok && (old.ID != a.ID || !bytes.Equal(old.Body, a.Body)) {
		l.bad = append(l.bad, fmt.Errorf("%s: offset %d was assigned to two messages (%s, %s)", a.Topic, a.Offset, old.ID, a.ID))
	}
	l.acks[a.Topic][a.Offset] = a
}

// Subscribed records a subscription that is due every message of the topic whose offset is greater than
// after.
func (l *Ledger) Subscribed(subscription, topic string, after uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs[subscription] = &account{topic: topic, after: after}
}

// Ended records that the subscription was known to have ended at that moment.
func (l *Ledger) Ended(subscription string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.subs[subscription]; s != nil {
		s.end = at
	}
}

// Delivered records a delivery, even one that arrives before its publisher has read the acknowledgement.
func (l *Ledger) Delivered(subscription string, r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.subs[subscription]
	if s == nil {
		l.bad = append(l.bad, fmt.Errorf("%s: delivery without a subscription: %v", subscription, r))
		return
	}
	offset, err := OffsetOf(r.MessageID())
	if err != nil {
		l.bad = append(l.bad, fmt.Errorf("%s: %w", subscription, err))
		return
	}
	s.deliveries = append(s.deliveries, delivered{offset, r.MessageID(), r.At, sha256.Sum256(r.Body)})
}

// AtLeastOnce checks that every subscription that has not ended received every acknowledged message due to
// it.
func (l *Ledger) AtLeastOnce() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, s := range l.subs {
		if !s.end.IsZero() {
			continue
		}
		var missing []uint64
		for offset := range l.acks[s.topic] {
			if offset > s.after && !slices.ContainsFunc(s.deliveries, func(d delivered) bool { return d.offset == offset }) {
				missing = append(missing, offset)
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			errs = append(errs, fmt.Errorf("%s: %d of %d acknowledged messages were not delivered, first offsets %v",
				name, len(missing), len(l.acks[s.topic]), missing[:min(10, len(missing))]))
		}
	}
	return errors.Join(errs...)
}

// Order checks that each subscription saw new offsets only in increasing order. A message may be repeated,
// but no message may arrive for the first time after a later one.
func (l *Ledger) Order() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, s := range l.subs {
		var newest uint64
		seen := map[uint64]bool{}
		for _, d := range s.deliveries {
			if !seen[d.offset] && d.offset < newest {
				errs = append(errs, fmt.Errorf("%s: offset %d arrived for the first time after %d", name, d.offset, newest))
				break
			}
			seen[d.offset] = true
			newest = max(newest, d.offset)
		}
	}
	return errors.Join(errs...)
}

// Contiguous checks that no subscription skipped an offset between the first one due and the last one
// received.
func (l *Ledger) Contiguous() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, s := range l.subs {
		next := s.after + 1
		for _, d := range s.deliveries {
			if d.offset > next {
				errs = append(errs, fmt.Errorf("%s: offset %d arrived where %d was due", name, d.offset, next))
				break
			}
			next = max(next, d.offset+1)
		}
	}
	return errors.Join(errs...)
}

// Duplicates returns how many deliveries repeated an offset that the same subscription had already received.
func (l *Ledger) Duplicates() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.subs {
		seen := map[uint64]bool{}
		for _, d := range s.deliveries {
			if seen[d.offset] {
				n++
			}
			seen[d.offset] = true
		}
	}
	return n
}

// Deliveries returns how many deliveries were recorded.
func (l *Ledger) Deliveries() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.subs {
		n += len(s.deliveries)
	}
	return n
}

// NothingAfterEnd checks that no delivery arrived later than grace after its subscription's end.
func (l *Ledger) NothingAfterEnd(grace time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, s := range l.subs {
		if s.end.IsZero() {
			continue
		}
		for _, d := range s.deliveries {
			if late := d.at.Sub(s.end); late > grace {
				errs = append(errs, fmt.Errorf("%s: offset %d arrived %v after the end", name, d.offset, late))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// Breaches returns entries that contradict each other: one offset for two messages, or a delivery whose ID or
// content differs from what was acknowledged.
func (l *Ledger) Breaches() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := slices.Clone(l.bad)
	for name, s := range l.subs {
		for _, d := range s.deliveries {
			a, ok := l.acks[s.topic][d.offset]
			if ok && (a.ID != d.id || sha256.Sum256(a.Body) != d.sum) {
				bad = append(bad, fmt.Errorf("%s: offset %d: the ID or content of %s differs from what was published as %s", name, d.offset, d.id, a.ID))
			}
		}
	}
	return errors.Join(bad[:min(10, len(bad))]...)
}

// Balance runs the checks that need no further knowledge: AtLeastOnce, Order and Breaches.
func (l *Ledger) Balance() error {
	return errors.Join(l.Breaches(), l.AtLeastOnce(), l.Order())
}
