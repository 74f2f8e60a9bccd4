package raftlog_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// Any flipped bit in raft.db keeps the node from starting, with an error, unless it is in an unused place.
func TestFlippedBitInTheLogIsDetectedAtStart(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	for range 20 {
		if _, err := m.node.Propose(context.Background(), publish("a", "some text in the log")); err != nil {
			t.Fatal(err)
		}
	}
	_, messages := m.hash()
	m.stop() // everything is flushed, so raft itself would not read these entries again
	path := filepath.Join(m.dir, "raft.db")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, b := range data {
		if b != 0 {
			used++
		}
	}
	const flips = 20
	found, seen := 0, 0
	for at, b := range data {
		if b == 0 {
			continue
		}
		if seen++; seen%(used/flips) != 0 {
			continue
		}
		c := newMember(t, "node-1")
		copyDir(t, m.dir, c.dir)
		data[at] ^= 1 << (at % 8)
		write(t, filepath.Join(c.dir, "raft.db"), string(data))
		data[at] = b
		err := c.open(context.Background())
		if err == nil {
			if h, n := c.hash(); n != messages || h == 0 {
				t.Errorf("bit flipped at %d: the node starts with %d of %d messages", at, n, messages)
			}
			c.stop()
			continue
		}
		mustProblem(t, err, "raft.db")
		found++
	}
	if found < flips/4 {
		t.Errorf("%d of %d flipped bits were detected", found, flips)
	}
	t.Logf("%d of %d flipped bits were detected, the others were in unused places", found, flips)
}
