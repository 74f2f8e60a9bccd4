package chaos_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
)

// story is a ledger of one topic with two subscriptions, "a" and "b", and one kill, in which everything is
// correct: messages 1 to 4 before the kill, 5 to 8 after it. Each line can be changed before it is written.
type story struct {
	publishes  []publish
	deliveries []delivery
	ends       []chaos.End // of all runs but the last
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

func newStory() *story {
	b := &story{ends: []chaos.End{chaos.Killed}}
	for n := uint64(1); n <= 8; n++ {
		run := 1
		if n > 4 {
			run = 2
		}
		b.publishes = append(b.publishes, publish{n: n, outcome: chaos.Acknowledged, run: run})
		for _, to := range []string{"a", "b"} {
			b.deliveries = append(b.deliveries, delivery{to: to, n: n, run: run, reply: chaos.Accepted})
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

// write creates the ledger: for each run its publishes, its deliveries, its end.
func (b *story) write() *chaos.Ledger {
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

// tick keeps moments distinct on clocks of any resolution.
func tick() {
	for began := time.Now(); !time.Now().After(began); {
	}
}

var bounds = chaos.Bounds{CursorFlush: 100 * time.Millisecond, Commit: 100 * time.Millisecond, AfterEnd: 50 * time.Millisecond}

func TestChecksAcceptACorrectLedger(t *testing.T) {
	if err := newStory().write().Check(bounds); err != nil {
		t.Fatal(err)
	}
}

// remove removes the deliveries of message n to a subscription.
func (b *story) remove(to string, n uint64) {
	var kept []delivery
	for _, d := range b.deliveries {
		if d.to != to || d.n != n {
			kept = append(kept, d)
		}
	}
	b.deliveries = kept
}

func (b *story) at(to string, n uint64) int {
	for i, d := range b.deliveries {
		if d.to == to && d.n == n {
			return i
		}
	}
	panic("no such delivery")
}

func (b *story) insert(i int, d delivery) {
	b.deliveries = append(b.deliveries[:i], append([]delivery{d}, b.deliveries[i:]...)...)
}

// singleNodeCase is a change of the correct story, and what the checks say about it.
type singleNodeCase struct {
	change func(*story)
	want   string // in the error; empty: no error
}

func singleNodeCases() map[string]singleNodeCase {
	return map[string]singleNodeCase{
		"lost message": {func(b *story) { b.remove("b", 8) }, "lost: b did not get 1 acknowledged messages, the first is t-8"},
		"message answered only with errors": {
			func(b *story) { b.deliveries[b.at("b", 8)].reply = chaos.Failed }, "lost: b did not get 1"},
		"message of unknown outcome, not delivered": {func(b *story) {
			b.publishes[7].outcome = chaos.Unknown
			b.remove("a", 8)
			b.remove("b", 8)
		}, ""},
		"message of unknown outcome, delivered": {func(b *story) { b.publishes[7].outcome = chaos.Unknown }, ""},
		"refused message, delivered":            {func(b *story) { b.publishes[7].outcome = chaos.Refused }, "whose publish was refused"},
		"message that nobody sent":              {func(b *story) { b.deliveries[b.at("a", 3)].body = "other" }, `got "other", which nobody sent`},

		"hole in the middle": {func(b *story) { b.remove("a", 2) }, "order: a: offset 3 arrived although 2 had not been accepted"},
		"hole at the kill":   {func(b *story) { b.remove("a", 5) }, "order: a: offset 6 arrived although 5 had not been accepted"},
		"two messages swapped": {func(b *story) {
			i, j := b.at("a", 2), b.at("a", 3)
			b.deliveries[i], b.deliveries[j] = b.deliveries[j], b.deliveries[i]
		}, "order: a: offset 3 arrived although 2 had not been accepted"},
		"step back within a run": {func(b *story) { b.insert(b.at("a", 4), delivery{to: "a", n: 1, run: 1, reply: chaos.Accepted}) },
			"order: a: offset 1 arrived after 3 in one run"},
		"next message after a failure": {func(b *story) { b.deliveries[b.at("a", 3)].reply = chaos.Failed },
			"order: a: offset 4 arrived although 3 had not been accepted"},
		"next message after a failure before the kill": {func(b *story) { b.deliveries[b.at("a", 4)].reply = chaos.Failed },
			"order: a: offset 5 arrived although 4 had not been accepted"},
		"retry after a failure": {func(b *story) { b.insert(b.at("a", 3), delivery{to: "a", n: 3, run: 1, reply: chaos.Failed}) }, ""},

		"repeats of the last flush interval after a kill": {func(b *story) {
			b.insert(b.at("a", 5), delivery{to: "a", n: 3, run: 2, reply: chaos.Accepted})
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Accepted})
		}, ""},
		"repeat of a message accepted long before the kill": {func(b *story) {
			b.deliveries[b.at("a", 4)].wait = time.Minute
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Accepted})
		}, "duplicate: a: offset 4 was delivered again in run 2; it had been accepted 1m0"},
		"repeat within a run": {func(b *story) { b.insert(b.at("a", 4), delivery{to: "a", n: 3, run: 1, reply: chaos.Accepted}) },
			"duplicate: a: offset 3 was delivered again"},
		"repeat after an answer that may be lost": {func(b *story) { b.insert(b.at("a", 3), delivery{to: "a", n: 3, run: 1, reply: chaos.Unclear}) }, ""},
		"repeat after a graceful stop": {func(b *story) {
			b.ends[0] = chaos.Stopped
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Accepted})
		}, "duplicate: a: offset 4 was delivered again in run 2; it had been accepted"},
		"repeat after two kills of a message accepted in the first run": {func(b *story) {
			b.ends = append(b.ends, chaos.Killed)
			b.deliveries[b.at("a", 4)].wait = time.Minute
			b.deliveries = append(b.deliveries, delivery{to: "a", n: 4, run: 3, reply: chaos.Accepted})
		}, "duplicate: a: offset 4 was delivered again in run 3"},

		"one body with two IDs": {func(b *story) {
			b.insert(b.at("a", 5), delivery{to: "a", n: 4, run: 2, reply: chaos.Accepted, id: "t-44"})
		}, "identity: delivery to a: body 4 is message t-4 and message t-44"},
		"one ID for two bodies": {func(b *story) { b.deliveries[b.at("a", 4)].id = "t-3" }, "identity: delivery to a: body 4 is message t-4 and message t-3"},
		"one ID acknowledged twice": {func(b *story) { b.publishes[7].id = "t-7" },
			"identity: acknowledgement: message t-7 is body 7 and body 8"},
		"idempotent repeat that became two messages": {func(b *story) {
			b.publishes = append(b.publishes, publish{n: 9, body: "body 8", outcome: chaos.Acknowledged, run: 2})
		}, "identity: acknowledgement: body 8 is message t-8 and message t-9"},
		"idempotent repeat that is one message": {func(b *story) {
			b.publishes[6].outcome = chaos.Unknown
			b.publishes = append(b.publishes, publish{n: 7, outcome: chaos.Acknowledged, run: 2})
		}, ""},
		"offset reused after a kill": {func(b *story) {
			b.publishes[4].n, b.publishes[4].body = 4, "body 5"
		}, "identity: acknowledgement: message t-4 is body 4 and body 5"},
		"offset lower than one acknowledged earlier": {func(b *story) {
			b.publishes[2], b.publishes[3] = b.publishes[3], b.publishes[2]
		}, "real time: topic: t-3 (body 3) was sent after the acknowledgement of t-4 (body 4)"},
	}
}

