package raftlog

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

const (
	statusPause   = 400 * time.Millisecond // between two requests to the same node
	statusTimeout = time.Second            // for one answer
	firstPause    = 25 * time.Millisecond  // instead of statusPause for a node that has never answered,
	beginning     = 5 * time.Second        // during this long after the start
	// silence is how long a node may leave requests unanswered and still count as alive.
	silence = 1500 * time.Millisecond
	// lagAllowed is how many entries a follower may be behind and still count as caught up: those in flight.
	lagAllowed = 256
)

// Description is what a node tells other nodes about itself for display.
type Description struct {
	HTTPAddr string `json:"http_addr,omitempty"`
	Weight   int    `json:"weight,omitempty"` // share of the subscriptions relative to other nodes
	// Gateway is the hash of the registry that the node's gateway serves; empty: none.
	Gateway string `json:"gateway,omitempty"`
}

// Member is a node of the cluster as this node sees it.
type Member struct {
	ID      string
	Address string // for other nodes
	Voter   bool
	Leader  bool
	// Alive: the node answered recently and, if this node leads, its heartbeats reach it and its reports arrive.
	Alive bool
	// Silent is how long the node has not answered, counted from when the last answered request was sent, or from this node's
	// start. 0 for this node. On the leader raft's own messages count as requests: a node that answers those hears from the
	// leader and keeps working, even if other connections fail.
	Silent time.Duration
	// Contact is the age of the node's last contact (hub.Cluster), as it reported itself. Negative: never, or not known.
	Contact time.Duration
	// Healthy: alive, and caught up with the leader except for entries in flight.
	Healthy bool
	// Stopping: its process is about to exit, or has exited cleanly. Leaving: it is being removed.
	Stopping, Leaving bool
	// Drained: an operator wants it to deliver nothing. It does nevertheless while no other node can.
	Drained bool

	// What the node last reported about itself. Zero until it answers for the first time.
	Description
	AppliedIndex uint64
	StateHash    uint64        // at AppliedIndex
	FeatureLevel uint32        // of its program
	ClockOffset  time.Duration // see Node.ClockOffset; 0 while not known
}

// statusResponse is what a node reports about itself.
type statusResponse struct {
	Description
	Applied  uint64        `json:"applied"`
	Hash     uint64        `json:"hash,string"`
	LastTerm uint64        `json:"last_term"` // of its log
	Contact  time.Duration `json:"contact"`   // nanoseconds, see hub.Cluster; negative: never
	Instance string        `json:"instance"`
	Level    uint32        `json:"level"`   // feature level of its program
	Reports  bool          `json:"reports"` // it reports to the leader, and accepts reports when it leads
	Clock    int64         `json:"clock"`   // Unix nanoseconds, by the machine's own clock
}

// clusterView is what this node knows about the others.
type clusterView struct {
	since   time.Time // the node's start
	mu      sync.Mutex
	nodes   map[string]*seenNode
	failing map[string]time.Time // on the leader: since when a node has not answered heartbeats
	reports map[string]report    // on the leader: the last report of each node
}

type seenNode struct {
	since  time.Time // when this node first knew of it
	asking bool
	asked  time.Time // when the newest answered request was sent
	alive  bool      // as last logged
	known  bool      // alive is set
	told   time.Time // when it was last logged that it does not answer
	gone   time.Time // when that was first logged
	missed int       // requests without an answer since then
	status statusResponse
}

func (v *clusterView) start() {
	v.since = time.Now()
	v.nodes, v.failing, v.reports = map[string]*seenNode{}, map[string]time.Time{}, map[string]report{}
}

// servers returns raft's newest configuration, ordered by ID.
func (n *Node) servers() []raft.Server {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	s := slices.Clone(f.Configuration().Servers)
	slices.SortFunc(s, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// Nodes implements hub.Cluster.
func (n *Node) Nodes() []hub.NodeStatus {
	var out []hub.NodeStatus
	members := n.Members()
	for i := range members {
		m := &members[i]
		s := hub.NodeStatus{ID: m.ID, Alive: m.Alive, Draining: m.Stopping || m.Leaving || m.Drained && spared(members), Weight: m.Weight}
		if !m.Alive {
			s.DeadFor = n.unheard(m)
		}
		out = append(out, s)
	}
	return out
}

// spared reports whether there is a node that delivers, so that those that are drained need not.
func spared(members []Member) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Alive && !m.Stopping && !m.Leaving && !m.Drained })
}

