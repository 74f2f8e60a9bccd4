package raftlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"quorumhub/raftlog"
	"quorumhub/store"
)

// These tests take one guard away at a time and expect the checks of the other tests to object: a guard
// whose absence nobody notices would be untested.

// slowFlush lets the files fall behind the memory, as under load.
func slowFlush(o *store.Options) { o.FlushInterval = time.Hour }

func TestMutationPersistDoesNotFlush(t *testing.T) {
	t.Run("the log refuses to be cut", func(t *testing.T) {
		m := newMember(t, "node-1")
		m.options, m.files = tiny, slowFlush
		m.faults = raftlog.Faults{PersistWithoutFlush: true}
		if err := crashLoop(m, 3, 2); !errors.Is(err, raftlog.ErrLogFailed) {
			t.Errorf("the crash loop says: %v", err)
		}
	})
	t.Run("both guards are gone", func(t *testing.T) {
		m := newMember(t, "node-1")
		m.options, m.files = tiny, slowFlush
		m.faults = raftlog.Faults{PersistWithoutFlush: true, CompactUnchecked: true}
		err := crashLoop(m, 3, 3)
		if err == nil {
			t.Fatal("acknowledged messages were lost and nobody noticed")
		}
		var fe *raftlog.FileError
		if !errors.As(err, &fe) {
			t.Errorf("the crash loop says: %v", err)
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

// laggingFollower has a follower miss messages that the leader then cuts from its log, and brings it back
// while the leader's files are behind its memory. It returns what the checks object to.
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
	say := func(n int) {
		for i := range n {
			body := fmt.Sprintf("%d-%d", l.told, i)
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
	say(20)
	c.take(follower)
	say(20)
	for _, m := range c.members { // the files hold all up to here, the logs nothing
		if m.node == nil {
			continue
		}
		if err := m.node.CutLog(); err != nil {
			return err
		}
	}
	say(20) // only in memory and in the log
	c.bring(follower)
	eventually(t, "the follower has heard of its leader", func() bool {
		id, _ := follower.node.Leader()
		return id != ""
	})
	say(1) // comes after what the snapshot claims to hold
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
	t.Run("the receiver compares", func(t *testing.T) {
		if err := laggingFollower(t, raftlog.Faults{MetaFromMemory: true}, time.Second); err == nil {
			t.Error("nobody noticed")
		}
	})
	t.Run("both guards are gone", func(t *testing.T) {
		if err := laggingFollower(t, raftlog.Faults{MetaFromMemory: true, InstallUnchecked: true}, 20*time.Second); err == nil {
			t.Error("acknowledged messages were lost and nobody noticed")
		} else {
			t.Log(err)
		}
	})
}
