package raftlog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// stoppedMember returns a member that has stopped after some work. compact compacts its log to the last entry.
func stoppedMember(t *testing.T, compact bool) *member {
	m := newMember(t, "node-1")
	if compact {
		m.options = func(o *raftlog.Options) { o.TrailingBytes = -1 }
	}
	m.start()
	for range 30 {
		if _, err := m.node.Propose(context.Background(), publish("a", "x")); err != nil {
			t.Fatal(err)
		}
	}
	if compact {
		if err := m.node.CompactLog(); err != nil {
			t.Fatal(err)
		}
	}
	m.stop()
	return m
}

func (m *member) publishAndStop(t *testing.T, n int) {
	t.Helper()
	m.start()
	for range n {
		if _, err := m.node.Propose(context.Background(), publish("a", "y")); err != nil {
			t.Fatal(err)
		}
	}
	m.stop()
}

func remove(t *testing.T, path ...string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}

// damage is a way to damage a stopped member's files.
type damage struct {
	name    string
	compact bool // the log was compacted before
	spoil   func(t *testing.T, m *member)
	file    string   // that the error names
	words   []string // in the error
}

func logDamages() []damage {
	return []damage{
		{"raft.db is missing", false, func(t *testing.T, m *member) {
			remove(t, m.dir, "raft.db")
		}, "raft.db", []string{"missing", "backup", "new cluster.node_id"}},
		{"raft.db is empty", false, func(t *testing.T, m *member) {
			if err := os.Truncate(filepath.Join(m.dir, "raft.db"), 0); err != nil {
				t.Fatal(err)
			}
		}, "raft.db", []string{"damaged"}},
		{"raft.db is garbage", false, func(t *testing.T, m *member) {
			overwrite(t, filepath.Join(m.dir, "raft.db"), 0, 16<<10)
		}, "raft.db", []string{"damaged", "backup"}},
		{"raft.db is truncated", false, func(t *testing.T, m *member) {
			if err := os.Truncate(filepath.Join(m.dir, "raft.db"), 20<<10); err != nil {
				t.Fatal(err)
			}
		}, "raft.db", []string{"damaged"}},
		{"raft.db is a fresh one", false, func(t *testing.T, m *member) {
			remove(t, m.dir, "raft.db")
			db, err := bbolt.Open(filepath.Join(m.dir, "raft.db"), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			db.Close()
		}, "raft.db", []string{"empty"}},
		{"raft.db is an older copy", false, func(t *testing.T, m *member) {
			old, err := os.ReadFile(filepath.Join(m.dir, "raft.db"))
			if err != nil {
				t.Fatal(err)
			}
			m.publishAndStop(t, 20)
			if err := os.WriteFile(filepath.Join(m.dir, "raft.db"), old, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "raft.db", []string{"older than the store"}},
	}
}

func storeAndIdentityDamages() []damage {
	return []damage{
		{"the store is missing, the log was compacted", true, func(t *testing.T, m *member) {
			remove(t, m.dir, "store")
		}, "raft.db", []string{"store is older", "acknowledged messages are missing"}},
		{"the store is an older copy, the log was compacted", false, func(t *testing.T, m *member) {
			old := t.TempDir()
			copyDir(t, filepath.Join(m.dir, "store"), filepath.Join(old, "store"))
			m.options = func(o *raftlog.Options) { o.TrailingBytes = -1 }
			m.start()
			for range 20 {
				if _, err := m.node.Propose(context.Background(), publish("a", "y")); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.node.CompactLog(); err != nil {
				t.Fatal(err)
			}
			m.stop()
			remove(t, m.dir, "store")
			copyDir(t, filepath.Join(old, "store"), filepath.Join(m.dir, "store"))
		}, "raft.db", []string{"store is older", "acknowledged messages are missing"}},
		{"node.json is missing", false, func(t *testing.T, m *member) {
			remove(t, m.dir, "node.json")
		}, "node.json", []string{"missing"}},
		{"node.json and raft.db are missing", false, func(t *testing.T, m *member) {
			remove(t, m.dir, "node.json")
			remove(t, m.dir, "raft.db")
		}, "node.json", []string{"missing"}},
		{"node.json is damaged", false, func(t *testing.T, m *member) {
			overwrite(t, filepath.Join(m.dir, "node.json"), 0, 10)
		}, "node.json", []string{"damaged"}},
		{"node.json is from a newer version", false, func(t *testing.T, m *member) {
			if err := os.WriteFile(filepath.Join(m.dir, "node.json"), []byte(`{"format":2,"id":"node-1"}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "node.json", []string{"format 2"}},
		{"another node's id", false, func(t *testing.T, m *member) {
			m.id = "node-2"
		}, "node.json", []string{`"node-1"`, `"node-2"`, "cluster.node_id"}},
		{"another cluster's store", false, func(t *testing.T, m *member) {
			other := stoppedMember(t, false)
			remove(t, m.dir, "store")
			copyDir(t, filepath.Join(other.dir, "store"), filepath.Join(m.dir, "store"))
		}, "node.json", []string{"cluster"}},
		{"another process has locked raft.db", false, func(t *testing.T, m *member) {
			db, err := bbolt.Open(filepath.Join(m.dir, "raft.db"), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			m.options = func(o *raftlog.Options) { o.LockTimeout = 50 * time.Millisecond }
		}, "raft.db", []string{"another process"}},
	}
}

// A node whose files are missing or do not belong together refuses to start and gives the reason.
func TestInconsistentFilesAreRefused(t *testing.T) {
	for _, tt := range append(logDamages(), storeAndIdentityDamages()...) {
		t.Run(tt.name, func(t *testing.T) {
			m := stoppedMember(t, tt.compact)
			tt.spoil(t, m)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err := m.open(ctx)
			if err == nil {
				defer m.stop()
			}
			mustProblem(t, err, tt.file, tt.words...)
		})
	}
}

// overwrite overwrites a part of a file with garbage.
func overwrite(t *testing.T, path string, from, n int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < min(from+n, len(b)); i++ {
		b[i] = 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Damage anywhere in raft.db is an error or in an unused place. It never crashes the process or loses data silently.
func TestDamagedPagesOfRaftLog(t *testing.T) {
	m := stoppedMember(t, false)
	path := filepath.Join(m.dir, "raft.db")
	sound := t.TempDir()
	copyDir(t, m.dir, sound)
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for page := 0; page < int(fi.Size()/4096) && page < 10; page++ {
		remove(t, m.dir)
		copyDir(t, sound, m.dir)
		overwrite(t, path, page*4096, 4096)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := m.open(ctx)
		cancel()
		if err != nil {
			var fe *raftlog.FileError
			if !errors.As(err, &fe) || filepath.Base(fe.File) != "raft.db" {
				t.Errorf("page %d: %v", page, err)
			}
			refused++
			continue
		}
		if _, n := m.hash(); n != 30 {
			t.Errorf("page %d: started with %d of 30 messages", page, n)
		}
		m.stop()
	}
	if refused == 0 {
		t.Error("no damage was detected")
	}
}

// While everything is still in the log, a store that lost its files is rebuilt from it.
func TestStoreIsRebuiltFromCompleteLog(t *testing.T) {
	m := stoppedMember(t, false)
	remove(t, m.dir, "store")
	m.start()
	defer m.stop()
	if _, n := m.hash(); n != 30 {
		t.Errorf("%d messages, want 30", n)
	}
}

// A first start may be interrupted anywhere. The next start begins again unless a cluster was founded.
func TestInterruptedFirstStart(t *testing.T) {
	tests := map[string]func(t *testing.T, m *member){
		"after node.json": func(t *testing.T, m *member) {
			write(t, filepath.Join(m.dir, "node.json"), `{"format":1,"id":"node-1","cluster_id":"","created_at":"2026-01-01T00:00:00Z"}`)
		},
		"after creating raft.db": func(t *testing.T, m *member) {
			write(t, filepath.Join(m.dir, "node.json"), `{"format":1,"id":"node-1","cluster_id":"","created_at":"2026-01-01T00:00:00Z"}`)
			write(t, filepath.Join(m.dir, "raft.db"), "")
		},
		"after the term was saved": func(t *testing.T, m *member) {
			write(t, filepath.Join(m.dir, "node.json"), `{"format":1,"id":"node-1","cluster_id":"","created_at":"2026-01-01T00:00:00Z"}`)
			db, err := bbolt.Open(filepath.Join(m.dir, "raft.db"), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				if _, err := tx.CreateBucket([]byte("logs")); err != nil {
					return err
				}
				b, err := tx.CreateBucket([]byte("conf"))
				if err != nil {
					return err
				}
				return b.Put([]byte("CurrentTerm"), raftlog.SealValue("CurrentTerm", []byte{0, 0, 0, 0, 0, 0, 0, 1}))
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		},
		"before node.json got the cluster's ID": func(t *testing.T, m *member) {
			m.start()
			m.kill()
			write(t, filepath.Join(m.dir, "node.json"), `{"format":1,"id":"node-1","cluster_id":"","created_at":"2026-01-01T00:00:00Z"}`)
		},
	}
	for name, leave := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMember(t, "node-1")
			leave(t, m)
			m.start()
			defer m.stop()
			if _, err := m.node.Propose(context.Background(), publish("a", "x")); err != nil {
				t.Error(err)
			}
			id, err := raftlog.ReadIdentity(m.dir)
			var inState string
			m.store.View(func(s *hub.State) { inState = s.ClusterID() })
			if err != nil || id.ClusterID == "" || id.ClusterID != inState {
				t.Errorf("identity %+v, %v; the state has %q", id, err, inState)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A node that waits to be added founds no cluster.
func TestJoiningNodeFoundsNothing(t *testing.T) {
	m := newMember(t, "node-2")
	m.options = func(o *raftlog.Options) { o.Join = true; o.Timing.Heartbeat = 20 * time.Millisecond }
	m.start()
	defer m.stop()
	select {
	case <-m.node.Ready():
		t.Error("ready without a cluster")
	case <-time.After(150 * time.Millisecond):
	}
	if _, err := m.node.Propose(context.Background(), publish("a", "x")); !errors.Is(err, hub.ErrNoLeader) {
		t.Errorf("propose: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	s, err := store.Open(store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, o := range map[string]raftlog.Options{
		"no id":              {Dir: t.TempDir(), Store: s},
		"no dir":             {ID: "a", Store: s},
		"no store":           {ID: "a", Dir: t.TempDir()},
		"too many in flight": {ID: "a", Dir: t.TempDir(), Store: s, MaxInFlight: 64},
	} {
		if _, err := raftlog.Open(context.Background(), o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
