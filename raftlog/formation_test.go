package raftlog_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/raftlog"
)

func TestWrongTokenIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(m *member, o *raftlog.Options)
		words  string
	}{
		{"another token", func(m *member, o *raftlog.Options) {
			if m.id == "node-3" {
				o.Token = "another"
			}
		}, "cluster.token differs from that of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newNetwork(t, 3)
			w.change = c.change
			// The two with the same token wait for the third, which gives up.
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			var wg sync.WaitGroup
			for i, m := range w.members {
				wg.Go(func() {
					err := w.open(ctx, m)
					if wrong := i == 2; wrong != raftlog.IsRefusal(err) || wrong == errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v", m.id, err)
					}
					cancel()
				})
			}
			wg.Wait()
			for _, id := range []int{0, 2} {
				log := w.logs[w.members[id]].String()
				for _, words := range []string{c.words, "refused a node", "cannot connect to a node"} {
					if !strings.Contains(log, words) {
						t.Errorf("the log of %s does not contain %q:\n%s", w.members[id].id, words, log)
					}
				}
				if n := strings.Count(log, "\n"); n > 6 {
					t.Errorf("%d lines about one problem:\n%s", n, log)
				}
			}
		})
	}
}

func TestContradictoryPeersDoNotFoundACluster(t *testing.T) {
	w := newNetwork(t, 3)
	w.change = func(m *member, o *raftlog.Options) {
		if m.id == "node-2" {
			o.Peers = o.Peers[:2]
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	refused := 0
	for i, err := range w.openAll(ctx) {
		if err != nil && strings.Contains(err.Error(), "cluster.peers contradict") {
			refused++
			if strings.Count(err.Error(), "node-2=") != 2 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", w.members[i].id, err)
			}
		} else if err == nil {
			t.Errorf("%s started", w.members[i].id)
		}
		if refused >= 2 {
			cancel()
		}
	}
	if refused < 2 {
		t.Errorf("%d nodes refused", refused)
	}
}

func TestWipedNodeNeedsANewID(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	f := w.follower()
	if _, err := f.node.Propose(context.Background(), publish("a", "x")); err != nil {
		t.Fatal(err)
	}
	w.crash(f)
	f.dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := w.open(ctx, f)
	if err == nil || !strings.Contains(err.Error(), "new cluster.node_id") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("the wiped node: %v", err)
	}
	if _, err := w.leader().node.Propose(context.Background(), publish("a", "y")); err != nil {
		t.Errorf("the others do not accept a message: %v", err)
	}
}

func TestNodeOfAnotherClusterIsRefused(t *testing.T) {
	a, b := newNetwork(t, 3), newNetwork(t, 3)
	a.start()
	b.start()
	// node-3 of the second cluster starts in place of that of the first.
	ours, theirs := a.members[2], b.members[2]
	a.crash(ours)
	b.crash(theirs)
	ours.dir = theirs.dir
	if err := a.open(context.Background(), ours); err != nil {
		t.Fatal(err)
	}
	for _, m := range a.members {
		eventually(t, m.id+" reports that the clusters differ", func() bool { return strings.Contains(a.logs[m].String(), "belongs to cluster") })
	}
	if _, err := a.members[0].node.Propose(context.Background(), publish("a", "y")); err != nil {
		t.Errorf("the others do not accept a message: %v", err)
	}
}

func TestFreshNodeWaitsForItsPeers(t *testing.T) {
	w := newNetwork(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var early atomic.Bool
	var wg sync.WaitGroup
	for _, m := range w.members[:2] {
		wg.Go(func() {
			if err := w.open(ctx, m); err != nil {
				t.Errorf("%s: %v", m.id, err)
			}
			early.Store(true)
		})
	}
	time.Sleep(200 * time.Millisecond) // during which nothing may happen
	if early.Load() {
		t.Error("two of three nodes founded a cluster")
	}
	if err := w.open(ctx, w.members[2]); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for _, m := range w.members {
		w.ready(m)
	}
}
