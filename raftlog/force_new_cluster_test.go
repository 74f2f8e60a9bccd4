package raftlog_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// recover runs Recover on a stopped member's files.
func (w *network) recover(m *member, write bool) (*raftlog.Plan, error) {
	w.t.Helper()
	s, err := store.Open(store.Options{Dir: filepath.Join(m.dir, "store")})
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := raftlog.Recover(raftlog.Options{ID: m.id, Dir: m.dir, Address: w.address(m), Store: s}, write)
	return p, errors.Join(err, s.Close())
}

func identity(t *testing.T, dir string) *raftlog.Identity {
	t.Helper()
	id, err := raftlog.ReadIdentity(dir)
	if err != nil || id == nil {
		t.Fatalf("node.json: %v, %v", id, err)
	}
	return id
}

// survivor is a stopped member and its plan for Recover.
type survivor struct {
	*member
	*raftlog.Plan
}

// Three nodes die under load. The one with the most advanced log holds everything that was acknowledged, and continues
// alone. The others are permanently kept out.
func TestI1RecoverAfterALostQuorum(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	l := newLedger()
	crashUnderLoad(t, w, l)
	all := plans(t, w)
	best := slices.MaxFunc(all, func(a, b survivor) int {
		return cmp.Or(cmp.Compare(a.LastTerm, b.LastTerm), cmp.Compare(a.LastIndex, b.LastIndex))
	})
	done, err := w.recover(best.member, true)
	if err != nil || done.NewCluster == "" {
		t.Fatal(done, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, best.member); err != nil {
		t.Fatal(err)
	}
	w.ready(best.member)
	if err := l.check(best.store); err != nil {
		t.Error(err)
	}
	id := identity(t, best.dir)
	if id.ClusterID != done.NewCluster || !slices.Equal(id.Former, []string{done.Cluster}) {
		t.Errorf("node.json: %+v", id)
	}
	best.store.View(func(s *hub.State) {
		if s.ClusterID() != done.NewCluster || !slices.Equal(s.FormerClusterIDs(), []string{done.Cluster}) {
			t.Errorf("the state is of cluster %s after %v", s.ClusterID(), s.FormerClusterIDs())
		}
	})
	if _, err := best.node.Propose(context.Background(), publish("t0", "after")); err != nil {
		t.Errorf("the recovered node does not accept a message: %v", err)
	}
	// The other two return with all their votes and entries. They would be a quorum of the former cluster, but cannot join
	// the new one.
	for _, m := range w.members {
		if m == best.member {
			continue
		}
		if err := w.open(ctx, m); err != nil {
			t.Fatal(err)
		}
		eventually(t, m.id+" is told to come back empty", func() bool {
			return strings.Contains(w.logs[m].String(), "give it an empty data_dir")
		})
	}
	if got := best.node.Members(); len(got) != 1 || !got[0].Leader {
		t.Errorf("members of the new cluster: %+v", got)
	}
}

// crashUnderLoad publishes to all members and then crashes them, the leader last.
func crashUnderLoad(t *testing.T, w *network, l *ledger) {
	t.Helper()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 9 {
		m := w.members[i%3]
		writers.Go(func() { l.publish(stop, i, func() *raftlog.Node { return w.node(m) }) })
	}
	eventually(t, "messages are acknowledged", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.acknowledged > 500
	})
	lead := w.leader()
	for _, m := range w.members {
		if m != lead {
			w.crash(m)
		}
	}
	w.crash(lead)
	close(stop)
	writers.Wait()
}

// plans returns what Recover would do with each member, which must not change any files.
func plans(t *testing.T, w *network) (all []survivor) {
	t.Helper()
	for _, m := range w.members {
		before := files(t, m.dir)
		p, err := w.recover(m, false)
		if err != nil {
			t.Fatal(err)
		}
		if p.NewCluster != "" || len(p.LeftOut) != 2 || slices.Contains(p.LeftOut, m.id) || p.Cluster != identity(t, m.dir).ClusterID {
			t.Errorf("the plan for %s: %+v", m.id, p)
		}
		if after := files(t, m.dir); before["node.json"] != after["node.json"] || len(before) != len(after) {
			t.Errorf("the plan for %s changed its files", m.id)
		}
		all = append(all, survivor{m, p})
	}
	return all
}

