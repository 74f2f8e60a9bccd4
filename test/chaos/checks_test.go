package chaos_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
)

// books writes a ledger of one topic with two subscriptions, "a" and "b", and one kill, in which all is well:
// messages 1 to 4 before the kill, 5 to 8 behind it. Each line of the story can be changed before it is written.
type books struct {
	publishes  []publish
	deliveries []delivery
	ends       []chaos.End // of the lives, but for the last
}

type publish struct {
	n       uint64
	body    string // empty: body <n>
	outcome chaos.Outcome
	id      string // empty: t-<n>
	run     int
}

type delivery struct {
	to    string
	n     uint64
	run   int
	reply chaos.Reply
	body  string // empty: body <n>
	id    string // empty: t-<n>
	wait  time.Duration
}

func story() *books {
	b := &books{ends: []chaos.End{chaos.Killed}}
	for n := uint64(1); n <= 8; n++ {
		run := 1
		if n > 4 {
			run = 2
		}
		b.publishes = append(b.publishes, publish{n: n, outcome: chaos.Acknowledged, run: run})
		for _, to := range []string{"a", "b"} {
			b.deliveries = append(b.deliveries, delivery{to: to, n: n, run: run, reply: chaos.Took})
		}
	}
	return b
}

func name(given, prefix string, n uint64) string {
	if given != "" {
		return given
	}
	return fmt.Sprintf("%s%d", prefix, n)
}

// write makes the ledger: a life, its publishes, its deliveries, its end.
func (b *books) write() *chaos.Ledger {
	l := chaos.NewLedger()
	for _, s := range []string{"a", "b"} {
		l.Subscribing(s, "topic")
		l.Confirming(s, true)
	}
	for run := 1; run <= len(b.ends)+1; run++ {
		l.Starting()
		for _, p := range b.publishes {
			if p.run != run {
				continue
			}
			body := name(p.body, "body ", p.n)
			tick()
			sent := l.Sending(chaos.Publish{Topic: "topic", Body: body}, []byte(body))
			if p.outcome == chaos.Acknowledged {
				l.Sent(sent, p.outcome, name(p.id, "t-", p.n), p.n)
			} else {
				l.Sent(sent, p.outcome, "", 0)
			}
		}
		for _, d := range b.deliveries {
			if d.run != run {
				continue
			}
			body := name(d.body, "body ", d.n)
			tick()
			got := l.Arrived(chaos.Delivery{
				Subscription: d.to, Topic: "topic", Body: body, Intact: true, ID: name(d.id, "t-", d.n), Offset: d.n, Run: run,
			}, []byte(body))
			l.Answered(got, d.reply)
			if d.wait > 0 {
				got.Replied = got.Replied.Add(-d.wait)
			}
		}
		if run <= len(b.ends) {
			l.Ending(b.ends[run-1])
		}
	}
	return l
}

// tick keeps moments apart on clocks of any resolution.
func tick() {
	for began := time.Now(); !time.Now().After(began); {
	}
}

var bounds = chaos.Bounds{CursorFlush: 100 * time.Millisecond, Commit: 100 * time.Millisecond, AfterEnd: 50 * time.Millisecond}

func TestChecksAcceptACleanStory(t *testing.T) {
	if err := story().write().Check(bounds); err != nil {
		t.Fatal(err)
	}
}

// take removes the deliveries of message n to a subscription.
func (b *books) take(to string, n uint64) {
	var kept []delivery
	for _, d := range b.deliveries {
		if d.to != to || d.n != n {
			kept = append(kept, d)
		}
	}
	b.deliveries = kept
}

func (b *books) at(to string, n uint64) int {
	for i, d := range b.deliveries {
		if d.to == to && d.n == n {
			return i
		}
	}
	panic("no such delivery")
}

func (b *books) insert(i int, d delivery) {
	b.deliveries = append(b.deliveries[:i], append([]delivery{d}, b.deliveries[i:]...)...)
}

