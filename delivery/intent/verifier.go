package intent

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Options configures a Verifier. Fields without a default are required.
type Options struct {
	Caller     *Caller
	State      hub.StateReader
	Times      hub.TimeIndex // resolves a start position that is a time
	Proposer   hub.Proposer
	Leadership hub.Leadership
	Clock      hub.Clock
	Log        *slog.Logger

	// Candidates returns the nodes of which one will deliver a new subscription; see placement.Placer.
	Candidates func() []*hubpb.Candidate

	// UnknownTopic returns the hub.reason sent to a callback that asked for a topic which does not exist; nil: a
	// generic one.
	UnknownTopic func(topic string) string

	Limits Limits

	Attempts    int           // per request, including the first; 0: 3
	Backoff     retry.Backoff // between attempts; zero: 2 s doubling up to 1 min
	Concurrency int           // verifications in flight; 0: 256
	PerHost     int           // of these, to one host and port; 0: 8
	PerNetwork  int           // of these, to one network (/24, IPv6 /48); 0: 32
}

// Verifier processes pending requests: it verifies intent (WebSub section 5.3), denies requests for unknown topics
// (5.2), and notifies callbacks whose subscriptions were ended. Requests come from the log, so pending ones are
// resumed after a restart; only the leader works on them. The outcome is recorded under the request's ID, so a
// request that was replaced meanwhile changes nothing (invariant I7).
//
// The Verifier is a hub.Observer. Register it before the log starts to move, then call Start.
type Verifier struct {
	o   Options
	rec retry.Recorder

	crowding *crowding

	mu        sync.Mutex
	admission admission
	tasks     map[hub.RequestID]*verification
	hosts     map[string]*hostQueue
	order     []*hostQueue // hosts with queued requests, served in turn
	busy      int
	gone      map[hub.RequestID]struct{} // settled while Start reads the state
	loop      *retry.Loop
}

// verification is one pending request.
type verification struct {
	req      hub.Request
	host     *hostQueue
	counted  string // host name under which it counts as pending; empty: a denial, which does not
	caller   string // whoever sent it; empty: unknown to this node
	attempts int
	crowded  int // attempts postponed because too many go to its network
	queued   bool
	cancel   context.CancelFunc // while it is in flight or waits for its next attempt
}

// hostQueue bounds the requests in flight to one host: the hub must not become a tool to flood it.
type hostQueue struct {
	name  string
	queue []*verification
	busy  int
	tasks int
}

// NewVerifier returns a verifier that only listens until Start.
func NewVerifier(o Options) *Verifier {
	if o.Attempts <= 0 {
		o.Attempts = 3
	}
	if o.UnknownTopic == nil {
		o.UnknownTopic = func(string) string { return "the topic is not known to this hub" }
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 256
	}
	if o.PerHost <= 0 {
		o.PerHost = 8
	}
	if o.PerNetwork <= 0 {
		o.PerNetwork = 32
	}
	if o.Backoff.Initial <= 0 {
		o.Backoff.Initial = 2 * time.Second
	}
	if o.Backoff.Max <= 0 {
		o.Backoff.Max = time.Minute
	}
	return &Verifier{o: o, rec: retry.Recorder{Proposer: o.Proposer, Log: o.Log}, crowding: newCrowding(o.Limits.Rate, o.PerNetwork),
		admission: newAdmission(), tasks: map[hub.RequestID]*verification{}, hosts: map[string]*hostQueue{}, gone: map[hub.RequestID]struct{}{}, loop: retry.NewLoop()}
}

// Start takes over all pending requests and begins to work on them.
func (v *Verifier) Start(ctx context.Context) {
	var pending []hub.Request
	v.o.State.View(func(s *hub.State) { pending = s.Requests(0, 0, nil) })
	v.mu.Lock()
	for i := range pending {
		if _, settled := v.gone[pending[i].ID]; !settled {
			v.addLocked(pending[i])
		}
	}
	v.gone = nil
	v.mu.Unlock()
	v.loop.Begin(ctx, v.run)
}

// Close cuts off attempts in flight and waits for them. Requests stay pending in the log.
func (v *Verifier) Close() { v.loop.Close() }

// Applied implements hub.Observer.
func (v *Verifier) Applied(fx *hub.Effects) {
	if len(fx.Requests)+len(fx.Settled) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range fx.Requests {
		v.addLocked(r)
	}
	for _, id := range fx.Settled {
		if v.gone != nil {
			v.gone[id] = struct{}{}
		}
		v.settledLocked(id)
	}
	v.loop.Wake()
}