func TestChecksObject(t *testing.T) {
	for name, c := range singleNodeCases() {
		t.Run(name, func(t *testing.T) {
			b := newStory()
			c.change(b)
			wantError(t, b.write().Check(bounds), c.want)
		})
	}
}

// wantError asserts an error that contains want, or none if want is empty.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Fatalf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Fatalf("got %v\nwant an error with %q", err, want)
	}
}

func TestChecksObjectToAChangedBody(t *testing.T) {
	l := newStory().write()
	l.Arrived(chaos.Delivery{Subscription: "a", Topic: "topic", Body: "body 8", Intact: true, ID: "t-8", Offset: 8, Run: 2}, []byte("body 8 changed"))
	if err := l.Identities(); err == nil || !strings.Contains(err.Error(), "with another content") {
		t.Fatalf("got %v", err)
	}
}

func TestChecksObjectToAnotherTopicsMessage(t *testing.T) {
	l := newStory().write()
	l.Arrived(chaos.Delivery{Subscription: "c", Topic: "elsewhere", Body: "body 8", Intact: true, ID: "t-8", Offset: 8, Run: 2}, []byte("body 8"))
	if err := l.Identities(); err == nil || !strings.Contains(err.Error(), "c got body 8 of topic") {
		t.Fatalf("got %v", err)
	}
}

