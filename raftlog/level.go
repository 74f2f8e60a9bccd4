package raftlog

import (
	"path/filepath"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	// levelPause is how often a leader checks whether all members know a higher feature level,
	levelPause = time.Second
	// firstLevelPause the same before there is any level: a new cluster can do little without one.
	firstLevelPause = 50 * time.Millisecond
)

// FeatureLevel returns the level that all members know, 0 before they have agreed on one.
func (n *Node) FeatureLevel() (level uint32) {
	n.store.View(func(s *hub.State) { level = s.FeatureLevel() })
	return level
}

// checkEvents refuses events of a kind that some member may not know: it would stop over one.
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
		return hub.Errorf(hub.CodeUnavailable, "%s needs feature level %d, but the cluster is at level %d; run the same quorumhub version on every node", hub.EventName(e), need, has)
	}
	return nil
}

// checkLevel refuses to start if the cluster's feature level is higher than this program's.
func (n *Node) checkLevel() error {
	if has := n.FeatureLevel(); has > n.level {
		return &FileError{File: filepath.Join(n.opts.Dir, logFile), Hint: "run the same quorumhub version as on the other nodes",
			Problem: levelText("this program", n.level, "the cluster in data_dir", has)}
	}
	return nil
}

// watchLevel raises the cluster's level when this node leads and every member knows a higher one, and keeps the port's copy of
// it current, which keeps out nodes with a lower level.
func (n *Node) watchLevel() {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-next.C:
		}
		if n.IsLeader() {
			n.raiseLevel()
		}
		n.publishLevel()
		pause := levelPause
		if n.FeatureLevel() == 0 {
			pause = firstLevelPause
		}
		next.Reset(pause)
	}
}

// firstEvents are those of a new cluster: its ID, and if this node founds it the feature level that all founders know, so that
// nothing can be made before there is one.
func (n *Node) firstEvents() []*hubpb.Event {
	events := []*hubpb.Event{{Kind: &hubpb.Event_ClusterInitialized{ClusterInitialized: &hubpb.ClusterInitialized{ClusterId: randomID()}}}}
	level := n.foundingLevel
	if n.port == nil {
		level = n.level
	}
	if level > 0 {
		events = append(events, levelEvent(level))
	}
	return events
}

func levelEvent(level uint32) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: level}}}
}

func (n *Node) raiseLevel() {
	least := n.level
	for _, m := range n.Members() {
		if !m.Alive {
			return // its level may have changed
		}
		least = min(least, m.FeatureLevel)
	}
	has := n.FeatureLevel()
	if least <= has {
		return
	}
	_, err := n.batcher.Propose(n.ctx, levelEvent(least))
	if err == nil && (has > 0 || n.port != nil) { // a new hub of one node has nothing to tell
		n.opts.Logger.Info("feature level raised; every node supports it", "level", least)
	} // otherwise the next round tries again
}

// publishLevel makes the port check connecting nodes against the cluster's level.
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
