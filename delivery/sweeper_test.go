package delivery_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

type keep struct{ n uint64 }

func (k keep) TrimCandidates(maxAge time.Duration, maxBytes int64, now time.Time) []hub.Trim {
	if maxAge != time.Hour || maxBytes != 99 {
		panic("other bounds than configured")
	}
	return []hub.Trim{{Topic: 1, Through: k.n}}
}

func TestSweeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t)
		s := delivery.NewSweeper(delivery.SweeperOptions{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: quiet(),
			Retention: keep{3}, MaxAge: time.Hour, MaxBytes: 99, RetentionInterval: 10 * time.Second})
		s.Start(t.Context())
		defer s.Close()
		count := func() (n int, first uint64) {
			e.View(func(st *hub.State) {
				tp, _ := st.TopicByName("t")
				n, first = st.Counts().Subscriptions, tp.First
			})
			return n, first
		}
		for i := range 1500 { // more than one event holds
			e.subscribe(want{topic: "t", callback: fmt.Sprint(cb, i), lease: 8 * time.Second})
		}
		e.subscribe(want{topic: "t", callback: cb, lease: time.Hour})
		for range 5 {
			e.publish("t", "x")
		}
		e.leader.Store(false)
		time.Sleep(time.Minute)
		if n, first := count(); n != 1501 || first != 1 {
			t.Errorf("a follower swept: %d subscriptions, first offset %d", n, first)
		}
		e.leader.Store(true)
		e.breakdown(hub.ErrNoLeader)
		time.Sleep(time.Minute)
		e.breakdown(nil)
		time.Sleep(11 * time.Second)
		if n, first := count(); n != 1 || first != 4 {
			t.Errorf("%d subscriptions and first offset %d left, want 1 and 4", n, first)
		}
		var ended int
		for _, ev := range e.events {
			if x := ev.GetSubscriptionsEnded(); x != nil {
				ended++
				if x.Reason != hubpb.EndReason_END_EXPIRED {
					t.Errorf("ended for %v", x.Reason)
				}
			}
		}
		if ended != 2 {
			t.Errorf("%d events, want 2", ended)
		}
		_ = s
	})
}

func TestManagersThatNeverStartedClose(t *testing.T) {
	e := newEngine(t)
	delivery.NewSweeper(delivery.SweeperOptions{}).Close()
	delivery.NewVerifier(delivery.VerifierOptions{}).Close()
	delivery.NewFetcher(delivery.FetcherOptions{}).Close()
	if err := delivery.NewDispatcher(options(e)).Close(context.Background()); err != nil {
		t.Error(err)
	}
}
