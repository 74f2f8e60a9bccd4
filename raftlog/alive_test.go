package raftlog_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/raftlog"
)

// held makes what calls wait stand still while it is shut.
type held struct{ gate chan struct{} }

func newHeld() *held { return &held{make(chan struct{}, 1)} }

func (h *held) wait() { h.gate <- struct{}{}; <-h.gate }
func (h *held) shut() { h.gate <- struct{}{} }
func (h *held) open() { <-h.gate }

// slowLog is a log on a disk that stands still.
type slowLog struct {
	raft.LogStore
	disk *held
}

func (l *slowLog) StoreLogs(logs []*raft.Log) error {
	l.disk.wait()
	return l.LogStore.StoreLogs(logs)
}

// alive asks as a watchdog does that is less patient than the real one.
func alive(t *testing.T, m *member) error {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	return m.node.AliveWithin(ctx, 100*time.Millisecond)
}

func TestAlive(t *testing.T) {
	m, disk, store := newMember(t, "node-1"), newHeld(), newHeld()
	m.options = fast
	m.faults = raftlog.Faults{
		WrapLog:    func(l raft.LogStore) raft.LogStore { return &slowLog{l, disk} },
		AfterApply: func(err error) error { store.wait(); return err },
	}
	m.start()
	if err := alive(t, m); err != nil {
		t.Fatalf("at rest: %v", err)
	}
	for _, c := range []struct {
		part *held
		says string
	}{{disk, "raft does not answer"}, {store, "the same entries"}} {
		c.part.shut()
		done := make(chan error, 1)
		go func() {
			_, err := m.node.Propose(context.Background(), publish("news", "x"))
			done <- err
		}()
		eventually(t, "it is noticed: "+c.says, func() bool {
			err := alive(t, m)
			return err != nil && strings.Contains(err.Error(), c.says)
		})
		c.part.open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := alive(t, m); err != nil {
			t.Errorf("%s, and goes on: %v", c.says, err)
		}
	}
	m.stop()
}

// Without a quorum a node can do nothing for its clients, but a restart would not help.
func TestAliveWithoutAQuorum(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	for _, m := range c.members[1:] {
		c.crash(m)
	}
	m := c.members[0]
	eventually(t, "it has no leader", func() bool { _, address := m.node.Leader(); return address == "" })
	for range 20 {
		if err := alive(t, m); err != nil {
			t.Fatal(err)
		}
	}
	c.kill()
}
