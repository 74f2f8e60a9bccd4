package chaos_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/chaos/dropfs"
)

// The power fails at one node, then at all three at once, and what was not synced is lost. Nothing
// acknowledged is lost, and no node has inconsistent files (I1, I8).
func TestI1I8PowerLoss(t *testing.T) {
	if !inside(t) { // there a mount ends with its process, even if that is killed
		return
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		unavailable(t, "FUSE is missing: %v", err)
	}
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	var disks []*dropfs.Disk
	choices := chaos.Choices(t)
	for i := range sites {
		d, err := dropfs.New(t.TempDir(), choices)
		if err != nil {
			t.Fatal(err)
		}
		d.SyncTakes = 10 * time.Millisecond
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		disks = append(disks, d)
		sites[i].DataDir = filepath.Join(d.Dir, "data")
	}
	s := chaos.StartTrio(t, chaos.TrioOptions{Sites: sites, NoChurn: true})
	fail := func(what string, which ...int) {
		t.Helper()
		awaitUnsynced(t, disks, which)
		disruption := s.Ledger.Begin(what, 0)
		s.Kill(t, which...)
		for _, i := range which {
			if err := disks[i].Fail(); err != nil {
				t.Fatal(err)
			}
		}
		s.Start(t, which...)
		s.Ledger.End(disruption)
	}
	dropped := func() (n int) {
		for _, d := range disks {
			n += d.Dropped()
		}
		return n
	}
	s.Load()
	rounds := powerRounds(t)
	// Unsynced pages may survive by chance; then the power has to fail again.
	for i := 0; i < rounds || dropped() == 0 && i < rounds+5; i++ {
		s.Under(500*time.Millisecond, 2*time.Second)
		fail("power loss at one node", s.Rand.IntN(3))
		s.Under(500*time.Millisecond, 2*time.Second)
		fail("power loss at all nodes", 0, 1, 2)
	}
	s.Under(500*time.Millisecond, time.Second)
	s.Settle(t)
	t.Logf("%d pages were lost", dropped())
	if dropped() == 0 {
		t.Error("no page was lost, so the test proved nothing")
	}
}

// awaitUnsynced waits until one of the disks has unsynced pages that a power failure could lose.
func awaitUnsynced(t *testing.T, disks []*dropfs.Disk, which []int) {
	t.Helper()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for within := time.Now().Add(10 * time.Second); time.Now().Before(within); <-tick.C {
		for _, i := range which {
			if disks[i].Unsynced() > 0 {
				return
			}
		}
	}
	t.Fatal("nothing is written to these disks anymore")
}

func powerRounds(t *testing.T) int {
	return (faultRounds(t) + 9) / 10
}
