package raftlog

import (
	"context"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	presencePause = 250 * time.Millisecond
	handOverLimit = 3 * time.Second
	handOverPause = 50 * time.Millisecond
)

// present tells the cluster of this run of the node, once it knows the node, and of a new address.
func (n *Node) present() {
	tick := time.NewTicker(presencePause)
	defer tick.Stop()
	settled := false
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		case <-n.members.gone:
			return
		}
		if settled = settled || n.move(n.ctx); !settled {
			continue
		}
		switch known, ok := n.nodes()[n.opts.ID]; {
		case !ok:
		case known.Boot == n.boot:
			return
		default:
			_ = n.say(n.ctx, hubpb.NodeRun_RUN_STARTED) // the next look tells whether it is in the log
		}
	}
}

// say brings where this run of the node is into the log.
func (n *Node) say(ctx context.Context, run hubpb.NodeRun) error {
	_, err := n.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_NodeRunChanged{NodeRunChanged: &hubpb.NodeRunChanged{Node: n.opts.ID, Boot: n.boot, Run: run}}})
	return err
}

// Farewell announces that this node is about to stop, and hands leadership to another voter if it leads: the cluster
// then gives its subscriptions to others as soon as it lets go of them. It reports whether there is anybody to take
// them. Nothing that the node does is cut short by it.
func (n *Node) Farewell(ctx context.Context) (heirs bool) {
	if n.port == nil || !n.HasHeirs() || n.say(ctx, hubpb.NodeRun_RUN_STOPPING) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	for n.IsLeader() && ctx.Err() == nil {
		members := n.Members()
		if heir(members, n.opts.ID) == nil {
			break // whoever is left elects a leader
		}
		if err := n.transferTo(ctx, "", members); err == nil {
			break
		}
		select {
		case <-time.After(handOverPause):
		case <-ctx.Done():
		}
	}
	return true
}

// HasHeirs tells whether another node is there to take over what this one delivers.
func (n *Node) HasHeirs() bool {
	if n.isRemoved() {
		return false
	}
	for _, m := range n.Members() {
		if m.ID != n.opts.ID && m.Alive && !m.Stopping && !m.Leaving {
			return true
		}
	}
	return false
}

// Rest says, after Farewell, that the node sends nothing more and that all its cursors are in the log. What it still
// has is given to others at once.
func (n *Node) Rest(ctx context.Context) error {
	var left int
	n.store.View(func(s *hub.State) { left = s.Owned(n.opts.ID) })
	if left == 0 {
		return nil
	}
	return n.say(ctx, hubpb.NodeRun_RUN_STOPPED)
}
