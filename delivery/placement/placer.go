package placement

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// DefaultMoveAfter is the default of Options.MoveAfter. By then a node has stopped sending: two seconds after its last
// contact, when its lease (hub.ContactLease) and a third of it are over, its attempts in flight are cut off.
const DefaultMoveAfter = 2300 * time.Millisecond

// Options configures a Placer. Fields without a default are required.
type Options struct {
	State    hub.StateReader
	Proposer hub.Proposer
	Cluster  hub.Cluster
	Log      *slog.Logger

	// MoveAfter is how long a node must be dead before its subscriptions move to others; 0: DefaultMoveAfter. It must
	// exceed the nodes' contact lease by more than a third (invariant I4).
	MoveAfter time.Duration
	// Settle is how long members and subscriptions must be unchanged before subscriptions with a living owner move to
	// even out the shares; 0: 2 s. If they never are, subscriptions move every ten times Settle.
	Settle time.Duration
}

// Placer decides, on the leader, which node delivers which subscriptions, and proposes it. A subscription without an
// owner gets one at once, those of a dead node once it has surely stopped (invariant I4), and when shares become
// uneven, as few subscriptions as possible move. Nodes act only on what comes back from the log.
//
// The Placer is a hub.Observer. Register it before the log starts to move, then call Start.
type Placer struct {
	o Options

	mu      sync.Mutex
	changed bool      // subscriptions came, went or moved since the last reconcile
	at      time.Time // when changed was last set
	loose   looseUnits

	loop *retry.Loop

	// Used only by the run goroutine.
	leads    bool
	members  string    // a description of the members when last observed
	settling time.Time // since when members is unchanged
	pending  time.Time // since when changes await balancing; zero: none do
	absent   map[string]time.Time
	resumed  map[string]comeback // nodes that were out of touch and have resumed
	done     bool                // nothing was left to do, and nothing has changed since
}

// comeback records when a node was last seen to have resumed its deliveries, and how often it has.
type comeback struct {
	times uint64
	at    time.Time
}

const (
	placerTick  = 200 * time.Millisecond // how often members are observed
	maxAssigned = 1000                   // in one event
)

// NewPlacer returns a placer that only listens until Start.
func NewPlacer(o Options) *Placer {
	o.MoveAfter = cmp.Or(o.MoveAfter, DefaultMoveAfter)
	o.Settle = cmp.Or(o.Settle, 2*time.Second)
	return &Placer{o: o, changed: true, loose: looseUnits{more: true}, loop: retry.NewLoop(), absent: map[string]time.Time{}, resumed: map[string]comeback{}}
}

// Applied implements hub.Observer.
func (p *Placer) Applied(fx *hub.Effects) {
	if len(fx.Subscriptions)+len(fx.Ended)+len(fx.Nodes) == 0 {
		return
	}
	urgent := len(fx.Nodes) > 0
	p.mu.Lock()
	p.changed, p.at = true, time.Now()
	for i := range fx.Subscriptions {
		if sub := &fx.Subscriptions[i]; sub.Assignment.Node == "" {
			urgent = true
			p.loose.add(sub.ID)
		}
	}
	p.mu.Unlock()
	if urgent {
		p.loop.Wake()
	}
}

// Reload must be called after the state was replaced.
func (p *Placer) Reload() {
	p.mu.Lock()
	p.changed, p.at, p.loose = true, time.Now(), looseUnits{more: true}
	p.mu.Unlock()
	p.loop.Wake()
}

// Start begins to place subscriptions whenever this node leads.
func (p *Placer) Start(ctx context.Context) {
	p.loop.Begin(ctx, p.run)
}

// Close stops placing and waits for it to end.
func (p *Placer) Close() { p.loop.Close() }

// Candidates returns the nodes that a new subscription may be assigned to, for hubpb.RequestVerified. Safe for
// concurrent use.
func (p *Placer) Candidates() []*hubpb.Candidate {
	nodes := p.o.Cluster.Nodes()
	out := make([]*hubpb.Candidate, 0, len(nodes))
	for _, n := range nodes {
		if n.Alive && !n.Draining {
			out = append(out, &hubpb.Candidate{Node: n.ID, Weight: uint32(max(1, n.Weight))})
		}
	}
	return out
}

