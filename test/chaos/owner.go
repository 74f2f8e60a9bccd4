package chaos

import (
	"fmt"
	"slices"
	"time"
)

// backApart is the shortest time between two steps back of one strand: an owner that died has to be noticed first.
const backApart = 200 * time.Millisecond

// OneOwner checks that one node at a time delivers a unit (I4). What one owner sends in order does not overlap: all messages,
// those of one key, or in parallel the same message; in a group that holds across its members. No more than a window is
// under way to a callback, and no two nodes send at the same time. An owner that was cut off has no
// answer to what it sent, so only deliveries that were taken count. A new owner steps back to what is recorded, which
// may turn out to be more a moment later; two owners step back in turn.
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
			if prev := s.prev; prev != nil && prev.Reply == Took && !u.handedOn(prev) {
				if d.At.Before(prev.Replied) {
					c.add("%s: offset %d came at %s from %s while %d from %s was being taken, until %s", u.name, d.Offset, d.At.Format(clock), d.From,
						prev.Offset, prev.From, prev.Replied.Format(clock))
				}
				if d.Offset <= prev.Offset {
					if !s.back.IsZero() && d.At.Sub(s.back) < backApart {
						c.add("%s: went back to offset %d from %d at %s, and %v before that too", u.name, d.Offset, prev.Offset, d.At.Format(clock), d.At.Sub(s.back))
					}
					s.back = d.At
				}
			}
			s.prev = d
		}
		for member := range u.members {
			if n, at := u.widest(member); n > max(u.terms.Window, 1) {
				c.add("%s: %d messages were under way to %s at %s, its window is %d", u.name, n, member, at.Format(clock), max(u.terms.Window, 1))
			}
		}
		if err := u.strangers(); err != nil {
			c.add("%s: %w", u.name, err)
		}
	}
	return c.err()
}

// widest is how many deliveries that were taken were under way to a callback at the same time, at the most, and when.
func (u *unit) widest(member string) (most int, at time.Time) {
	var ends []time.Time
	for _, d := range u.deliveries {
		if d.Subscription != member || d.Reply != Took {
			continue
		}
		ends = slices.DeleteFunc(ends, func(end time.Time) bool { return !end.After(d.At) })
		if ends = append(ends, d.Replied); len(ends) > most {
			most, at = len(ends), d.At
		}
	}
	return most, at
}

// strangers looks for two nodes that deliver at the same time, where nodes can be told apart.
func (u *unit) strangers() error {
	var under []*Delivery
	for _, d := range u.deliveries {
		if d.Reply != Took || u.handedOn(d) {
			continue
		}
		under = slices.DeleteFunc(under, func(o *Delivery) bool { return !o.Replied.After(d.At) })
		for _, o := range under {
			if o.From != d.From {
				return fmt.Errorf("offset %d came at %s from %s while %d from %s was being taken, until %s", d.Offset, d.At.Format(clock), d.From,
					o.Offset, o.From, o.Replied.Format(clock))
			}
		}
		under = append(under, d)
	}
	return nil
}

// Shares checks that every member of a group that was there from its beginning to the end took something: a message goes
// to one of them, and to all in turn.
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
			if d.Reply == Took {
				taken[d.Subscription]++
			}
		}
		for _, e := range u.episodes {
			leaves[e.Subscription] = leaves[e.Subscription] || !e.EndAsked.IsZero()
		}
		for member := range u.members {
			if !leaves[member] && taken[member] == 0 && len(u.deliveries) >= leastShared {
				c.add("%s: %s took none of %d deliveries", u.name, member, len(u.deliveries))
			}
		}
	}
	return c.err()
}

// leastShared is how many deliveries a group must have had for each of its members to have got one.
const leastShared = 50