// settledLocked removes a settled request.
func (v *Verifier) settledLocked(id hub.RequestID) {
	t := v.tasks[id]
	if t == nil {
		return
	}
	delete(v.tasks, id)
	if t.cancel != nil {
		t.cancel() // replaced: its response would come too late
	}
	// A follower starts nothing, so requests settled elsewhere must not stay queued.
	h := t.host
	if t.queued {
		i := slices.Index(h.queue, t)
		if h.queue = slices.Delete(h.queue, i, i+1); len(h.queue) == 0 {
			v.order = slices.DeleteFunc(v.order, func(o *hostQueue) bool { return o == h })
		}
	}
	v.forgetLocked(t)
}

// Reload adopts a state that replaced the previous one, after a snapshot was installed. It must not run concurrently
// with Applied.
func (v *Verifier) Reload() {
	var pending []hub.Request
	v.o.State.View(func(s *hub.State) { pending = s.Requests(0, 0, nil) })
	v.mu.Lock()
	defer v.mu.Unlock()
	known := make(map[hub.RequestID]struct{}, len(pending))
	for i := range pending {
		known[pending[i].ID] = struct{}{}
		v.addLocked(pending[i])
	}
	for id := range v.tasks {
		if _, ok := known[id]; !ok {
			v.settledLocked(id)
		}
	}
	v.loop.Wake()
}

// Pending returns the number of requests that wait or are in flight.
func (v *Verifier) Pending() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.tasks)
}

// addLocked queues a request.
func (v *Verifier) addLocked(r hub.Request) {
	if v.tasks[r.ID] != nil {
		return
	}
	name := egress.HostOf(r.Callback)
	h := v.hosts[name]
	if h == nil {
		h = &hostQueue{name: name}
		v.hosts[name] = h
	}
	h.tasks++
	t := &verification{req: r, host: h}
	if u, err := url.Parse(r.Callback); err == nil && r.Mode != hub.ModeDenied {
		t.counted = hostname(u)
		increment(v.admission.hosts, t.counted)
	}
	v.tasks[r.ID] = t
	v.enqueueLocked(t)
}

func (v *Verifier) enqueueLocked(t *verification) {
	if len(t.host.queue) == 0 {
		v.order = append(v.order, t.host)
	}
	t.host.queue = append(t.host.queue, t)
	t.queued = true
}

func (v *Verifier) forgetLocked(t *verification) {
	decrement(v.admission.hosts, t.counted)
	decrement(v.admission.callers, t.caller)
	if t.host.tasks--; t.host.tasks == 0 {
		delete(v.hosts, t.host.name)
	}
}

// run starts queued requests while this node leads.
func (v *Verifier) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-v.loop.Woken():
		case <-timer.C:
		case <-v.loop.Done():
			return
		}
		if v.o.Leadership.IsLeader() {
			v.mu.Lock()
			v.scheduleLocked()
			v.mu.Unlock()
			continue
		}
		v.mu.Lock()
		waiting := len(v.order) > 0
		v.mu.Unlock()
		if waiting {
			timer.Reset(retry.LeaderCheck)
		}
	}
}

// scheduleLocked starts as many requests as there is room for, one host after the other.
func (v *Verifier) scheduleLocked() {
	skipped := 0
	for !v.loop.Closing() && v.busy < v.o.Concurrency && len(v.order) > skipped {
		h := v.order[0]
		v.order = v.order[1:]
		if h.busy >= v.o.PerHost {
			v.order = append(v.order, h)
			skipped++
			continue
		}
		skipped = 0
		t := h.queue[0]
		h.queue = h.queue[1:]
		t.queued = false
		if len(h.queue) > 0 {
			v.order = append(v.order, h)
		}
		h.busy++
		v.busy++
		ctx, cancel := context.WithCancel(v.loop.Context())
		t.cancel = cancel
		v.loop.Go(func() { v.do(ctx, t) })
	}
}

// do makes one attempt and schedules the next one if needed.
func (v *Verifier) do(ctx context.Context, t *verification) {
	defer t.cancel()
	t.attempts++
	again, wait := v.attempt(ctx, t)

	v.mu.Lock()
	t.host.busy--
	v.busy--
	v.loop.Wake()
	v.mu.Unlock()
	if !again || retry.Sleep(ctx, wait) != nil {
		return
	}
	v.mu.Lock()
	if v.tasks[t.req.ID] == t {
		v.enqueueLocked(t)
		v.loop.Wake()
	}
	v.mu.Unlock()
}