// Members lists the nodes of the cluster as this node sees them, ordered by ID. It does not contact them.
func (n *Node) Members() []Member {
	leader, leads, reign := n.LeaderID(), n.raft.State() == raft.Leader, n.currentReign()
	nodes := n.nodes()
	offsets := n.clock.offsets(n.opts.ID)
	var out []Member
	for _, s := range n.servers() {
		m := Member{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter, Leader: string(s.ID) == leader}
		if m.ID == n.opts.ID {
			m.Alive = n.Err() == nil
			if m.Contact = n.Contact(); m.Contact == math.MaxInt64 {
				m.Contact = -1
			}
			m.Description = n.opts.Describe()
			m.AppliedIndex, m.StateHash = n.store.AppliedHash()
			m.FeatureLevel = n.level
		} else {
			m.Silent, m.Contact = time.Since(n.view.since), -1
			n.view.mu.Lock()
			if seen := n.view.nodes[m.ID]; seen != nil && !seen.asked.IsZero() {
				m.Silent = time.Since(seen.asked)
				m.Alive = n.view.aliveLocked(m.ID, leads) && (reign == nil || !seen.status.Reports || n.reportsLocked(m.ID, reign))
				m.Contact = seen.status.Contact
				if since, failing := n.view.failing[m.ID]; leads && failing {
					// It answers this node but not the leader's heartbeats: count from when it last heard from the leader.
					if m.Contact >= 0 {
						m.Silent += m.Contact
					} else {
						m.Silent = max(m.Silent, time.Since(since))
					}
				}
				m.Description, m.AppliedIndex, m.StateHash = seen.status.Description, seen.status.Applied, seen.status.Hash
				m.FeatureLevel = seen.status.Level
			}
			n.view.mu.Unlock()
			if leads && n.port != nil {
				if at := n.port.answered(m.ID); !at.IsZero() {
					m.Silent = min(m.Silent, time.Since(at))
				}
			}
		}
		known := nodes[m.ID]
		m.Stopping, m.Leaving, m.Drained = known.Stopping, known.Phase == hub.NodeLeaving, known.Drained
		m.ClockOffset = offsets[m.ID]
		out = append(out, m)
	}
	var head uint64
	for i := range out {
		if out[i].Leader {
			head = out[i].AppliedIndex
		}
	}
	for i := range out {
		out[i].Healthy = out[i].Alive && leader != "" && out[i].AppliedIndex+lagAllowed >= head
	}
	return out
}

// nodes returns the nodes recorded in the state, by ID.
func (n *Node) nodes() map[string]hub.Node {
	out := map[string]hub.Node{}
	n.store.View(func(s *hub.State) {
		for _, known := range s.Nodes() {
			out[known.ID] = known
		}
	})
	return out
}

func (v *clusterView) aliveLocked(id string, leads bool) bool {
	seen := v.nodes[id]
	return seen != nil && !seen.asked.IsZero() && time.Since(seen.asked) < silence && (!leads || v.failing[id].IsZero())
}

// CaughtUp reports whether this node leads, or follows a leader and has applied all but the newest of the leader's entries.
func (n *Node) CaughtUp() bool {
	id := n.LeaderID()
	if id == n.opts.ID {
		return n.IsLeader()
	}
	n.view.mu.Lock()
	defer n.view.mu.Unlock()
	seen := n.view.nodes[id]
	return seen != nil && !seen.asked.IsZero() && time.Since(seen.asked) < silence && n.store.Applied().Index+lagAllowed >= seen.status.Applied
}

func (n *Node) handleStatus() (status byte, out []byte) {
	if !n.running.Load() {
		return statusRefused, []byte("starting")
	}
	a := statusResponse{Description: n.opts.Describe(), Instance: n.port.self.Load().instance, Contact: n.Contact(),
		Level: n.level, Reports: true, Clock: n.opts.Clock.Now().UnixNano()}
	if a.Contact == math.MaxInt64 {
		a.Contact = -1
	}
	a.Applied, a.Hash = n.store.AppliedHash()
	a.LastTerm, _ = strconv.ParseUint(n.raft.Stats()["last_log_term"], 10, 64)
	out, err := json.Marshal(a)
	if err != nil {
		return statusRefused, []byte(err.Error())
	}
	return statusOK, out
}