func (p *Placer) run() {
	ctx := p.loop.Context()
	tick := time.NewTicker(placerTick)
	defer tick.Stop()
	for {
		select {
		case <-p.loop.Woken():
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !p.o.Cluster.IsLeader() {
			p.leads = false
			p.lookAtAll()
			p.noteComebacks(time.Now()) // the next leader must know who has just come back
			continue
		}
		if !p.leads {
			p.leads, p.members, p.pending, p.done = true, "", time.Time{}, false
			clear(p.absent)
		}
		if err := p.reconcile(ctx); err != nil && ctx.Err() == nil {
			p.o.Log.Warn("cannot assign subscriptions yet; will retry", "error", err)
			p.done = false
			p.lookAtAll()
		}
	}
}

// lookAtAll makes the next decision look at all subscriptions.
func (p *Placer) lookAtAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loose = looseUnits{more: true}
}

// reconcile brings the assignments in line with the current members and subscriptions.
func (p *Placer) reconcile(ctx context.Context) error {
	now := time.Now()
	m := p.observe(now)
	p.mu.Lock()
	changed, quiet, loose := p.changed, now.Sub(p.at), p.loose
	p.changed = false
	if m.urgent {
		p.loose = looseUnits{}
	}
	p.mu.Unlock()
	if changed || m.changed {
		p.done = false
	}
	if p.done || len(m.nodes) == 0 {
		return nil
	}
	if p.pending.IsZero() {
		p.pending = now
	}
	balance := !m.waits && quiet >= p.o.Settle && now.Sub(p.settling) >= p.o.Settle || now.Sub(p.pending) >= 10*p.o.Settle
	if !balance && !m.changed && !m.urgent {
		return nil
	}
	var decided []*hubpb.Assignment
	few := !balance && !m.changed && !m.moves
	if few {
		decided, few = p.decideLoose(m, loose)
	}
	if !few {
		decided = p.decide(m, balance)
	}
	for part := range slices.Chunk(decided, maxAssigned) {
		if err := p.propose(ctx, part); err != nil {
			return err
		}
	}
	if len(decided) > 0 {
		p.o.Log.Info("subscriptions assigned", "subscriptions", len(decided), "nodes", len(m.nodes))
	}
	if balance {
		p.pending = time.Time{}
		p.done = len(decided) == 0 && !m.waits
	}
	return nil
}

func (p *Placer) propose(ctx context.Context, part []*hubpb.Assignment) error {
	_, err := retry.ProposeOnce(ctx, p.o.Proposer, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsAssigned{
		SubscriptionsAssigned: &hubpb.SubscriptionsAssigned{Assignments: part}}})
	return err
}

// membership is the members' state as it affects placement.
type membership struct {
	nodes  []Node          // may be assigned subscriptions
	lost   map[string]bool // not heard from for so long that their subscriptions must move
	holds  map[string]bool // not lost: what they own is theirs until they release it
	drains map[string]bool // alive, but to release what they own: they stop or leave
	waits  bool            // some node is neither alive nor lost

	changed bool // since last observed
	urgent  bool // some subscriptions lack a living owner
	moves   bool // some have one that is lost or stops
}

// noteComebacks looks for nodes that have resumed. They record it in the log, which is quicker than the leader's
// probes while connections are being re-established.
func (p *Placer) noteComebacks(now time.Time) {
	p.o.State.View(func(s *hub.State) {
		owners, _ := s.Owners()
		for id := range owners {
			times := s.Resumptions(id)
			if was, ok := p.resumed[id]; !ok {
				p.resumed[id] = comeback{times: times} // when it resumed is unknown; the probes will tell
			} else if was.times != times {
				p.resumed[id] = comeback{times, now}
			}
		}
	})
}

