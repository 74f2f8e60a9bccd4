package raftlog

import (
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/hub"
)

// TestI4ConfirmationsTellOfEarlierLeaders: whatever a voter told a leader is known to every later one.
func TestI4ConfirmationsTellOfEarlierLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var current uint64
		confirm := func(c *confirmations, term uint64) (time.Time, bool) {
			return c.confirm(term, func() uint64 { return current })
		}
		start := time.Now()
		c := newConfirmations(start)
		time.Sleep(time.Second)
		current = 1
		if earlier, ok := confirm(c, 1); !ok || !earlier.Equal(start) {
			t.Errorf("the first leader: %v, %v; before the start of the process the voter may have confirmed another", earlier, ok)
		}
		time.Sleep(time.Second)
		last := time.Now()
		confirm(c, 1)
		time.Sleep(time.Second)
		current = 3 // a leader of term 2 was never heard of
		if _, ok := confirm(c, 1); ok {
			t.Error("a leader of an earlier term is confirmed")
		}
		for range 2 {
			if earlier, ok := confirm(c, 3); !ok || !earlier.Equal(last) {
				t.Errorf("the leader of term 3 is told %v, %v; want %v", earlier, ok, last)
			}
			time.Sleep(time.Second)
		}
		if _, ok := confirm(c, 4); ok {
			t.Error("a leader is confirmed of whose term this voter does not know")
		}
	})
}

// TestI4SilenceCountsFromTheLastLease: a node that reports counts as heard, unless it says itself that its lease has ended.
func TestI4SilenceCountsFromTheLastLease(t *testing.T) {
	at := time.Now()
	for age, want := range map[time.Duration]time.Time{
		0:                                     at,
		hub.ContactLease - 1:                  at,
		hub.ContactLease:                      at.Add(-hub.ContactLease),
		hub.ContactLease + 5*time.Millisecond: at.Add(-hub.ContactLease - 5*time.Millisecond),
	} {
		if got := (report{at, age}).silentSince(); !got.Equal(want) {
			t.Errorf("age %v: %v, want %v", age, got, want)
		}
	}
}
