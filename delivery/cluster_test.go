package delivery_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/placement"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// fleet is several nodes on one log. The engine is the log with the state as of its end; each node has its own copy
// of the state, which lags behind while the node is cut off. The first node in touch leads.
type fleet struct {
	*fake.Engine
	net   *fake.Network
	nodes []*fleetNode

	logMu sync.Mutex
	log   [][]*hubpb.Event
	times []time.Time

	foreign map[string]int // attempts by nodes that did not own the subscription, by callback; guarded by net.Mu

	// What some tests replace: options, or what lies between a node's dispatcher and the log.
	dispatcher func(*delivery.DispatcherOptions)
	listen     func(*fleetNode) hub.Observer
	proposer   func(*fleetNode) hub.Proposer
	placer     func(*placement.Options)
}

type fleetNode struct {
	f      *fleet
	id     string
	own    *fake.Engine // this node's copy of the state
	next   int          // index of the next entry to apply
	member bool

	d      *delivery.Dispatcher
	p      *placement.Placer
	cancel context.CancelFunc

	mu      sync.Mutex
	touch   bool // the node and the leader hear from each other
	drains  bool
	weight  int
	lagging bool // entries do not arrive
	since   time.Time
	mute    bool // the leader's probes get no answer, in touch or not; guarded by the fleet's logMu
}

// fleetTest runs f with n nodes in virtual time.
func fleetTest(t *testing.T, n int, behave func(url string, nth int, body string) fake.Answer, tune func(*fleet), f func(f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &fleet{Engine: fake.NewEngine(t), net: fake.NewNetwork(behave), foreign: map[string]int{}}
		if tune != nil {
			tune(c)
		}
		for range n {
			c.join()
		}
		time.Sleep(time.Second)
		f(c)
		for _, m := range c.nodes {
			m.stop()
		}
	})
}

// join adds a node.
func (c *fleet) join() *fleetNode {
	m := &fleetNode{f: c, id: fmt.Sprint("node-", len(c.nodes)+1), own: fake.NewEngine(c.T), touch: true, member: true}
	c.logMu.Lock()
	c.nodes = append(c.nodes, m)
	c.logMu.Unlock()
	m.start()
	return m
}

func (m *fleetNode) start() {
	o := options(m.own)
	o.Node, o.Proposer, o.Contact = m.id, m, m.Contact
	o.Retry = retry.Policy{Backoff: retry.Backoff{Initial: time.Second, Max: time.Minute}}
	o.Pusher = &delivery.Pusher{Client: from{m.f, m.id}, Clock: hub.SystemClock{}, UserAgent: "quorumhub/test"}
	if m.f.proposer != nil {
		o.Proposer = m.f.proposer(m)
	}
	if m.f.dispatcher != nil {
		m.f.dispatcher(&o)
	}
	p := placement.Options{State: m.own, Proposer: m, Cluster: m, Log: fake.Discard()}
	if m.f.placer != nil {
		m.f.placer(&p)
	}
	m.d, m.p = delivery.NewDispatcher(o), placement.NewPlacer(p)
	var listener hub.Observer = m.d
	if m.f.listen != nil {
		listener = m.f.listen(m)
	}
	m.own.Observe(listener)
	m.own.Observe(m.p)
	m.f.logMu.Lock()
	m.catchUp()
	m.f.logMu.Unlock()
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.d.Start(ctx)
	m.p.Start(ctx)
}

func (m *fleetNode) stop() {
	if m.d == nil {
		return
	}
	m.p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = m.d.Close(ctx)
	m.cancel()
	m.own.Forget()
	m.d = nil
}

// kill ends a node at once; it records nothing more.
func (m *fleetNode) kill() {
	m.cut()
	m.cancel()
	m.stop()
}

func (m *fleetNode) set(touch, lagging bool) {
	m.f.logMu.Lock()
	defer m.f.logMu.Unlock()
	m.mu.Lock()
	if m.touch && !touch {
		m.since = time.Now()
	}
	m.touch, m.lagging = touch, lagging
	m.mu.Unlock()
	m.catchUp()
}

func (m *fleetNode) setMute(mute bool) {
	m.f.logMu.Lock()
	defer m.f.logMu.Unlock()
	m.mute = mute
}

func (m *fleetNode) cut()  { m.set(false, false) }
func (m *fleetNode) heal() { m.set(true, false) }

// hears lets a node hear from the leader while the log does not arrive yet.
func (m *fleetNode) hears() { m.set(true, true) }

func (m *fleetNode) state() (touch, lagging bool, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.touch, m.lagging, m.since
}

// catchUp applies the entries the node lacks. The caller holds logMu.
func (m *fleetNode) catchUp() {
	if touch, lagging, _ := m.state(); !touch || lagging {
		return
	}
	for ; m.next < len(m.f.log); m.next++ {
		if _, err := m.own.ProposeAt(m.f.times[m.next], m.f.log[m.next]...); err != nil {
			m.f.T.Error(err)
		}
	}
}

// Propose implements hub.Proposer for a node.
func (m *fleetNode) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if touch, _, _ := m.state(); !touch {
		return nil, hub.ErrNoLeader
	}
	return m.f.Propose(ctx, events...)
}

// Propose appends to the log and lets all nodes in touch apply it.
func (c *fleet) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	c.logMu.Lock()
	defer c.logMu.Unlock()
	now := time.Now()
	res, err := c.Engine.ProposeAt(now, events...)
	if err != nil {
		return nil, err
	}
	c.log, c.times = append(c.log, events), append(c.times, now)
	for _, m := range c.nodes {
		m.catchUp()
	}
	return res, nil
}

