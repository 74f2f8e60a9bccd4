package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

var errDisk = errors.New("input/output error")

// faultyLog is a raft.db that fails one write once armed, or blocks all writes.
type faultyLog struct {
	raft.LogStore
	armed atomic.Bool
	held  atomic.Pointer[chan struct{}]
	calls atomic.Int64 // writes that are or were blocked
}

func (f *faultyLog) StoreLogs(logs []*raft.Log) error {
	if hold := f.held.Load(); hold != nil {
		f.calls.Add(1)
		<-*hold
	}
	if f.armed.Swap(false) {
		return errDisk // only once: the write after a failed fsync may succeed
	}
	return f.LogStore.StoreLogs(logs)
}

func (f *faultyLog) wrap(l raft.LogStore) raft.LogStore {
	f.LogStore = l
	return f
}

// Invariant I8: after the first failed write nothing is acknowledged, and nothing acknowledged before is lost.
func TestI8FailedWriteEndsAcknowledgements(t *testing.T) {
	f := new(faultyLog)
	m := newMember(t, "node-1")
	m.faults.WrapLog = f.wrap
	m.start()
	l := newLedger()
	node := m.node
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if w == 0 && i == 20 {
					f.armed.Store(true)
				}
				body := fmt.Sprintf("%d-%d", w, i)
				res, err := node.Propose(context.Background(), publish("a", body))
				if err != nil {
					if !errors.Is(err, hub.ErrAmbiguous) && !errors.Is(err, hub.ErrStopping) && !errors.Is(err, hub.ErrNoLeader) {
						t.Errorf("after the failed write: %v", err)
					}
					return
				}
				l.record(res[0], body)
			}
		})
	}
	select {
	case err := <-m.fatal:
		if !errors.Is(err, raftlog.ErrLogFailed) || !errors.Is(err, errDisk) {
			t.Errorf("Fatal got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Fatal was not called")
	}
	wg.Wait() // every writer got an error: nothing more was acknowledged
	if !errors.Is(node.Err(), errDisk) || node.IsLeader() {
		t.Errorf("Err %v, IsLeader %v", node.Err(), node.IsLeader())
	}
	for range 20 {
		if _, err := node.Propose(context.Background(), publish("a", "late")); err == nil {
			t.Error("acknowledged after the failure")
		}
	}
	if err := m.noFailure(); err != nil {
		t.Errorf("Fatal was called again: %v", err)
	}
	m.kill()
	m.faults = raftlog.Faults{}
	m.start()
	defer m.stop()
	if err := l.check(m.store); err != nil {
		t.Error(err)
	}
}

func TestStalledDiskEndsTheNode(t *testing.T) {
	f := new(faultyLog)
	m := newMember(t, "node-1")
	m.faults.WrapLog = f.wrap
	m.options = func(o *raftlog.Options) { o.StallTimeout = 500 * time.Millisecond }
	m.start()
	hold := make(chan struct{})
	f.held.Store(&hold)
	if _, err := m.node.Propose(context.Background(), publish("a", "x")); !errors.Is(err, hub.ErrAmbiguous) {
		t.Errorf("propose with a hung disk: %v", err)
	}
	select {
	case err := <-m.fatal:
		if !errors.Is(err, raftlog.ErrLogFailed) {
			t.Errorf("Fatal got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Fatal was not called")
	}
	f.held.Store(nil)
	close(hold)
	m.kill()
}

// Futures in raft's channel when it shuts down never resolve. No caller may hang on them.
func TestShutdownWithFuturesInTheChannel(t *testing.T) {
	f := new(faultyLog)
	m := newMember(t, "node-1")
	m.faults.WrapLog = f.wrap
	m.options = func(o *raftlog.Options) { o.MaxInFlight = 8 }
	m.start()
	hold := make(chan struct{})
	f.held.Store(&hold) // blocks raft's main goroutine in its first write; the rest stays in its channel
	answers := make(chan error, 64)
	propose := func() {
		_, err := m.node.Propose(context.Background(), publish("a", strings.Repeat("x", 64<<10))) // large enough to be sent while others are in flight
		answers <- err
	}
	go propose()
	eventually(t, "the first write is blocked", func() bool { return f.calls.Load() > 0 })
	for range 63 {
		go propose()
	}
	eventually(t, "more batches are in raft's channel", func() bool { return m.node.Stats().InFlight > 1 })
	node := m.node
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		m.kill()
	}()
	for range 64 {
		select {
		case err := <-answers:
			if !errors.Is(err, hub.ErrAmbiguous) && !errors.Is(err, hub.ErrStopping) {
				t.Errorf("got %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a caller hangs")
		}
	}
	f.held.Store(nil)
	close(hold)
	<-killed
	if _, err := node.Propose(context.Background(), publish("a", "late")); !errors.Is(err, hub.ErrStopping) {
		t.Errorf("late: %v", err)
	}
}

// Close is bounded even when the disk is not.
func TestCloseWithAHungDisk(t *testing.T) {
	f := new(faultyLog)
	m := newMember(t, "node-1")
	m.faults.WrapLog = f.wrap
	m.start()
	hold := make(chan struct{})
	f.held.Store(&hold)
	answer := make(chan error, 1)
	go func() {
		_, err := m.node.Propose(context.Background(), publish("a", "x"))
		answer <- err
	}()
	eventually(t, "the write hangs", func() bool { return f.calls.Load() > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- m.node.Close(ctx) }()
	if err := <-answer; !errors.Is(err, hub.ErrAmbiguous) {
		t.Errorf("the proposal in flight: %v", err)
	}
	f.held.Store(nil)
	close(hold)
	if err := <-closed; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	if err := m.store.Crash(); err != nil {
		t.Error(err)
	}
}

// An entry that cannot be applied stops the node, and no snapshot may claim that it was applied.
func TestFailedApplyEndsTheNode(t *testing.T) {
	var fail atomic.Bool
	m := newMember(t, "node-1")
	m.faults.AfterApply = func(err error) error {
		if fail.Load() {
			return hub.ErrCorrupt
		}
		return err
	}
	m.start()
	if _, err := m.node.Propose(context.Background(), publish("a", "x")); err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	if _, err := m.node.Propose(context.Background(), publish("a", "y")); !errors.Is(err, hub.ErrAmbiguous) {
		t.Errorf("propose: %v", err)
	}
	err := <-m.fatal
	if !errors.Is(err, raftlog.ErrApplyFailed) || !errors.Is(err, hub.ErrCorrupt) {
		t.Errorf("Fatal got %v", err)
	}
	if err := m.node.CompactLog(); err == nil {
		t.Error("a snapshot was taken after an entry could not be applied")
	}
	m.kill()
}

// When the store can no longer write, the log is no longer compacted, but nothing is lost.
func TestStoreFailureStopsLogCompaction(t *testing.T) {
	var broken atomic.Bool
	m := newMember(t, "node-1")
	m.options = tiny
	m.files = slowFlush
	m.faults.BeforeFlush = func() error {
		if broken.Load() {
			return errDisk
		}
		return nil
	}
	m.start()
	l := newLedger()
	for i := range 20 {
		body := fmt.Sprint(i)
		res, err := m.node.Propose(context.Background(), publish("a", body))
		if err != nil {
			break
		}
		l.record(res[0], body)
		if i == 10 {
			broken.Store(true)
		}
	}
	if err := m.node.CompactLog(); err == nil {
		t.Error("the log was compacted although the store could not be written")
	}
	m.kill()
	broken.Store(false)
	m.start()
	defer m.stop()
	if err := l.check(m.store); err != nil {
		t.Error(err)
	}
}
