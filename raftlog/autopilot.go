package raftlog

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"quorumhub/hub"
)

const (
	// pilotContact is how long ago a healthy node may have last heard from the leader.
	pilotContact = 2 * time.Second
	voterType    = autopilot.NodeVoter
	deliverType  = autopilot.NodeType("nonvoter")
)

// pilot runs raft-autopilot while this node leads. It gives votes to stable nodes that should have one, one at a time, and
// removes dead nodes if configured to.
type pilot struct {
	node    *Node
	lib     *autopilot.Autopilot
	running bool
}

func newPilot(n *Node) *pilot {
	p := &pilot{node: n}
	stable := n.opts.Autopilot.Stabilization
	p.lib = autopilot.New(n.raft, p, autopilot.WithPromoter(promoter{p}), autopilot.WithLogger(newRaftLogger(n.opts.Logger, &n.verbose, n.repeats)),
		autopilot.WithUpdateInterval(min(max(stable/5, 50*time.Millisecond), 2*time.Second)),
		autopilot.WithReconcileInterval(min(max(stable/4, 50*time.Millisecond), 2*time.Second)))
	return p
}

func (p *pilot) start() {
	if !p.running {
		p.lib.Start(p.node.ctx)
		p.running = true
	}
}

// stop stops autopilot and waits for its goroutines.
func (p *pilot) stop() {
	if p.running {
		<-p.lib.Stop()
		p.running = false
	}
}

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	o := p.node.opts.Autopilot
	return &autopilot.Config{CleanupDeadServers: o.CleanupDead > 0, LastContactThreshold: pilotContact, MaxTrailingLogs: lagAllowed,
		MinQuorum: uint(o.MinVoters), ServerStabilizationTime: o.Stabilization}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (p *pilot) NotifyState(*autopilot.State) {}

// FetchServerStats implements autopilot.ApplicationIntegration from what the nodes report about themselves.
func (p *pilot) FetchServerStats(_ context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	n := p.node
	out := map[raft.ServerID]*autopilot.ServerStats{}
	n.view.mu.Lock()
	defer n.view.mu.Unlock()
	for id := range servers {
		if seen := n.view.nodes[string(id)]; seen != nil && !seen.asked.IsZero() {
			// What the node has applied counts, not what is in its log.
			out[id] = &autopilot.ServerStats{LastContact: seen.status.Contact, LastTerm: seen.status.LastTerm, LastIndex: seen.status.Applied}
		}
	}
	return out
}

// KnownServers implements autopilot.ApplicationIntegration.
func (p *pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	out := map[raft.ServerID]*autopilot.Server{}
	nodes := p.node.nodes()
	for _, m := range p.node.Members() {
		s := &autopilot.Server{ID: raft.ServerID(m.ID), Name: m.ID, Address: raft.ServerAddress(m.Address), NodeStatus: autopilot.NodeAlive,
			RaftVersion: int(raft.ProtocolVersionMax), IsLeader: m.Leader, NodeType: deliverType}
		if !m.Alive {
			s.NodeStatus = autopilot.NodeFailed
		}
		if known := nodes[m.ID]; known.Voter && known.Phase == hub.NodeMember {
			s.NodeType = voterType
		}
		out[s.ID] = s
	}
	return out
}

// RemoveFailedServer implements autopilot.ApplicationIntegration. It starts a normal removal.
func (p *pilot) RemoveFailedServer(s *autopilot.Server) {
	n := p.node
	n.owned.Go(func() {
		ctx, cancel := context.WithTimeout(n.ctx, changeTimeout)
		defer cancel()
		n.opts.Logger.Warn("removing a dead node (cluster.autopilot.cleanup_dead)", "node", string(s.ID), "after", n.opts.Autopilot.CleanupDead)
		if err := n.Change(ctx, Change{Operation: RemoveNode, Node: string(s.ID)}); err != nil {
			n.port.logOnce("a dead node cannot be removed; retrying", "node", string(s.ID), "error", err)
		}
	})
}

// promoter decides which nodes get a vote.
type promoter struct{ *pilot }

// GetServerExt implements autopilot.Promoter.
func (promoter) GetServerExt(*autopilot.Config, *autopilot.ServerState) any { return nil }

// GetStateExt implements autopilot.Promoter.
func (promoter) GetStateExt(*autopilot.Config, *autopilot.State) any { return nil }

// GetNodeTypes implements autopilot.Promoter.
func (p promoter) GetNodeTypes(_ *autopilot.Config, s *autopilot.State) map[raft.ServerID]autopilot.NodeType {
	out := map[raft.ServerID]autopilot.NodeType{}
	known := p.KnownServers()
	for id := range s.Servers {
		if k := known[id]; k != nil {
			out[id] = k.NodeType
		}
	}
	return out
}

// CalculatePromotionsAndDemotions implements autopilot.Promoter. It promotes at most one node at a time, so that there is
// always a quorum of proven voters. The stabilization time also applies to a new leader's first round.
func (p promoter) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) (changes autopilot.RaftChanges) {
	known, nodes := p.KnownServers(), p.node.nodes()
	var ids []raft.ServerID
	for id, server := range s.Servers {
		k := known[id]
		if k != nil && k.NodeType == voterType && !nodes[string(id)].Draining() && server.State == autopilot.RaftNonVoter &&
			server.Health.IsStable(time.Now(), c.ServerStabilizationTime) {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		slices.Sort(ids)
		changes.Promotions = ids[:1]
	}
	return changes
}

// FilterFailedServerRemovals implements autopilot.Promoter. A node that is briefly unreachable is not dead.
func (p promoter) FilterFailedServerRemovals(_ *autopilot.Config, _ *autopilot.State, f *autopilot.FailedServers) *autopilot.FailedServers {
	silent := map[raft.ServerID]time.Duration{}
	for _, m := range p.node.Members() {
		silent[raft.ServerID(m.ID)] = m.Silent
	}
	young := func(s *autopilot.Server) bool { return silent[s.ID] < p.node.opts.Autopilot.CleanupDead }
	return &autopilot.FailedServers{
		FailedVoters:    slices.DeleteFunc(slices.Clone(f.FailedVoters), young),
		FailedNonVoters: slices.DeleteFunc(slices.Clone(f.FailedNonVoters), young),
	}
}

// IsPotentialVoter implements autopilot.Promoter.
func (promoter) IsPotentialVoter(t autopilot.NodeType) bool { return t == voterType }