func (m *fleetNode) leads() bool {
	for _, o := range m.f.nodes {
		if touch, _, _ := o.state(); touch {
			return o == m
		}
	}
	return false
}

// IsLeader implements hub.Cluster.
func (m *fleetNode) IsLeader() bool {
	m.f.logMu.Lock()
	defer m.f.logMu.Unlock()
	return m.leads()
}

// Nodes implements hub.Cluster.
func (m *fleetNode) Nodes() (out []hub.NodeStatus) {
	m.f.logMu.Lock()
	defer m.f.logMu.Unlock()
	for _, o := range m.f.nodes {
		touch, _, since := o.state()
		s := hub.NodeStatus{ID: o.id, Alive: touch && !o.mute, Draining: o.drains, Weight: o.weight}
		if !s.Alive {
			s.DeadFor = time.Since(since)
		}
		if o.member {
			out = append(out, s)
		}
	}
	return out
}

// Contact implements hub.Cluster.
func (m *fleetNode) Contact() time.Duration {
	if touch, _, since := m.state(); !touch {
		return time.Since(since)
	}
	return 0
}

// candidates returns all nodes.
func (c *fleet) candidates() (out []*hubpb.Candidate) {
	for _, m := range c.nodes {
		out = append(out, &hubpb.Candidate{Node: m.id})
	}
	return out
}

// subscribe makes a subscription as if it had been verified, and returns its owner.
func (c *fleet) subscribe(topic, callback string) *fleetNode {
	c.T.Helper()
	return c.subscribeWith(topic, callback, nil)
}

func (c *fleet) subscribeWith(topic, callback string, options *hubpb.SubscriptionOptions) *fleetNode {
	c.T.Helper()
	id := c.propose(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{
		Mode: hub.ModeSubscribe, Topic: topic, TopicRaw: topic, Callback: callback, CallbackKey: callback, LeaseSeconds: 36000, AutoRegister: true, Options: options}}}).ID
	return c.owner(hub.SubscriptionID(c.propose(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
		Request: id, VerifiedFrom: time.Now().UnixNano(), Candidates: c.candidates()}}}).ID))
}

func (c *fleet) propose(e *hubpb.Event) hub.Result {
	c.T.Helper()
	res, err := c.Propose(context.Background(), e)
	if err != nil {
		c.T.Fatal(err)
	}
	return res[0]
}

func (c *fleet) publish(topic, body string) {
	c.T.Helper()
	c.propose(&hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: topic, ContentType: "text/plain", Body: []byte(body), AutoRegister: true}}})
}

func (c *fleet) owner(id hub.SubscriptionID) *fleetNode {
	sub, _ := c.Subscription(id)
	for _, m := range c.nodes {
		if m.id == sub.Assignment.Node {
			return m
		}
	}
	return nil
}

// shares returns how many subscriptions each node owns, and how many are moving.
func (c *fleet) shares() (out []int, moving int) {
	c.View(func(s *hub.State) {
		for _, m := range c.nodes {
			out = append(out, s.Owned(m.id))
		}
		for _, h := range s.Placements() {
			if h.Assignment.Next != "" {
				moving++
			}
		}
	})
	return out, moving
}

func (c *fleet) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// from is the network as one node sees it. It counts attempts by nodes that do not own the subscription.
type from struct {
	f    *fleet
	node string
}

func (f from) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("X-Test-Node", f.node)
	f.f.View(func(s *hub.State) {
		for _, sub := range s.Subscriptions(0, 0, nil) {
			if sub.Callback == req.URL.String() && sub.Assignment.Node != f.node {
				f.f.net.Mu.Lock()
				f.f.foreign[sub.Callback]++
				f.f.net.Mu.Unlock()
			}
		}
	})
	return f.f.net.RoundTrip(req)
}

func sender(a fake.Arrival) string { return a.Header.Get("X-Test-Node") }

type observerFunc func(*hub.Effects)

func (f observerFunc) Applied(fx *hub.Effects) { f(fx) }

type proposerFunc func(context.Context, ...*hubpb.Event) ([]hub.Result, error)

func (f proposerFunc) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	return f(ctx, events...)
}

// ownsAll removes the ownership guard: a node takes every subscription for its own.
func ownsAll(m *fleetNode) hub.Observer {
	d := m.d
	return observerFunc(func(fx *hub.Effects) {
		all := *fx
		all.Subscriptions = slices.Clone(fx.Subscriptions)
		for i := range all.Subscriptions {
			all.Subscriptions[i].Assignment.Node = m.id
		}
		d.Applied(&all)
	})
}

// handsOverAtOnce removes the drain guard: a planned move cuts off attempts in flight.
func handsOverAtOnce(m *fleetNode) hub.Observer {
	d := m.d
	return observerFunc(func(fx *hub.Effects) {
		d.Applied(fx)
		d.HandOverAtOnce()
	})
}

// resumesAtOnce removes the catch-up guard: a node back in touch meets its mark before the entries that precede it in
// the log.
func resumesAtOnce(m *fleetNode) hub.Proposer {
	return proposerFunc(func(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
		if r := events[0].GetDeliveryResumed(); r != nil {
			m.d.Applied(&hub.Effects{Resumed: []hub.Resumed{{Node: r.Node, Mark: r.Mark}}})
			return nil, nil
		}
		return m.Propose(ctx, events...)
	})
}
