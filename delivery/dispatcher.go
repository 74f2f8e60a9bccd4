package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"quorumhub/hub"
)

// DispatcherOptions is what a Dispatcher needs. Fields without a default are required.
type DispatcherOptions struct {
	Node      string // this node's id, stamped into cursor events
	HubURL    string // rel=hub of deliveries: the hub's public URL, the same on all nodes
	Signature string // method for subscriptions that name none; empty: sha256

	Namer    *hub.TopicNamer
	State    hub.StateReader
	Messages hub.MessageReader
	Proposer hub.Proposer
	Secrets  hub.SecretBox
	Clock    hub.Clock
	Log      *slog.Logger
	Pusher   *Pusher

	Timeout     time.Duration // for one attempt; 0: 10 s
	Concurrency int           // attempts under way to endpoints that answer quickly; 0: 256
	// MaxInFlight bounds all attempts under way, slow ones included; 0: 16 times Concurrency, at least 2048.
	// Each can hold one connection.
	MaxInFlight int
	// SlowAfter is how long an attempt counts against Concurrency; 0: 100 ms.
	SlowAfter   time.Duration
	Retry       RetryPolicy
	CursorFlush time.Duration // how often cursors are written; 0: 250 ms

	// Attempted, when set, is told of every attempt, concurrently, and must not block.
	Attempted func(topic hub.TopicID, r PushResult)
}

// Dispatcher distributes content (WebSub section 7): it sees to it that every message of a topic reaches each
// of its subscriptions, one after another in log order (invariant I2).
//
// Each subscription has a lane. A lane with messages to send is served by a worker goroutine, an idle or
// waiting one by none. Workers come in two classes, so that slow or hanging endpoints cannot take the
// places of healthy ones: an attempt that takes longer than SlowAfter gives back its place among the
// Concurrency fast ones, and a lane whose last attempt was slow or failed starts out in the slow class.
//
// The Dispatcher is a hub.Observer. Register it before the log starts to move, then call Start. All methods
// are safe for concurrent use.
type Dispatcher struct {
	o       DispatcherOptions
	slowCap int
	base    time.Time // origin of the dispatcher's own clock, which no change of the wall clock moves

	mu      sync.Mutex
	topics  map[hub.TopicID]*topicLanes
	heads   map[hub.TopicID]uint64 // of all topics with messages: a new subscription may start behind its topic's head
	lanes   map[hub.SubscriptionID]*lane
	fastQ   laneQueue
	slowQ   laneQueue
	retries retryHeap
	running []*worker
	fast    int // workers that count against Concurrency
	slow    int // the others
	dirty   []*lane
	settle  []settlement
	hot     []*lane // ring of lanes that keep their endpoint
	hotNext int
	stats   Stats
	started bool
	closing bool // nothing new is sent
	closed  bool // Close was called

	// What happened while the state is being read at the start, so that the older picture does not undo it.
	loading   bool
	endedLate map[hub.SubscriptionID]struct{}

	ctx     context.Context
	abort   context.CancelCauseFunc
	wakeAt  time.Duration // when the timekeeper looks next
	tick    chan struct{} // wakes the timekeeper
	note    chan struct{} // wakes the recorder
	final   chan struct{} // closed when the recorder is to write what is left and end
	flushed error         // of the last write, valid after done
	workers sync.WaitGroup
	loops   sync.WaitGroup
	stop    chan struct{} // closed to end the timekeeper
}

var (
	errEnded   = errors.New("the subscription ended")
	errClosing = errors.New("the hub is stopping")
)

// NewDispatcher builds a dispatcher that does nothing yet but listen.
func NewDispatcher(o DispatcherOptions) *Dispatcher {
	o.Timeout = orDuration(o.Timeout, 10*time.Second)
	o.SlowAfter = orDuration(o.SlowAfter, 100*time.Millisecond)
	o.CursorFlush = orDuration(o.CursorFlush, 250*time.Millisecond)
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
	return &Dispatcher{
		o: o, slowCap: max(1, (o.MaxInFlight-o.Concurrency)/2), base: time.Now(),
		topics: map[hub.TopicID]*topicLanes{}, heads: map[hub.TopicID]uint64{}, lanes: map[hub.SubscriptionID]*lane{},
		loading: true, endedLate: map[hub.SubscriptionID]struct{}{},
		tick: make(chan struct{}, 1), note: make(chan struct{}, 1),
		final: make(chan struct{}), stop: make(chan struct{}),
	}
}

// Start takes over the subscriptions in the state and begins to deliver. Cancelling ctx cuts off what is
// under way at once; Close is the orderly way, and is to be called in either case.
func (d *Dispatcher) Start(ctx context.Context) {
	d.ctx, d.abort = context.WithCancelCause(ctx)
	d.load()
	d.mu.Lock()
	d.started, d.wakeAt = true, forever
	d.schedule()
	d.mu.Unlock()
	d.loops.Add(2)
	go d.keepTime()
	go d.record()
}

