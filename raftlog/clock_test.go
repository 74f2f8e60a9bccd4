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

// wrongClock is the machine's clock plus an offset.
type wrongClock struct{ off atomic.Int64 }

func (c *wrongClock) Now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

func (m *member) logTime() (now time.Time) {
	m.store.View(func(s *hub.State) { now = s.Now() })
	return now
}

// near reports whether two times are equal as far as leases are concerned, even on a busy machine.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 15*time.Minute }

// A node whose clock is hours off is reported, by itself and by the others. The time in the log stays correct whoever leads,
// so no leases expire.
func TestSkewedClockExpiresNoLeases(t *testing.T) {
	for _, off := range []time.Duration{3 * time.Hour, -3 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) { clockOff(t, off) })
	}
}

// skewed is a network of which one node's clock is wrong.
type skewed struct {
	*network
	t      *testing.T
	ctx    context.Context
	bad    *member // founds the cluster, and leads first
	off    time.Duration
	clocks map[*member]*wrongClock
}

func clockOff(t *testing.T, off time.Duration) {
	w := &skewed{network: newNetwork(t, 3), t: t, off: off, clocks: map[*member]*wrongClock{}}
	for _, m := range w.members {
		w.clocks[m] = new(wrongClock)
	}
	w.change = func(m *member, o *raftlog.Options) { o.Clock = w.clocks[m] }
	w.bad = w.members[0]
	w.clocks[w.bad].off.Store(int64(off))
	w.start()
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	w.timeIsCorrect("at first")
	w.skewIsReported()
	eventually(t, "the skewed node leads", func() bool {
		_ = w.leader().node.Raft().LeadershipTransferToServer("node-1", "").Error() // retries if it failed
		return w.bad.node.IsLeader()
	})
	w.timeIsCorrect("led by the skewed clock")
	w.restartWithTwoNodes()
	w.clocks[w.bad].off.Store(0)
	for _, m := range w.members {
		eventually(t, "the clock is correct again", func() bool { return len(m.node.Warnings()) == 0 })
	}
	w.timeIsCorrect("in the end")
}

func (w *skewed) timeIsCorrect(when string) {
	w.t.Helper()
	for i, m := range w.members {
		if _, err := m.node.Propose(w.ctx, publish("t", fmt.Sprint(when, i))); err != nil {
			w.t.Fatalf("%s: %v", when, err)
		}
		if now := m.logTime(); !near(now, time.Now()) {
			w.t.Errorf("%s, led by %s: the log has %v, the time is %v", when, w.leader().id, now, time.Now())
		}
		if now := m.node.Clock().Now(); !near(now, time.Now()) {
			w.t.Errorf("%s: %s uses the time %v, it is %v", when, m.id, now, time.Now())
		}
	}
}

func (w *skewed) skewIsReported() {
	w.t.Helper()
	for _, m := range w.members {
		eventually(w.t, m.id+" reports the clock", func() bool {
			var offsets []time.Duration
			for _, o := range m.node.Members() {
				offsets = append(offsets, o.ClockOffset)
			}
			text := strings.Join(m.node.Warnings(), "\n")
			return (offsets[0]-w.off).Abs() < 15*time.Minute && offsets[1].Abs() < time.Minute && offsets[2].Abs() < time.Minute &&
				strings.HasPrefix(text, "the clock of node-1 is ") && strings.Contains(w.logs[m].String(), "a node's clock is skewed")
		})
	}
}

// restartWithTwoNodes restarts the skewed node while another one is away: it does not know any clock yet, and of two clocks
// the earlier one is used, but never one before the time the log has reached.
func (w *skewed) restartWithTwoNodes() {
	w.t.Helper()
	w.crash(w.bad)
	w.crash(w.members[2])
	if err := w.open(w.ctx, w.bad); err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, "the two accept a message", func() bool {
		_, err := w.bad.node.Propose(w.ctx, publish("t", "after the restart"))
		return err == nil
	})
	for _, m := range w.members[:2] {
		eventually(w.t, m.id+" knows the time", func() bool { return near(m.node.Clock().Now(), time.Now()) })
		if now := m.logTime(); !near(now, time.Now()) {
			w.t.Errorf("after the restart the log has %v, the time is %v", now, time.Now())
		}
	}
	if err := w.open(w.ctx, w.members[2]); err != nil {
		w.t.Fatal(err)
	}
	w.ready(w.members[2])
	eventually(w.t, "all three know the time", func() bool {
		for _, m := range w.members {
			if !near(m.node.Clock().Now(), time.Now()) {
				return false
			}
		}
		return true
	})
}

// Setting the leader's clock wrong has no effect either.
func TestSettingTheLeadersClockExpiresNoLeases(t *testing.T) {
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
			t.Fatalf("after %d messages the log has %v, the time is %v", i, now, time.Now())
		}
	}
}

// The only voter has no other clocks to compare with: it uses its own clock, also after that is set.
func TestOnlyVoterUsesItsOwnClock(t *testing.T) {
	clock := new(wrongClock)
	m := newMember(t, "node-1")
	m.options = func(o *raftlog.Options) { o.Clock = clock }
	m.start()
	defer m.stop()
	clock.off.Store(int64(time.Hour))
	if now := m.node.Clock().Now(); now.Before(time.Now().Add(59 * time.Minute)) {
		t.Errorf("it uses the time %v", now)
	}
	if offset := m.node.ClockOffset(); offset != 0 {
		t.Errorf("its clock differs from itself by %v", offset)
	}
}
