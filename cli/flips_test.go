package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A bit flips in a file of one node of three. The node stops or does not start, with a line that names the file and says what
// to do; nothing damaged is served; the others go on.
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
		name, file string
		flip       func(data []byte)
		runs       bool // it is found while the node runs
	}{
		{"segment", "fsm/gen-1/log/1.db", func(data []byte) {
			for at := bytes.Index(data, []byte(body)); at >= 0; {
				data[at] ^= 1
				next := bytes.Index(data[at:], []byte(body))
				if next < 0 {
					break
				}
				at += next
			}
		}, true},
		{"state", "fsm/gen-1/state.db", func(data []byte) {
			for at := bytes.Index(data, []byte("news")); at >= 0 && at < len(data)-4; {
				data[at] ^= 1
				next := bytes.Index(data[at:], []byte("news"))
				if next < 0 {
					break
				}
				at += next
			}
		}, false},
		{"raft log", "raft.db", func(data []byte) {
			data[bytes.LastIndex(data, []byte(body))] ^= 1
			if at := bytes.Index(data, []byte(body)); at >= 0 {
				data[at] ^= 1
			}
		}, false},
	} {
		t.Run(f.name, func(t *testing.T) {
			const i = 2
			c.stopNode(i)
			path := filepath.Join(c.node(i), "data", f.file)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := bytes.Clone(whole)
			f.flip(bad)
			if bytes.Equal(bad, whole) {
				t.Fatal("nothing was flipped")
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			said := func() (line string) {
				for l := range strings.Lines(c.log(i)) {
					if strings.Contains(l, filepath.Base(f.file)) && strings.Contains(l, "new") && (strings.Contains(l, "restore") || strings.Contains(l, "rejoin")) {
						line = l
					}
				}
				return line
			}
			rounds := 1
			if f.runs {
				rounds = 2 // found while it runs, and then at the start
			}
			for range rounds {
				if err := os.Truncate(filepath.Join(c.node(i), "quorumhub.log"), 0); err != nil {
					t.Fatal(err)
				}
				c.restart(i)
				pid := pidIn(c.node(i))
				eventually(t, "the damaged node ends", func() bool {
					if got := c.message(i, 5); got != body && strings.HasPrefix(got, body[1:5]) {
						t.Fatalf("it serves %q", got)
					}
					return !isAlive(pid) || isZombie(pid)
				})
				if said() == "" {
					t.Errorf("its log names no file and no way out:\n%s", c.log(i))
				}
			}
			for j := range 2 {
				if status, _ := c.publish(j, body); status/100 != 2 {
					t.Errorf("node-%d does not go on: %d", j+1, status)
				}
			}
			if got := run(t, "", "inspect", filepath.Join(c.node(i), "data")); got.code == 0 || !strings.Contains(got.out+got.err, filepath.Base(f.file)) {
				t.Errorf("inspect: %+v", got)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil { // as if the disk had changed its mind
				t.Fatal(err)
			}
			c.restart(i)
			eventually(t, "the node with its old file is ready", func() bool { return isReady(c.urls[i]) })
			eventually(t, "all nodes have the same state", func() bool { return c.same(0) })
		})
	}
}

// stopNode ends a node in good order.
func (c *devCluster) stopNode(i int) {
	c.t.Helper()
	pid := pidIn(c.node(i))
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "the process is gone", func() bool { return !isAlive(pid) || isZombie(pid) })
}
