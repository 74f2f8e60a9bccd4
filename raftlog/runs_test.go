package raftlog_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/raftlog"
)

// openCopy starts a node from a copy of a member's data, at another address.
func (w *network) openCopy(of *member, dir string) (clone *member, log *logBuffer) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	log = new(logBuffer)
	clone = &member{t: w.t, id: of.id, dir: dir, fatal: make(chan error, 1)}
	clone.options = func(o *raftlog.Options) {
		o.Listener, o.Peers, o.Token = l, slices.Clone(w.peers), "a token"
		for i := range o.Peers {
			if o.Peers[i].ID == of.id {
				o.Peers[i].Address = l.Addr().String()
			}
		}
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	clone.start()
	w.t.Cleanup(clone.kill)
	return clone, log
}

// copied returns a copy of a member's data. The member is restarted.
func (w *network) copied(m *member) (dir string) {
	w.t.Helper()
	w.crash(m)
	dir = w.t.TempDir()
	copyDir(w.t, m.dir, dir)
	if err := w.open(context.Background(), m); err != nil {
		w.t.Fatal(err)
	}
	w.ready(m)
	return dir
}

func (w *network) ends(m *member, log *logBuffer) {
	w.t.Helper()
	select {
	case err := <-m.fatal:
		if text := err.Error(); !strings.Contains(text, "another process with the ID and the data of "+m.id) || strings.Contains(text, "\n") {
			w.t.Errorf("it ends with %q", text)
		}
	case <-time.After(20 * time.Second):
		w.t.Fatalf("it goes on; its log:\n%s", log)
	}
}

// The data of a running node are copied and started elsewhere. The copy is refused, says why, and ends; nobody notices otherwise.
func TestACopyOfARunningNodeIsRefused(t *testing.T) {
	for _, what := range []string{"a follower", "the leader"} {
		t.Run(what, func(t *testing.T) {
			w := newNetwork(t, 3)
			w.start()
			of := w.follower()
			if what == "the leader" {
				of = w.leader()
			}
			dir := w.copied(of)
			clone, log := w.openCopy(of, dir)
			w.ends(clone, log)
			for _, m := range w.members {
				if err := m.noFailure(); err != nil {
					t.Errorf("%v", err)
				}
				for _, v := range m.node.Members() {
					if v.Address != w.peers[slices.IndexFunc(w.peers, func(p raftlog.Peer) bool { return p.ID == v.ID })].Address {
						t.Errorf("%s believes that %s is at %s", m.id, v.ID, v.Address)
					}
				}
				if m != of && !strings.Contains(w.logs[m].String(), "reason=twin") {
					t.Errorf("%s does not report the copy", m.id)
				}
			}
			w.acceptsWrites(of)
			eventually(t, "all have the same state", w.sameState)
		})
	}
}

// While a node is cut off, a copy of it takes its place. When the node is back, it is told, says so and ends.
func TestANodeThatWasDisplacedSaysSo(t *testing.T) {
	w := newNetwork(t, 3)
	links := wire(w)
	w.start()
	first := w.follower()
	dir := w.copied(first)
	for _, m := range w.members {
		if m != first {
			links.part(first, m)
		}
	}
	time.Sleep(2 * time.Second) // until it is not heard of any more
	clone, _ := w.openCopy(first, dir)
	w.ready(clone)
	links.heal()
	w.ends(first, w.logs[first])
	if _, err := clone.node.Propose(context.Background(), publish("a", "x")); err != nil {
		t.Error(err)
	}
	if err := clone.noFailure(); err != nil {
		t.Error(err)
	}
}

// heal lets all members talk to each other again.
func (w *wires) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
}
