package delivery

import (
	"container/heap"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// laneState says where a lane is at the moment; it is in one place only.
type laneState uint8

const (
	laneIdle      laneState = iota // caught up: in its topic's idle list
	laneReady                      // in a ready queue
	laneRunning                    // with a worker
	laneWaiting                    // in the retry heap until it is due
	laneSettling                   // waits until a dead letter or its end is in the log
	laneExpired                    // the lease has run out; a renewal revives it
	lanePaused                     // by an operator, until resumed
	laneBlocked                    // waits for a place at its host
	laneReleasing                  // drained: waits until another node has it
	laneEnded                      // the subscription is gone, or another node's
)

// lane is one subscription's way out: what is needed to send to it, and how far it has come. There is one
// for each subscription this node owns, so it is kept small; an idle one costs nothing else. All fields
// are guarded by Dispatcher.mu.
type lane struct {
	id    hub.SubscriptionID
	topic *topicLanes

	callback    string
	callbackKey string
	sealed      []byte
	signature   string
	webhooks    *webhookSecrets // nil: X-Hub-Signature only
	expires     int64           // Unix nanoseconds
	renewed     int64           // Unix nanoseconds of the request the fields above come from

	epoch uint64 // of the assignment to this node

	done         uint64 // offset of the last message that needs no further attempt
	delivered    uint64
	failures     uint64 // failed attempts in a row, over all messages
	failingSince int64  // Unix nanoseconds of the first failure in a row, 0: none
	attempts     uint32 // at done+1
	refused      uint32 // of these, definite refusals

	facing int64    // Unix nanoseconds at which the message behind done was published; 0: not looked at yet
	past   *history // last attempts, nil: none

	due      time.Duration // laneWaiting: when, on the dispatcher's own clock
	endpoint *Endpoint     // nil until needed, and again when it was not used for long
	worker   *worker       // laneRunning
	next     *lane         // in a ready queue: the one behind it
	options  *hub.Options  // nil: the defaults
	pace     *pace         // nil: no limit
	host     *host         // nil: no limit

	// Of a lane whose messages come from a flow: how far it is, the flow knows.
	flow    *flow
	spare   []*Endpoint // not in use
	running int         // workers that serve it
	window

	slot int32 // laneIdle: index in the idle list; laneWaiting: index in the heap

	status    int32 // last HTTP status, 0: none
	reason    egress.Reason
	gen       uint32 // rises with each renewal
	jumps     uint32 // rises when the lane is put elsewhere in the log: what was under way no longer says how far it is
	state     laneState
	slow      bool  // the last attempt took long or failed
	dirty     bool  // its cursor is to be written
	queued    bool  // linked in a ready queue, whatever its state
	sick      bool  // flow: its endpoint was down at last, and is probed with one message
	clock     bool  // no lane at all: it reminds of a flow's retries
	invited   bool  // a place at its host is kept for it
	hot       bool  // it is in the ring of kept endpoints
	overloads uint8 // in a row, as far as this node knows
	paused    bool
	draining  bool // another node is to take over: it stops after the attempt under way
}

// topicLanes are the lanes of one topic.
type topicLanes struct {
	id    hub.TopicID
	name  string
	head  uint64
	link  string // Link header of messages without a rel=self of their own
	self  string // rel=self of the last message that had one, and its Link header
	slink string
	lanes int // all of them
	idle  []*lane
	flows []*flow

	fast, slow topicQueue // lanes that are ready
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

// retryHeap holds waiting lanes, the one due first on top.
type retryHeap []*lane

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h retryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = int32(i), int32(j)
}

func (h *retryHeap) Push(x any) {
	l := x.(*lane)
	l.slot = int32(len(*h))
	*h = append(*h, l)
}

func (h *retryHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}

func (h *retryHeap) add(l *lane, due time.Duration) {
	l.state, l.due = laneWaiting, due
	heap.Push(h, l)
}

func (h *retryHeap) remove(l *lane) { heap.Remove(h, int(l.slot)) }
