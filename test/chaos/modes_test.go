package chaos_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
)

// tangle is a ledger of a cluster in which all is well, in other terms than one after the other. Message n of 200 is sent at n/10 s,
// with key n modulo 4, acknowledged at once, and taken by member n modulo members, 1 ms after it was sent until takes later.
// At second 10 a node dies, to be back at second 12. Each delivery may be changed before it is written.
type tangle struct {
	terms   chaos.Terms
	members int
	takes   time.Duration
	each    func(n uint64, d *tangled) // nil: as it is
}

// tangled is a delivery of a tangle.
type tangled struct {
	to     string // empty: nobody
	at     time.Time
	takes  time.Duration
	from   string
	nth    uint64
	failed bool
}

func memberName(n uint64) string { return fmt.Sprintf("m%d", n) }

func (g tangle) write() (l *chaos.Ledger, at func(seconds float64) time.Time) {
	start := time.Now().Add(-time.Hour)
	at = func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	l = chaos.NewLedger()
	for m := range g.members {
		name := memberName(uint64(m))
		l.Agreed(name, g.terms)
		e := l.Subscribing(name, "topic")
		e.Asked, e.Verified, e.Active = at(-2), []time.Time{at(-1)}, at(-1)
	}
	trouble := l.Begin("a node died", 4*time.Second)
	trouble.Began, trouble.Ended = at(10), at(12)
	var deliveries []tangled
	for n := uint64(1); n <= 200; n++ {
		sent := at(float64(n) / 10)
		publishKeyed(l, n, sent)
		d := tangled{to: memberName(n % uint64(g.members)), at: sent.Add(time.Millisecond), takes: g.takes, from: "a", nth: n}
		if g.each != nil {
			g.each(n, &d)
		}
		if d.to == "" {
			continue
		}
		deliveries = append(deliveries, d)
	}
	slices.SortStableFunc(deliveries, func(a, b tangled) int { return a.at.Compare(b.at) })
	for _, d := range deliveries {
		d.write(l)
	}
	return l, at
}

func publishKeyed(l *chaos.Ledger, n uint64, at time.Time) {
	body := fmt.Sprintf("body %d", n)
	p := l.Sending(chaos.Publish{Topic: "topic", Body: body, OrderKey: fmt.Sprint(n % 4)}, []byte(body))
	l.Sent(p, chaos.Acknowledged, fmt.Sprintf("t-%d", n), n)
	p.Began, p.Ended = at, at
}

func (d tangled) write(l *chaos.Ledger) {
	body := fmt.Sprintf("body %d", d.nth)
	got := l.Arrived(chaos.Delivery{Subscription: d.to, Topic: "topic", Body: body, Intact: true, ID: fmt.Sprintf("t-%d", d.nth), Offset: d.nth, From: d.from}, []byte(body))
	if !d.failed {
		l.Answered(got, chaos.Took)
	}
	got.At, got.Replied = d.at, d.at.Add(d.takes)
}

