package chaos_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// Links with 20 to 100 ms of delay in each direction between all nodes, and a leader that dies meanwhile (I1,
// I2, I4).
func TestI1I4SlowLinks(t *testing.T) {
	longOnly(t)
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	var links []*chaos.Proxy
	for i := range sites {
		p := chaos.NewProxy(t, sites[i].Cluster)
		sites[i].Advertised = p.Addr
		links = append(links, p)
	}
	s := chaos.StartTrio(t, chaos.TrioOptions{Sites: sites})
	s.Load()
	s.Under(500*time.Millisecond, time.Second)
	slow := s.Ledger.Begin("slow links", 0)
	for _, p := range links {
		p.Delay(20*time.Millisecond, 100*time.Millisecond)
	}
	s.Under(3*time.Second, 4*time.Second)
	// Elections take longer, but not forever.
	s.KillFor(t, "SIGKILL of the leader behind slow links", s.Leader(t), 4*time.Second)
	s.Under(2*time.Second, 4*time.Second)
	for _, p := range links {
		p.Delay(0, 0)
	}
	s.Ledger.End(slow)
	s.Under(time.Second, 2*time.Second)
	s.Settle(t)
}

// A follower that was away longer than the log is kept catches up from a snapshot while readers read, and
// delivers its share again (I1, I6, I8).
func TestI1I8AwayLongerThanTheLog(t *testing.T) {
	s := chaos.StartTrio(t, chaos.TrioOptions{Settings: hubtest.Settings{
		"storage.log_bytes": "64KiB", "storage.segment_bytes": "256KiB", "storage.tail_bytes": "256KiB", "message.max_bytes": "64KiB",
		"storage.flush_interval": "50ms"}})
	s.Load()
	s.Under(500*time.Millisecond, time.Second)
	away := (s.Leader(t) + 1) % 3
	installed := func() int { return strings.Count(s.Nodes[away].Log(), "snapshot installed") }
	for round := range 1 + faultRounds(t)/20 {
		before := installed()
		s.KillFor(t, "a follower away longer than the log", away, 5*time.Second)
		hubtest.EventuallyWithin(t, 2*hubtest.Patience, "a snapshot", func() error {
			if installed() == before {
				return errors.New("no snapshot was installed")
			}
			return nil
		})
		t.Logf("round %d: %d snapshots", round, installed())
		s.Under(3*time.Second, 4*time.Second)
	}
	s.Settle(t)
}

// A fourth node joins under load, gets its share and leaves again. Nothing is lost, and nothing is repeated,
// because every move waits for the owner (I1, I3, I4).
func TestI1I4JoinAndLeave(t *testing.T) {
	longOnly(t)
	s := chaos.StartTrio(t, chaos.TrioOptions{Settings: hubtest.Settings{"cluster.autopilot.stabilization": "1s"}})
	s.Load()
	s.Under(500*time.Millisecond, time.Second)
	fourth := s.Join(t)
	members := func(want int, share bool) {
		t.Helper()
		hubtest.EventuallyWithin(t, 3*hubtest.Patience, "members and shares", func() error {
			v, err := s.View(0)
			if err != nil || len(v.Nodes) != want {
				return fmt.Errorf("%+v: %w", v.Nodes, errors.Join(err))
			}
			for _, n := range v.Nodes {
				if n.Role == "down" || share && n.Subscriptions < 10 {
					return fmt.Errorf("%+v", v.Nodes)
				}
			}
			return nil
		})
	}
	members(4, true)
	s.Under(time.Second, 2*time.Second)
	exited, code := fourth.Exited()
	if out, err := exec.Command(hubtest.Binary(t), "cluster", "leave", "--hub", fourth.HubURL()).CombinedOutput(); err != nil {
		t.Fatalf("cluster leave: %v: %s", err, out)
	}
	select {
	case <-exited:
		if code() != 0 {
			t.Errorf("the node that left exited with code %d, want 0", code())
		}
	case <-time.After(2 * hubtest.Patience):
		t.Error("the node that left is still running")
	}
	members(3, true)
	s.Under(time.Second, 2*time.Second)
	if f := s.Settle(t); f.Repeats > 0 && f.Observed == 0 {
		t.Errorf("%d of %d deliveries were repeated", f.Repeats, f.Deliveries)
	}
}
