package raftlog_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// A node that is down is one line in the log of each of the others, and one when it is back: not what raft says about every attempt to
// reach it.
func TestADeadNodeIsOneLine(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	for _, m := range w.members {
		eventually(t, "every node sees every node alive", func() bool {
			for _, v := range m.node.Members() {
				if !v.Alive {
					return false
				}
			}
			return true
		})
	}
	dead := w.follower()
	before := map[*member]int{}
	for _, m := range w.members {
		before[m] = len(w.logs[m].String())
	}
	w.crash(dead)
	w.acceptsWrites(w.leader())
	time.Sleep(5 * time.Second) // in which raft tries to reach it
	if err := w.open(context.Background(), dead); err != nil {
		t.Fatal(err)
	}
	w.ready(dead)
	for _, m := range w.members {
		if m == dead {
			continue
		}
		said := func() string { return w.logs[m].String()[before[m]:] }
		eventually(t, m.id+" says that the node is back", func() bool { return strings.Contains(said(), "node is reachable again") })
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(said()), "\n"), func(l string) bool {
			about := strings.Contains(l, "="+dead.id) || strings.Contains(l, "ID:"+dead.id) || strings.Contains(l, w.address(dead))
			return !about || strings.Contains(l, "leader elected") // a busy machine may have had an election
		})
		if len(lines) != 2 || !strings.Contains(lines[0], "level=WARN msg=\"node does not answer") {
			t.Errorf("%s says %d lines:\n%s", m.id, len(lines), said())
		}
	}
}
