package raftlog

import (
	"context"
	"slices"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	announceInterval = 250 * time.Millisecond
	handoverTimeout  = 3 * time.Second
	handoverPause    = 50 * time.Millisecond
)

// announceRun announces this run of the node to a cluster that knows the node, its address if that has changed, and its URLs as
// soon as every member knows what they are.
func (n *Node) announceRun() {
	tick := time.NewTicker(announceInterval)
	defer tick.Stop()
	settled, asked := false, time.Now()
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		case <-n.members.gone:
			return
		}
		if len(n.configuration()) == 0 {
			if time.Since(asked) >= joinAgainPause {
				n.joinAgain(n.ctx)
				asked = time.Now()
			}
			continue
		}
		if settled = settled || n.updateAddress(n.ctx); !settled {
			continue
		}
		switch known, ok := n.nodes()[n.opts.ID]; {
		case !ok:
		case known.Boot != n.boot:
			_ = n.recordRun(n.ctx, hubpb.NodeRun_RUN_STARTED) // the next round checks whether it is in the log
		case n.urlsKnown():
			return
		case n.URLsPending():
			_, _ = n.Propose(n.ctx, n.urlsEvent())
		}
	}
}

func (n *Node) urlsEvent() *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_NodeUrlsSet{NodeUrlsSet: &hubpb.NodeUrlsSet{Node: n.opts.ID, Urls: n.opts.URLs}}}
}

func (n *Node) urlsKnown() bool {
	return slices.Equal(n.nodes()[n.opts.ID].URLs, n.opts.URLs[:min(len(n.opts.URLs), hub.MaxNodeURLs)])
}

// URLsPending reports whether the other nodes do not know this node's URLs yet, although all could.
func (n *Node) URLsPending() bool {
	return n.port != nil && n.FeatureLevel() >= hub.LevelOf(n.urlsEvent()) && !n.urlsKnown()
}

// recordRun writes the stage of this run of the node to the log.
func (n *Node) recordRun(ctx context.Context, run hubpb.NodeRun) error {
	_, err := n.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_NodeRunChanged{NodeRunChanged: &hubpb.NodeRunChanged{Node: n.opts.ID, Boot: n.boot, Run: run}}})
	return err
}

// Handover announces that this node is about to stop, and passes leadership to another voter if this node leads. The
// cluster then assigns its subscriptions to other nodes as soon as it releases them. Handover reports whether there is a
// node to take them. It interrupts nothing that the node is doing.
func (n *Node) Handover(ctx context.Context) (successors bool) {
	if n.port == nil || !n.HasSuccessors() || n.recordRun(ctx, hubpb.NodeRun_RUN_STOPPING) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, handoverTimeout)
	defer cancel()
	for n.IsLeader() && ctx.Err() == nil {
		members := n.Members()
		if successor(members, n.opts.ID) == nil {
			break // the remaining nodes elect a leader
		}
		if err := n.transferTo(ctx, "", members); err == nil {
			break
		}
		select {
		case <-time.After(handoverPause):
		case <-ctx.Done():
		}
	}
	return true
}

// HasSuccessors reports whether another node can take over what this one delivers.
func (n *Node) HasSuccessors() bool {
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

// HandoverDone records, after Handover, that the node sends nothing more and that all its cursors are in the log. Whatever
// it still owns is reassigned at once.
func (n *Node) HandoverDone(ctx context.Context) error {
	var left int
	n.store.View(func(s *hub.State) { left = s.Owned(n.opts.ID) })
	if left == 0 {
		return nil
	}
	return n.recordRun(ctx, hubpb.NodeRun_RUN_STOPPED)
}