// watchMembers starts the goroutines that observe the other nodes.
func (n *Node) watchMembers() {
	seen := make(chan raft.Observation, 64)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation, raft.LeaderObservation:
			return true
		}
		return false
	})
	n.raft.RegisterObserver(observer)
	n.owned.Go(func() {
		defer n.raft.DeregisterObserver(observer)
		n.watchHeartbeats(seen)
	})
	n.owned.Go(n.keepReign)
	n.owned.Go(n.keepContact)
	n.owned.Go(n.pollMembers)
}

func (n *Node) watchHeartbeats(seen <-chan raft.Observation) {
	for {
		select {
		case <-n.ctx.Done():
			return
		case o := <-seen:
			n.view.mu.Lock()
			switch d := o.Data.(type) {
			case raft.FailedHeartbeatObservation:
				since := d.LastContact
				if since.IsZero() {
					since = time.Now()
				}
				n.view.failing[string(d.PeerID)] = since
			case raft.ResumedHeartbeatObservation:
				delete(n.view.failing, string(d.PeerID))
			case raft.LeaderObservation:
				clear(n.view.failing)
			}
			n.view.mu.Unlock()
			if d, ok := o.Data.(raft.LeaderObservation); ok && d.LeaderID != "" {
				n.leaderChanged.tell()
				n.opts.Logger.Info("leader elected", "leader", string(d.LeaderID), "term", n.raft.CurrentTerm())
			}
		}
	}
}

// pollMembers requests every other node's status periodically.
func (n *Node) pollMembers() {
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		pause := statusPause
		n.refresh()
		leads := n.raft.State() == raft.Leader
		members := map[string]bool{}
		servers := n.servers()
		if n.vouched.reviewDue() {
			asking.Go(func() { n.askMembers(n.ctx) })
		}
		if n.LeaderID() == "" {
			servers = n.withPeers(servers) // the configuration may be outdated
		}
		n.view.mu.Lock()
		for _, s := range servers {
			id, address := string(s.ID), string(s.Address)
			if id == n.opts.ID {
				continue
			}
			members[id] = true
			seen := n.view.nodes[id]
			if seen == nil {
				seen = &seenNode{since: time.Now()}
				n.view.nodes[id] = seen
			}
			seen.logLiveness(n.opts.Logger, id, n.view.aliveLocked(id, leads))
			if seen.asked.IsZero() && time.Since(n.view.since) < beginning {
				pause = firstPause // nodes that start together answer soon
			}
			if !seen.asking {
				seen.asking = true
				asking.Go(func() { n.pollMember(id, address, seen) })
			}
		}
		maps.DeleteFunc(n.view.nodes, func(id string, _ *seenNode) bool { return !members[id] })
		maps.DeleteFunc(n.view.reports, func(id string, _ report) bool { return !members[id] })
		n.view.mu.Unlock()
		n.setClock()
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// logLiveness reports that a node does not answer: once, then once a minute, and when it answers again.
func (s *seenNode) logLiveness(to *slog.Logger, id string, alive bool) {
	now := time.Now()
	switch {
	case alive && s.known && !s.alive:
		to.Info("node is reachable again", "node", id, "after", now.Sub(s.gone).Round(100*time.Millisecond).String())
	case alive, !s.known && s.asked.IsZero() && now.Sub(s.since) < beginning:
	case !s.known || s.alive:
		to.Warn("node does not answer; its subscriptions move to other nodes if it stays away", "node", id)
		s.gone, s.told, s.missed = now, now, 0
	case now.Sub(s.told) >= repeatPause:
		to.Warn("node still does not answer", "node", id, "for", now.Sub(s.gone).Round(time.Second).String(), "attempts", s.missed)
		s.told, s.missed = now, 0
	}
	if alive || !s.gone.IsZero() {
		s.alive, s.known = alive, true
	}
}

func (n *Node) pollMember(id, address string, seen *seenNode) {
	ctx, cancel := context.WithTimeout(n.ctx, statusTimeout)
	defer cancel()
	at := time.Now()
	a, err := n.requestStatus(ctx, id, address)
	n.view.mu.Lock()
	defer n.view.mu.Unlock()
	seen.asking = false
	if err == nil {
		seen.asked, seen.status = at, a
	} else {
		seen.missed++
	}
}