// observe returns the current membership.
func (p *Placer) observe(now time.Time) membership {
	p.noteComebacks(now) // before reading the probes' results, so that a node that comes back in between is not lost (hubpb.Assignment.resumed)
	m := membership{lost: map[string]bool{}, holds: map[string]bool{}, drains: map[string]bool{}}
	var seen strings.Builder
	for _, n := range p.o.Cluster.Nodes() {
		delete(p.absent, n.ID)
		if !n.Alive {
			n.DeadFor = min(n.DeadFor, now.Sub(p.resumed[n.ID].at))
		}
		seen.WriteString(n.ID)
		switch {
		case n.Alive && n.Draining:
			m.holds[n.ID], m.drains[n.ID] = true, true
			seen.WriteString(" draining,")
		case n.Alive:
			m.nodes = append(m.nodes, Node{ID: n.ID, Weight: n.Weight})
			m.holds[n.ID] = true
			fmt.Fprintf(&seen, " alive %d,", n.Weight)
		case n.DeadFor >= p.o.MoveAfter:
			m.lost[n.ID] = true
			seen.WriteString(" lost,")
		default:
			m.holds[n.ID], m.waits = true, true
			seen.WriteString(" silent,")
		}
	}
	var owners map[string]int
	p.o.State.View(func(s *hub.State) {
		var none int
		owners, none = s.Owners()
		m.urgent = none > 0
	})
	for _, id := range slices.Sorted(maps.Keys(owners)) {
		if m.holds[id] || m.lost[id] {
			continue
		}
		// No longer a member. It may not know yet, but it no longer hears from the leader.
		if _, ok := p.absent[id]; !ok {
			p.absent[id] = now
		}
		if now.Sub(p.absent[id]) >= p.o.MoveAfter {
			m.lost[id] = true
			seen.WriteString(id + " gone,")
		} else {
			m.holds[id], m.waits = true, true
		}
	}
	for id := range owners {
		m.moves = m.moves || m.lost[id] || m.drains[id]
	}
	m.urgent = m.urgent || m.moves
	if seen := seen.String(); seen != p.members {
		p.members, p.settling, m.changed = seen, now, true
	}
	return m
}

// decide compares current and target owners. Without balance, subscriptions with a living owner stay.
func (p *Placer) decide(m membership, balance bool) (decided []*hubpb.Assignment) {
	var held []hub.Placement
	p.o.State.View(func(s *hub.State) {
		if owners, unowned := s.Owners(); unowned == 0 && len(m.nodes) == 1 && len(owners) <= 1 && owners[m.nodes[0].ID] == s.Units() {
			return // a single node owns everything
		}
		held = s.Placements()
	})
	eligible := map[string]bool{}
	for _, n := range m.nodes {
		eligible[n.ID] = true
	}
	target := make(map[hub.SubscriptionID]string)
	placed := make([]Placed, 0, len(held))
	for i := range held {
		a := &held[i].Assignment
		node := a.Node
		switch {
		case a.Next != "" && eligible[a.Next]:
			node = a.Next
		case !eligible[node] && m.holds[node] && !m.drains[node]:
			continue // its owner may come back; until it is lost, its subscriptions stay put
		}
		placed = append(placed, Placed{Subscription: held[i].Subscription, Topic: held[i].Topic, Node: node})
	}
	for _, mv := range Place(m.nodes, placed) {
		target[mv.Subscription] = mv.To
	}
	for i := range held {
		h := &held[i]
		a := &h.Assignment
		to, moves := target[h.Subscription]
		if !moves {
			to = a.Node
			if a.Next != "" && eligible[a.Next] {
				to = a.Next
			}
		}
		owned := m.holds[a.Node]
		// The owner stopped in favor of a node that is lost or on its way out too.
		stranded := a.Next != "" && (!m.holds[a.Next] || m.drains[a.Next])
		switch {
		case to == a.Next || to == a.Node && !stranded:
			if owned || to == a.Node {
				continue
			}
		case owned && !stranded && !balance && !m.drains[a.Node]:
			continue
		}
		if eligible[to] {
			// Drain only if there is an owner to release it, and somebody else to hand over to.
			decided = append(decided, &hubpb.Assignment{Subscription: uint64(h.Subscription), Group: uint64(h.Group), Node: to, Epoch: a.Epoch,
				Drain: owned && to != a.Node, Resumed: p.resumed[a.Node].times})
		}
	}
	return decided
}
