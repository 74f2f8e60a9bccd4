package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"quorumhub/hub"
)

// place is where a message stands in the log.
type place struct {
	topic  hub.TopicID
	offset uint64
}

func (p place) String() string { return fmt.Sprintf("%d-%d", p.topic, p.offset) }

// Ledger is the account of a run: what was acknowledged, what arrived where, and what of it breaks an invariant. Safe
// for concurrent use.
type Ledger struct {
	mu     sync.Mutex
	begin  time.Time
	bodies map[place]string // what stands at a place, as first heard of
	places map[string]place
	acked  map[string]uint64 // by topic, the highest offset acknowledged
	topics map[string]hub.TopicID
	subs   []*subscription
	faults []string
	trace  []string
	counts Counts
}

// Counts are the figures of a run.
type Counts struct {
	Published, Unknown, Delivered, Repeated, Reads, RefusedReads int
}

// subscription is one subscriber's account.
type subscription struct {
	name     string
	topic    string
	callback string
	taken    uint64 // highest offset answered with 200
	told     uint64 // highest offset whose 200 reached the hub
	settled  uint64 // up to here the hub knows that durably: nothing of it may come again
	epoch    uint64 // highest under which anything was sent
	inFlight map[*process]int
}

func newLedger() *Ledger {
	return &Ledger{begin: time.Now(), bodies: map[place]string{}, places: map[string]place{}, acked: map[string]uint64{}, topics: map[string]hub.TopicID{}}
}

// note adds a line to the trace.
func (l *Ledger) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(format, args...)
}

func (l *Ledger) noteLocked(format string, args ...any) {
	l.trace = append(l.trace, fmt.Sprintf("%12.6f ", time.Since(l.begin).Seconds())+fmt.Sprintf(format, args...))
}

// fault records that an invariant is broken; kind says which.
func (l *Ledger) fault(kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faultLocked(kind, format, args...)
}

func (l *Ledger) faultLocked(kind, format string, args ...any) {
	text := kind + ": " + fmt.Sprintf(format, args...)
	l.faults = append(l.faults, fmt.Sprintf("at %v: %s", time.Since(l.begin), text))
	l.noteLocked("FAULT %s", text)
}

// Faults lists what went wrong, of the kinds named or of all.
func (l *Ledger) Faults(kinds ...string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.faults {
		wanted := len(kinds) == 0
		for _, k := range kinds {
			wanted = wanted || strings.Contains(f, ": "+k+": ")
		}
		if wanted {
			out = append(out, f)
		}
	}
	return out
}

// holdsLocked records that a place holds a body (I6: everywhere and always the same one).
func (l *Ledger) holdsLocked(who string, p place, body string) {
	if old, ok := l.bodies[p]; ok && old != body {
		l.faultLocked("identity", "%s has %s at %v, others have %s", who, body, p, old)
	}
	if old, ok := l.places[body]; ok && old != p {
		l.faultLocked("identity", "%s has %s at %v, it stands at %v too", who, body, p, old)
	}
	l.bodies[p], l.places[body] = body, p
}

// acknowledged records an answer to a publisher.
func (l *Ledger) acknowledged(from *process, topic, body string, p place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked("%v acknowledges %v %s", from, p, body)
	l.holdsLocked("an acknowledgement of "+from.String(), p, body)
	l.topics[topic] = p.topic
	l.acked[topic] = max(l.acked[topic], p.offset)
}

// read checks a consistent read: what was acknowledged before it is there.
func (l *Ledger) read(from *process, topic string, head, before uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.counts.RefusedReads++
		return
	}
	l.counts.Reads++
	if head < before {
		l.faultLocked("read", "%v says that %s ends at %d, %d was acknowledged before", from, topic, head, before)
	}
}

// arrives records a delivery and checks I2 to I4 for it. epoch is the subscription's as its sender knows it; 0: it does not
// think that it owns it any more, so the request is about to be cut off.
func (l *Ledger) arrives(from *process, sub *subscription, p place, body string, epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked("%v sends %s %v %s under %d", from, sub.name, p, body, epoch)
	l.holdsLocked("a delivery of "+from.String(), p, body)
	for other := range sub.inFlight {
		if other != from && !other.ended.Load() {
			l.faultLocked("owner", "%v sends %v to %s while a request of %v is in flight", from, p, sub.name, other)
		}
	}
	if epoch > 0 && epoch < sub.epoch {
		l.faultLocked("owner", "%v sends %v to %s under epoch %d, another node has under %d", from, p, sub.name, epoch, sub.epoch)
	}
	sub.epoch = max(sub.epoch, epoch)
	switch {
	case p.offset > sub.taken+1:
		l.faultLocked("order", "%s gets %v from %v, the last it took is %d", sub.name, p, from, sub.taken)
	case p.offset <= sub.settled:
		l.faultLocked("repeat", "%s gets %v from %v again, settled up to %d", sub.name, p, from, sub.settled)
	}
	sub.inFlight[from]++
}

// answered records a subscriber's answer, and that it was given.
func (l *Ledger) answered(sub *subscription, p place, ok bool) {
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.offset <= sub.taken {
		l.counts.Repeated++
		return
	}
	sub.taken = p.offset
	l.counts.Delivered++
}

// over records that a request has ended; heard says that its sender has got a 200.
func (l *Ledger) over(from *process, sub *subscription, p place, heard bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if heard && !from.ended.Load() {
		sub.told = max(sub.told, p.offset)
	}
	if sub.inFlight[from]--; sub.inFlight[from] == 0 {
		delete(sub.inFlight, from)
	}
}

// behind says what a node's state lacks of what it is to come to when nothing goes wrong any more; nil: nothing.
func (l *Ledger) behind(s *hub.State) error {
	cursors := map[string]uint64{}
	for _, sub := range s.Subscriptions(0, 0, nil) {
		cursors[sub.Callback] = sub.Cursor.Offset
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sub := range l.subs {
		t, _ := s.TopicByName(sub.topic)
		if t.Head < l.acked[sub.topic] || sub.taken != t.Head || sub.told != sub.taken || cursors[sub.callback] != t.Head || len(sub.inFlight) > 0 {
			return fmt.Errorf("%s took %d (heard of %d, cursor %d, %d in flight), %s ends at %d, %d was acknowledged", sub.name, sub.taken, sub.told,
				cursors[sub.callback], len(sub.inFlight), sub.topic, t.Head, l.acked[sub.topic])
		}
	}
	return nil
}

// settle notes that all cursors are durable: nothing that was taken may come again.
func (l *Ledger) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.subs {
		s.settled = s.told
	}
}

// audit reads a node's whole log: every acknowledged message is in it (I1), at its place (I6).
func (l *Ledger) audit(p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for topic, id := range l.topics {
		next := uint64(1)
		for {
			messages, err := p.store.Read(id, next, 1000, 8<<20)
			if err != nil {
				l.faultLocked("lost", "%v cannot read %s from %d: %v", p, topic, next, err)
				break
			}
			for i := range messages {
				l.holdsLocked(p.String(), place{id, messages[i].Offset}, nameOf(messages[i].Body))
			}
			if len(messages) == 0 {
				if next <= l.acked[topic] {
					l.faultLocked("lost", "%v ends %s at %d, %d was acknowledged", p, topic, next-1, l.acked[topic])
				}
				break
			}
			next = messages[len(messages)-1].Offset + 1
		}
	}
}

// nameOf is a body's name: what stands before the first blank.
func nameOf(body []byte) string {
	name, _, _ := strings.Cut(string(body), " ")
	return name
}