// In every mode the checks accept what the mode allows, and object to a fault that was put in.
func TestChecksOfEveryMode(t *testing.T) {
	parallel := tangle{terms: chaos.Terms{Mode: chaos.Parallel, Window: 4}, members: 1, takes: 350 * time.Millisecond}
	keyed := tangle{terms: chaos.Terms{Mode: chaos.Keyed, Window: 4, Key: "header:X-Hub-Key"}, members: 1, takes: 350 * time.Millisecond}
	turns := tangle{terms: chaos.Terms{Group: "g"}, members: 2, takes: 50 * time.Millisecond}
	shared := tangle{terms: chaos.Terms{Mode: chaos.Parallel, Window: 4, Group: "g"}, members: 3, takes: 350 * time.Millisecond}
	keyedGroup := tangle{terms: chaos.Terms{Mode: chaos.Keyed, Window: 4, Key: "header:X-Hub-Key", Group: "g"}, members: 3, takes: 350 * time.Millisecond}

	// Changes of the deliveries themselves.
	lose := func(which uint64) func(uint64, *tangled) {
		return func(n uint64, d *tangled) {
			if n == which {
				d.to = ""
			}
		}
	}
	fail := func(which uint64) func(uint64, *tangled) {
		return func(n uint64, d *tangled) { d.failed = n == which }
	}
	// late lets a message come behind the one that was published so many places behind it.
	late := func(which uint64, places int) func(uint64, *tangled) {
		return func(n uint64, d *tangled) {
			if n == which {
				d.at, d.takes = d.at.Add(time.Duration(places)*100*time.Millisecond+10*time.Millisecond), 50*time.Millisecond
			}
		}
	}
	// Deliveries on top, at the end.
	again := func(to string, n uint64, seconds float64, from string) func(*chaos.Ledger, func(float64) time.Time) {
		return func(l *chaos.Ledger, at func(float64) time.Time) {
			tangled{to: to, at: at(seconds), takes: 100 * time.Millisecond, from: from, nth: n}.write(l)
		}
	}
	several := func(fs ...func(*chaos.Ledger, func(float64) time.Time)) func(*chaos.Ledger, func(float64) time.Time) {
		return func(l *chaos.Ledger, at func(float64) time.Time) {
			for _, f := range fs {
				f(l, at)
			}
		}
	}
	for name, c := range map[string]struct {
		of    tangle
		each  func(n uint64, d *tangled)
		after func(l *chaos.Ledger, at func(float64) time.Time)
		want  string // in the complaint; empty: there must be none
	}{
		"parallel: nothing wrong":                             {of: parallel},
		"parallel: out of order":                              {of: parallel, each: late(50, 2)},
		"parallel: one lost":                                  {of: parallel, each: lose(50), want: "lost: m0 did not get 1 acknowledged messages, the first is t-50"},
		"parallel: one refused and not repeated":              {of: parallel, each: fail(50), want: "lost: m0 did not get 1"},
		"parallel: one refused and repeated":                  {of: parallel, each: fail(198), after: again("m0", 198, 20.5, "a")},
		"parallel: a repeat of what was taken in the trouble": {of: parallel, after: again("m0", 105, 20.5, "a")},
		"parallel: a repeat without a reason":                 {of: parallel, after: again("m0", 50, 20.5, "a"), want: "duplicate: m0: offset 50 came again"},
		"parallel: a message repeated and repeated": {of: parallel, after: several(again("m0", 105, 20.5, "a"), again("m0", 105, 20.65, "a")),
			want: "one owner: m0: went back to offset 105 from 105"},
		"parallel: two owners send the same": {of: parallel, after: several(again("m0", 105, 20.5, "a"), again("m0", 105, 20.55, "b")),
			want: "one owner: m0: offset 105 came"},
		"parallel: two owners that share the work": {of: parallel, after: several(again("m0", 105, 20.5, "a"), again("m0", 106, 20.55, "b")),
			want: "one owner: m0: offset 106 came"},
		"parallel: more than its window": {of: parallel, each: func(_ uint64, d *tangled) { d.takes = 450 * time.Millisecond },
			want: "one owner: m0: 5 messages were under way to m0"},

		"keyed: nothing wrong":                         {of: keyed},
		"keyed: another key first":                     {of: keyed, each: late(50, 3)},
		"keyed: the next one of a key first":           {of: keyed, each: late(46, 4), want: `order: m0: offset 50 of key "2" came although 46 had not been taken`},
		"keyed: the next one although one was refused": {of: keyed, each: fail(50), want: `order: m0: offset 54 of key "2" came although 50 had not been taken`},
		"keyed: one lost":                              {of: keyed, each: lose(50), want: "lost: m0 did not get 1"},
		"keyed: back to what was not recorded":         {of: keyed, after: several(again("m0", 101, 20.5, "a"), again("m0", 102, 20.5, "a"), again("m0", 105, 20.7, "a"))},
		"keyed: a repeat without a reason":             {of: keyed, after: again("m0", 50, 20.5, "a"), want: "duplicate: m0: offset 50 came again"},
		"keyed: two of a key at a time": {of: keyed, each: func(_ uint64, d *tangled) { d.takes = 410 * time.Millisecond },
			want: "one owner: m0: offset 5 came"},
		"keyed: two owners in turn": {of: keyed, after: several(again("m0", 101, 20.5, "a"), again("m0", 105, 20.61, "a"), again("m0", 101, 20.72, "a"),
			again("m0", 105, 20.83, "a"), again("m0", 101, 20.84, "a")), want: "one owner: m0: "},

		"turns: nothing wrong":          {of: turns},
		"turns: swapped":                {of: turns, each: late(49, 1), want: "order: group g: offset 50 came although 49 had not been taken"},
		"turns: passed over":            {of: turns, each: fail(50), want: "order: group g: offset 51 came although 50 had not been taken"},
		"turns: one lost":               {of: turns, each: lose(200), want: "lost: group g did not get 1 acknowledged messages, the first is t-200"},
		"turns: back to another member": {of: turns, after: several(again("m0", 101, 20.5, "a"), again("m1", 102, 20.7, "a"))},
		"turns: both members get it":    {of: turns, after: again("m1", 50, 20.5, "a"), want: "duplicate: group g: offset 50 came again"},
		"turns: two at a time": {of: turns, each: func(_ uint64, d *tangled) { d.takes = 110 * time.Millisecond },
			want: "one owner: group g: offset 2 came"},
		"turns: two owners":                        {of: turns, after: several(again("m0", 102, 20.5, "a"), again("m1", 103, 20.55, "b")), want: "one owner: group g: offset 103 came"},
		"turns: the turn is always the same one's": {of: turns, each: func(_ uint64, d *tangled) { d.to = "m0" }, want: "share: group g: m1 took none of 200 deliveries"},

		"shared: nothing wrong":              {of: shared},
		"shared: out of order":               {of: shared, each: late(50, 3)},
		"shared: one lost":                   {of: shared, each: lose(50), want: "lost: group g did not get 1"},
		"shared: two members get it":         {of: shared, after: again("m1", 50, 20.5, "a"), want: "duplicate: group g: offset 50 came again"},
		"shared: two members get it at once": {of: shared, after: several(again("m1", 105, 20.5, "a"), again("m2", 105, 20.55, "a")), want: "one owner: group g: offset 105 came"},
		"shared: an owner for each member":   {of: shared, after: several(again("m1", 105, 20.5, "a"), again("m2", 106, 20.55, "b")), want: "one owner: group g: offset 106 came"},

		"keyed group: nothing wrong":               {of: keyedGroup},
		"keyed group: the next one of a key first": {of: keyedGroup, each: late(46, 4), want: `order: group g: offset 50 of key "2" came although 46`},
		"keyed group: two of a key at a time": {of: keyedGroup, each: func(_ uint64, d *tangled) { d.takes = 410 * time.Millisecond },
			want: "one owner: group g: offset 5 came"},
	} {
		t.Run(name, func(t *testing.T) {
			c.of.each = c.each
			l, at := c.of.write()
			if c.after != nil {
				c.after(l, at)
			}
			err := errors.Join(l.CheckCluster(clusterBounds)...)
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("complained without reason: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v\nwant a complaint with %q", err, c.want)
			}
		})
	}
}

