package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Figures are the results of a scenario with several nodes.
type Figures struct {
	Rounds, Observed                           int
	Acknowledged, Unknown, Deliveries, Repeats int
	Reads                                      int
	SlowestPublish                             time.Duration // from the first attempt to the acknowledgement
	Reassigned                                 int           // accepted by a member that was leaving its group, and by another one
	WorstGap                                   map[string]time.Duration
	Terms                                      map[string]*TermFigures
}

// TermFigures are the results of the units with the same terms.
type TermFigures struct {
	Units, Deliveries, Repeats int
	Widest                     int // most accepted messages in flight to one callback
}

// Figures computes the results.
func (l *Ledger) Figures() Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := Figures{Rounds: len(l.disruptions) - l.observed, Observed: l.observed, Reads: len(l.reads), WorstGap: map[string]time.Duration{}, Terms: map[string]*TermFigures{}}
	began := map[string]time.Time{}
	acknowledged := map[string]bool{}
	for _, p := range l.publishes {
		if _, ok := began[p.Body]; !ok {
			began[p.Body] = p.Began
		}
		switch p.Outcome {
		case Acknowledged:
			if !acknowledged[p.Body] {
				f.Acknowledged++
				f.SlowestPublish = max(f.SlowestPublish, p.Ended.Sub(began[p.Body]))
			}
			acknowledged[p.Body] = true
		case Unknown:
			f.Unknown++
		case Refused: // not counted
		}
	}
	for _, u := range l.units() {
		of := f.Terms[u.terms.String()]
		if of == nil {
			of = &TermFigures{}
			f.Terms[u.terms.String()] = of
		}
		of.Units++
		taken := map[uint64]*Delivery{}
		for _, d := range u.deliveries {
			f.Deliveries++
			of.Deliveries++
			switch before := taken[d.Offset]; {
			case before == nil:
			case u.reassigned(before):
				f.Reassigned++
			default:
				f.Repeats++
				of.Repeats++
			}
			if d.Reply == Accepted {
				taken[d.Offset] = d
			}
		}
		for member := range u.members {
			n, _ := u.widest(member)
			of.Widest = max(of.Widest, n)
		}
	}
	for _, g := range l.gaps() {
		if g.disruption.Clean && !l.disturbed(g) {
			f.WorstGap[g.disruption.What] = max(f.WorstGap[g.disruption.What], g.long())
		}
	}
	return f
}

func (f Figures) String() string {
	out := fmt.Sprintf("%d disruptions caused, %d observed; %d acknowledged, %d attempts of unknown outcome, slowest publish with its repeats %v; %d consistent reads; %d deliveries, %d repeated (%.2f %%), %d reassigned; ",
		f.Rounds, f.Observed, f.Acknowledged, f.Unknown, f.SlowestPublish.Round(time.Millisecond), f.Reads, f.Deliveries, f.Repeats, percent(f.Repeats, f.Deliveries), f.Reassigned)
	for _, name := range slices.Sorted(maps.Keys(f.Terms)) {
		t := f.Terms[name]
		out += fmt.Sprintf("%s: %d units, %d deliveries, %d repeated (%.2f %%), up to %d in flight; ", name, t.Units, t.Deliveries, t.Repeats, percent(t.Repeats, t.Deliveries), t.Widest)
	}
	out += "longest pauses:"
	type row struct {
		what string
		long time.Duration
	}
	var rows []row
	for what, long := range f.WorstGap {
		rows = append(rows, row{what, long})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.what, b.what) })
	for _, r := range rows {
		out += fmt.Sprintf(" %s %v;", r.what, r.long.Round(10*time.Millisecond))
	}
	return out
}

func percent(part, whole int) float64 { return 100 * float64(part) / float64(max(whole, 1)) }
