package chaos

import (
	"fmt"
	"slices"
	"time"
)

// backApart is the shortest time between two steps back of one strand: the death of an owner takes time to
// detect.
const backApart = 200 * time.Millisecond

// OneOwner checks that one node at a time delivers a unit (I4). Deliveries of one owner that must be
// sequential do not overlap: all messages, those of one key, or in parallel the same message; in a group that
// holds across its members. No more than a window is in flight to a callback, and no two nodes send at the
// same time. An owner that was cut off gets no answer to what it sent, so only accepted deliveries count. A
// new owner steps back to the recorded cursor, which may turn out to be further along a moment later; two
// owners step back alternately.
func (l *Ledger) OneOwner() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "one owner"}
	type strand struct {
		prev *Delivery
		back time.Time
	}
	for _, u := range l.units() {
		strands := map[string]*strand{}
		for _, d := range u.deliveries {
			name := l.strand(u, d)
			s := strands[name]
			if s == nil {
				s = &strand{}
				strands[name] = s
			}
			if prev := s.prev; prev != nil && prev.Reply == Accepted && !u.reassigned(prev) {
				if d.At.Before(prev.Replied) {
					c.add("%s: offset %d arrived at %s from %s while %d from %s was in progress, until %s", u.name, d.Offset, d.At.Format(clock), d.From,
						prev.Offset, prev.From, prev.Replied.Format(clock))
				}
				if d.Offset <= prev.Offset {
					if !s.back.IsZero() && d.At.Sub(s.back) < backApart {
						c.add("%s: went back to offset %d from %d at %s, and %v earlier too", u.name, d.Offset, prev.Offset, d.At.Format(clock), d.At.Sub(s.back))
					}
					s.back = d.At
				}
			}
			s.prev = d
		}
		for member := range u.members {
			if n, at := u.widest(member); n > max(u.terms.Window, 1) {
				c.add("%s: %d messages were in flight to %s at %s, its window is %d", u.name, n, member, at.Format(clock), max(u.terms.Window, 1))
			}
		}
		if err := u.strangers(); err != nil {
			c.add("%s: %w", u.name, err)
		}
	}
	return c.err()
}

// widest returns the largest number of accepted deliveries in flight to a callback at the same time, and when
// that was.
func (u *unit) widest(member string) (most int, at time.Time) {
	var ends []time.Time
	for _, d := range u.deliveries {
		if d.Subscription != member || d.Reply != Accepted {
			continue
		}
		ends = slices.DeleteFunc(ends, func(end time.Time) bool { return !end.After(d.At) })
		if ends = append(ends, d.Replied); len(ends) > most {
			most, at = len(ends), d.At
		}
	}
	return most, at
}

// strangers returns an error if two nodes deliver at the same time, where nodes can be told apart.
func (u *unit) strangers() error {
	var under []*Delivery
	for _, d := range u.deliveries {
		if d.Reply != Accepted || u.reassigned(d) {
			continue
		}
		under = slices.DeleteFunc(under, func(o *Delivery) bool { return !o.Replied.After(d.At) })
		for _, o := range under {
			if o.From != d.From {
				return fmt.Errorf("offset %d arrived at %s from %s while %d from %s was in progress, until %s", d.Offset, d.At.Format(clock), d.From,
					o.Offset, o.From, o.Replied.Format(clock))
			}
		}
		under = append(under, d)
	}
	return nil
}

// Shares checks that every member that stayed in its group from beginning to end accepted something: a
// message goes to one member, and all members get their turn.
func (l *Ledger) Shares() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "share"}
	for _, u := range l.units() {
		if u.terms.Group == "" {
			continue
		}
		taken, leaves := map[string]int{}, map[string]bool{}
		for _, d := range u.deliveries {
			if d.Reply == Accepted {
				taken[d.Subscription]++
			}
		}
		for _, e := range u.episodes {
			leaves[e.Subscription] = leaves[e.Subscription] || !e.EndAsked.IsZero()
		}
		for member := range u.members {
			if !leaves[member] && taken[member] == 0 && len(u.deliveries) >= leastShared {
				c.add("%s: %s accepted none of %d deliveries", u.name, member, len(u.deliveries))
			}
		}
	}
	return c.err()
}

// leastShared is how many deliveries a group must have had before each of its members must have had one.
const leastShared = 50
