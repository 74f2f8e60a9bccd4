package chaos_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// inject attaches an injection to the hub, or skips the test where that is impossible.
func inject(t *testing.T, s *chaos.Scenario, what string) *chaos.Injection {
	t.Helper()
	i, err := chaos.Inject(t, s.Node.PID(), what)
	if errors.Is(err, chaos.ErrNoStrace) {
		unavailable(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func volume(t *testing.T, mebibytes int) *chaos.Volume {
	t.Helper()
	v, err := chaos.NewVolume(t, mebibytes)
	if errors.Is(err, chaos.ErrNoVolume) {
		unavailable(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A failed fsync ends the process: it logs why and acknowledges nothing more (I8).
func TestI8FailedSyncEndsTheProcess(t *testing.T) {
	for _, first := range []int{1, 3} {
		if first == 1 && faultRounds(t) < longRun {
			continue
		}
		t.Run(fmt.Sprintf("call %d of a thread", first), func(t *testing.T) {
			s := chaos.Start(t, chaos.Options{})
			s.Load()
			s.Under(200*time.Millisecond, 400*time.Millisecond)
			printed := len(s.Node.Log())
			s.Ledger.Ending(chaos.Killed)
			exited, code := s.Node.Exited()
			fault := inject(t, s, fmt.Sprintf("fdatasync:error=EIO:when=%d+", first))
			select {
			case <-exited:
			case <-time.After(hubtest.Patience):
				t.Fatalf("still running %v after fdatasync began to fail (%d times)", hubtest.Patience, fault.Injected())
			}
			fault.Detach()
			if code() <= 0 {
				t.Errorf("exit code %d, want one above 0", code())
			}
			said := s.Node.Log()[printed:]
			if !strings.Contains(said, "input/output error") {
				t.Errorf("the log does not give the reason:\n%s", said)
			}
			s.Restart(t)
			s.Under(200*time.Millisecond, 300*time.Millisecond)
			s.Settle(t)
		})
	}
}

// A slow disk makes answers late, not wrong.
func TestI8SlowSyncChangesNoAnswer(t *testing.T) {
	longOnly(t)
	s := chaos.Start(t, chaos.Options{})
	s.Load()
	s.Under(100*time.Millisecond, 200*time.Millisecond)
	slow := inject(t, s, "fdatasync:delay_enter=60000") // µs
	s.Under(1500*time.Millisecond, 2*time.Second)
	s.Kill(t)
	slow.Detach()
	if slow.Injected() == 0 {
		t.Error("nothing was slowed down, so the test proved nothing")
	}
	s.Restart(t)
	slow = inject(t, s, "fdatasync:delay_enter=60000")
	s.Under(500*time.Millisecond, time.Second)
	slow.Detach()
	s.Under(100*time.Millisecond, 200*time.Millisecond)
	s.Settle(t)
}

// publishStatus returns the status and body of a publish to a topic without subscribers.
func publishStatus(node *hubtest.Node) (int, string) {
	_, err := node.TryPublish(node.TopicURL("probe"), "text/plain", []byte(strings.Repeat("x", 16<<10)))
	var refused *hubtest.RefusedError
	switch {
	case err == nil:
		return 200, ""
	case errors.As(err, &refused):
		return refused.Reply.Status, string(refused.Reply.Body)
	default:
		return 0, err.Error()
	}
}

var aboutSpace = regexp.MustCompile(`(?i)disk|space`)

// Below storage.min_free_bytes publishers are refused with a reason; once there is room again publishing
// works without a restart.
func TestI8ShortOfDiskTurnsPublishersAway(t *testing.T) {
	v := volume(t, 160)
	s := chaos.Start(t, chaos.Options{DataDir: filepath.Join(v.Dir, "data"), Settings: hubtest.Settings{
		"storage.min_free_bytes": "32MiB", "storage.segment_bytes": "1MiB", "storage.tail_bytes": "1MiB",
	}})
	s.Load()
	s.Under(200*time.Millisecond, 300*time.Millisecond)
	if err := v.Fill(28 << 20); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "a refusal of publishers", func() error {
		status, said := publishStatus(s.Node)
		if status != 503 {
			return fmt.Errorf("a publish was answered %d %s with %d MiB free", status, said, v.Free()>>20)
		}
		if !aboutSpace.MatchString(said) || strings.Count(strings.TrimSpace(said), "\n") > 0 {
			return fmt.Errorf("503 with %q, want one line about the disk", said)
		}
		return nil
	})
	if !s.Node.Running() {
		t.Fatal("the hub exited although the reserve should prevent that")
	}
	if err := v.Relieve(); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "a publish that is accepted again", func() error {
		if status, said := publishStatus(s.Node); status != 200 {
			return fmt.Errorf("a publish was answered %d %s with %d MiB free", status, said, v.Free()>>20)
		}
		return nil
	})
	s.Under(100*time.Millisecond, 200*time.Millisecond)
	s.Settle(t)
}

// A disk full to the last block, without a reserve, stops the hub or makes it refuse publishers. Nothing
// acknowledged is lost, and the hub works again once there is room.
func TestI8FullDiskLosesNothing(t *testing.T) {
	v := volume(t, 96)
	s := chaos.Start(t, chaos.Options{DataDir: filepath.Join(v.Dir, "data"), Settings: hubtest.Settings{
		"storage.min_free_bytes": 0, "storage.segment_bytes": "1MiB", "storage.tail_bytes": "1MiB",
	}})
	s.Load()
	s.Under(100*time.Millisecond, 200*time.Millisecond)
	printed := len(s.Node.Log())
	exited, code := s.Node.Exited()
	if err := v.Fill(0); err != nil {
		t.Fatal(err)
	}
	s.Ledger.Ending(chaos.Killed)
	hubtest.Eventually(t, "a reaction to the full disk", func() error {
		select {
		case <-exited:
			return nil
		default:
		}
		// A publish interrupted by the failing write does not mention the disk.
		if status, said := publishStatus(s.Node); status != 503 || !aboutSpace.MatchString(said) {
			return fmt.Errorf("a publish was answered %d %s with %d bytes free, and the hub still runs", status, said, v.Free())
		}
		return nil
	})
	if s.Node.Running() {
		s.Kill(t)
	} else {
		if code() <= 0 {
			t.Errorf("exit code %d, want one above 0", code())
		}
		if said := s.Node.Log()[printed:]; !strings.Contains(said, "no space left on device") {
			t.Errorf("the log does not give the reason:\n%s", said)
		}
	}
	if err := v.Relieve(); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	s.Under(100*time.Millisecond, 200*time.Millisecond)
	s.Settle(t)
}
