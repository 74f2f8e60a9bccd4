package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

func TestFreshNodeLeadsAtOnce(t *testing.T) {
	m := newMember(t, "node-1")
	for _, run := range []string{"first", "second"} {
		begin := time.Now()
		m.start()
		if took := time.Since(begin); took > 900*time.Millisecond {
			t.Errorf("%s start took %v", run, took)
		}
		if !m.node.IsLeader() || m.node.State() != "leader" {
			t.Errorf("%s start: state %s, IsLeader %v", run, m.node.State(), m.node.IsLeader())
		}
		id, err := raftlog.ReadIdentity(m.dir)
		if err != nil || id.ID != "node-1" || id.ClusterID == "" || id.CreatedAt.IsZero() {
			t.Errorf("%s start: identity %+v, %v", run, id, err)
		}
		m.stop()
	}
}

func TestClusterIDStaysTheSame(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	first, _ := raftlog.ReadIdentity(m.dir)
	m.kill()
	m.start()
	defer m.stop()
	second, _ := raftlog.ReadIdentity(m.dir)
	var inState string
	m.store.View(func(s *hub.State) { inState = s.ClusterID() })
	if !reflect.DeepEqual(first, second) || inState != first.ClusterID {
		t.Errorf("identity %+v, then %+v; the state has %s", first, second, inState)
	}
}

func TestProposalsOfOneCallAreAppliedTogetherInOrder(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer m.stop()
	res, err := m.node.Propose(context.Background(), publish("a", "1"), publish("a", "2"), publish("b", "3"))
	if err != nil || len(res) != 3 || res[0].Offset != 1 || res[1].Offset != 2 || res[2].Offset != 1 || res[2].Topic == res[0].Topic {
		t.Fatalf("results %+v, %v", res, err)
	}
	ms, err := m.store.Read(res[0].Topic, 1, 10, 1<<20)
	if err != nil || len(ms) != 2 || string(ms[0].Body) != "1" || string(ms[1].Body) != "2" {
		t.Fatalf("read %+v, %v", ms, err)
	}
}

func TestRefusedEventIsAResult(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer m.stop()
	e := publish("nowhere", "x")
	e.GetMessagePublished().AutoRegister = false
	res, err := m.node.Propose(context.Background(), e)
	if err != nil || res[0].Outcome != hub.OutcomeNoTopic {
		t.Fatalf("results %+v, %v", res, err)
	}
}

// Invariant I1: if the store has flushed nothing, raft's log alone restores everything.
func TestI1KillWithoutFlushLosesNothing(t *testing.T) {
	m := newMember(t, "node-1")
	m.files = func(o *store.Options) { o.FlushInterval = time.Hour }
	l := newLedger()
	for round := range 3 {
		m.start()
		for i := range 20 {
			body := fmt.Sprintf("%d-%d", round, i)
			res, err := m.node.Propose(context.Background(), publish("a", body))
			if err != nil {
				t.Fatal(err)
			}
			l.record(res[0], body)
		}
		m.kill()
	}
	m.start()
	defer m.stop()
	if err := l.check(m.store); err != nil {
		t.Error(err)
	}
}

// tiny makes raft constantly compact its log to the last entry.
func tiny(o *raftlog.Options) {
	o.SnapshotInterval, o.SnapshotThreshold = 8*time.Millisecond, 3
	o.TrailingBytes = -1
	o.LogCache = 8
}

// Invariants I1 and I8: constant publishers, kills at random moments, a log compacted to the last entry.
func TestI1I8CrashLoopLosesNothing(t *testing.T) {
	m := newMember(t, "node-1")
	m.options = tiny
	m.files = func(o *store.Options) { o.FlushInterval = 15 * time.Millisecond }
	if err := crashLoop(m, rounds(10), 1); err != nil {
		t.Error(err)
	}
}

func rounds(n int) int {
	if os.Getenv("RAFTLOG_CHAOS") != "" {
		return 20 * n
	}
	return n
}

