package chaos_test

import (
	"errors"
	"testing"
	"time"

	"quorumhub/test/chaos"
)

// calm returns a correct ledger of a cluster: a message every 100 ms from second 0 to 20, acknowledged 2 ms
// after it was sent and accepted by "s" 1 ms later. At second 10 a node dies; it is back at second 12. f may
// change each message before it is written.
func calm(f func(n uint64, sent, taken *time.Time)) (l *chaos.Ledger, at func(seconds float64) time.Time) {
	start := time.Now().Add(-time.Hour)
	at = func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	l = chaos.NewLedger()
	e := l.Subscribing("s", "topic")
	e.Asked, e.Verified, e.Active = at(-2), []time.Time{at(-1)}, at(-1)
	disruption := l.Begin("a node died", 4*time.Second)
	disruption.Began, disruption.Ended = at(10), at(12)
	for n := uint64(1); n <= 200; n++ {
		sent := at(float64(n) / 10)
		taken := sent.Add(3 * time.Millisecond)
		if f != nil {
			f(n, &sent, &taken)
		}
		if !sent.IsZero() {
			acknowledge(l, n, sent)
		}
		if !taken.IsZero() {
			arriveIn(l, 0, "s", n, taken)
		}
	}
	return l, at
}

var clusterBounds = chaos.Bounds{CursorFlush: 100 * time.Millisecond, Commit: 100 * time.Millisecond, AfterEnd: 500 * time.Millisecond,
	Lease: 2500 * time.Millisecond, Recovery: time.Second}

func TestClusterChecks(t *testing.T) {
	again := func(offset uint64, seconds float64) func(*chaos.Ledger, func(float64) time.Time) {
		return func(l *chaos.Ledger, at func(float64) time.Time) { arriveIn(l, 0, "s", offset, at(seconds)) }
	}
	for name, c := range map[string]struct {
		each  func(n uint64, sent, taken *time.Time)
		after func(l *chaos.Ledger, at func(float64) time.Time)
		want  string // in the error; empty: no error
	}{
		"nothing wrong": {},
		"repeat of a message accepted after the disruption": {after: again(200, 20.1), want: "duplicate: s: offset 200 was delivered again"},
		"repeat of a message accepted in the disruption":    {after: again(101, 20.5)},
		"repeat of a message accepted long before":          {after: again(97, 20.5), want: "duplicate: s: offset 97 was delivered again"},
		"lost message": {each: func(n uint64, _, taken *time.Time) {
			if n == 200 {
				*taken = time.Time{}
			}
		}, want: "lost: s did not get 1"},
		"long pause after the disruption": {each: func(n uint64, _, taken *time.Time) {
			if n > 100 && n < 142 {
				*taken = taken.Add(time.Duration(142-n) * 100 * time.Millisecond)
			}
		}, want: "gap: s got nothing for 4.2"},
		"short pause after the disruption": {each: func(n uint64, _, taken *time.Time) {
			if n > 100 && n < 138 {
				*taken = taken.Add(time.Duration(138-n) * 100 * time.Millisecond)
			}
		}},
		"long pause explained by another disruption": {each: func(n uint64, _, taken *time.Time) {
			if n > 100 && n < 142 {
				*taken = taken.Add(time.Duration(142-n) * 100 * time.Millisecond)
			}
		}, after: func(l *chaos.Ledger, at func(float64) time.Time) { l.Observed("an election", at(11), at(11.5)) }},
		"two owners at the same time": {after: func(l *chaos.Ledger, at func(float64) time.Time) {
			body := "body 105"
			d := l.Arrived(chaos.Delivery{Subscription: "s", Topic: "topic", Body: body, Intact: true, ID: "t-105", Offset: 105}, []byte(body))
			l.Answered(d, chaos.Accepted)
			d.At, d.Replied = at(20.1), at(20.2)
			arriveIn(l, 0, "s", 106, at(20.15))
		}, want: "one owner: s: offset 106 arrived"},
		"two owners in turn": {after: func(l *chaos.Ledger, at func(float64) time.Time) {
			for i, offset := range []uint64{104, 110, 105, 111} {
				arriveIn(l, 0, "s", offset, at(20.1+float64(i)/100))
			}
		}, want: "and 20"}, // milliseconds earlier too
		"read of a message appended later": {after: func(l *chaos.Ledger, at func(float64) time.Time) {
			l.RecordRead(chaos.Read{Topic: "topic", Began: at(1.01), Ended: at(1.02), Offset: 11, Body: "body 11"})
		}, want: "history: topic: not linearizable"},
		"stale read": {after: func(l *chaos.Ledger, at func(float64) time.Time) {
			l.RecordRead(chaos.Read{Topic: "topic", Began: at(5.05), Ended: at(5.06), Offset: 49, Body: "body 49"})
		}, want: "history: topic: not linearizable"},
		"current read": {after: func(l *chaos.Ledger, at func(float64) time.Time) {
			l.RecordRead(chaos.Read{Topic: "topic", Began: at(5.05), Ended: at(5.06), Offset: 50, Body: "body 50"})
		}},
		"delivery before the publish": {each: func(n uint64, sent, taken *time.Time) {
			if n == 20 {
				*taken = sent.Add(-time.Millisecond)
			}
		}, want: "history: body 20 was delivered before it was sent"},
	} {
		t.Run(name, func(t *testing.T) {
			l, at := calm(c.each)
			if c.after != nil {
				c.after(l, at)
			}
			wantError(t, errors.Join(l.CheckCluster(clusterBounds)...), c.want)
		})
	}
}

// After its end a subscription may receive something for as long as a node that hears nobody may deliver, but
// only during a disruption.
func TestClusterChecksObjectToADeliveryAfterTheEnd(t *testing.T) {
	for _, c := range []struct {
		name       string
		gone, came float64
		wrong      bool
	}{
		{"at once", 5, 5.4, false}, {"late", 5, 5.6, true}, {"late in a disruption", 10.5, 12.8, false}, {"later in a disruption", 10.5, 13.1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, at := calm(nil)
			e := l.Subscribing("u", "topic")
			*e = chaos.Episode{Subscription: "u", Topic: "topic", Asked: at(0.01), Verified: []time.Time{at(0.02)}, Active: at(0.03),
				EndAsked: at(c.gone - 0.1), EndVerified: []time.Time{at(c.gone - 0.05)}, Gone: at(c.gone)}
			arriveIn(l, 0, "u", 50, at(c.came))
			if err := l.AfterEnd(clusterBounds); (err != nil) != c.wrong {
				t.Errorf("got %v", err)
			}
		})
	}
}