// files returns the content of a directory's files by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil || fi.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The process can crash between any two writes of a recovery.
func TestInterruptedRecover(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(t *testing.T, m *member, before, after []byte)
	}{
		{"before node.json was written", func(t *testing.T, m *member, before, _ []byte) {
			if err := os.WriteFile(filepath.Join(m.dir, "node.json"), before, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"and repeated", func(t *testing.T, m *member, before, _ []byte) {
			if err := os.WriteFile(filepath.Join(m.dir, "node.json"), before, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(store.Options{Dir: filepath.Join(m.dir, "store")})
			if err != nil {
				t.Fatal(err)
			}
			_, err = raftlog.Recover(raftlog.Options{ID: m.id, Dir: m.dir, Store: s}, true)
			if err := errors.Join(err, s.Close()); err != nil {
				t.Fatal(err)
			}
		}},
		{"not interrupted", func(*testing.T, *member, []byte, []byte) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newNetwork(t, 2)
			w.start()
			for range 3 {
				if _, err := w.leader().node.Propose(context.Background(), publish("a", "x")); err != nil {
					t.Fatal(err)
				}
			}
			m := w.leader()
			w.kill()
			before, err := os.ReadFile(filepath.Join(m.dir, "node.json"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.recover(m, true); err != nil {
				t.Fatal(err)
			}
			after, err := os.ReadFile(filepath.Join(m.dir, "node.json"))
			if err != nil {
				t.Fatal(err)
			}
			c.cut(t, m, before, after)
			for range 2 { // and once more from flushed files
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				if err := w.open(ctx, m); err != nil {
					t.Fatal(err)
				}
				w.ready(m)
				if _, n := m.hash(); n != 3 {
					t.Errorf("%d messages of 3", n)
				}
				id := identity(t, m.dir)
				m.store.View(func(s *hub.State) {
					if s.ClusterID() != id.ClusterID || len(s.FormerClusterIDs()) == 0 || s.FormerClusterIDs()[0] != id.Former[0] {
						t.Errorf("node.json has %+v, the state %s after %v", id, s.ClusterID(), s.FormerClusterIDs())
					}
				})
				m.stop()
				cancel()
			}
		})
	}
}

func TestRecoverRefuses(t *testing.T) {
	w := newNetwork(t, 2)
	w.start()
	running := w.members[0]
	other := *running
	other.id = "node-9"
	w.peers = append(w.peers, raftlog.Peer{ID: "node-9", Address: "127.0.0.1:1"})
	w.kill()
	if _, err := w.recover(&other, true); err == nil || !strings.Contains(err.Error(), `this is the data of node "node-1"`) {
		t.Errorf("another id: %v", err)
	}
	empty := newMember(t, "node-1")
	if _, err := w.recover(empty, true); err == nil || !strings.Contains(err.Error(), "there is no node.json") {
		t.Errorf("an empty directory: %v", err)
	}
	if err := os.Truncate(filepath.Join(running.dir, "raft.db"), 20000); err != nil {
		t.Fatal(err)
	}
	_, err := w.recover(running, true)
	mustProblem(t, err, "raft.db", "damaged")
}

// A node made from another cluster's state is a cluster of its own. With node.json alone it does not start.
func TestForceNewCluster(t *testing.T) {
	old := newMember(t, "node-1")
	old.start()
	for range 3 {
		if _, err := old.node.Propose(context.Background(), publish("a", "x")); err != nil {
			t.Fatal(err)
		}
	}
	var former string
	old.store.View(func(s *hub.State) { former = s.ClusterID() })
	old.stop()
	m := newMember(t, "node-7")
	var s *store.Store
	open := func() (_ *store.Store, err error) {
		copyDir(t, filepath.Join(old.dir, "store"), filepath.Join(m.dir, "store"))
		s, err = store.Open(store.Options{Dir: filepath.Join(m.dir, "store")})
		return s, err
	}
	cluster, err := raftlog.ForceNewCluster(raftlog.Options{ID: m.id, Dir: m.dir}, open)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if cluster == former {
		t.Error("the new cluster has the old one's ID")
	}
	half := newMember(t, "node-7")
	data, err := json.Marshal(identity(t, m.dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half.dir, "node.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	mustProblem(t, half.open(context.Background()), "raft.db", "missing")
	m.start()
	res, err := m.node.Propose(context.Background(), publish("a", "y"))
	if err != nil || res[0].Offset != 4 {
		t.Errorf("got %v, %v", res, err)
	}
	m.store.View(func(s *hub.State) {
		if s.ClusterID() != cluster || !slices.Equal(s.FormerClusterIDs(), []string{former}) {
			t.Errorf("the state is of cluster %s after %v", s.ClusterID(), s.FormerClusterIDs())
		}
	})
	m.stop()
}