// attempt makes one attempt and records its outcome if it is definite or the last one. Otherwise it returns how long
// to wait.
func (v *Verifier) attempt(ctx context.Context, t *verification) (again bool, wait time.Duration) {
	r := &t.req
	var topic hub.Topic
	known := true
	ctx, leave := v.crowding.admitTo(ctx)
	defer leave()
	v.o.State.View(func(s *hub.State) { topic, known = s.TopicByName(r.TopicName) })
	var res Result
	verified := &hubpb.RequestVerified{Request: uint64(r.ID)}
	denied := r.Mode == hub.ModeSubscribe && !known && !r.AutoRegister
	switch {
	case r.Mode == hub.ModeDenied:
		res = v.o.Caller.Deny(ctx, r.Callback, r.TopicRaw, r.Reason)
	case denied:
		res = v.o.Caller.Deny(ctx, r.Callback, r.TopicRaw, v.o.UnknownTopic(r.TopicRaw))
	default:
		// The lease starts now, and the subscriber is owed everything published from now on.
		verified.VerifiedFrom = v.o.Clock.Now().UnixNano()
		start, err := v.start(r, topic)
		if err != nil {
			v.o.Log.Error("cannot resolve the start position of a subscription", "request", r.ID.String(), "topic", r.TopicName, "error", err)
			return true, v.o.Backoff.Delay(t.attempts, 0)
		}
		verified.StartOffset = start
		in := Question{Callback: r.Callback, Mode: r.ModeName(), Topic: r.TopicRaw, LeaseSeconds: r.LeaseSeconds, VerifyToken: r.VerifyToken,
			Headers: r.SealedHeaders, HeadersBound: hub.HeadersBinding(r.TopicName, r.CallbackKey)}
		res = v.o.Caller.Ask(ctx, in)
	}
	if ctx.Err() != nil {
		return false, 0 // replaced, or the hub is stopping
	}
	if res.Reason == egress.ReasonCrowded {
		t.attempts-- // no request was made
		t.crowded++
		return true, v.o.Backoff.Delay(t.crowded, res.RetryAfter)
	}
	if res.Outcome == Retryable && t.attempts < v.o.Attempts {
		return true, v.o.Backoff.Delay(t.attempts, res.RetryAfter)
	}

	verified.Candidates = v.o.Candidates()
	event := &hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: verified}}
	if denied || res.Outcome != Confirmed {
		reason := string(res.Reason)
		if denied {
			reason = hub.FailedUnknownTopic
		}
		event = &hubpb.Event{Kind: &hubpb.Event_RequestFailed{RequestFailed: &hubpb.RequestFailed{Request: uint64(r.ID), Reason: reason,
			Status: int32(res.Status), Attempts: uint32(t.attempts)}}}
	}
	v.logOutcome(t, res, denied)
	// Not ctx: it ends when the outcome is applied, which may be before Record returns.
	out, err := v.rec.Record(v.loop.Context(), "outcome of "+r.ID.String(), event)
	if err == nil && !denied {
		v.denyRefused(r, out[0].Outcome)
	}
	return false, 0
}

// logOutcome logs what came of a request. A callback's query may hold a secret, so it is left out.
func (v *Verifier) logOutcome(t *verification, res Result, denied bool) {
	r := &t.req
	confirmed := !denied && res.Outcome == Confirmed
	level := slog.LevelInfo
	if !confirmed && r.Mode != hub.ModeDenied {
		level = slog.LevelWarn
	}
	callback, _, _ := strings.Cut(r.Callback, "?")
	if u, err := url.Parse(callback); err == nil {
		callback = u.Redacted()
	}
	v.o.Log.Log(v.loop.Context(), level, "request settled", "request", r.ID.String(), "mode", r.ModeName(), "topic", r.TopicName, "callback", callback,
		"confirmed", confirmed, "status", res.Status, "reason", string(res.Reason), "attempts", t.attempts)
}

// denyRefused tells a callback that confirmed a request which the state then refused: the subscriber would wait in
// vain. Of what belongs to somebody else it is not told.
func (v *Verifier) denyRefused(r *hub.Request, outcome hub.Outcome) {
	switch outcome { //nolint:exhaustive // the others are no refusals, or not the subscriber's business
	case hub.OutcomeGroupConflict:
		v.o.Caller.Deny(v.loop.Context(), r.Callback, r.TopicRaw, "the consumer group has another delivery mode, window or key")
	case hub.OutcomeNoTopic:
		v.o.Caller.Deny(v.loop.Context(), r.Callback, r.TopicRaw, v.o.UnknownTopic(r.TopicRaw))
	case hub.OutcomeQuota:
		v.o.Caller.Deny(v.loop.Context(), r.Callback, r.TopicRaw, "a quota of the subscriber is reached")
	}
}

// start returns the cursor of a new subscription: the topic's head, unless the subscriber asked for another position.
func (v *Verifier) start(r *hub.Request, t hub.Topic) (uint64, error) {
	if r.Start == "" || r.Mode != hub.ModeSubscribe {
		return t.Head, nil
	}
	p, err := hub.ParsePosition("hub.start", r.Start)
	if err != nil {
		return 0, err
	}
	return p.Resolve(t, v.o.Times)
}
