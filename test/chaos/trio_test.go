package chaos_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"quorumhub/test/chaos"
)

// trioRoundsEnv is the environment variable that sets how many random faults a cluster goes through.
const trioRoundsEnv = "QUORUMHUB_CHAOS_FAULTS"

const (
	usualFaults = 2
	// longRun is the number of faults from which everything is run.
	longRun = 10
	// faultsWithin limits the time for random faults; those that have not begun by then are left out.
	faultsWithin = 3*time.Minute + 20*time.Second
)

func faultRounds(t *testing.T) int {
	t.Helper()
	given := os.Getenv(trioRoundsEnv)
	if given == "" {
		return usualFaults
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q: expected a number from 0", trioRoundsEnv, given)
	}
	return n
}

// longOnly skips a test in the short version, in which other tests cover a part of it.
func longOnly(t *testing.T) {
	t.Helper()
	if faultRounds(t) < longRun {
		t.Skipf("in the long version only: %s=%d", trioRoundsEnv, longRun)
	}
}

// The cluster's purpose in one test: 8 topics with 5 subscriptions each and publishers at all nodes, while
// the leader is killed and restarted and a follower is stopped for 5 s (I1, I2, I3, I4, I6).
func TestI1I4ClusterShowsItself(t *testing.T) {
	s := chaos.StartTrio(t, chaos.TrioOptions{})
	s.Load()
	s.Under(2*time.Second, 3*time.Second)
	s.KillFor(t, "SIGKILL of the leader", s.Leader(t), 4*time.Second)
	s.Under(5*time.Second, 6*time.Second)
	s.PauseFor(t, "SIGSTOP of a follower", (s.Leader(t)+1)%3, 5*time.Second)
	s.Under(5*time.Second, 6*time.Second)
	f := s.Settle(t)
	if f.Repeats*100 >= f.Deliveries {
		t.Errorf("%d of %d deliveries were repeated, want less than 1 %%", f.Repeats, f.Deliveries)
	}
}

// Random process faults, one after another, some of them before the last one is over.
func TestI1ClusterUnderFaults(t *testing.T) {
	longOnly(t)
	s := chaos.StartTrio(t, chaos.TrioOptions{})
	underFaults(t, s, chaos.ProcessFaults(), faultRounds(t))
}

func underFaults(t *testing.T, s *chaos.Trio, faults []chaos.Fault, rounds int) {
	s.Load()
	began, done := time.Now(), map[string]int{}
	for round := range rounds {
		if time.Since(began) > faultsWithin {
			t.Logf("%d of %d rounds in %v", round, rounds, faultsWithin)
			break
		}
		s.Under(200*time.Millisecond, 4*time.Second)
		f := s.Choose(faults)
		f.Do(t, s)
		done[f.Name]++
		if t.Failed() {
			break
		}
	}
	s.Under(time.Second, 2*time.Second)
	s.Settle(t)
	t.Logf("rounds: %v", done)
}

// A rolling restart of all three nodes under load: a client that tries another node when one refuses never
// fails, and nothing is repeated (I1, I3).
func TestI3RollingRestartRepeatsNothing(t *testing.T) {
	s := chaos.StartTrio(t, chaos.TrioOptions{AllRetry: true})
	s.Load()
	s.Under(time.Second, 2*time.Second)
	s.RollingRestart(t, 3*time.Second)
	s.Under(time.Second, 2*time.Second)
	f := s.Settle(t)
	if n, slowest := s.GaveUp(); n > 0 {
		t.Errorf("%d messages were refused by every node in turn; the slowest took %v", n, slowest)
	} else {
		t.Logf("the slowest message took %v with all its attempts", slowest)
	}
	if f.Repeats > 0 {
		t.Errorf("%d of %d deliveries were repeated", f.Repeats, f.Deliveries)
	}
}
