package sweep_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery/sweep"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

// What exceeds the limit goes when the log has grown or the disk is short of space, long before the next interval.
func TestSweeperLooksWhenTheLogGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.NewEngine(t)
		grown := make(chan struct{}, 1)
		var short atomic.Bool
		s := sweep.NewSweeper(sweep.Options{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard(),
			Retention: keep{3}, MaxAge: time.Hour, MaxBytes: 99, RetentionInterval: time.Hour, Grown: grown, DiskShort: short.Load})
		for range 5 {
			e.Publish("t", "x")
		}
		first := func() (first uint64) {
			e.View(func(st *hub.State) {
				tp, _ := st.TopicByName("t")
				first = tp.First
			})
			return first
		}
		s.Start(t.Context())
		defer s.Close()
		e.Leader.Store(false)
		grown <- struct{}{}
		time.Sleep(10 * time.Second)
		if got := first(); got != 1 {
			t.Errorf("without anything to look at, the topic begins at %d", got)
		}
		e.Leader.Store(true)
		grown <- struct{}{}
		synctest.Wait()
		if got := first(); got != 3 {
			t.Errorf("after the log has grown the topic begins at %d, want 3: what exceeds the size", got)
		}
		short.Store(true)
		time.Sleep(2 * time.Second)
		if got := first(); got != 4 {
			t.Errorf("with little disk space the topic begins at %d, want 4: what exceeds any limit", got)
		}
	})
}
