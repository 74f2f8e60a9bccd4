package chaos_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"quorumhub/test/chaos"
)

// modeStory is a correct ledger of a cluster in any mode. Message n of 200 is sent at n/10 s with key n
// modulo 4, acknowledged at once, and accepted by member n modulo members, from 1 ms after it was sent until
// takes later. At second 10 a node dies; it is back at second 12. Each delivery may be changed before it is
// written.
type modeStory struct {
	terms   chaos.Terms
	members int
	takes   time.Duration
	each    func(n uint64, d *modeDelivery) // nil: no change
}

// modeDelivery is a delivery of a modeStory.
type modeDelivery struct {
	to     string // empty: nobody
	at     time.Time
	takes  time.Duration
	from   string
	nth    uint64
	failed bool
}

func memberName(n uint64) string { return fmt.Sprintf("m%d", n) }

func (g modeStory) write() (l *chaos.Ledger, at func(seconds float64) time.Time) {
	start := time.Now().Add(-time.Hour)
	at = func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	l = chaos.NewLedger()
	for m := range g.members {
		name := memberName(uint64(m))
		l.SetTerms(name, g.terms)
		e := l.Subscribing(name, "topic")
		e.Asked, e.Verified, e.Active = at(-2), []time.Time{at(-1)}, at(-1)
	}
	disruption := l.Begin("a node died", 4*time.Second)
	disruption.Began, disruption.Ended = at(10), at(12)
	var deliveries []modeDelivery
	for n := uint64(1); n <= 200; n++ {
		sent := at(float64(n) / 10)
		publishKeyed(l, n, sent)
		d := modeDelivery{to: memberName(n % uint64(g.members)), at: sent.Add(time.Millisecond), takes: g.takes, from: "a", nth: n}
		if g.each != nil {
			g.each(n, &d)
		}
		if d.to == "" {
			continue
		}
		deliveries = append(deliveries, d)
	}
	slices.SortStableFunc(deliveries, func(a, b modeDelivery) int { return a.at.Compare(b.at) })
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

func (d modeDelivery) write(l *chaos.Ledger) {
	body := fmt.Sprintf("body %d", d.nth)
	got := l.Arrived(chaos.Delivery{Subscription: d.to, Topic: "topic", Body: body, Intact: true, ID: fmt.Sprintf("t-%d", d.nth), Offset: d.nth, From: d.from}, []byte(body))
	if !d.failed {
		l.Answered(got, chaos.Accepted)
	}
	got.At, got.Replied = d.at, d.at.Add(d.takes)
}

// Changes of each delivery.

// lose removes message which.
func lose(which uint64) func(uint64, *modeDelivery) {
	return func(n uint64, d *modeDelivery) {
		if n == which {
			d.to = ""
		}
	}
}

// fail makes message which fail.
func fail(which uint64) func(uint64, *modeDelivery) {
	return func(n uint64, d *modeDelivery) { d.failed = n == which }
}

// late makes message which arrive after the one published that many places later.
func late(which uint64, places int) func(uint64, *modeDelivery) {
	return func(n uint64, d *modeDelivery) {
		if n == which {
			d.at, d.takes = d.at.Add(time.Duration(places)*100*time.Millisecond+10*time.Millisecond), 50*time.Millisecond
		}
	}
}

// takes makes every delivery take that long.
func takes(d time.Duration) func(uint64, *modeDelivery) {
	return func(_ uint64, of *modeDelivery) { of.takes = d }
}

// afterwards adds deliveries to a ledger.
type afterwards func(l *chaos.Ledger, at func(seconds float64) time.Time)

// again delivers message n once more.
func again(to string, n uint64, seconds float64, from string) afterwards {
	return func(l *chaos.Ledger, at func(float64) time.Time) {
		modeDelivery{to: to, at: at(seconds), takes: 100 * time.Millisecond, from: from, nth: n}.write(l)
	}
}

func several(fs ...afterwards) afterwards {
	return func(l *chaos.Ledger, at func(float64) time.Time) {
		for _, f := range fs {
			f(l, at)
		}
	}
}

// modeCase is a change of a correct story, and what the checks say about it.
type modeCase struct {
	each  func(n uint64, d *modeDelivery)
	after afterwards
	want  string // in the error; empty: no error
}

// parallelCases concern one subscription without order.
func parallelCases() map[string]modeCase {
	return map[string]modeCase{
		"nothing wrong":                {},
		"out of order":                 {each: late(50, 2)},
		"one lost":                     {each: lose(50), want: "lost: m0 did not get 1 acknowledged messages, the first is t-50"},
		"one refused and not repeated": {each: fail(50), want: "lost: m0 did not get 1"},
		"one refused and repeated":     {each: fail(198), after: again("m0", 198, 20.5, "a")},
		"repeat of a message accepted in the disruption": {after: again("m0", 105, 20.5, "a")},
		"repeat without a reason":                        {after: again("m0", 50, 20.5, "a"), want: "duplicate: m0: offset 50 was delivered again"},
		"message repeated twice": {after: several(again("m0", 105, 20.5, "a"), again("m0", 105, 20.65, "a")),
			want: "one owner: m0: went back to offset 105 from 105"},
		"two owners send the same message": {after: several(again("m0", 105, 20.5, "a"), again("m0", 105, 20.55, "b")),
			want: "one owner: m0: offset 105 arrived"},
		"two owners share the work": {after: several(again("m0", 105, 20.5, "a"), again("m0", 106, 20.55, "b")),
			want: "one owner: m0: offset 106 arrived"},
		"more than its window": {each: takes(450 * time.Millisecond),
			want: "one owner: m0: 5 messages were in flight to m0"},
	}
}

// keyedCases concern one subscription in order of its keys.
func keyedCases() map[string]modeCase {
	return map[string]modeCase{
		"nothing wrong":                         {},
		"another key first":                     {each: late(50, 3)},
		"next message of a key first":           {each: late(46, 4), want: `order: m0: offset 50 of key "2" arrived although 46 had not been accepted`},
		"next message of a key after a refusal": {each: fail(50), want: `order: m0: offset 54 of key "2" arrived although 50 had not been accepted`},
		"one lost":                              {each: lose(50), want: "lost: m0 did not get 1"},
		"back to an unrecorded message":         {after: several(again("m0", 101, 20.5, "a"), again("m0", 102, 20.5, "a"), again("m0", 105, 20.7, "a"))},
		"repeat without a reason":               {after: again("m0", 50, 20.5, "a"), want: "duplicate: m0: offset 50 was delivered again"},
		"two of a key at a time": {each: takes(410 * time.Millisecond),
			want: "one owner: m0: offset 5 arrived"},
		"two owners in turn": {after: several(again("m0", 101, 20.5, "a"), again("m0", 105, 20.61, "a"), again("m0", 101, 20.72, "a"),
			again("m0", 105, 20.83, "a"), again("m0", 101, 20.84, "a")), want: "one owner: m0: "},
	}
}

// turnsCases concern a group whose two members take turns.
func turnsCases() map[string]modeCase {
	return map[string]modeCase{
		"nothing wrong":           {},
		"swapped":                 {each: late(49, 1), want: "order: group g: offset 50 arrived although 49 had not been accepted"},
		"refused and skipped":     {each: fail(50), want: "order: group g: offset 51 arrived although 50 had not been accepted"},
		"one lost":                {each: lose(200), want: "lost: group g did not get 1 acknowledged messages, the first is t-200"},
		"back to another member":  {after: several(again("m0", 101, 20.5, "a"), again("m1", 102, 20.7, "a"))},
		"both members receive it": {after: again("m1", 50, 20.5, "a"), want: "duplicate: group g: offset 50 was delivered again"},
		"two at a time": {each: takes(110 * time.Millisecond),
			want: "one owner: group g: offset 2 arrived"},
		"two owners":                 {after: several(again("m0", 102, 20.5, "a"), again("m1", 103, 20.55, "b")), want: "one owner: group g: offset 103 arrived"},
		"one member gets every turn": {each: func(_ uint64, d *modeDelivery) { d.to = "m0" }, want: "share: group g: m1 accepted none of 200 deliveries"},
	}
}

// sharedCases concern a group whose three members share messages in parallel.
func sharedCases() map[string]modeCase {
	return map[string]modeCase{
		"nothing wrong":                  {},
		"out of order":                   {each: late(50, 3)},
		"one lost":                       {each: lose(50), want: "lost: group g did not get 1"},
		"two members receive it":         {after: again("m1", 50, 20.5, "a"), want: "duplicate: group g: offset 50 was delivered again"},
		"two members receive it at once": {after: several(again("m1", 105, 20.5, "a"), again("m2", 105, 20.55, "a")), want: "one owner: group g: offset 105 arrived"},
		"each member has its own owner":  {after: several(again("m1", 105, 20.5, "a"), again("m2", 106, 20.55, "b")), want: "one owner: group g: offset 106 arrived"},
	}
}

// keyedGroupCases concern a group whose three members share messages in order of their keys.
func keyedGroupCases() map[string]modeCase {
	return map[string]modeCase{
		"nothing wrong":               {},
		"next message of a key first": {each: late(46, 4), want: `order: group g: offset 50 of key "2" arrived although 46`},
		"two of a key at a time": {each: takes(410 * time.Millisecond),
			want: "one owner: group g: offset 5 arrived"},
	}
}

// In every mode the checks accept what the mode allows, and object to an injected fault.
func TestChecksOfEveryMode(t *testing.T) {
	for mode, tt := range map[string]struct {
		story modeStory
		cases map[string]modeCase
	}{
		"parallel":    {modeStory{terms: chaos.Terms{Mode: chaos.Parallel, Window: 4}, members: 1, takes: 350 * time.Millisecond}, parallelCases()},
		"keyed":       {modeStory{terms: chaos.Terms{Mode: chaos.Keyed, Window: 4, Key: "header:X-Hub-Key"}, members: 1, takes: 350 * time.Millisecond}, keyedCases()},
		"turns":       {modeStory{terms: chaos.Terms{Group: "g"}, members: 2, takes: 50 * time.Millisecond}, turnsCases()},
		"shared":      {modeStory{terms: chaos.Terms{Mode: chaos.Parallel, Window: 4, Group: "g"}, members: 3, takes: 350 * time.Millisecond}, sharedCases()},
		"keyed group": {modeStory{terms: chaos.Terms{Mode: chaos.Keyed, Window: 4, Key: "header:X-Hub-Key", Group: "g"}, members: 3, takes: 350 * time.Millisecond}, keyedGroupCases()},
	} {
		for name, c := range tt.cases {
			t.Run(mode+": "+name, func(t *testing.T) {
				story := tt.story
				story.each = c.each
				l, at := story.write()
				if c.after != nil {
					c.after(l, at)
				}
				wantError(t, errors.Join(l.CheckCluster(clusterBounds)...), c.want)
			})
		}
	}
}

// What a member accepts while leaving its group may go to another member as well, but nothing else may.
func TestChecksKnowWhatAMemberHandsOver(t *testing.T) {
	for _, c := range []struct {
		name     string
		took     float64 // when the leaving member accepted it
		verified float64 // when it confirmed the unsubscribe
		wrong    bool
	}{{"in flight", 5.1, 5.05, false}, {"before", 5.1, 5.3, true}} {
		t.Run(c.name, func(t *testing.T) {
			g := modeStory{terms: chaos.Terms{Mode: chaos.Parallel, Window: 4, Group: "g"}, members: 3, takes: 50 * time.Millisecond}
			g.each = func(n uint64, d *modeDelivery) {
				if n == 50 {
					d.to, d.takes = "leaver", time.Duration((c.took-5.001)*float64(time.Second))
				}
			}
			l, at := g.write()
			l.SetTerms("leaver", g.terms)
			e := l.Subscribing("leaver", "topic")
			*e = chaos.Episode{Subscription: "leaver", Topic: "topic", Asked: at(4), Verified: []time.Time{at(4)}, Active: at(4), EndAsked: at(5.02),
				EndVerified: []time.Time{at(c.verified)}, Gone: at(5.4)}
			modeDelivery{to: "m1", at: at(20.5), from: "a", nth: 50}.write(l)
			err := errors.Join(l.CheckCluster(clusterBounds)...)
			if (err != nil) != c.wrong {
				t.Errorf("got %v", err)
			}
			if f := l.Figures(); f.Reassigned != 1 && !c.wrong || f.Repeats != 0 && !c.wrong {
				t.Errorf("%d reassigned, %d repeated; want 1 and 0", f.Reassigned, f.Repeats)
			}
		})
	}
}