// load brings the picture up to the state.
func (d *Dispatcher) load() {
	d.mu.Lock()
	d.loading = true
	d.mu.Unlock()

	var subs []hub.Subscription
	var topics []hub.Topic
	d.o.State.View(func(s *hub.State) {
		subs, topics = s.Subscriptions(0, 0, nil), s.Topics(0, 0)
	})

	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range topics {
		d.grow(topics[i].ID, topics[i].Head)
	}
	for i := range subs {
		if _, late := d.endedLate[subs[i].ID]; !late {
			d.adopt(&subs[i])
		}
	}
	d.loading = false
	clear(d.endedLate)
}

// Applied implements hub.Observer.
func (d *Dispatcher) Applied(fx *hub.Effects) {
	if len(fx.Messages)+len(fx.Subscriptions)+len(fx.Ended)+len(fx.Moved)+len(fx.RemovedTopics) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range fx.Subscriptions {
		d.adopt(&fx.Subscriptions[i])
	}
	for i := range fx.Messages {
		d.grow(fx.Messages[i].Topic, fx.Messages[i].Offset)
	}
	if len(fx.Moved) > 0 {
		through := make(map[hub.TopicID]uint64, len(fx.Trims))
		for _, t := range fx.Trims {
			through[t.Topic] = max(through[t.Topic], t.Through)
		}
		for _, id := range fx.Moved {
			if l := d.lanes[id]; l != nil {
				d.skip(l, through[l.topic.id])
			}
		}
	}
	for _, e := range fx.Ended {
		d.end(e.ID)
	}
	for _, id := range fx.RemovedTopics {
		delete(d.heads, id)
	}
	d.schedule()
}

// grow notes a topic's head and wakes the lanes that had caught up. Callers hold mu.
func (d *Dispatcher) grow(id hub.TopicID, head uint64) {
	if d.heads[id] >= head {
		return
	}
	d.heads[id] = head
	t := d.topics[id]
	if t == nil {
		return
	}
	t.head = head
	for i, l := range t.idle {
		t.idle[i] = nil
		d.ready(l)
	}
	t.idle = t.idle[:0]
}

// adopt creates a subscription's lane or brings it up to a renewal: secret, lease and callback hold from
// the next attempt on.
func (d *Dispatcher) adopt(s *hub.Subscription) {
	t := d.topics[s.Topic]
	if t == nil {
		t = &topicLanes{id: s.Topic, name: s.TopicName, link: LinkHeader(d.o.HubURL, d.o.Namer.URL(s.TopicName))}
		d.topics[s.Topic] = t
	}
	t.head = d.heads[t.id]
	l := d.lanes[s.ID]
	if l == nil {
		c := &s.Cursor
		l = &lane{id: s.ID, topic: t, state: laneExpired, done: c.Offset, attempts: c.Attempts, failures: c.Failures, refused: c.Refused,
			failingSince: c.FailingSince, delivered: c.Delivered, slow: c.Failures > 0}
		t.lanes++
		d.lanes[s.ID] = l
	}
	if renewed := s.RenewedAt.UnixNano(); renewed >= l.renewed {
		l.callback, l.callbackKey = s.Callback, s.CallbackKey
		l.sealed, l.signature = s.SealedSecret, s.Signature
		l.expires, l.renewed = s.ExpiresAt.UnixNano(), renewed
		l.gen++
		l.endpoint = nil
	}
	if l.state == laneExpired { // or new: it is nowhere
		d.place(l)
	}
}

// place puts a lane that is nowhere where it belongs: with the idle ones, or ready to be served.
func (d *Dispatcher) place(l *lane) {
	if l.done >= l.topic.head {
		l.topic.park(l)
		return
	}
	d.ready(l)
}

func (d *Dispatcher) ready(l *lane) {
	if l.slow {
		d.slowQ.push(l)
	} else {
		d.fastQ.push(l)
	}
}

// skip moves a lane behind messages that retention dropped.
func (d *Dispatcher) skip(l *lane, through uint64) {
	if l.done >= through {
		return
	}
	l.done, l.attempts, l.refused = through, 0, 0
	if l.state == laneWaiting {
		d.retries.remove(l)
		d.place(l)
	}
}

// end takes a lane away at once, whatever it is doing (invariant I5).
func (d *Dispatcher) end(id hub.SubscriptionID) {
	if d.loading {
		d.endedLate[id] = struct{}{}
	}
	l := d.lanes[id]
	if l == nil {
		return
	}
	delete(d.lanes, id)
	switch l.state {
	case laneIdle:
		l.topic.unpark(l)
	case laneWaiting:
		d.retries.remove(l)
	case laneRunning:
		l.worker.cut(errEnded)
	default: // nowhere, or in a ready queue, which skips lanes that ended
	}
	l.state = laneEnded
	l.endpoint = nil
	l.topic.lanes--
	if l.topic.lanes == 0 {
		delete(d.topics, l.topic.id)
	}
}

// Close ends delivery in order: nothing new is sent, attempts under way may finish until ctx is done and are
// then cut off, and the cursors are written. The error is the last write's: then some messages will be sent
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
			w.cut(errClosing)
		}
		d.mu.Unlock()
		<-done
	}
	close(d.stop)
	close(d.final)
	limit := time.AfterFunc(finalTime, func() { d.abort(errClosing) }) // should the recorder be stuck
	defer limit.Stop()
	d.loops.Wait()
	d.abort(errClosing)
	return d.flushed
}
