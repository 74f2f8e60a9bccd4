package chaos

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Outcome is what a publisher knows about an attempt.
type Outcome uint8

const (
	// Unknown: no answer, or a 5xx. The message may be there or not.
	Unknown Outcome = iota
	// Acknowledged: 2xx. The message is there.
	Acknowledged
	// Refused: 4xx. The message is not there.
	Refused
)

// Publish is one attempt to publish a body. Attempts with an Idempotency-Key may be repeated with the same body.
type Publish struct {
	Topic        string
	Body         string // its name, which no other body has
	Key          string // Idempotency-Key, empty: none
	OrderKey     string // what keyed subscriptions order it by
	Began, Ended time.Time
	Outcome      Outcome
	ID           string // X-Hub-Message-Id, when acknowledged
	Offset       uint64 // the offset in it
}

// Reply is what a subscriber did with a delivery.
type Reply uint8

const (
	// Failed: the subscriber answered with an error, or not at all.
	Failed Reply = iota
	// Took: 2xx, in good time.
	Took
	// Unclear: 2xx, but the hub may not have got it.
	Unclear
)

// Delivery is one content distribution request as a subscriber got it.
type Delivery struct {
	Subscription string
	Topic        string
	Body         string // its name
	Intact       bool   // the body is the one that was published, and the signature, where due, is right
	ID           string
	Offset       uint64
	Run          int    // the life of the hub that sent it
	From         string // the address of who sent it: not the same for all nodes only where each has a network of its own
	At           time.Time
	Reply        Reply
	Replied      time.Time
}

// Episode is one life of a subscription: from a subscribe request to the end that an unsubscribe request brought.
// Moments that did not come are zero.
type Episode struct {
	Subscription string
	Topic        string
	Asked        time.Time   // the subscribe request was made
	Verified     []time.Time // the subscriber confirmed; again when a crash made the hub ask again
	Active       time.Time   // the hub was seen to list it as active
	Settled      uint64      // the subscription had got all up to this offset when the end was asked for
	EndAsked     time.Time   // the unsubscribe request was made
	EndVerified  []time.Time
	Gone         time.Time // the hub was seen not to list it any more
}

// End is how a life of the hub ended.
type End uint8

const (
	// Running: it has not.
	Running End = iota
	// Killed: SIGKILL, or the process ended itself because of a fault.
	Killed
	// Stopped: SIGTERM, in good order.
	Stopped
)

// Run is one life of the hub process. Runs count from 1 and do not overlap.
type Run struct {
	How   End
	Ended time.Time // just before the signal was sent or the fault began
}

// Ledger is the account of a scenario. Safe for concurrent use, until it is checked.
type Ledger struct {
	mu         sync.Mutex
	bodies     map[string][32]byte // name, hash of the whole
	orderKeys  map[string]string   // of the bodies
	terms      map[string]Terms    // of subscriptions that are not in the order of the log, each by itself
	publishes  []*Publish
	deliveries []*Delivery
	episodes   []*Episode
	runs       []Run // number 1 is at 0
	troubles   []*Trouble
	noticed    int // of the troubles
	reads      []Read
	oddities   []error
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{bodies: map[string][32]byte{}, orderKeys: map[string]string{}, terms: map[string]Terms{}}
}

// Agreed books how a subscription is to get its messages, before it is asked for.
func (l *Ledger) Agreed(subscription string, t Terms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.terms[subscription] = t
}

// Sending books an attempt that is about to be made; the content is what goes over the wire.
func (l *Ledger) Sending(p Publish, content []byte) *Publish {
	hash := sha256.Sum256(content)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies[p.Body], l.orderKeys[p.Body] = hash, p.OrderKey
	p.Began = time.Now()
	l.publishes = append(l.publishes, &p)
	return &p
}

// Sent books what came of an attempt.
func (l *Ledger) Sent(p *Publish, outcome Outcome, id string, offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.Ended, p.Outcome, p.ID, p.Offset = time.Now(), outcome, id, offset
}

// Arrived books a delivery at its arrival. It counts as failed until Answered says otherwise.
func (l *Ledger) Arrived(d Delivery, content []byte) *Delivery {
	hash := sha256.Sum256(content)
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Intact = d.Intact && l.bodies[d.Body] == hash
	d.At = time.Now()
	l.deliveries = append(l.deliveries, &d)
	return &d
}

// Answered books the answer to a delivery. Book before the answer is written, or the hub acts on it first.
func (l *Ledger) Answered(d *Delivery, r Reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Reply, d.Replied = r, time.Now()
}

// Subscribing books a subscribe request that is about to be made.
func (l *Ledger) Subscribing(subscription, topic string) *Episode {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Episode{Subscription: subscription, Topic: topic, Asked: time.Now()}
	l.episodes = append(l.episodes, e)
	return e
}

// Edit changes an episode.
func (l *Ledger) Edit(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// Confirming books that a subscriber is about to confirm an intent. It returns false when it has asked for no
// such thing, and should not confirm.
func (l *Ledger) Confirming(subscription string, subscribe bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.episodes) - 1; i >= 0; i-- {
		e := l.episodes[i]
		if e.Subscription != subscription {
			continue
		}
		switch {
		case subscribe && e.EndAsked.IsZero():
			e.Verified = append(e.Verified, time.Now())
			return true
		case !subscribe && !e.EndAsked.IsZero():
			e.EndVerified = append(e.EndVerified, time.Now())
			return true
		}
		return false
	}
	return false
}

// odd books an answer that a hub must not give.
func (l *Ledger) odd(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oddities = append(l.oddities, err)
}

// Starting books a new life of the hub.
func (l *Ledger) Starting() (run int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, Run{})
	return len(l.runs)
}

// Ending books that the current life is about to end. The first call counts: behind a fault nothing is durable.
func (l *Ledger) Ending(how End) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := &l.runs[len(l.runs)-1]; last.How == Running {
		*last = Run{How: how, Ended: time.Now()}
	}
}

// LastAcknowledged is the highest offset of a topic that a publisher was told; 0: none.
func (l *Ledger) LastAcknowledged(topic string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last uint64
	for _, p := range l.publishes {
		if p.Topic == topic && p.Outcome == Acknowledged {
			last = max(last, p.Offset)
		}
	}
	return last
}

// LastTaken is when a unit last took something, repeats included; zero: never.
func (l *Ledger) LastTaken(unit string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.deliveries) - 1; i >= 0; i-- {
		if d := l.deliveries[i]; d.Reply == Took && l.unitOf(d.Subscription) == unit {
			return d.At
		}
	}
	return time.Time{}
}

// Owing are the units that have not taken all they are owed by now, each with how much is missing.
func (l *Ledger) Owing() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for _, s := range l.shortfalls() {
		out[s.unit] += s.missing
	}
	return out
}
