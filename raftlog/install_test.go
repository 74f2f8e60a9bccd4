package raftlog_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"quorumhub/raftlog"
)

// laggard makes a follower miss so much that it gets a snapshot, over old entries of its own that raft leaves in its log.
// It returns the follower with the new entries that came after the snapshot.
func laggard(t *testing.T, c *cluster, trailing int) *member {
	t.Helper()
	for _, m := range c.members {
		m.options = func(o *raftlog.Options) {
			fast(o)
			o.SnapshotInterval, o.SnapshotThreshold = time.Hour, 1<<40 // cut below, by hand
			o.TrailingBytes, o.MinTrailing = 1, trailing
		}
	}
	c.start()
	lead := c.leader()
	away, others := c.members[0], c.members[1:]
	if away == lead {
		away, others = c.members[2], c.members[:2]
	}
	fill(t, c, 30)
	eventually(t, "the follower has the first entries", func() bool { return c.sameState() == nil })
	c.crash(away)
	fill(t, c, 200)
	eventually(t, "both others have the new entries", func() bool {
		return others[0].store.Applied().Index == others[1].store.Applied().Index
	})
	for _, m := range others { // either may lead next
		if err := m.node.CompactLog(); err != nil {
			t.Fatal(err)
		}
	}
	c.launch(away)
	eventually(t, "the follower has caught up", func() bool { return c.sameState() == nil })
	fill(t, c, 5)
	eventually(t, "the follower has new entries", func() bool { return c.sameState() == nil })
	return away
}

// fill writes so many messages through whoever leads.
func fill(t *testing.T, c *cluster, n int) {
	t.Helper()
	for i := range n {
		if _, err := proposeUntil(c, publish("t", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestI8InstallLeavesNoOldEntries: behind a snapshot that was installed, the log starts anew, so that the node starts again and
// never sends entries that its snapshot has overtaken.
func TestI8InstallLeavesNoOldEntries(t *testing.T) {
	for _, trailing := range []int{8, 64} { // fewer and more than the follower had
		c := newCluster(t, 3)
		m := laggard(t, c, trailing)
		first, last := m.node.LogBounds()
		if held := m.store.Durable().Index; last-first > 10 || last < held {
			t.Errorf("trailing %d: the log has entries %d to %d", trailing, first, last)
		}
		c.crash(m)
		if err := m.open(context.Background()); err != nil {
			t.Fatalf("trailing %d: it does not start again: %v", trailing, err)
		}
		m.kill()
		c.kill()
	}
}

// TestI8GapOfAnInstallIsNoDamage: an earlier version left such entries in the log, with a gap behind them; and a crash may
// come between the snapshot and their removal. Any other gap is damage.
func TestI8GapOfAnInstallIsNoDamage(t *testing.T) {
	c := newCluster(t, 3)
	m := laggard(t, c, 64)
	c.crash(m)
	old := []uint64{1, 2, 3}
	if err := raftlog.PutEntries(m.dir, old...); err != nil {
		t.Fatal(err)
	}
	if err := m.open(context.Background()); err != nil {
		t.Fatalf("with a gap up to the snapshot: %v", err)
	}
	if first, _ := m.node.LogBounds(); first <= old[len(old)-1] {
		t.Errorf("the log still begins at entry %d", first)
	}
	_, last := m.node.LogBounds()
	m.kill()
	if err := raftlog.PutEntries(m.dir, last+2); err != nil {
		t.Fatal(err)
	}
	mustProblem(t, m.open(context.Background()), "raft.db", "damaged", fmt.Sprint("entry ", last+1))
	c.kill()
}
