package chaos

import (
	"slices"
	"time"
)

// Disruption is a period in which something was wrong with a node or between nodes. Deliveries accepted
// during it or just before may be repeated.
type Disruption struct {
	What         string
	Began, Ended time.Time // Ended: everything is undone
	// Clean means that nothing else was wrong when it began, so that a gap in the deliveries is due to it
	// alone.
	Clean bool
	// MaxGap is the longest pause in deliveries that it may cause; 0 means any.
	MaxGap time.Duration
}

// Begin records a disruption that begins now. The caller ends it with End.
func (l *Ledger) Begin(what string, maxGap time.Duration) *Disruption {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &Disruption{What: what, Began: time.Now(), MaxGap: maxGap, Clean: true}
	for _, other := range l.disruptions {
		if other.Ended.IsZero() || t.Began.Sub(other.Ended) < quietBefore {
			t.Clean = false
		}
	}
	l.disruptions = append(l.disruptions, t)
	return t
}

// quietBefore is how long nothing may have been wrong for a gap to be attributed to one disruption.
const quietBefore = 3 * time.Second

// End records that a disruption is over.
func (l *Ledger) End(t *Disruption) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Ended = time.Now()
}

// Observed records a disruption that the test did not cause, seen from outside between two moments.
func (l *Ledger) Observed(what string, began, ended time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disruptions = append(l.disruptions, &Disruption{What: what, Began: began, Ended: ended})
	l.observed++
}

// excuses returns the disruptions, each extended by the time before it whose deliveries may not be recorded
// yet.
func (l *Ledger) excuses(b Bounds) []Disruption {
	acks := slices.DeleteFunc(slices.Clone(l.publishes), func(p *Publish) bool { return p.Outcome != Acknowledged })
	slices.SortFunc(acks, func(a, b *Publish) int { return a.Ended.Compare(b.Ended) })
	var out []Disruption
	for _, t := range l.disruptions {
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
		// Publishes in flight when it began show how long nothing had been recorded, neither messages nor
		// cursors.
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

// CheckCluster runs all checks of a scenario with several nodes. There disruptions excuse repeats, not the
// end of a single process.
func (l *Ledger) CheckCluster(b Bounds) []error {
	return []error{l.Answers(), l.Identities(), l.Lost(), l.Order(), l.RealTime(), l.Repeats(b), l.OneOwner(), l.Shares(), l.AfterEnd(b), l.Gaps(b), l.Linearizable()}
}

// Repeats checks that an accepted delivery is repeated only if it was accepted during a disruption or within
// one cursor flush before it (I3). In a group it does not matter which members accepted it.
func (l *Ledger) Repeats(b Bounds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "duplicate"}
	excuses := l.excuses(b)
	for _, u := range l.units() {
		taken := map[uint64]*Delivery{}
		for _, d := range u.deliveries {
			if before := taken[d.Offset]; before != nil && !slices.ContainsFunc(excuses, func(t Disruption) bool {
				return !before.Replied.Before(t.Began) && !before.Replied.After(t.Ended)
			}) {
				c.add("%s: offset %d was delivered again %v after it had been accepted (at %s), during no disruption",
					u.name, d.Offset, d.At.Sub(before.Replied), before.Replied.Format(clock))
			}
			if d.Reply == Accepted && !u.reassigned(d) {
				taken[d.Offset] = d
			}
		}
	}
	return c.err()
}

const clock = "15:04:05.000"

// gap is a pause between two accepted deliveries to one unit.
type gap struct {
	disruption *Disruption
	unit       string
	from, to   time.Time
}

func (g gap) long() time.Duration { return g.to.Sub(g.from) }

// gaps returns the longest pause of each disruption, among all pauses of lasting units that begin or end
// during it or up to 5 s after it began. The caller holds mu.
func (l *Ledger) gaps() []gap {
	worst := map[*Disruption]gap{}
	for _, u := range l.units() {
		if !u.stays() {
			continue // its pauses are its own
		}
		var last time.Time
		for _, d := range u.deliveries {
			if d.Reply != Accepted {
				continue
			}
			if !last.IsZero() && d.At.Sub(last) > 300*time.Millisecond {
				for _, t := range l.disruptions {
					if t.Began.Before(d.At) && last.Before(t.Began.Add(5*time.Second)) && d.At.Sub(last) > worst[t].long() {
						worst[t] = gap{t, u.name, last, d.At}
					}
				}
			}
			last = d.At
		}
	}
	var out []gap
	for _, t := range l.disruptions {
		if g, ok := worst[t]; ok {
			out = append(out, g)
		}
	}
	return out
}

// Gaps checks that no pause is longer than its disruption may cause, if it was the only one at the time.
// Bounds.Load reports how overloaded the machine was.
func (l *Ledger) Gaps(b Bounds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "gap"}
	for _, g := range l.gaps() {
		if g.disruption.MaxGap == 0 || !g.disruption.Clean || l.disturbed(g) {
			continue
		}
		load := 1.0
		if b.Load != nil {
			load = b.Load(g.from, g.to)
		}
		if allowed := time.Duration(float64(g.disruption.MaxGap) * load); g.long() > allowed {
			c.add("%s got nothing for %v (%s to %s) after %s at %s; allowed are %v", g.unit, g.long(), g.from.Format(clock), g.to.Format(clock),
				g.disruption.What, g.disruption.Began.Format(clock), allowed)
		}
	}
	return c.err()
}

// disturbed reports whether another disruption began before the pause was over.
func (l *Ledger) disturbed(g gap) bool {
	return slices.ContainsFunc(l.disruptions, func(t *Disruption) bool {
		return t != g.disruption && t.Began.Before(g.to) && (t.Ended.IsZero() || t.Ended.After(g.disruption.Began))
	})
}
