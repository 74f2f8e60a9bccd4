package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Figures are what a scenario with several nodes came to.
type Figures struct {
	Rounds, Noticed                            int
	Acknowledged, Unknown, Deliveries, Repeats int
	Reads                                      int
	SlowestPublish                             time.Duration // from the first attempt to the acknowledgement, with a key
	HandedOn                                   int           // taken by a member that was leaving its group, and by another one
	WorstGap                                   map[string]time.Duration
	Terms                                      map[string]*TermFigures
}

// TermFigures are what the units with the same terms came to.
type TermFigures struct {
	Units, Deliveries, Repeats int
	Widest                     int // most messages under way to one callback, of those that were taken
}

// Figures counts.
func (l *Ledger) Figures() Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := Figures{Rounds: len(l.troubles) - l.noticed, Noticed: l.noticed, Reads: len(l.reads), WorstGap: map[string]time.Duration{}, Terms: map[string]*TermFigures{}}
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
		case Refused: // none of the figures
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
			case u.handedOn(before):
				f.HandedOn++
			default:
				f.Repeats++
				of.Repeats++
			}
			if d.Reply == Took {
				taken[d.Offset] = d
			}
		}
		for member := range u.members {
			n, _ := u.widest(member)
			of.Widest = max(of.Widest, n)
		}
	}
	for _, g := range l.gaps() {
		if g.trouble.Clean && !l.disturbed(g) {
			f.WorstGap[g.trouble.What] = max(f.WorstGap[g.trouble.What], g.long())
		}
	}
	return f
}

func (f Figures) String() string {
	out := fmt.Sprintf("%d troubles made, %d noticed; %d acknowledged, %d attempts of unknown outcome, slowest publish with its repeats %v; %d consistent reads; %d deliveries, %d repeated (%.2f %%), %d handed on; ",
		f.Rounds, f.Noticed, f.Acknowledged, f.Unknown, f.SlowestPublish.Round(time.Millisecond), f.Reads, f.Deliveries, f.Repeats, percent(f.Repeats, f.Deliveries), f.HandedOn)
	for _, name := range slices.Sorted(maps.Keys(f.Terms)) {
		t := f.Terms[name]
		out += fmt.Sprintf("%s: %d units, %d deliveries, %d repeated (%.2f %%), up to %d under way; ", name, t.Units, t.Deliveries, t.Repeats, percent(t.Repeats, t.Deliveries), t.Widest)
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
