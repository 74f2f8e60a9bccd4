package chaos_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/chaos/dropfs"
)

// The power fails at one node, then at all three at once, and takes with it what was not synced: nothing acknowledged is
// lost, and no node holds files that do not fit together (I1, I8).
func TestI1I8PowerLoss(t *testing.T) {
	if !inside(t) { // a mount of a process that is killed goes with it there
		return
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		unavailable(t, "no FUSE here: %v", err)
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
	s := chaos.StartTrio(t, chaos.TrioOptions{Sites: sites, NoComers: true})
	fail := func(what string, which ...int) {
		t.Helper()
		awaitUnsynced(t, disks, which)
		trouble := s.Ledger.Begin(what, 0)
		s.Kill(t, which...)
		for _, i := range which {
			if err := disks[i].Fail(); err != nil {
				t.Fatal(err)
			}
		}
		s.Start(t, which...)
		s.Ledger.End(trouble)
	}
	dropped := func() (n int) {
		for _, d := range disks {
			n += d.Dropped()
		}
		return n
	}
	s.Load()
	rounds := powerRounds(t)
	// What was written may have become durable all the same; then the power has to fail again.
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
		t.Error("no page was lost: the test showed nothing")
	}
}

// awaitUnsynced waits for a moment at which one of the disks holds what a failure could take.
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
	t.Fatal("nothing is written to these disks any more")
}

func powerRounds(t *testing.T) int {
	return (faultRounds(t) + 9) / 10
}
