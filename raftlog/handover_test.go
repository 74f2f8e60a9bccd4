package raftlog_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// A drained node hands over what it delivers, and leadership, until it is let deliver again, whatever becomes of its process. While no
// other node can deliver, it counts as one that does.
func TestDrainedNodes(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	lead := w.leader()
	eventually(t, "the leader sees successors", lead.node.HasSuccessors)
	draining := func(id string) bool {
		for _, m := range w.members {
			if m.node != nil && !slices.ContainsFunc(m.node.Nodes(), func(s hub.NodeStatus) bool { return s.ID == id && s.Draining }) {
				return false
			}
		}
		return true
	}
	eventually(t, "the leader can be drained", func() bool {
		return w.apply(lead, raftlog.Change{Operation: raftlog.DrainNode, Node: lead.id}) == nil
	})
	eventually(t, "all know it", func() bool { return draining(lead.id) })
	eventually(t, "another one leads", func() bool { return !lead.node.IsLeader() && w.leader() != lead })
	if v, _ := w.voters(); len(v) != 3 {
		t.Errorf("the voters are %v", v)
	}
	w.acceptsWrites(lead)
	lead.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, lead); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is still drained after a restart", func() bool { return draining(lead.id) })
	var others []*member
	for _, m := range w.members {
		if m != lead {
			others = append(others, m)
		}
	}
	w.mustChange(raftlog.Change{Operation: raftlog.DrainNode, Node: others[0].id})
	w.refuses(raftlog.Change{Operation: raftlog.DrainNode, Node: others[1].id}, hub.CodeConflict, "no other node could deliver")
	eventually(t, "two are drained", func() bool { return draining(lead.id) && draining(others[0].id) })
	w.crash(others[1])
	eventually(t, "they deliver, as nobody else can", func() bool { return !draining(lead.id) && !draining(others[0].id) })
	w.mustChange(raftlog.Change{Operation: raftlog.UndrainNode, Node: lead.id})
	eventually(t, "one may rest again", func() bool { return !draining(lead.id) && draining(others[0].id) })
}

// All nodes see a node that announces its stop as stopping, and its next run as running.
func TestHandover(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	eventually(t, "all runs are recorded", func() bool {
		started := 0
		w.leader().store.View(func(s *hub.State) {
			for _, n := range s.Nodes() {
				if n.Boot != "" {
					started++
				}
			}
		})
		return started == 3
	})
	lead := w.leader()
	eventually(t, "the leader sees successors", lead.node.HasSuccessors)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if !lead.node.Handover(ctx) {
		t.Fatal("no successor")
	}
	if lead.node.IsLeader() {
		t.Error("it still leads")
	}
	w.acceptsWrites(lead) // until it stops
	stopping := func(m *member) bool {
		return slices.ContainsFunc(m.node.Nodes(), func(s hub.NodeStatus) bool { return s.ID == lead.id && s.Draining })
	}
	for _, m := range w.members {
		eventually(t, m.id+" knows", func() bool { return stopping(m) })
	}
	if err := lead.node.HandoverDone(ctx); err != nil {
		t.Error(err)
	}
	lead.stop()
	if err := w.open(ctx, lead); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.members {
		eventually(t, m.id+" knows that it is back", func() bool { return !stopping(m) })
	}
}
