package chaos

import (
	"slices"
	"time"
)

// Trouble is a time in which something was wrong with a node or between nodes. Repetitions are allowed of what was
// taken in it and just before.
type Trouble struct {
	What         string
	Began, Ended time.Time // Ended: everything that was done is undone
	// Clean: nothing else was wrong when it began, so the gap in the deliveries is its own.
	Clean bool
	// MayGap is the longest pause of deliveries that it may cause; 0: any.
	MayGap time.Duration
}

// Begin books a trouble that begins now. The caller ends it with End.
func (l *Ledger) Begin(what string, mayGap time.Duration) *Trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &Trouble{What: what, Began: time.Now(), MayGap: mayGap, Clean: true}
	for _, other := range l.troubles {
		if other.Ended.IsZero() || t.Began.Sub(other.Ended) < quietBefore {
			t.Clean = false
		}
	}
	l.troubles = append(l.troubles, t)
	return t
}

// quietBefore is how long nothing must have been wrong for a gap to be of one trouble alone.
const quietBefore = 3 * time.Second

// End books that a trouble is over.
func (l *Ledger) End(t *Trouble) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Ended = time.Now()
}

// Noticed books a trouble that nobody made: it was seen from outside between two moments.
func (l *Ledger) Noticed(what string, began, ended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.troubles = append(l.troubles, &Trouble{What: what, Began: began, Ended: ended})
	l.noticed++
}

// excuses returns the troubles, each with the time before it of whose deliveries nothing may be recorded yet.
func (l *Ledger) excuses(b Bounds) []Trouble {
	acks := slices.DeleteFunc(slices.Clone(l.publishes), func(p *Publish) bool { return p.Outcome != Acknowledged })
	slices.SortFunc(acks, func(a, b *Publish) int { return a.Ended.Compare(b.Ended) })
	var out []Trouble
	for _, t := range l.troubles {
		x := *t
		if x.Ended.IsZero() {
			x.Ended = time.Now()
		}
		var slowest time.Duration
		from, _ := slices.BinarySearchFunc(acks, t.Began.Add(-2*time.Second), func(p *Publish, at time.Time) int { return p.Ended.Compare(at) })
		for _, p := range acks[from:] {
			if p.Ended.After(t.Began) {
				break
			}
			slowest = max(slowest, p.Ended.Sub(p.Began))
		}
		// What was being published when it began says how long nothing had been recorded, cursors no more than messages.
		for _, p := range l.publishes {
			if p.Began.Before(t.Began) && (p.Ended.IsZero() || p.Ended.After(t.Began)) {
				slowest = max(slowest, t.Began.Sub(p.Began))
			}
		}
		x.Began = x.Began.Add(-b.CursorFlush - b.Commit - slowest)
		x.Ended = x.Ended.Add(b.Recovery)
		out = append(out, x)
	}
	return out
}

// CheckCluster runs all checks of a scenario with several nodes. There what is repeated is excused by a trouble and
// not by the end of the one process there is.
func (l *Ledger) CheckCluster(b Bounds) []error {
	return []error{l.Answers(), l.Identities(), l.Lost(), l.Order(), l.RealTime(), l.Repeats(b), l.OneOwner(), l.Shares(), l.AfterEnd(b), l.Gaps(b), l.Linearizable()}
}

// Repeats checks that a delivery that was taken is repeated only when it was taken in a time of trouble or within
// one cursor flush before it (I3). In a group it does not matter which members took it.
func (l *Ledger) Repeats(b Bounds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "duplicate"}
	excuses := l.excuses(b)
	for _, u := range l.units() {
		taken := map[uint64]*Delivery{}
		for _, d := range u.deliveries {
			if before := taken[d.Offset]; before != nil && !slices.ContainsFunc(excuses, func(t Trouble) bool {
				return !before.Replied.Before(t.Began) && !before.Replied.After(t.Ended)
			}) {
				c.add("%s: offset %d came again %v after it had been taken (at %s), and nothing was wrong then",
					u.name, d.Offset, d.At.Sub(before.Replied), before.Replied.Format(clock))
			}
			if d.Reply == Took && !u.handedOn(d) {
				taken[d.Offset] = d
			}
		}
	}
	return c.err()
}

const clock = "15:04:05.000"

// gap is the longest time between two deliveries to one unit that took what was published meanwhile.
type gap struct {
	trouble  *Trouble
	unit     string
	from, to time.Time
}

func (g gap) long() time.Duration { return g.to.Sub(g.from) }

// gaps finds the longest pause of each trouble: of all pauses in deliveries to lasting units that begin
// or end in its time or up to 5 s behind its beginning. Callers hold mu.
func (l *Ledger) gaps() []gap {
	worst := map[*Trouble]gap{}
	for _, u := range l.units() {
		if !u.stays() {
			continue // it pauses because it is not there
		}
		var last time.Time
		for _, d := range u.deliveries {
			if d.Reply != Took {
				continue
			}
			if !last.IsZero() && d.At.Sub(last) > 300*time.Millisecond {
				for _, t := range l.troubles {
					if t.Began.Before(d.At) && last.Before(t.Began.Add(5*time.Second)) && d.At.Sub(last) > worst[t].long() {
						worst[t] = gap{t, u.name, last, d.At}
					}
				}
			}
			last = d.At
		}
	}
	var out []gap
	for _, t := range l.troubles {
		if g, ok := worst[t]; ok {
			out = append(out, g)
		}
	}
	return out
}

// Gaps checks that no pause is longer than its trouble may cause, when it was the only one at the time. Bounds.Load says by
// how much the machine was too busy.
func (l *Ledger) Gaps(b Bounds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "gap"}
	for _, g := range l.gaps() {
		if g.trouble.MayGap == 0 || !g.trouble.Clean || l.disturbed(g) {
			continue
		}
		load := 1.0
		if b.Load != nil {
			load = b.Load(g.from, g.to)
		}
		if allowed := time.Duration(float64(g.trouble.MayGap) * load); g.long() > allowed {
			c.add("%s got nothing for %v (%s to %s) after %s at %s; allowed are %v", g.unit, g.long(), g.from.Format(clock), g.to.Format(clock),
				g.trouble.What, g.trouble.Began.Format(clock), allowed)
		}
	}
	return c.err()
}

// disturbed tells whether another trouble began before the pause was over.
func (l *Ledger) disturbed(g gap) bool {
	return slices.ContainsFunc(l.troubles, func(t *Trouble) bool {
		return t != g.trouble && t.Began.Before(g.to) && (t.Ended.IsZero() || t.Ended.After(g.trouble.Began))
	})
}
