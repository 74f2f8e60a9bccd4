package raftlog

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const reconcileInterval = 200 * time.Millisecond

// runReconciler brings raft's configuration to the membership recorded in the log while this node leads. Every decision is in
// the log, so the next leader continues where this one stopped.
func (n *Node) runReconciler() {
	pilot := newPilot(n)
	defer pilot.stop()
	tick := time.NewTicker(reconcileInterval)
	defer tick.Stop()
	shown := ""
	for {
		select {
		case <-tick.C:
		case <-n.members.kick:
		case <-n.ctx.Done():
			return
		}
		if !n.IsLeader() {
			pilot.stop()
			shown = ""
			continue
		}
		pilot.start()
		if err := n.reconcile(n.ctx); err != nil && n.ctx.Err() == nil && n.IsLeader() {
			n.port.logOnce("membership changes are not complete yet; retrying", "error", oneLine(err.Error()))
		}
		if now := n.configurationText(); now != shown {
			n.opts.Logger.Info("cluster members", "nodes", now)
			shown = now
		}
	}
}

// configurationText lists the nodes for the log.
func (n *Node) configurationText() string {
	var words []string
	for _, s := range n.servers() {
		word := string(s.ID)
		if s.Suffrage != raft.Voter {
			word += " (non-voter)"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// reconcile runs one round, which ends after the first change that makes what it has read out of date.
func (n *Node) reconcile(ctx context.Context) error {
	if err := n.members.changing.take(ctx); err != nil {
		return err
	}
	defer n.members.changing.release()
	members, nodes := n.Members(), n.nodes()
	in := map[string]bool{}
	for i := range members {
		m := &members[i]
		in[m.ID] = true
		known, ok := nodes[m.ID]
		if err := n.recordMember(ctx, m, known, ok); err != nil {
			return err
		}
		own := m.ID == n.opts.ID
		switch {
		case own && m.Address != n.opts.Address && known.Phase == hub.NodeMember:
			return n.addAt(ctx, &joinRequest{Node: m.ID, Address: n.opts.Address})
		case known.Phase == hub.NodeLeaving:
			if err := n.drainAndRemove(ctx, m, known, members); err != nil {
				return err
			}
		case m.Voter && ok && !known.Voter:
			if own {
				return n.transferTo(ctx, "", members)
			}
			if err := checkQuorumWithout(m.ID, members); err != nil {
				return err
			}
			return n.reconfigure(ctx, func() raft.Future { return n.raft.DemoteVoter(raft.ServerID(m.ID), 0, changeTimeout) })
		}
	}
	for id, known := range nodes {
		if !in[id] && (known.Phase == hub.NodeMember || known.Phase == hub.NodeLeaving) {
			n.opts.Logger.Info("node removed from the cluster", "node", id)
			if err := n.recordChange(ctx, &hubpb.NodeChanged{Node: id, Phase: hub.NodeRemoved}); err != nil {
				return err
			}
			n.refresh()
		}
	}
	return nil
}

// recordMember records a node of raft's configuration as a member: founders are not recorded yet, nodes that joined are
// recorded as expected, and addresses change.
func (n *Node) recordMember(ctx context.Context, m *Member, known hub.Node, ok bool) error {
	instance := n.instanceOf(m.ID)
	switch {
	case known.Phase == hub.NodeRemoved, instance == "" && known.Instance == "":
		return nil
	case known.Phase >= hub.NodeMember && known.Address == m.Address && (known.Instance == instance || instance == ""):
		return nil
	}
	voter := known.Voter
	if !ok {
		voter = m.Voter
	}
	return n.recordAdmission(ctx, &hubpb.NodeAdmitted{Node: m.ID, Instance: instance, Address: m.Address, Voter: voter, Member: true})
}

// instanceOf returns the instance a node has reported, empty when it has not reported any.
func (n *Node) instanceOf(id string) string {
	if id == n.opts.ID {
		return n.port.self.Load().instance
	}
	n.view.mu.Lock()
	defer n.view.mu.Unlock()
	if seen := n.view.nodes[id]; seen != nil {
		return seen.status.Instance
	}
	return ""
}

// drainAndRemove removes a leaving node from the configuration once other nodes own its subscriptions.
func (n *Node) drainAndRemove(ctx context.Context, m *Member, known hub.Node, members []Member) error {
	if m.ID == n.opts.ID {
		return n.transferTo(ctx, "", members)
	}
	var left int
	var now time.Time
	n.store.View(func(s *hub.State) { left, now = s.Owned(m.ID), s.Now() })
	if left > 0 && m.Alive && now.Sub(known.Since) < removeWait {
		return nil
	}
	if m.Voter {
		if err := checkQuorumWithout(m.ID, members); err != nil {
			return err
		}
	}
	n.opts.Logger.Info("removing a node from the cluster", "node", m.ID, "alive", m.Alive, "subscriptions", left)
	return n.reconfigure(ctx, func() raft.Future { return n.raft.RemoveServer(raft.ServerID(m.ID), 0, changeTimeout) })
}