func TestChecksObject(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*books)
		want   string // in the complaint; empty: there must be none
	}{
		"a lost message": {func(b *books) { b.take("b", 8) }, "lost: b did not get 1 acknowledged messages, the first is t-8"},
		"a message that was only ever answered with errors": {
			func(b *books) { b.deliveries[b.at("b", 8)].reply = chaos.Failed }, "lost: b did not get 1"},
		"a message of unknown outcome that never comes": {func(b *books) {
			b.publishes[7].outcome = chaos.Unknown
			b.take("a", 8)
			b.take("b", 8)
		}, ""},
		"a message of unknown outcome that comes": {func(b *books) { b.publishes[7].outcome = chaos.Unknown }, ""},
		"a refused message that comes":            {func(b *books) { b.publishes[7].outcome = chaos.Refused }, "which the publisher was refused"},
		"a message that nobody sent":              {func(b *books) { b.deliveries[b.at("a", 3)].body = "other" }, `got "other", which nobody sent`},

		"a hole in the middle": {func(b *books) { b.take("a", 2) }, "order: a: offset 3 came although 2 had not been taken"},
		"a hole at the kill":   {func(b *books) { b.take("a", 5) }, "order: a: offset 6 came although 5 had not been taken"},
		"two messages swapped": {func(b *books) {
			i, j := b.at("a", 2), b.at("a", 3)
			b.deliveries[i], b.deliveries[j] = b.deliveries[j], b.deliveries[i]
		}, "order: a: offset 3 came although 2 had not been taken"},
		"a step back within a life": {func(b *books) { b.insert(b.at("a", 4), delivery{to: "a", n: 1, run: 1, reply: chaos.Took}) },
			"order: a: offset 1 came after 3 in one life"},
		"the next message although the last one failed": {func(b *books) { b.deliveries[b.at("a", 3)].reply = chaos.Failed },
			"order: a: offset 4 came although 3 had not been taken"},
		"the next message although the last one failed before the kill": {func(b *books) { b.deliveries[b.at("a", 4)].reply = chaos.Failed },
			"order: a: offset 5 came although 4 had not been taken"},
		"a retry after a failure": {func(b *books) { b.insert(b.at("a", 3), delivery{to: "a", n: 3, run: 1, reply: chaos.Failed}) }, ""},

		"repeats of the last flush interval after a kill": {func(b *books) {
			b.insert(b.at("a", 5), delivery{to: "a", n: 3, run: 2, reply: chaos.Took})
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Took})
		}, ""},
		"a repeat of what was taken long before the kill": {func(b *books) {
			b.deliveries[b.at("a", 4)].wait = time.Minute
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Took})
		}, "duplicate: a: offset 4 came again in life 2; it had been taken 1m0"},
		"a repeat within a life": {func(b *books) { b.insert(b.at("a", 4), delivery{to: "a", n: 3, run: 1, reply: chaos.Took}) },
			"duplicate: a: offset 3 came again"},
		"a repeat after an answer that may be lost": {func(b *books) { b.insert(b.at("a", 3), delivery{to: "a", n: 3, run: 1, reply: chaos.Unclear}) }, ""},
		"a repeat after a stop in good order": {func(b *books) {
			b.ends[0] = chaos.Stopped
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Took})
		}, "duplicate: a: offset 4 came again in life 2; it had been taken"},
		"a repeat after two kills of what was taken in the first life": {func(b *books) {
			b.ends = append(b.ends, chaos.Killed)
			b.deliveries[b.at("a", 4)].wait = time.Minute
			b.deliveries = append(b.deliveries, delivery{to: "a", n: 4, run: 3, reply: chaos.Took})
		}, "duplicate: a: offset 4 came again in life 3"},

		"one body under two ids": {func(b *books) {
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Took, id: "t-44"})
		}, "identity: delivery to a: body 4 is message t-4 and message t-44"},
		"one id for two bodies": {func(b *books) { b.deliveries[b.at("a", 4)].id = "t-3" }, "identity: delivery to a: body 4 is message t-4 and message t-3"},
		"one id acknowledged twice": {func(b *books) { b.publishes[7].id = "t-7" },
			"identity: acknowledgement: message t-7 is body 7 and body 8"},
		"an idempotent repetition that became two messages": {func(b *books) {
			b.publishes = append(b.publishes, publish{n: 9, body: "body 8", outcome: chaos.Acknowledged, run: 2})
		}, "identity: acknowledgement: body 8 is message t-8 and message t-9"},
		"an idempotent repetition that is one message": {func(b *books) {
			b.publishes[6].outcome = chaos.Unknown
			b.publishes = append(b.publishes, publish{n: 7, outcome: chaos.Acknowledged, run: 2})
		}, ""},
		"an offset given again after a kill": {func(b *books) {
			b.publishes[4].n, b.publishes[4].body = 4, "body 5"
		}, "identity: acknowledgement: message t-4 is body 4 and body 5"},
		"an offset before one that was acknowledged earlier": {func(b *books) {
			b.publishes[2], b.publishes[3] = b.publishes[3], b.publishes[2]
		}, "real time: topic: t-3 (body 3) was sent after the acknowledgement of t-4 (body 4)"},
	} {
		t.Run(name, func(t *testing.T) {
			b := story()
			c.change(b)
			err := b.write().Check(bounds)
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("complained without reason: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v\nwant a complaint with %q", err, c.want)
			}
		})
	}
}