// arrive records a delivery accepted at a time of the test's choice.
func arrive(l *chaos.Ledger, to string, offset uint64, at time.Time) {
	arriveIn(l, 1, to, offset, at)
}

// arriveIn is arrive in a run of the hub; 0 stands for a cluster.
func arriveIn(l *chaos.Ledger, run int, to string, offset uint64, at time.Time) {
	body := fmt.Sprintf("body %d", offset)
	d := l.Arrived(chaos.Delivery{Subscription: to, Topic: "topic", Body: body, Intact: true, ID: fmt.Sprintf("t-%d", offset), Offset: offset, Run: run}, []byte(body))
	l.Answered(d, chaos.Accepted)
	d.At, d.Replied = at, at
}

// acknowledge records a publish answered at a time of the test's choice.
func acknowledge(l *chaos.Ledger, offset uint64, at time.Time) {
	body := fmt.Sprintf("body %d", offset)
	p := l.Sending(chaos.Publish{Topic: "topic", Body: body}, []byte(body))
	l.Sent(p, chaos.Acknowledged, fmt.Sprintf("t-%d", offset), offset)
	p.Began, p.Ended = at, at.Add(time.Millisecond)
}

// twoEpisodes returns a ledger with a subscription of two episodes: seconds 0 to 10, and from second 20 on.
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
		t.Fatalf("message 3 was after the settled offset, message 4 between two subscriptions: %v", err)
	}
	first.Settled = 3
	if err := l.Lost(); err == nil || !strings.Contains(err.Error(), "the first is t-3") {
		t.Fatalf("got %v", err)
	}
}

func TestChecksObjectToADeliveryAfterTheEnd(t *testing.T) {
	l, _, _, at := twoEpisodes()
	arrive(l, "s", 3, at(10.04)) // was in flight at the end
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
	// A renewed subscription that is not yet confirmed is still the old one, which has ended.
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

// The hub repeats a verification whose confirmation a crash lost. The subscription counts from the last
// confirmation, unless the hub had listed it as active before.
func TestChecksCountFromTheConfirmationThatWasKept(t *testing.T) {
	l, _, second, at := twoEpisodes()
	acknowledge(l, 6, at(24))
	second.Verified = append(second.Verified, at(25))
	if err := l.Lost(); err != nil {
		t.Fatalf("message 6 was sent before the confirmation that counts: %v", err)
	}
	second.Active = at(23)
	if err := l.Lost(); err == nil || !strings.Contains(err.Error(), "the first is t-6") {
		t.Fatalf("got %v", err)
	}
}

func TestSubscribersConfirmOnlyWhatTheyAskedFor(t *testing.T) {
	l := chaos.NewLedger()
	if l.Confirming("s", true) {
		t.Error("confirmed a subscription that nobody requested")
	}
	e := l.Subscribing("s", "topic")
	if l.Confirming("s", false) || !l.Confirming("s", true) || len(e.Verified) != 1 {
		t.Error("while subscribing: confirmed an unsubscribe, or not the subscribe")
	}
	l.Edit(func() { e.EndAsked = time.Now() })
	if l.Confirming("s", true) || !l.Confirming("s", false) || len(e.EndVerified) != 1 {
		t.Error("while unsubscribing: confirmed a subscribe, or not the unsubscribe")
	}
}
