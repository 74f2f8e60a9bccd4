package delivery

import (
	"context"
	"errors"
	"sync"
	"time"

	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	// maxReplays bounds the replays in flight on a node. One subscription gets one at a time.
	maxReplays = 16
	// replayTick is how often the contact lease is checked for replays in flight.
	replayTick = 100 * time.Millisecond
	// replayDowns is how many replays in a row may find an endpoint down before the rest of its replays are cancelled
	// without an attempt.
	replayDowns = 3
	// maxResults bounds the dead letters in one event.
	maxResults = 1000
)

// Replayer sends dead letters once more, one attempt each, when an operator asks for it. Replays bypass the
// subscription's lane: they affect neither the order nor the cursor of its messages, and keep the message ID. Each
// node replays for the subscriptions it delivers, and records the outcome as an event.
//
// The Replayer is a hub.Observer. All methods are safe for concurrent use.
type Replayer struct {
	d       *Dispatcher
	letters hub.DeadLetterReader

	mu      sync.Mutex
	queues  map[hub.SubscriptionID]*replayQueue
	known   map[uint64]struct{} // queued or in flight
	ready   []hub.SubscriptionID
	working int
	stats   ReplayStats

	loop *retry.Loop
}

type replayQueue struct {
	letters []uint64
	downs   int                     // in a row
	cut     context.CancelCauseFunc // of the attempt in flight; nil: none
}

// ReplayStats holds a Replayer's figures.
type ReplayStats struct {
	Delivered, Failed uint64 // since the start
	Waiting           int    // dead letters this node has yet to replay
}

// NewReplayer returns a replayer that sends with the dispatcher's options.
func NewReplayer(d *Dispatcher, letters hub.DeadLetterReader) *Replayer {
	return &Replayer{d: d, letters: letters, queues: map[hub.SubscriptionID]*replayQueue{}, known: map[uint64]struct{}{},
		loop: retry.NewLoop()}
}

// Start begins to make the replays that the state asks for. Start the dispatcher first.
func (r *Replayer) Start(ctx context.Context) {
	r.loop.Begin(ctx, r.run)
	r.Reload()
}

// Close cuts off replays in flight and waits for them. The subscriptions' next owners make the remaining ones.
func (r *Replayer) Close() { r.loop.Close() }

// Stats returns the current figures.
func (r *Replayer) Stats() ReplayStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Waiting = len(r.known)
	return s
}

// Applied implements hub.Observer.
func (r *Replayer) Applied(fx *hub.Effects) {
	if len(fx.Ended) > 0 {
		r.mu.Lock()
		for _, e := range fx.Ended {
			if q := r.queues[e.ID]; q != nil && q.cut != nil {
				q.cut(errEnded)
			}
		}
		r.mu.Unlock()
	}
	if len(fx.Replays)+len(fx.Subscriptions) > 0 { // new replays, or new owners of pending ones
		r.Reload()
	}
}

// Reload scans the state again.
func (r *Replayer) Reload() { r.loop.Wake() }

func (r *Replayer) run() {
	tick := time.NewTicker(replayTick)
	defer tick.Stop()
	for {
		select {
		case <-r.loop.Done():
			return
		case <-r.loop.Woken():
			r.scan()
		case <-tick.C:
			r.mu.Lock()
			idle := len(r.queues) == 0
			r.mu.Unlock()
			if idle {
				continue
			}
		}
		r.schedule(r.d.InTouch())
	}
}

