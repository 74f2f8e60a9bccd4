package demo

import (
	"crypto/sha256"
	"sync"

	"quorumhub/cli/subscriber"
)

// ledger compares what was acknowledged with what arrived, independently of the hub's own records. Every body must be different. It
// is safe for concurrent use.
type ledger struct {
	mu       sync.Mutex
	rows     map[ledgerKey]*ledgerRow
	last     map[string]int // by topic: the highest number that has arrived
	verdict  verdict
	progress chan struct{} // receives when something has changed
}

type ledgerKey struct {
	topic string
	sum   [sha256.Size]byte
}

type ledgerRow struct {
	number       int
	acknowledged bool
	arrivals     int
}

// verdict summarises a ledger.
type verdict struct {
	Acknowledged int
	// Arrived counts the acknowledged messages that arrived at least once.
	Arrived int
	// Repeated counts arrivals of a message after its first.
	Repeated int
	// OutOfOrder counts first arrivals that follow the arrival of a later message of the same topic.
	OutOfOrder int
	// Altered counts arrivals that nobody published.
	Altered int
	// Unsigned counts arrivals without a valid signature.
	Unsigned int
}

func (v verdict) lost() int { return v.Acknowledged - v.Arrived }

func (v verdict) good() bool {
	return v.lost() == 0 && v.OutOfOrder == 0 && v.Altered == 0 && v.Unsigned == 0
}

func newLedger() *ledger {
	return &ledger{rows: make(map[ledgerKey]*ledgerRow), last: make(map[string]int), progress: make(chan struct{}, 1)}
}

// attempt records that a message is about to be published. Messages are expected to arrive in the order of their attempts.
func (l *ledger) attempt(topic string, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows[ledgerKey{topic, sha256.Sum256(body)}] = &ledgerRow{number: len(l.rows) + 1}
}

// acknowledge records that the hub has accepted a message.
func (l *ledger) acknowledge(topic string, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	row := l.rows[ledgerKey{topic, sha256.Sum256(body)}]
	if row == nil || row.acknowledged {
		return
	}
	row.acknowledged = true
	l.verdict.Acknowledged++
	if row.arrivals > 0 {
		l.verdict.Arrived++
	}
	l.wake()
}

// arrive records a delivery.
func (l *ledger) arrive(d subscriber.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.wake()
	if d.Signature != subscriber.SignatureOK {
		l.verdict.Unsigned++
		return
	}
	row := l.rows[ledgerKey{d.Topic, sha256.Sum256(d.Body)}]
	if row == nil {
		l.verdict.Altered++
		return
	}
	row.arrivals++
	if row.arrivals > 1 {
		l.verdict.Repeated++
		return
	}
	if row.acknowledged {
		l.verdict.Arrived++
	}
	if row.number < l.last[d.Topic] {
		l.verdict.OutOfOrder++
	}
	l.last[d.Topic] = max(l.last[d.Topic], row.number)
}

func (l *ledger) wake() {
	select {
	case l.progress <- struct{}{}:
	default:
	}
}

func (l *ledger) read() verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verdict
}
