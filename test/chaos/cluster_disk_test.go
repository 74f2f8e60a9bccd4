package chaos_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// injectNode is inject for a node of a cluster.
func injectNode(t *testing.T, n *hubtest.Node, what string) *chaos.Injection {
	t.Helper()
	i, err := chaos.Inject(t, n.PID(), what)
	if errors.Is(err, chaos.ErrNoStrace) {
		unavailable(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// ends waits for a node to exit on its own and to log why.
func ends(t *testing.T, n *hubtest.Node, printed int, why string) {
	t.Helper()
	exited, code := n.Exited()
	select {
	case <-exited:
	case <-time.After(2 * hubtest.Patience):
		t.Fatalf("still running %v after its disk began to fail", 2*hubtest.Patience)
	}
	if code() <= 0 {
		t.Errorf("exit code %d, want one above 0", code())
	}
	if said := n.Log()[printed:]; !strings.Contains(said, why) {
		t.Errorf("the log does not contain %q", why)
	}
}

// One node's disk is slow, then fails to sync, then is full to the last block. The node exits when it must,
// the others continue, and nothing is lost (I1, I8).
func TestI8OneDiskOfThreeFails(t *testing.T) {
	longOnly(t)
	v := volume(t, 96)
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	const sick = 2
	sites[sick].DataDir = filepath.Join(v.Dir, "data")
	sites[sick].Settings = hubtest.Settings{"storage.min_free_bytes": 0, "storage.segment_bytes": "1MiB", "storage.tail_bytes": "1MiB"}
	s := chaos.StartTrio(t, chaos.TrioOptions{Sites: sites})
	s.Load()
	s.Under(500*time.Millisecond, time.Second)

	slow := s.Ledger.Begin("a slow disk", 0)
	i := injectNode(t, s.Nodes[sick], "fdatasync:delay_enter=80000") // µs
	s.Under(2*time.Second, 3*time.Second)
	i.Detach()
	if i.Injected() == 0 {
		t.Error("nothing was slowed down, so the test proved nothing")
	}
	s.Ledger.End(slow)
	s.Under(time.Second, 2*time.Second)

	failed := s.Ledger.Begin("a failed sync", 4*time.Second)
	printed := len(s.Nodes[sick].Log())
	i = injectNode(t, s.Nodes[sick], "fdatasync:error=EIO:when=2+")
	ends(t, s.Nodes[sick], printed, "input/output error")
	i.Detach()
	s.Under(time.Second, 4*time.Second)
	s.Start(t, sick)
	s.Ledger.End(failed)
	s.Under(time.Second, 2*time.Second)

	full := s.Ledger.Begin("a full disk", 4*time.Second)
	printed = len(s.Nodes[sick].Log())
	if err := v.Fill(0); err != nil {
		t.Fatal(err)
	}
	ends(t, s.Nodes[sick], printed, "no space left on device")
	if err := v.Relieve(); err != nil {
		t.Fatal(err)
	}
	s.Start(t, sick)
	s.Ledger.End(full)
	s.Under(500*time.Millisecond, time.Second)
	s.Settle(t)
}
