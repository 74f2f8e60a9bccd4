package delivery

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"quorumhub/delivery/credential"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
)

// DispatcherOptions configures a Dispatcher. Fields without a default are required.
type DispatcherOptions struct {
	Node      string // this node's ID, stamped into cursor events
	HubURL    string // rel=hub of deliveries: the hub's public URL, the same on all nodes
	Signature string // the method for subscriptions that name none; empty: sha256
	// SignatureFor returns the method for callbacks at a host (its name in lower case, without a port) whose
	// subscriptions name none. nil: Signature.
	SignatureFor func(host string) string

	Namer    *hub.TopicNamer
	State    hub.StateReader
	Messages hub.MessageReader
	Parts    hub.PartReader // nil: no message is larger than hub.MaxInlineBytes
	Proposer hub.Proposer
	Secrets  hub.SecretBox
	Clock    hub.Clock
	Log      *slog.Logger
	Pusher   *Pusher
	// Credentials knows what callbacks demand beside; nil: nothing.
	Credentials *credential.Book
	// Notices are sent with the messages of deprecated topics; nil: there are none.
	Notices *hub.TopicNotices
	// Contents are the topics whose content is not simply delivered; nil: there are none.
	Contents *hub.TopicContents
	// References are what some subscriptions get in place of content; nil: none does.
	References *References
	// Policies change what is sent; nil: nothing.
	Policies hub.DeliveryPolicies

	Timeout     time.Duration // of one attempt, plus a second for each MiB of a large message; 0: 10 s
	Concurrency int           // attempts in flight to endpoints that answer quickly; 0: 256
	// MaxInFlight bounds all attempts in flight, slow ones included; 0: 16 times Concurrency, at least 2048. Each can
	// hold one connection.
	MaxInFlight int
	PerHost     int // attempts in flight to one host; 0: no separate limit
	// SlowAfter is how long an attempt counts against Concurrency; 0: 100 ms.
	SlowAfter   time.Duration
	Retry       retry.Policy
	CursorFlush time.Duration // how often cursors are written; 0: 250 ms

	// Contact is hub.Cluster.Contact. A node that has been out of touch for Lease stops sending, because others may
	// have been given its subscriptions by then, and resumes once it has caught up with the log (invariant I4). nil:
	// there is no other node and never will be.
	Contact func() time.Duration
	Lease   time.Duration // 0: hub.ContactLease; must be well below placement.Options.MoveAfter

	// Attempted, if set, is called after every attempt, concurrently. It must not block.
	Attempted func(topic hub.TopicID, r PushResult)
}

// Dispatcher distributes content (WebSub section 7): it delivers every message of a topic to each subscription
// assigned to its node, one after another in log order (invariant I2).
//
// Each of these subscriptions has a lane. A lane with messages to send is served by a worker goroutine; an idle or
// waiting lane by none. Workers come in two classes, so that slow or hanging endpoints cannot take the places of
// healthy ones: an attempt that takes longer than SlowAfter gives back its place among the Concurrency fast ones, and
// a lane whose last attempt was slow or failed starts in the slow class.
//
// The Dispatcher is a hub.Observer. Register it before the log starts to move, then call Start. All methods are safe
// for concurrent use.
type Dispatcher struct {
	o       DispatcherOptions
	slowCap int
	base    time.Time // origin of the dispatcher's own clock, which ignores changes of the wall clock

	mu            sync.Mutex
	topics        map[hub.TopicID]*topicLanes
	heads         map[hub.TopicID]uint64 // of all topics with messages: a new subscription may start behind its topic's head
	lanes         map[hub.SubscriptionID]*lane
	order         []*lane               // the same, so that a scan of all can be interrupted
	flows         map[hub.GroupID]*flow // of consumer groups
	hosts         map[string]*host
	fastQ         fairQueue
	slowQ         fairQueue
	retries       retryHeap
	running       []*worker
	fast          int // workers that count against Concurrency
	slow          int // the other workers
	dirty         []*lane
	dirtyFlows    []*flow
	settle        []settlement
	warmEndpoints []*lane // ring of lanes that keep their endpoint
	nextWarm      int
	histories     []*lane // ring of lanes that keep a history
	nextHistory   int
	stats         Stats
	started       bool
	closing       bool // nothing new is sent
	closed        bool // Close was called

	loading bool
	late    map[hub.SubscriptionID]uint64 // see load

	urgent     bool          // a released subscription waits to be handed over
	lapsed     bool          // out of touch; nothing is sent
	leaseUntil time.Duration // on the dispatcher's own clock
	cutFor     time.Duration // the leaseUntil whose end has cut off what was in flight
	// resumedOnce: a lease was held in this run, so that no cursor in the log is older than the lanes. keepLease only.
	resumedOnce bool
	lastMark    uint64      // of the last hubpb.DeliveryResumed proposed
	resumed     chan uint64 // marks seen in the log
	endLease    context.CancelFunc

	ctx     context.Context
	abort   context.CancelCauseFunc
	wakeAt  time.Duration // when the timekeeper looks next
	tick    chan struct{} // wakes the timekeeper
	note    chan struct{} // wakes the recorder
	final   chan struct{} // closed to make the recorder write what is left and end
	flushed error         // error of the last write; valid once the loops have ended
	workers sync.WaitGroup
	loops   sync.WaitGroup
	stop    chan struct{} // closed to end the timekeeper
}

