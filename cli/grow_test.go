package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// empty removes a stopped node's data, except the key that the nodes share.
func (c *devCluster) empty(i int) {
	c.t.Helper()
	for _, name := range []string{"fsm", "raft.db", "node.json"} {
		if err := os.RemoveAll(filepath.Join(c.node(i), "data", name)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// After a disaster a cluster grows back to three nodes with unchanged configuration files: from a backup, and from one surviving node.
func TestThreeNodesAgainAfterARestoreAndARecovery(t *testing.T) {
	c := startDevCluster(t, 3, "cluster.autopilot.stabilization=500ms")
	acked := map[int]string{}
	publish := func(i int) bool {
		body := fmt.Sprintf("message %d", len(acked)+1)
		status, h := c.publish(i, body)
		if status/100 != 2 {
			return false
		}
		var offset int
		fmt.Sscanf(h.Get("X-Hub-Message-Id"), "1-%d", &offset)
		acked[offset] = body
		return true
	}
	for n := range 30 {
		if !publish(n % 3) {
			t.Fatal("publishing does not work")
		}
	}
	file := c.backupOf(1)
	grown := func(what string) {
		t.Helper()
		for i := range c.urls {
			c.restart(i)
		}
		for i := range c.urls {
			eventually(t, fmt.Sprintf("node-%d is ready after the %s", i+1, what), func() bool { return isReady(c.urls[i]) })
		}
		eventually(t, "three voters have the same state", func() bool {
			a := c.ask(2)
			for _, n := range a.Nodes {
				if n.Role != "leader" && n.Role != "follower" {
					return false
				}
			}
			return len(a.Nodes) == 3 && c.same(2)
		})
		for i := range c.urls {
			for offset, want := range acked {
				if got := c.message(i, offset); got != want {
					t.Fatalf("after the %s node-%d has %q instead of %q", what, i+1, got, want)
				}
			}
		}
		// The cluster is whole again if it survives the loss of a node.
		lead := c.leader(0)
		c.kill(lead)
		eventually(t, "it survives the loss of its leader", func() bool { return publish((lead + 1) % 3) })
		c.restart(lead)
		eventually(t, "its leader is back", func() bool { return isReady(c.urls[lead]) && c.same(lead) })
	}

	for i := range c.urls {
		c.kill(i)
		c.empty(i)
	}
	if got := run(t, "", "restore", file, "--config", filepath.Join(c.node(0), "config.yaml")); got.code != 0 {
		t.Fatalf("restore: %+v", got)
	}
	grown("restore")

	for i := range c.urls {
		c.kill(i)
	}
	c.empty(0)
	c.empty(2)
	if got := run(t, "", "recover", "--config", filepath.Join(c.node(1), "config.yaml"), "--yes"); got.code != 0 {
		t.Fatalf("recover: %+v", got)
	}
	grown("recovery")
}