// What a member took while it was leaving its group may come to another one as well, and nothing else may.
func TestChecksKnowWhatAMemberHandsOn(t *testing.T) {
	for _, c := range []struct {
		name     string
		took     float64 // when the member that leaves took it
		verified float64 // when it confirmed that it leaves
		wrong    bool
	}{{"under way", 5.1, 5.05, false}, {"before", 5.1, 5.3, true}} {
		t.Run(c.name, func(t *testing.T) {
			g := tangle{terms: chaos.Terms{Mode: chaos.Parallel, Window: 4, Group: "g"}, members: 3, takes: 50 * time.Millisecond}
			g.each = func(n uint64, d *tangled) {
				if n == 50 {
					d.to, d.takes = "leaver", time.Duration((c.took-5.001)*float64(time.Second))
				}
			}
			l, at := g.write()
			l.Agreed("leaver", g.terms)
			e := l.Subscribing("leaver", "topic")
			*e = chaos.Episode{Subscription: "leaver", Topic: "topic", Asked: at(4), Verified: []time.Time{at(4)}, Active: at(4), EndAsked: at(5.02),
				EndVerified: []time.Time{at(c.verified)}, Gone: at(5.4)}
			tangled{to: "m1", at: at(20.5), from: "a", nth: 50}.write(l)
			err := errors.Join(l.CheckCluster(clusterBounds)...)
			if (err != nil) != c.wrong {
				t.Errorf("got %v", err)
			}
			if f := l.Figures(); f.HandedOn != 1 && !c.wrong || f.Repeats != 0 && !c.wrong {
				t.Errorf("%d handed on, %d repeated; want 1 and 0", f.HandedOn, f.Repeats)
			}
		})
	}
}
