package delivery

import (
	"context"
	"errors"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// laneState is the one place a lane is in.
type laneState uint8

const (
	laneIdle      laneState = iota // caught up: in its topic's idle list
	laneReady                      // in a ready queue
	laneRunning                    // with a worker
	laneWaiting                    // in the retry heap until it is due
	laneSettling                   // until a dead letter or its end is in the log
	laneExpired                    // the lease has expired, and a renewal revives it; also: nowhere
	lanePaused                     // by an operator
	laneBlocked                    // waits for a place at its host
	laneReleasing                  // drained: waits until another node owns it
	laneEnded                      // the subscription has ended or belongs to another node
)

// wishes are what few subscribers ask for.
type wishes struct {
	headers string // sealed; empty: none
	key     string // to which messages are encrypted; empty: none
}

// wishesOf returns what a subscriber asks for; nil: nothing.
func wishesOf(s *hub.Subscription) *wishes {
	if s.SealedHeaders == "" && s.EncryptionKey == "" {
		return nil
	}
	return &wishes{s.SealedHeaders, s.EncryptionKey}
}

// lane holds what it takes to send to one subscription, and its progress. Every subscription this node owns has one,
// so it is kept small; an idle lane costs nothing else. All fields are guarded by Dispatcher.mu.
type lane struct {
	id    hub.SubscriptionID
	topic *topicLanes

	callback    string
	callbackKey string
	sealed      []byte
	signature   string
	wishes      *wishes         // nil: none
	webhooks    *webhookSecrets // nil: X-Hub-Signature only
	expires     int64           // Unix nanoseconds
	renewed     int64           // Unix nanoseconds of the request that the fields above come from

	epoch uint64 // of the assignment to this node

	done         uint64 // offset of the last message that needs no further attempt
	delivered    uint64
	failures     uint64 // failed attempts in a row, over all messages
	failingSince int64  // Unix nanoseconds of the first failure in a row; 0: none
	attempts     uint32 // at done+1
	refused      uint32 // definite refusals among these

	headOfLineAt int64    // Unix nanoseconds at which the message behind done was published; 0: not yet read
	history      *history // last attempts; nil: none

	due      time.Duration // of a waiting lane, on the dispatcher's own clock
	endpoint *Endpoint     // nil until needed, and again after long disuse
	worker   *worker       // of a running lane
	next     *lane         // the lane behind it in a ready queue
	options  *hub.Options  // nil: the defaults
	pace     *pace         // nil: no limit
	host     *host         // nil: no limit

	// Of a lane whose messages come from a flow. The flow holds the cursor.
	flow    *flow
	spare   []*Endpoint // endpoints not in use
	running int         // workers that serve the lane
	window

	link string // Link header; empty: the topic's

	slot  int32 // index in the idle list or the retry heap
	place int32 // index in Dispatcher.order

	status    int32 // last HTTP status; 0: none
	reason    egress.Reason
	gen       uint32 // rises with each renewal
	rewinds   uint32 // rises when the lane moves within the log, which voids what was in flight
	state     laneState
	slow      bool  // the last attempt was slow or failed
	dirty     bool  // the cursor must be written
	queued    bool  // linked in a ready queue, whatever its state
	sick      bool  // of a flow: the endpoint was down last, and is probed with one message
	isTimer   bool  // not a subscription: the timer for a flow's retries
	invited   bool  // a place at its host is reserved for it
	warm      bool  // in the ring of warm endpoints
	overloads uint8 // in a row, as far as this node knows
	paused    bool
	draining  bool // another node takes over: the lane stops after the attempt in flight
}

// topicLanes are the lanes of one topic.
type topicLanes struct {
	id    hub.TopicID
	name  string
	head  uint64
	link  string // Link header of messages without a rel=self of their own
	self  string // rel=self of the last message that had one; slink is its Link header
	slink string
	lanes int // number of lanes, idle or not
	idle  []*lane
	flows []*flow

	fast, slow topicQueue // ready lanes
}

func (t *topicLanes) park(l *lane) {
	l.state, l.slot = laneIdle, int32(len(t.idle))
	t.idle = append(t.idle, l)
}

func (t *topicLanes) unpark(l *lane) {
	last := len(t.idle) - 1
	t.idle[last].slot = l.slot
	t.idle[l.slot] = t.idle[last]
	t.idle[last] = nil
	t.idle = t.idle[:last]
}

// class is the kind of place a worker holds: among the fast or among the slow ones.
type class uint8

const (
	classNone class = iota
	classFast
	classSlow
)

// worker serves one lane at a time. Dispatcher.mu guards all fields but batch, ctx and cancel, which only the
// worker's own goroutine changes, and only while no attempt is in flight.
type worker struct {
	lane    *lane
	class   class
	index   int           // in Dispatcher.running
	started time.Duration // when the attempt in flight began, on the dispatcher's clock; 0: none
	extra   time.Duration // what the attempt may take beyond the timeout

	ctx    context.Context
	cancel context.CancelCauseFunc
	batch  []hub.Message
}

// cutLocked cancels the attempt in flight.
func (w *worker) cutLocked(cause error) {
	if w.started != 0 {
		w.cancel(cause)
	}
}

// Causes of an attempt's end by the hub.
var (
	errEnded      = errors.New("the subscription ended")
	errMoved      = errors.New("another node delivers the subscription")
	errOutOfTouch = errors.New("out of touch with the cluster")
	errClosing    = errors.New("the hub is stopping")
)

// host is the host and port of callbacks, with the attempts in flight to it.
type host struct {
	name    string
	lanes   int
	busy    int
	waiting []*lane // for an attempt to end
}

// window is how many messages a lane of a flow may have in flight: its subscription's window, halved by every
// overload (429, or no answer in time) down to one, and one more after as many successes as it is wide. It is local
// to this node: another owner starts with the whole window. All fields are guarded by Dispatcher.mu.
type window struct {
	closed     uint16 // places of the subscription's window that are closed
	credit     uint16 // successes since it last grew or shrank
	narrowings uint32 // overloads that narrowed it
}

// standing is a lane's failure counts when an attempt began. A failure counts only if no other was counted meanwhile.
type standing struct {
	failures   uint64
	narrowings uint32
}

// topicQueue is one topic's part of a fairQueue.
type topicQueue struct {
	head, tail *lane
	next       *topicQueue
	queued     bool
}

// webhookSecrets marks a subscription that wants Standard Webhooks signatures too.
type webhookSecrets struct {
	former []hub.FormerSecret // secrets that still sign beside the current one
}
