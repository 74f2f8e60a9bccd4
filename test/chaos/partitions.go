package chaos

import (
	"testing"
	"time"
)

// NetworkFaults are the partitions of a Network. Unless a fault says otherwise, publishers and subscribers
// still reach every node.
func NetworkFaults(n *Network) []Fault {
	short, long := time.Second, 6*time.Second
	// hold cuts, waits and heals. Connections that the kernel kept retrying need a moment to recover
	// afterwards.
	hold := func(tb testing.TB, s *Trio, what string, maxGap time.Duration, cut func()) {
		tb.Helper()
		t := s.Ledger.Begin(what, maxGap)
		cut()
		wait(s.ctx, s.between(short, long))
		n.Heal(tb)
		s.Ledger.End(t)
	}
	others := func(i int) (int, int) { return (i + 1) % 3, (i + 2) % 3 }
	alone := func(tb testing.TB, i int) {
		a, b := others(i)
		n.CutBoth(tb, i, a)
		n.CutBoth(tb, i, b)
	}
	return []Fault{
		{"the leader isolated", 3, func(tb testing.TB, s *Trio) {
			i := s.Leader(tb)
			hold(tb, s, "the leader isolated", failoverGap, func() { alone(tb, i) })
		}},
		{"a follower isolated", 3, func(tb testing.TB, s *Trio) {
			i := s.follower(tb)
			hold(tb, s, "a follower isolated", failoverGap, func() { alone(tb, i) })
		}},
		{"all nodes isolated", 2, func(tb testing.TB, s *Trio) {
			hold(tb, s, "all nodes isolated", 0, func() {
				n.CutBoth(tb, 0, 1)
				n.CutBoth(tb, 0, 2)
				n.CutBoth(tb, 1, 2)
			})
		}},
		{"two nodes separated", 2, func(tb testing.TB, s *Trio) {
			i := s.Rand.IntN(3)
			a, b := others(i)
			hold(tb, s, "two nodes separated", 0, func() { n.CutBoth(tb, a, b) })
		}},
		{"the leader hears nobody", 2, func(tb testing.TB, s *Trio) {
			i := s.Leader(tb)
			a, b := others(i)
			hold(tb, s, "the leader hears nobody", 0, func() {
				n.Cut(tb, a, i)
				n.Cut(tb, b, i)
			})
		}},
		{"the leader is not heard", 2, func(tb testing.TB, s *Trio) {
			i := s.Leader(tb)
			a, b := others(i)
			hold(tb, s, "the leader is not heard", 0, func() {
				n.Cut(tb, i, a)
				n.Cut(tb, i, b)
			})
		}},
		{"one direction between two nodes", 2, func(tb testing.TB, s *Trio) {
			i := s.Rand.IntN(3)
			a, _ := others(i)
			hold(tb, s, "one direction between two nodes", 0, func() { n.Cut(tb, i, a) })
		}},
		{"flapping", 2, func(tb testing.TB, s *Trio) {
			t := s.Ledger.Begin("flapping", 0)
			i := s.Rand.IntN(3)
			for range 3 + s.Rand.IntN(4) {
				alone(tb, i)
				wait(s.ctx, s.between(100*time.Millisecond, 1500*time.Millisecond))
				n.Heal(tb)
				wait(s.ctx, s.between(50*time.Millisecond, 1000*time.Millisecond))
			}
			s.Ledger.End(t)
		}},
		{"cable pulled", 3, func(tb testing.TB, s *Trio) {
			i := s.Rand.IntN(3)
			// Afterwards the kernel sends again whatever it had sent and nobody received.
			hold(tb, s, "cable pulled", failoverGap, func() { n.Pull(tb, i) })
		}},
	}
}
