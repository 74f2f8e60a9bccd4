package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// flipped flips a bit in every occurrence of a text.
func flipped(data []byte, text string) []byte {
	data = bytes.Clone(data)
	for at := bytes.Index(data, []byte(text)); at >= 0; at = bytes.Index(data, []byte(text)) {
		data[at] ^= 1
	}
	return data
}

// A bit flips in a file of one node of three. The node stops or refuses to start, with a log line that names the file and the remedy;
// it never serves damaged data; the other nodes keep working.
func TestABitFlippedOnOneNodeOfThree(t *testing.T) {
	c := startDevCluster(t, 3)
	const body = "a body that is easy to find"
	for range 20 {
		if status, _ := c.publish(0, body); status/100 != 2 {
			t.Fatalf("publish: %d", status)
		}
	}
	eventually(t, "all nodes have the same state", func() bool { return c.same(0) })
	for _, f := range []struct {
		name, file, text string
		rounds           int // a segment's damage is found while the node runs, and again when it starts
	}{
		{"segment", "fsm/gen-1/log/1.db", body, 2},
		{"state", "fsm/gen-1/state.db", "news", 1},
		{"raft log", "raft.db", body, 1},
	} {
		t.Run(f.name, func(t *testing.T) {
			const i = 2
			c.stopNode(i)
			path := filepath.Join(c.node(i), "data", f.file)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := flipped(whole, f.text)
			if bytes.Equal(bad, whole) {
				t.Fatal("nothing was flipped")
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			for range f.rounds {
				endsBecauseOfDamage(t, c, i, filepath.Base(f.file), body)
			}
			for j := range 2 {
				if status, _ := c.publish(j, body); status/100 != 2 {
					t.Errorf("publish through node-%d: %d", j+1, status)
				}
			}
			if got := run(t, "", "inspect", filepath.Join(c.node(i), "data")); got.code == 0 || !strings.Contains(got.out+got.err, filepath.Base(f.file)) {
				t.Errorf("inspect: %+v", got)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			c.restart(i)
			eventually(t, "the node with its old file is ready", func() bool { return isReady(c.urls[i]) })
			eventually(t, "all nodes have the same state", func() bool { return c.same(0) })
		})
	}
}

// endsBecauseOfDamage restarts a node with a damaged file, which must exit without serving damaged data and log what to do.
func endsBecauseOfDamage(t *testing.T, c *devCluster, i int, file, body string) {
	t.Helper()
	if err := os.Truncate(filepath.Join(c.node(i), "quorumhub.log"), 0); err != nil {
		t.Fatal(err)
	}
	c.restart(i)
	pid := pidIn(c.node(i))
	eventually(t, "the damaged node exits", func() bool {
		if got := c.message(i, 5); got != body && strings.HasPrefix(got, body[1:5]) {
			t.Fatalf("it serves %q", got)
		}
		return !isAlive(pid) || isZombie(pid)
	})
	for line := range strings.Lines(c.log(i)) {
		if strings.Contains(line, file) && strings.Contains(line, "new") && (strings.Contains(line, "restore") || strings.Contains(line, "rejoin")) {
			return
		}
	}
	t.Errorf("no log line names the file and the remedy:\n%s", c.log(i))
}

// stopNode stops a node gracefully.
func (c *devCluster) stopNode(i int) {
	c.t.Helper()
	pid := pidIn(c.node(i))
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "the process is gone", func() bool { return !isAlive(pid) || isZombie(pid) })
}