func TestChecksObjectToAChangedBody(t *testing.T) {
	l := story().write()
	l.Arrived(chaos.Delivery{Subscription: "a", Topic: "topic", Body: "body 8", Intact: true, ID: "t-8", Offset: 8, Run: 2}, []byte("body 8 changed"))
	if err := l.Identities(); err == nil || !strings.Contains(err.Error(), "with another content") {
		t.Fatalf("got %v", err)
	}
}

func TestChecksObjectToAnotherTopicsMessage(t *testing.T) {
	l := story().write()
	l.Arrived(chaos.Delivery{Subscription: "c", Topic: "elsewhere", Body: "body 8", Intact: true, ID: "t-8", Offset: 8, Run: 2}, []byte("body 8"))
	if err := l.Identities(); err == nil || !strings.Contains(err.Error(), "c got body 8 of topic") {
		t.Fatalf("got %v", err)
	}
}

// arrive books a delivery that was taken at a moment of the test's choice.
func arrive(l *chaos.Ledger, to string, offset uint64, at time.Time) {
	arriveIn(l, 1, to, offset, at)
}

// arriveIn is arrive in a life of the hub; 0 stands for a cluster.
func arriveIn(l *chaos.Ledger, run int, to string, offset uint64, at time.Time) {
	body := fmt.Sprintf("body %d", offset)
	d := l.Arrived(chaos.Delivery{Subscription: to, Topic: "topic", Body: body, Intact: true, ID: fmt.Sprintf("t-%d", offset), Offset: offset, Run: run}, []byte(body))
	l.Answered(d, chaos.Took)
	d.At, d.Replied = at, at
}

// acknowledge books a publish that was answered at a moment of the test's choice.
func acknowledge(l *chaos.Ledger, offset uint64, at time.Time) {
	body := fmt.Sprintf("body %d", offset)
	p := l.Sending(chaos.Publish{Topic: "topic", Body: body}, []byte(body))
	l.Sent(p, chaos.Acknowledged, fmt.Sprintf("t-%d", offset), offset)
	p.Began, p.Ended = at, at.Add(time.Millisecond)
}