// crashLoop kills and restarts m under publish load, and returns the ledger's first complaint.
func crashLoop(m *member, rounds int, seed uint64) error {
	var (
		l    = newLedger()
		rng  = rand.New(rand.NewPCG(seed, 1))
		node atomic.Pointer[raftlog.Node]
		stop = make(chan struct{})
		wg   sync.WaitGroup
	)
	for w := range 8 {
		wg.Go(func() { l.publish(stop, w, node.Load) })
	}
	end := func() {
		close(stop)
		wg.Wait()
	}
	for range rounds {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := m.open(ctx)
		cancel()
		if err != nil {
			end()
			return fmt.Errorf("start: %w", err)
		}
		if err := l.check(m.store); err != nil {
			end()
			m.kill()
			return err
		}
		node.Store(m.node)
		select {
		case <-time.After(time.Duration(20+rng.IntN(150)) * time.Millisecond):
		case err := <-m.fatal:
			node.Store(nil)
			end()
			m.kill()
			return fmt.Errorf("node stopped: %w", err)
		}
		node.Store(nil)
		m.kill()
	}
	end()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := m.open(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer m.stop()
	m.t.Logf("%d rounds, %d acknowledged, %d with unknown outcome", rounds, l.acknowledged, l.unknown)
	if l.acknowledged == 0 {
		return errors.New("nothing was acknowledged: the result is meaningless")
	}
	return errors.Join(l.check(m.store), m.noFailure())
}

// A repeated batch is answered but not applied again.
func TestRepeatedBatchIsAppliedOnce(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	send := func(seq uint64, body string) hub.BatchResult {
		t.Helper()
		p, err := hub.EncodeProposal(events(publish("a", body)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := m.node.Send("other/1", seq, p)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := send(1, "x")
	second := send(2, "y")
	again := send(1, "x")
	m.kill()
	m.start()
	defer m.stop()
	late := send(1, "x") // also after a restart
	for _, r := range []hub.BatchResult{again, late} {
		if r.Proposals[0][0] != first.Proposals[0][0] {
			t.Errorf("the repeated batch got %+v, the first %+v", r, first)
		}
	}
	if second.Proposals[0][0].Offset != 2 {
		t.Errorf("second batch %+v", second)
	}
	if _, n := m.hash(); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestCloseFinishesProposalsInFlight(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	m := newMember(t, "node-1")
	m.start()
	l := newLedger()
	var wg sync.WaitGroup
	begun := make(chan struct{}, 64)
	for w := range 32 {
		wg.Go(func() {
			for i := 0; ; i++ {
				body := fmt.Sprintf("%d-%d", w, i)
				res, err := m.node.Propose(context.Background(), publish("a", body))
				if errors.Is(err, hub.ErrStopping) {
					return
				}
				if err != nil {
					t.Errorf("proposal in flight at Close: %v", err)
					return
				}
				l.record(res[0], body)
				if i == 3 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range 32 {
		<-begun
	}
	if err := m.node.Close(context.Background()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if a, d := m.store.Applied(), m.store.Durable(); a.Index != d.Index {
		t.Errorf("after Close the store is at %d and durable at %d", a.Index, d.Index)
	}
	if err := l.check(m.store); err != nil {
		t.Error(err)
	}
	if _, err := m.node.Propose(context.Background(), publish("a", "late")); !errors.Is(err, hub.ErrStopping) {
		t.Errorf("after Close: %v", err)
	}
	if err := m.node.Close(context.Background()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := m.store.Close(); err != nil {
		t.Error(err)
	}
}

func TestLogIsCompactedByBytes(t *testing.T) {
	m := newMember(t, "node-1")
	m.options = func(o *raftlog.Options) {
		o.SnapshotBytes, o.SnapshotInterval = 1<<20, time.Hour
		o.TrailingBytes, o.MinTrailing = 256<<10, 2
	}
	m.start()
	defer m.stop()
	body := strings.Repeat("x", 100<<10)
	for range 60 {
		if _, err := m.node.Propose(context.Background(), publish("a", body)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the log was compacted", func() bool {
		s := m.node.Stats()
		return s.LogFirst > 20 && s.LogLast-s.LogFirst < 40 && s.InFlight == 0 && s.QueuedBytes == 0
	})
	s := m.node.Stats()
	if s.Proposals < 60 || s.LogWritten < 60*100<<10 || s.CommitLatency.Count == 0 || s.LogFileBytes == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestDiskReserve(t *testing.T) {
	m := newMember(t, "node-1")
	m.options = func(o *raftlog.Options) { o.MinFreeBytes = 1 << 60 }
	m.start()
	defer m.stop()
	if _, err := m.node.Propose(context.Background(), publish("a", "x")); !errors.Is(err, hub.ErrDiskFull) {
		t.Errorf("publish with a full disk: %v", err)
	}
	// Consequences of accepted work are still accepted: some of them free space.
	if _, err := m.node.Propose(context.Background(), cursors(1)); err != nil {
		t.Errorf("cursors with a full disk: %v", err)
	}
	if s := m.node.Stats(); !s.DiskFull || s.FreeDiskBytes == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestQuietByDefault(t *testing.T) {
	var b lockedBuffer
	m := newMember(t, "node-1")
	m.options = func(o *raftlog.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	for range 2 {
		m.start()
		if _, err := m.node.Propose(context.Background(), publish("a", "x")); err != nil {
			t.Fatal(err)
		}
		m.stop()
	}
	if b.String() != "" {
		t.Errorf("a normal start and stop logs:\n%s", b.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