// scan queues the replays of this node's subscriptions.
func (r *Replayer) scan() {
	var mine []hub.Replay
	now := r.d.o.Clock.Now()
	r.d.o.State.View(func(s *hub.State) {
		for _, p := range s.Replays() {
			if sub, ok := s.Subscription(p.Subscription); ok && r.owes(&sub, now) {
				mine = append(mine, p)
			}
		}
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range mine {
		if _, ok := r.known[p.Letter]; ok {
			continue
		}
		r.known[p.Letter] = struct{}{}
		q := r.queues[p.Subscription]
		if q == nil {
			q = &replayQueue{}
			r.queues[p.Subscription] = q
			r.ready = append(r.ready, p.Subscription)
		}
		q.letters = append(q.letters, p.Letter)
	}
}

// owes reports whether this node is to send to the subscription at the given time.
func (r *Replayer) owes(sub *hub.Subscription, now time.Time) bool {
	return sub.Assignment.Node == r.d.o.Node && sub.Assignment.Next == "" && !sub.Paused && !sub.Expired(now)
}

// schedule starts as many replays as there is room for. Out of touch, it starts none and cuts off those in flight.
func (r *Replayer) schedule(inTouch bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !inTouch {
		for _, q := range r.queues {
			if q.cut != nil {
				q.cut(errOutOfTouch)
			}
		}
		return
	}
	for len(r.ready) > 0 && r.working < maxReplays && !r.loop.Closing() {
		id := r.ready[0]
		r.ready = r.ready[1:]
		r.working++
		q := r.queues[id]
		r.loop.Go(func() { r.serve(id, q) })
	}
}

// serve makes one replay and queues the subscription again, behind the others.
func (r *Replayer) serve(id hub.SubscriptionID, q *replayQueue) {
	r.mu.Lock()
	letter := q.letters[0]
	ctx, cut := context.WithCancelCause(r.loop.Context())
	q.cut = cut
	r.mu.Unlock()
	defer cut(nil)

	again := r.replay(ctx, id, letter, q)

	r.mu.Lock()
	defer r.mu.Unlock()
	q.cut = nil
	r.working--
	if !again {
		q.letters = q.letters[1:]
		delete(r.known, letter)
	}
	if len(q.letters) == 0 {
		delete(r.queues, id)
	} else {
		r.ready = append(r.ready, id)
	}
	if again {
		return // the next tick tries again
	}
	r.Reload()
}

// replay makes one replay and reports whether it must be made again.
func (r *Replayer) replay(ctx context.Context, id hub.SubscriptionID, letter uint64, q *replayQueue) (again bool) {
	var d hub.DeadLetter
	var sub hub.Subscription
	due := false
	now := r.d.o.Clock.Now()
	r.d.o.State.View(func(s *hub.State) {
		d, due = s.DeadLetter(letter)
		if due = due && !d.Replaying.IsZero(); due {
			sub, due = s.Subscription(id)
		}
	})
	if !due || !r.owes(&sub, now) { // done, cancelled, or another node's
		return false
	}
	m, err := r.letters.ReadLetter(ctx, &d)
	switch {
	case errors.Is(err, hub.ErrTrimmed):
		return false // dropped meanwhile
	case ctx.Err() != nil:
		return true
	case err != nil:
		r.d.o.Log.Error("cannot read a dead letter; it will not be replayed", "letter", hub.DeadLetterID(letter), "error", err)
		r.record(&hubpb.DeadLettersReplayed{Results: []*hubpb.ReplayResult{{Letter: letter}}})
		return false
	case !r.d.InTouch():
		return true
	}
	start := r.d.o.Clock.Now()
	res := r.d.sendAside(ctx, &sub, &m, "", false)
	if res.Outcome == PushCancelled {
		return true // if the replay is no longer due, the next scan finds out
	}
	r.d.remember(id, d.Offset, res, KindReplay)
	try := &hubpb.ReplayResult{Letter: letter, Delivered: res.Outcome == PushDelivered, Attempt: &hubpb.Attempt{At: start.UnixNano(),
		Status: int32(res.Status), Latency: int64(res.Latency), Reason: string(res.Reason), Node: r.d.o.Node}}
	replayed := &hubpb.DeadLettersReplayed{Results: []*hubpb.ReplayResult{try}}
	r.count(q, res.Outcome, replayed)
	var end []*hubpb.Event
	if res.Outcome == PushGone {
		end = append(end, goneEvent(id, sub.RenewedAt.UnixNano(), sub.Assignment.Epoch))
	}
	r.record(replayed, end...)
	r.d.o.Log.Info("dead letter replayed", "letter", hub.DeadLetterID(letter), "subscription", id.String(), "outcome", res.Outcome.String(),
		"status", res.Status, "reason", string(res.Reason))
	return false
}

// record writes outcomes of replays into the log. If the node stops first, the next owner makes the replays again.
func (r *Replayer) record(replayed *hubpb.DeadLettersReplayed, more ...*hubpb.Event) {
	events := append([]*hubpb.Event{{Kind: &hubpb.Event_DeadLettersReplayed{DeadLettersReplayed: replayed}}}, more...)
	_, _ = retry.Recorder{Proposer: r.d.o.Proposer, Log: r.d.o.Log}.Record(r.loop.Context(), "replay of a dead letter", events...) // fails only if the context ends
}

// count records an outcome. An endpoint that stays down gets no more replays for now: those that wait for it are
// added to replayed as not tried.
func (r *Replayer) count(q *replayQueue, outcome PushOutcome, replayed *hubpb.DeadLettersReplayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if outcome == PushDelivered {
		r.stats.Delivered++
	} else {
		r.stats.Failed++
	}
	if outcome != PushDown {
		q.downs = 0
		return
	}
	if q.downs++; q.downs < replayDowns {
		return
	}
	q.downs = 0
	n := min(len(q.letters), maxResults)
	for _, waiting := range q.letters[1:n] {
		replayed.Results = append(replayed.Results, &hubpb.ReplayResult{Letter: waiting})
		delete(r.known, waiting)
	}
	q.letters = append(q.letters[:1], q.letters[n:]...)
}
