package raftlog_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// wrongClock is the machine's clock, and off from it.
type wrongClock struct{ off atomic.Int64 }

func (c *wrongClock) Now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

func (m *member) logTime() (now time.Time) {
	m.store.View(func(s *hub.State) { now = s.Now() })
	return now
}

// near tells whether two moments are the same by the measure of leases, on a machine however busy.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 15*time.Minute }

// A node whose clock is hours off is reported, on itself and on the others, and whoever leads, the time in the log stays
// right: no lease ends because of it.
func TestAClockThatIsHoursOffEndsNoLease(t *testing.T) {
	for _, off := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) { clockOff(t, off) })
	}
}

func clockOff(t *testing.T, off time.Duration) {
	w := newNetwork(t, 3)
	clocks := map[*member]*wrongClock{}
	for _, m := range w.members {
		clocks[m] = new(wrongClock)
	}
	w.change = func(m *member, o *raftlog.Options) { o.Clock = clocks[m] }
	bad := w.members[0] // which founds the cluster, and leads first
	clocks[bad].off.Store(int64(off))
	w.start()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	right := func(when string) {
		t.Helper()
		for i, m := range w.members {
			if _, err := m.node.Propose(ctx, publish("t", fmt.Sprint(when, i))); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if now := m.logTime(); !near(now, time.Now()) {
				t.Errorf("%s, led by %s: the log says %v, it is %v", when, w.leader().id, now, time.Now())
			}
			if now := m.node.Clock().Now(); !near(now, time.Now()) {
				t.Errorf("%s: %s acts by the time %v, it is %v", when, m.id, now, time.Now())
			}
		}
	}
	right("at first")
	for _, m := range w.members {
		eventually(t, m.id+" reports the clock", func() bool {
			var offsets []time.Duration
			for _, o := range m.node.Members() {
				offsets = append(offsets, o.ClockOffset)
			}
			text := strings.Join(m.node.Warnings(), "\n")
			return (offsets[0]-off).Abs() < 15*time.Minute && offsets[1].Abs() < time.Minute && offsets[2].Abs() < time.Minute &&
				strings.HasPrefix(text, "the clock of node-1 is ") && strings.Contains(w.logs[m].String(), "a node's clock is skewed")
		})
	}
	eventually(t, "it leads", func() bool {
		_ = w.leader().node.Raft().LeadershipTransferToServer("node-1", "").Error() // again, if it did not
		return bad.node.IsLeader()
	})
	right("led by the wrong clock")

	// Also when it has just been started, knows nobody's clock yet, and one of the others is away.
	w.take(bad)
	w.take(w.members[2])
	if err := w.open(ctx, bad); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the two take a message", func() bool {
		_, err := bad.node.Propose(ctx, publish("t", "after the restart"))
		return err == nil
	})
	// Of two clocks the earlier one is believed, but not when it is before what the log has come to.
	for _, m := range w.members[:2] {
		eventually(t, m.id+" knows the time", func() bool { return near(m.node.Clock().Now(), time.Now()) })
		if now := m.logTime(); !near(now, time.Now()) {
			t.Errorf("after the restart the log says %v, it is %v", now, time.Now())
		}
	}
	if err := w.open(ctx, w.members[2]); err != nil {
		t.Fatal(err)
	}
	w.ready(w.members[2])
	eventually(t, "all three know the time", func() bool {
		for _, m := range w.members {
			if !near(m.node.Clock().Now(), time.Now()) {
				return false
			}
		}
		return true
	})

	clocks[bad].off.Store(0)
	for _, m := range w.members {
		eventually(t, "the clock is right again", func() bool { return len(m.node.Warnings()) == 0 })
	}
	right("in the end")
}

// A clock that is set wrong while its node leads changes nothing either.
func TestAClockSetWhileItsNodeLeadsEndsNoLease(t *testing.T) {
	w := newNetwork(t, 3)
	clocks := map[*member]*wrongClock{}
	for _, m := range w.members {
		clocks[m] = new(wrongClock)
	}
	w.change = func(m *member, o *raftlog.Options) { o.Clock = clocks[m] }
	w.start()
	lead := w.leader()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := lead.node.Propose(ctx, publish("t", "before")); err != nil {
		t.Fatal(err)
	}
	clocks[lead].off.Store(int64(100 * time.Hour))
	for i := 0; len(lead.node.Warnings()) == 0 || i < 50; i++ {
		if _, err := lead.node.Propose(ctx, publish("t", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if now := lead.logTime(); !near(now, time.Now()) {
			t.Fatalf("after %d messages the log says %v, it is %v", i, now, time.Now())
		}
	}
}

// The only voter has nobody to compare with: its own clock holds, also when it is set.
func TestTheOnlyVotersClockHolds(t *testing.T) {
	clock := new(wrongClock)
	m := newMember(t, "node-1")
	m.options = func(o *raftlog.Options) { o.Clock = clock }
	m.start()
	defer m.stop()
	clock.off.Store(int64(time.Hour))
	if now := m.node.Clock().Now(); now.Before(time.Now().Add(59 * time.Minute)) {
		t.Errorf("it acts by %v", now)
	}
	if offset := m.node.ClockOffset(); offset != 0 {
		t.Errorf("its clock is off by %v from itself", offset)
	}
}
