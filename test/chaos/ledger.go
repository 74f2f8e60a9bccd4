package chaos

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Outcome is what a publisher knows about an attempt.
type Outcome uint8

const (
	// Unknown is no answer, or a 5xx. The message may exist or not.
	Unknown Outcome = iota
	// Acknowledged is a 2xx. The message exists.
	Acknowledged
	// Refused is a 4xx. The message does not exist.
	Refused
)

// Publish is one attempt to publish a body. Attempts with an Idempotency-Key may be repeated with the same
// body.
type Publish struct {
	Topic        string
	Body         string // its unique name
	Key          string // Idempotency-Key, or empty
	OrderKey     string // the key for keyed subscriptions
	Began, Ended time.Time
	Outcome      Outcome
	ID           string // X-Hub-Message-Id, if acknowledged
	Offset       uint64 // the offset in ID
}

// Reply is what a subscriber did with a delivery.
type Reply uint8

const (
	// Failed is an error, or no answer at all.
	Failed Reply = iota
	// Accepted is a 2xx in time.
	Accepted
	// Unclear is a 2xx that the hub may not have received.
	Unclear
)

// Delivery is one content distribution request as a subscriber received it.
type Delivery struct {
	Subscription string
	Topic        string
	Body         string // its name
	Intact       bool   // the body is the published one, and the signature, if due, is correct
	ID           string
	Offset       uint64
	Run          int    // the run of the hub that sent it; 0 in a cluster
	From         string // the sender's address, which differs between nodes only where each has its own network
	At           time.Time
	Reply        Reply
	Replied      time.Time
}

// Episode is one lifetime of a subscription, from a subscribe request to the end that an unsubscribe request
// caused. Times of what did not happen are zero.
type Episode struct {
	Subscription string
	Topic        string
	Asked        time.Time   // the subscribe request was sent
	Verified     []time.Time // the subscriber confirmed; several if a crash made the hub ask again
	Active       time.Time   // the hub was seen to list it as active
	Settled      uint64      // everything up to this offset had been received when the unsubscribe request was sent
	EndAsked     time.Time   // the unsubscribe request was sent
	EndVerified  []time.Time
	Gone         time.Time // the hub was seen to no longer list it
}

// End is how a run of the hub ended.
type End uint8

const (
	// Running is a run that has not ended.
	Running End = iota
	// Killed is SIGKILL, or a process that ended itself because of a fault.
	Killed
	// Stopped is SIGTERM and a graceful stop.
	Stopped
)

// Run is one run of the hub process. Runs are numbered from 1 and do not overlap.
type Run struct {
	How   End
	Ended time.Time // just before the signal was sent or the fault began
}

// Ledger is the record of a scenario. Safe for concurrent use until it is checked.
type Ledger struct {
	mu          sync.Mutex
	bodies      map[string][32]byte // name to hash of the content
	orderKeys   map[string]string   // body name to order key
	terms       map[string]Terms    // by subscription; absent: ordered, without a group
	publishes   []*Publish
	deliveries  []*Delivery
	episodes    []*Episode
	runs        []Run // number 1 is at 0
	disruptions []*Disruption
	observed    int // how many of the disruptions
	reads       []Read
	violations  []error
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{bodies: map[string][32]byte{}, orderKeys: map[string]string{}, terms: map[string]Terms{}}
}

// SetTerms records how a subscription is to receive its messages, before it is requested.
func (l *Ledger) SetTerms(subscription string, t Terms) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.terms[subscription] = t
}

// Sending records an attempt that is about to be made; content is what goes over the wire.
func (l *Ledger) Sending(p Publish, content []byte) *Publish {
	hash := sha256.Sum256(content)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies[p.Body], l.orderKeys[p.Body] = hash, p.OrderKey
	p.Began = time.Now()
	l.publishes = append(l.publishes, &p)
	return &p
}

// Sent records the outcome of an attempt.
func (l *Ledger) Sent(p *Publish, outcome Outcome, id string, offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.Ended, p.Outcome, p.ID, p.Offset = time.Now(), outcome, id, offset
}

// Arrived records a delivery on arrival. It counts as failed until Answered records otherwise.
func (l *Ledger) Arrived(d Delivery, content []byte) *Delivery {
	hash := sha256.Sum256(content)
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Intact = d.Intact && l.bodies[d.Body] == hash
	d.At = time.Now()
	l.deliveries = append(l.deliveries, &d)
	return &d
}

// Answered records the answer to a delivery. Call it before the answer is written, or the hub may act on the
// answer first.
func (l *Ledger) Answered(d *Delivery, r Reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Reply, d.Replied = r, time.Now()
}

// Subscribing records a subscribe request that is about to be sent.
func (l *Ledger) Subscribing(subscription, topic string) *Episode {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Episode{Subscription: subscription, Topic: topic, Asked: time.Now()}
	l.episodes = append(l.episodes, e)
	return e
}

// Edit runs f, which changes an episode.
func (l *Ledger) Edit(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// Confirming records that a subscriber is about to confirm an intent. It returns false if the subscriber
// requested no such thing and must not confirm.
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

// violation records a response that a hub must not give.
func (l *Ledger) violation(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violations = append(l.violations, err)
}

// Starting records a new run of the hub and returns its number.
func (l *Ledger) Starting() (run int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, Run{})
	return len(l.runs)
}

// Ending records that the current run is about to end. The first call counts: after a fault nothing is
// durable.
func (l *Ledger) Ending(how End) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := &l.runs[len(l.runs)-1]; last.How == Running {
		*last = Run{How: how, Ended: time.Now()}
	}
}

// LastAcknowledged returns the highest acknowledged offset of a topic, or 0.
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

// LastAccepted returns when a unit last accepted something, repeats included, or the zero time.
func (l *Ledger) LastAccepted(unit string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.deliveries) - 1; i >= 0; i-- {
		if d := l.deliveries[i]; d.Reply == Accepted && l.unitOf(d.Subscription) == unit {
			return d.At
		}
	}
	return time.Time{}
}

// Missing returns the units that have not accepted everything due by now, each with the number of missing
// messages.
func (l *Ledger) Missing() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for _, s := range l.shortfalls() {
		out[s.unit] += s.missing
	}
	return out
}
