package raftlog

import (
	"path/filepath"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// levelPause is how often a leader looks whether all members know a higher feature level.
const levelPause = time.Second

// FeatureLevel is the level that all members know, 0 before they have agreed on one.
func (n *Node) FeatureLevel() (level uint32) {
	n.store.View(func(s *hub.State) { level = s.FeatureLevel() })
	return level
}

// checkEvents refuses events of a kind that some member may not know. It would stop.
func (n *Node) checkEvents(events []*hubpb.Event) error {
	for _, e := range events {
		need := hub.LevelOf(e)
		if need <= 1 {
			continue // every program knows it
		}
		if err := checkEventLevel(e, need, n.FeatureLevel()); err != nil {
			return err
		}
	}
	return nil
}

func checkEventLevel(e *hubpb.Event, need, has uint32) error {
	if need > has {
		return hub.Errorf(hub.CodeUnavailable, "%s needs feature level %d, and the cluster is at level %d; run the same quorumhub on every node", hub.EventName(e), need, has)
	}
	return nil
}

// checkLevel refuses to start on the state of a cluster that has left this program behind.
func (n *Node) checkLevel() error {
	if has := n.FeatureLevel(); has > n.level {
		return &FileError{File: filepath.Join(n.opts.Dir, logFile), Hint: "run the same quorumhub as on the other nodes",
			Problem: levelText("this program", n.level, "the cluster of this data", has)}
	}
	return nil
}

// watchLevel raises the cluster's level when this node leads and every member knows a higher one, and lets no node in that
// knows less than the cluster's.
func (n *Node) watchLevel() {
	tick := time.NewTicker(levelPause)
	defer tick.Stop()
	for {
		if n.IsLeader() {
			n.raiseLevel()
		}
		n.publishLevel()
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Node) raiseLevel() {
	least := n.level
	for _, m := range n.Members() {
		if !m.Alive {
			return // what it knows now is not known
		}
		least = min(least, m.FeatureLevel)
	}
	if least <= n.FeatureLevel() {
		return
	}
	_, err := n.batcher.Propose(n.ctx, &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: least}}})
	if err == nil {
		n.opts.Logger.Info("every node knows a higher feature level", "level", least)
	} // else it is tried again
}

// publishLevel has the port judge strangers by the cluster's level.
func (n *Node) publishLevel() {
	if n.port == nil {
		return
	}
	level := n.FeatureLevel()
	for {
		old := n.port.self.Load()
		if old.clusterLevel == level {
			return
		}
		me := *old
		me.clusterLevel = level
		if n.port.self.CompareAndSwap(old, &me) {
			return
		}
	}
}
