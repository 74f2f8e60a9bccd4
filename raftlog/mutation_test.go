package raftlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"quorumhub/raftlog"
	"quorumhub/store"
)

// These tests remove one guard at a time and expect the checks of other tests to fail: a guard whose absence goes unnoticed
// would be untested.

// slowFlush lets the files lag behind the memory, as under load.
func slowFlush(o *store.Options) { o.FlushInterval = time.Hour }

func TestMutationPersistDoesNotFlush(t *testing.T) {
	t.Run("the log refuses to be compacted", func(t *testing.T) {
		m := newMember(t, "node-1")
		m.options, m.files = tiny, slowFlush
		m.faults = raftlog.Faults{PersistWithoutFlush: true}
		if err := crashLoop(m, 3, 2); !errors.Is(err, raftlog.ErrLogFailed) {
			t.Errorf("the crash loop returned: %v", err)
		}
	})
	t.Run("both guards are gone", func(t *testing.T) {
		m := newMember(t, "node-1")
		m.options, m.files = tiny, slowFlush
		m.faults = raftlog.Faults{PersistWithoutFlush: true, CompactUnchecked: true}
		err := crashLoop(m, 3, 3)
		if err == nil {
			t.Fatal("acknowledged messages were lost unnoticed")
		}
		// A start that finishes a compaction that was cut short still has the second guard.
		var fe *raftlog.FileError
		if !errors.As(err, &fe) && !errors.Is(err, raftlog.ErrLogFailed) {
			t.Errorf("the crash loop returned: %v", err)
		}
	})
	t.Run("with the guards", func(t *testing.T) {
		m := newMember(t, "node-1")
		m.options, m.files = tiny, slowFlush
		if err := crashLoop(m, 3, 3); err != nil {
			t.Error(err)
		}
	})
}

// laggingFollower makes a follower miss messages that the leader then compacts out of its log, and restarts it while the
// leader's files lag behind its memory. It returns the first failed check.
func laggingFollower(t *testing.T, h raftlog.Faults, patience time.Duration) error {
	c := newCluster(t, 3)
	for _, m := range c.members {
		m.faults, m.files = h, slowFlush
		m.options = func(o *raftlog.Options) {
			fast(o)
			o.Timing.Heartbeat, o.Timing.Lease = 600*time.Millisecond, 500*time.Millisecond
			o.SnapshotInterval, o.SnapshotThreshold, o.TrailingBytes = time.Hour, 1<<40, -1
		}
	}
	c.start()
	defer c.kill()
	l := newLedger()
	publishMore := func(n int) {
		for i := range n {
			body := fmt.Sprintf("%d-%d", l.acknowledged, i)
			res, err := proposeUntil(c, publish("a", body))
			if err != nil {
				t.Fatal(err)
			}
			l.record(res[0], body)
		}
	}
	lead := c.leader()
	var follower *member
	for _, m := range c.members {
		if m != lead {
			follower = m
		}
	}
	publishMore(20)
	c.crash(follower)
	publishMore(20)
	for _, m := range c.members { // now the files hold everything so far, the logs nothing
		if m.node == nil {
			continue
		}
		if err := m.node.CompactLog(); err != nil {
			return err
		}
	}
	publishMore(20) // only in memory and in the log
	c.launch(follower)
	eventually(t, "the follower knows its leader", func() bool {
		id, _ := follower.node.Leader()
		return id != ""
	})
	publishMore(1) // beyond what the snapshot claims to hold
	end := time.After(patience)
	for {
		if follower.store.Applied().Index >= lead.store.Applied().Index {
			break
		}
		select {
		case <-end:
			return errors.New("the follower does not catch up")
		case <-time.After(5 * time.Millisecond):
		}
	}
	for _, m := range c.members {
		if err := l.check(m.store); err != nil {
			return fmt.Errorf("%s: %w", m.id, err)
		}
	}
	return nil
}

func TestMutationSnapshotIndexFromMemory(t *testing.T) {
	t.Run("with the guards", func(t *testing.T) {
		if err := laggingFollower(t, raftlog.Faults{}, 20*time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("the receiver compares positions", func(t *testing.T) {
		if err := laggingFollower(t, raftlog.Faults{MetaFromMemory: true}, time.Second); err == nil {
			t.Error("the wrong position went unnoticed")
		}
	})
	t.Run("both guards are gone", func(t *testing.T) {
		if err := laggingFollower(t, raftlog.Faults{MetaFromMemory: true, InstallUnchecked: true}, 20*time.Second); err == nil {
			t.Error("acknowledged messages were lost unnoticed")
		} else {
			t.Log(err)
		}
	})
}