// NewDispatcher returns a dispatcher that only listens until Start.
func NewDispatcher(o DispatcherOptions) *Dispatcher {
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.SlowAfter = cmp.Or(o.SlowAfter, 100*time.Millisecond)
	o.CursorFlush = cmp.Or(o.CursorFlush, 250*time.Millisecond)
	o.Lease = cmp.Or(o.Lease, hub.ContactLease)
	if o.Concurrency <= 0 {
		o.Concurrency = 256
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = max(16*o.Concurrency, 2048)
	}
	o.MaxInFlight = max(o.MaxInFlight, o.Concurrency+1)
	if o.Signature == "" {
		o.Signature = SHA256
	}
	base := time.Now()
	leaseUntil := forever
	if o.Contact != nil {
		leaseUntil = 0
	}
	return &Dispatcher{
		o: o, slowCap: max(1, (o.MaxInFlight-o.Concurrency)/2), base: base,
		topics: map[hub.TopicID]*topicLanes{}, heads: map[hub.TopicID]uint64{}, lanes: map[hub.SubscriptionID]*lane{},
		flows: map[hub.GroupID]*flow{}, hosts: map[string]*host{},
		loading: true, late: map[hub.SubscriptionID]uint64{},
		// After downtime, the assignments in this node's files may be long out of date.
		lapsed: o.Contact != nil, leaseUntil: leaseUntil, lastMark: uint64(base.UnixNano()), resumed: make(chan uint64, 1),
		tick: make(chan struct{}, 1), note: make(chan struct{}, 1),
		final: make(chan struct{}), stop: make(chan struct{}),
	}
}

// Start takes over this node's subscriptions from the state and begins to deliver. Cancelling ctx cuts off attempts
// in flight at once; Close is the orderly way and must be called in either case.
func (d *Dispatcher) Start(ctx context.Context) {
	d.ctx, d.abort = context.WithCancelCause(ctx)
	d.load(nil)
	d.mu.Lock()
	d.started, d.wakeAt = true, forever
	d.scheduleLocked()
	d.mu.Unlock()
	d.loops.Add(2)
	go d.keepTime()
	go d.record()
	if d.o.Contact != nil {
		lease, cancel := context.WithCancel(d.ctx)
		d.endLease = cancel
		d.loops.Add(1)
		go d.keepLease(lease)
	}
}

// Applied implements hub.Observer.
func (d *Dispatcher) Applied(fx *hub.Effects) {
	if len(fx.Messages)+len(fx.Subscriptions)+len(fx.Ended)+len(fx.Moved)+len(fx.RemovedTopics)+len(fx.Resumed) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range fx.Subscriptions {
		d.adoptLocked(&fx.Subscriptions[i])
	}
	for i := range fx.Messages {
		d.growLocked(fx.Messages[i].Topic, fx.Messages[i].Offset, fx.Messages[i].Time)
	}
	if len(fx.Moved) > 0 {
		through := make(map[hub.TopicID]uint64, len(fx.Trims))
		for _, t := range fx.Trims {
			through[t.Topic] = max(through[t.Topic], t.Through)
		}
		for _, id := range fx.Moved {
			if l := d.lanes[id]; l != nil {
				d.skipLocked(l, through[l.topic.id])
			}
		}
	}
	for _, e := range fx.Ended {
		d.endLocked(e.ID)
	}
	for _, id := range fx.RemovedTopics {
		delete(d.heads, id)
	}
	for _, r := range fx.Resumed {
		d.metLocked(r)
	}
	if !d.loading {
		d.late = nil
	}
	d.scheduleLocked()
}

// Close stops delivery in an orderly way: it starts nothing new, lets attempts in flight finish until ctx is done,
// cuts off the rest, and writes the cursors. It returns the error of the last write; some messages are then sent
// again after the next start.
func (d *Dispatcher) Close(ctx context.Context) error {
	d.mu.Lock()
	if !d.started || d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closing, d.closed = true, true
	d.mu.Unlock()

	done := make(chan struct{})
	go func() {
		d.workers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		d.mu.Lock()
		for _, w := range d.running {
			w.cutLocked(errClosing)
		}
		d.mu.Unlock()
		<-done
	}
	if d.endLease != nil {
		d.endLease()
	}
	close(d.stop)
	close(d.final)
	limit := time.AfterFunc(finalTime, func() { d.abort(errClosing) }) // in case the recorder is stuck
	defer limit.Stop()
	d.loops.Wait()
	d.abort(errClosing)
	return d.flushed
}

// DefaultLease is the default contact lease: how long a node delivers without hearing from the leader.
const DefaultLease = 1500 * time.Millisecond

// Stats holds a Dispatcher's figures.
type Stats struct {
	// Since the start.
	Attempts, Delivered, Failed, DeadLettered, Gone uint64
	// Now.
	Lanes   int // subscriptions
	Fast    int // workers in the fast class, between two attempts or in one
	Slow    int // workers in the slow class
	Ready   int // lanes that wait for a worker
	Waiting int // lanes that wait for their next attempt
	Unsaved int // cursors not yet written

	OutOfTouch bool // nothing is sent until the node has caught up with the cluster
}
