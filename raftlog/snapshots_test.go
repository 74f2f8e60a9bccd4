package raftlog_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"quorumhub/raftlog"
)

// Raft reads its configuration after fixing a snapshot's index. By the time of Persist the store may have a newer one, which
// must be kept, even against index 1, which a recovery uses to force one.
func TestPersistKeepsTheNewerConfiguration(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer m.stop()
	founding := m.node.Raft().GetConfiguration().Configuration()
	if err := m.node.AddNonvoter("node-2", "nowhere"); err != nil {
		t.Fatal(err)
	}
	before := m.store.Applied()
	if before.ConfigurationIndex <= 1 {
		t.Fatalf("configuration index %d", before.ConfigurationIndex)
	}
	if err := m.node.PersistAt(before.Index, before.Term, founding, 1); err != nil {
		t.Fatal(err)
	}
	after := m.store.Durable()
	if after.ConfigurationIndex != before.ConfigurationIndex || !bytes.Equal(after.Configuration, before.Configuration) {
		t.Errorf("the configuration at index %d was replaced by one at index %d", before.ConfigurationIndex, after.ConfigurationIndex)
	}
}

// Invariant I8: what Persist confirms is in the files, including raft's own entries.
func TestI8PersistMakesDurable(t *testing.T) {
	m := newMember(t, "node-1")
	m.files = slowFlush
	m.options = func(o *raftlog.Options) { o.TrailingBytes = -1 }
	m.start()
	if _, err := m.node.Propose(context.Background(), publish("a", "x")); err != nil {
		t.Fatal(err)
	}
	if err := m.node.Raft().Barrier(0).Error(); err != nil { // never reaches the store
		t.Fatal(err)
	}
	last := m.node.Raft().LastIndex()
	if err := m.node.CompactLog(); err != nil {
		t.Fatal(err)
	}
	if d := m.store.Durable(); d.Index != last || d.Term != m.node.Raft().CurrentTerm() {
		t.Errorf("durable at %d of term %d, the log ends at %d", d.Index, d.Term, last)
	}
	if s := m.node.Stats(); s.LogFirst != 0 {
		t.Errorf("the log still begins at %d", s.LogFirst)
	}
	m.kill()
	m.start() // with an empty log
	if _, n := m.hash(); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
	m.stop()
}

func TestRestoreAcceptsOnlyReceivedSnapshots(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer m.stop()
	if err := m.node.Restore(io.NopCloser(bytes.NewReader([]byte("anything")))); err == nil {
		t.Error("a foreign reader was restored")
	}
	older, err := m.store.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer older.Close()
	at := older.Position
	if _, err := m.node.Propose(context.Background(), publish("a", "x")); err != nil {
		t.Fatal(err)
	}
	if err := m.node.ReceiveAndRestore(at.Index, at.Term, older); err == nil {
		t.Error("an older snapshot replaced a newer state")
	}
	newer, err := m.store.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.node.ReceiveAndRestore(newer.Position.Index+1, newer.Position.Term, newer); err == nil {
		t.Error("a snapshot at an index other than announced was accepted")
	}
	newer.Close()
	if err := m.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	newer, err = m.store.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	if err := m.node.ReceiveAndRestore(newer.Position.Index, newer.Position.Term, newer); err != nil {
		t.Errorf("a valid snapshot: %v", err)
	}
	if _, n := m.hash(); n != 1 {
		t.Errorf("%d messages after the restore, want 1", n)
	}
}

func TestCancelledSnapshotLeavesNothing(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer m.stop()
	sink, err := m.node.Sink(5, 1, raft.Configuration{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sink.Write([]byte("the first bytes")); err != nil {
		t.Logf("refused at once: %v", err)
	}
	if err := sink.Cancel(); err != nil {
		t.Errorf("cancel: %v", err)
	}
	broken, err := m.node.Sink(5, 1, raft.Configuration{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	// Writes after the store refused the stream must not hang.
	for range 100 {
		if _, err := broken.Write(bytes.Repeat([]byte("junk"), 1<<14)); err != nil {
			break
		}
	}
	if err := broken.Close(); err == nil {
		t.Error("junk was accepted as a snapshot")
	}
}