// A subscription with two episodes: second 0 to 10, and from second 20 on.
func twoEpisodes() (l *chaos.Ledger, first, second *chaos.Episode, at func(seconds float64) time.Time) {
	start := time.Now()
	at = func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	l = chaos.NewLedger()
	l.Starting()
	first, second = l.Subscribing("s", "topic"), l.Subscribing("s", "topic")
	*first = chaos.Episode{Subscription: "s", Topic: "topic", Asked: at(0), Verified: []time.Time{at(1)}, Active: at(2),
		EndAsked: at(8), EndVerified: []time.Time{at(9)}, Gone: at(10), Settled: 2}
	*second = chaos.Episode{Subscription: "s", Topic: "topic", Asked: at(20), Verified: []time.Time{at(21)}}
	for offset, seconds := range []float64{3, 4, 5, 15, 22} { // offsets 1 to 5
		acknowledge(l, uint64(offset+1), at(seconds))
	}
	arrive(l, "s", 1, at(3.5))
	arrive(l, "s", 2, at(4.5))
	arrive(l, "s", 5, at(23))
	return l, first, second, at
}

func TestChecksKnowWhatAnEndedSubscriptionIsOwed(t *testing.T) {
	l, first, _, _ := twoEpisodes()
	if err := l.Check(bounds); err != nil {
		t.Fatalf("message 3 was behind what had settled, message 4 came between two subscriptions: %v", err)
	}
	first.Settled = 3
	if err := l.Lost(); err == nil || !strings.Contains(err.Error(), "the first is t-3") {
		t.Fatalf("got %v", err)
	}
}

func TestChecksObjectToADeliveryAfterTheEnd(t *testing.T) {
	l, _, _, at := twoEpisodes()
	arrive(l, "s", 3, at(10.04)) // was under way
	if err := l.AfterEnd(bounds); err != nil {
		t.Fatal(err)
	}
	arrive(l, "s", 4, at(15.5))
	if err := l.AfterEnd(bounds); err == nil || !strings.Contains(err.Error(), "s got offset 4 5.5s after its end") {
		t.Fatalf("got %v", err)
	}
}

func TestChecksObjectToADeliveryBeforeConsent(t *testing.T) {
	l, _, _, at := twoEpisodes()
	arrive(l, "s", 1, at(0.5))
	if err := l.AfterEnd(bounds); err == nil || !strings.Contains(err.Error(), "before it confirmed anything") {
		t.Fatalf("got %v", err)
	}
	// A renewed subscription that has not been confirmed is still the old one, which has ended.
	l, _, _, at = twoEpisodes()
	arrive(l, "s", 4, at(20.5))
	if err := l.AfterEnd(bounds); err == nil {
		t.Fatal("a delivery before the second confirmation was accepted")
	}
}

func TestChecksObjectToOldMessagesInANewSubscription(t *testing.T) {
	l, _, _, at := twoEpisodes()
	arrive(l, "s", 4, at(24))
	if err := l.Order(); err == nil || !strings.Contains(err.Error(), "in a subscription that began at 5") {
		t.Fatalf("got %v", err)
	}
}

// A confirmation that a crash swallowed is asked for again, and the subscription counts from then, unless the
// hub had been seen to have it.
func TestChecksCountFromTheConfirmationThatWasKept(t *testing.T) {
	l, _, second, at := twoEpisodes()
	acknowledge(l, 6, at(24))
	second.Verified = append(second.Verified, at(25))
	if err := l.Lost(); err != nil {
		t.Fatalf("message 6 came before the confirmation that counts: %v", err)
	}
	second.Active = at(23)
	if err := l.Lost(); err == nil || !strings.Contains(err.Error(), "the first is t-6") {
		t.Fatalf("got %v", err)
	}
}

func TestSubscribersConfirmOnlyWhatTheyAskedFor(t *testing.T) {
	l := chaos.NewLedger()
	if l.Confirming("s", true) {
		t.Error("confirmed a subscription that nobody asked for")
	}
	e := l.Subscribing("s", "topic")
	if l.Confirming("s", false) || !l.Confirming("s", true) || len(e.Verified) != 1 {
		t.Error("wrong while subscribing")
	}
	l.Edit(func() { e.EndAsked = time.Now() })
	if l.Confirming("s", true) || !l.Confirming("s", false) || len(e.EndVerified) != 1 {
		t.Error("wrong while unsubscribing")
	}
}
