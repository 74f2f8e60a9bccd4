package chaos_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// roundsEnv is the environment variable that sets how often the crash loop kills the hub.
const roundsEnv = "QUORUMHUB_CHAOS_ROUNDS"

const (
	usualRounds = 6
	// loopWithin limits the time in which a crash loop must finish its rounds.
	loopWithin = 3 * time.Minute
)

func rounds(t *testing.T) int {
	t.Helper()
	given := os.Getenv(roundsEnv)
	if given == "" {
		return usualRounds
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: expected a number from 1", roundsEnv, given)
	}
	return n
}

// SIGKILL at random moments under load, sometimes during the recovery from the last one, loses nothing that
// was acknowledged, keeps the order and repeats at most one cursor flush (I1, I2, I3, I5, I7).
func TestI1CrashLoop(t *testing.T) {
	all := rounds(t)
	for _, variant := range []struct {
		name      string
		rounds    int
		low, high time.Duration // of a run
		options   chaos.Options
	}{
		{"default files", (all*6 + 9) / 10, 20 * time.Millisecond, 800 * time.Millisecond, chaos.Options{}},
		// Segments change all the time, and the tail is so short that subscribers are served from files.
		{"small files", (all*4 + 9) / 10, 20 * time.Millisecond, 800 * time.Millisecond, chaos.Options{MaxSize: 32 << 10, Settings: hubtest.Settings{
			"storage.segment_bytes": "64KiB", "storage.tail_bytes": "64KiB", "message.max_bytes": "64KiB", "storage.flush_interval": "20ms",
		}}},
		// Long enough for raft to truncate its log after a snapshot.
		{"long runs", min(all/25, 4), 16 * time.Second, 34 * time.Second, chaos.Options{}},
	} {
		if variant.rounds == 0 {
			continue // only in the long version
		}
		t.Run(variant.name, func(t *testing.T) {
			crashLoop(t, chaos.Start(t, variant.options), variant.rounds, variant.low, variant.high)
		})
	}
}

func crashLoop(t *testing.T, s *chaos.Scenario, rounds int, low, high time.Duration) {
	s.Load()
	began := time.Now()
	for round := range rounds {
		if time.Since(began) > loopWithin {
			t.Errorf("%d rounds in %v; expected %d", round, loopWithin, rounds)
			break
		}
		s.Under(low, high)
		s.Kill(t)
		if s.Rand.IntN(4) == 0 {
			s.RestartAndKill(t, time.Duration(s.Rand.IntN(300))*time.Millisecond)
		}
		s.Restart(t)
	}
	s.Under(200*time.Millisecond, 400*time.Millisecond)
	s.Settle(t)
	s.Stop(t)
}

// SIGTERM under load finishes what is in flight and records what was delivered, so nothing is repeated (I3).
func TestI3StopRepeatsNothing(t *testing.T) {
	s := chaos.Start(t, chaos.Options{})
	s.Load()
	for range 5 {
		s.Under(100*time.Millisecond, 500*time.Millisecond)
		s.Stop(t)
		s.Restart(t)
	}
	s.Under(100*time.Millisecond, 200*time.Millisecond)
	s.Settle(t)
}
