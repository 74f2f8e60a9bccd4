package raftlog_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

func headOf(m *member, topic string) (head uint64) {
	m.store.View(func(s *hub.State) {
		t, _ := s.TopicByName(topic)
		head = t.Head
	})
	return head
}

// A consistent read on any node sees what any node acknowledged before; a read after AwaitIndex with a write's index sees that
// write.
func TestConsistentReadsSeeAcknowledgedWrites(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var acked atomic.Uint64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i, m := range w.members {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				res, err := m.node.Propose(ctx, publish("t", fmt.Sprint(i, n)))
				if err != nil {
					t.Error(err)
					return
				}
				for head := acked.Load(); head < res[0].Offset && !acked.CompareAndSwap(head, res[0].Offset); head = acked.Load() {
				}
			}
		})
	}
	for i := range 300 {
		m := w.members[i%3]
		known := acked.Load()
		if err := m.node.Consistent(ctx); err != nil {
			t.Errorf("%s: %v", m.id, err)
		}
		if head := headOf(m, "t"); head < known {
			t.Errorf("%s reads %d messages after %d were acknowledged", m.id, head, known)
		}
	}
	close(stop)
	wg.Wait()
	for i, m := range w.members {
		other := w.members[(i+1)%3]
		res, err := m.node.Propose(ctx, publish("t", "x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := other.node.AwaitIndex(ctx, m.node.Written()); err != nil {
			t.Error(err)
		}
		if head := headOf(other, "t"); head < res[0].Offset {
			t.Errorf("%s reads %d messages after awaiting message %d", other.id, head, res[0].Offset)
		}
	}
}

// Raft's entries at the start of a term never reach a store: without a write after an election, they must not block consistent
// reads.
func TestConsistentReadsNeedNoWriteAfterAnElection(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer func() { m.stop() }()
	if _, err := m.node.Propose(t.Context(), publish("t", "x")); err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.start()
	eventually(t, "it leads in a new term", m.node.IsLeader)
	index, err := m.node.VerifiedIndex()
	if at := m.store.Applied().Index; err != nil || index > at {
		t.Errorf("a read must wait for entry %d (%v), but the store is at %d and nothing is in flight", index, err, at)
	}
	if err := m.node.Consistent(t.Context()); err != nil {
		t.Error(err)
	}
	if head := headOf(m, "t"); head != 1 {
		t.Errorf("%d messages, want 1", head)
	}
}

// A leader that does not know yet that it was deposed serves no consistent reads.
func TestDeposedLeaderServesNoConsistentReads(t *testing.T) {
	if err, stale := readFromDeposed(t, raftlog.Faults{}); hub.CodeOf(err) != hub.CodeUnavailable {
		t.Errorf("a deposed leader answered %v (stale: %v), want hub.ErrNoLeader", err, stale)
	}
	// The check works: a leader that does not ask a quorum serves an old state.
	if err, stale := readFromDeposed(t, raftlog.Faults{ReadUnverified: true}); err != nil || !stale {
		t.Errorf("without the guard: %v, stale %v; want a stale answer", err, stale)
	}
}

func readFromDeposed(t *testing.T, h raftlog.Faults) (err error, stale bool) {
	t.Helper()
	c := newCluster(t, 3)
	for i, m := range c.members {
		m.faults = h
		m.options = func(o *raftlog.Options) {
			fast(o)
			if i == 1 { // remains leader without a quorum for long
				o.Timing.Heartbeat, o.Timing.Lease = 20*time.Second, 20*time.Second
			} else {
				o.Timing.Heartbeat, o.Timing.Lease = 500*time.Millisecond, 300*time.Millisecond
			}
		}
	}
	c.start()
	defer c.kill()
	old := c.members[1]
	eventually(t, "node-2 leads", func() bool {
		_ = c.leader().node.Raft().LeadershipTransferToServer("node-2", "node-2").Error() // retries if it failed
		return old.node.IsLeader()
	})
	if _, err := old.node.Propose(context.Background(), publish("t", "1")); err != nil {
		t.Fatal(err)
	}
	if err := old.node.Consistent(context.Background()); err != nil {
		t.Errorf("the leader of a quorum: %v", err)
	}
	// Isolate it from the others, which elect a new leader.
	c.links[old].DisconnectAll()
	for _, m := range c.members {
		c.links[m].Disconnect(c.links[old].LocalAddr())
	}
	var acked uint64
	eventually(t, "the others accept a message", func() bool {
		for _, m := range c.members {
			if m == old || !m.node.IsLeader() {
				continue
			}
			res, err := m.node.Propose(context.Background(), publish("t", "2"))
			if err == nil {
				acked = res[0].Offset
				return true
			}
		}
		return false
	})
	if !old.node.IsLeader() {
		t.Fatal("the old leader already knows that it was deposed, so the result is meaningless")
	}
	err = old.node.Consistent(context.Background())
	return err, headOf(old, "t") < acked
}

// A quorum that knows a later term does not confirm the leader of an earlier one, nor does a silent quorum.
func TestOnlyAQuorumOfTheSameTermConfirmsALeader(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	lead := w.leader()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	term := lead.node.Stats().Term
	if err := lead.node.VerifyTerm(ctx, term); err != nil {
		t.Error(err)
	}
	if err := lead.node.VerifyTerm(ctx, term-1); err == nil {
		t.Error("a quorum of a later term confirmed the leader of an earlier one")
	}
	w.crash(w.follower())
	if err := lead.node.VerifyTerm(ctx, term); err != nil {
		t.Errorf("with one follower gone: %v", err)
	}
	w.crash(w.follower())
	if err := lead.node.VerifyTerm(ctx, term); err == nil {
		t.Error("the leader was confirmed without answers")
	}
	begin := time.Now()
	if err := lead.node.Consistent(ctx); hub.CodeOf(err) != hub.CodeUnavailable {
		t.Errorf("a consistent read without a quorum: %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("refusing it took %v", took)
	}
}

func TestAwaitIndexGivesUpWithItsContext(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer m.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := m.node.AwaitIndex(ctx, 1<<40); hub.CodeOf(err) != hub.CodeUnavailable {
		t.Errorf("an index far ahead: %v", err)
	}
	if err := m.node.Consistent(context.Background()); err != nil {
		t.Errorf("the only voter: %v", err)
	}
}
