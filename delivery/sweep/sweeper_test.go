package sweep_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery/sweep"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

type keep struct{ n uint64 }

func (k keep) TrimCandidates(maxAge time.Duration, maxBytes int64, now time.Time) []hub.Trim {
	switch {
	case maxAge == time.Hour && maxBytes == 0:
		return []hub.Trim{{Topic: 1, Through: k.n}, {Topic: 2, Through: 4}, {Topic: 3, Through: 2}}
	case maxAge == 0 && maxBytes == 99:
		return []hub.Trim{{Topic: 1, Through: k.n - 1}, {Topic: 2, Through: 1}}
	}
	panic("other bounds than configured")
}

func (k keep) TopicTrims(limits []hub.TopicLimit, now time.Time) (out []hub.Trim, err error) {
	for _, l := range limits {
		if l.MaxBytes != nil {
			out = append(out, hub.Trim{Topic: l.Topic, Through: uint64(*l.MaxBytes)})
		}
	}
	return out, nil
}

// A topic's own age replaces the hub's, its own size adds to the limits, and the hub's size applies to all topics.
func TestSweeperWithLimitsOfTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.NewEngine(t)
		s := sweep.NewSweeper(sweep.Options{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard(),
			Retention: keep{3}, MaxAge: time.Hour, MaxBytes: 99, RetentionInterval: 10 * time.Second})
		for _, topic := range []string{"t1", "t2", "t3"} {
			for range 6 {
				e.Publish(topic, "x")
			}
		}
		age, size := 24*time.Hour, int64(5)
		limit := func(topic string, r hub.Retention) {
			service := hub.NewService(hub.Policy{}, nil, e, e, fake.Box{})
			if err := service.SetRetention(t.Context(), topic, r); err != nil {
				t.Fatal(err)
			}
		}
		limit("t2", hub.Retention{MaxAge: &age})
		limit("t3", hub.Retention{MaxBytes: &size})
		s.Start(t.Context())
		defer s.Close()
		time.Sleep(11 * time.Second)
		for topic, want := range map[string]uint64{"t1": 4, "t2": 2, "t3": 6} {
			e.View(func(st *hub.State) {
				if got, _ := st.TopicByName(topic); got.First != want {
					t.Errorf("%s begins at %d, want %d", topic, got.First, want)
				}
			})
		}
	})
}

// An abandoned upload is dropped; one still in progress is not.
func TestSweeperDropsUnfinishedBlobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.NewEngine(t)
		s := sweep.NewSweeper(sweep.Options{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard(),
			RetentionInterval: 10 * time.Second, BlobIdle: time.Minute})
		s.Start(t.Context())
		defer s.Close()
		left, going := hub.NewBlobWriter(e, "text/plain"), hub.NewBlobWriter(e, "text/plain")
		if err := left.WritePart(t.Context(), []byte("left")); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := going.WritePart(t.Context(), []byte("going on")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
		}
		e.View(func(st *hub.State) {
			if first, last := st.RetainedParts(); first != 2 || last != 6 {
				t.Errorf("parts %d to %d are kept, want 2 to 6", first, last)
			}
		})
		time.Sleep(2 * time.Minute)
		e.View(func(st *hub.State) {
			if first, last := st.RetainedParts(); first != 7 || last != 6 {
				t.Errorf("parts %d to %d are kept, want none", first, last)
			}
		})
	})
}

func TestSweeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.NewEngine(t)
		s := sweep.NewSweeper(sweep.Options{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard(),
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
			e.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint(fake.Callback, i), Lease: 8 * time.Second})
		}
		e.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Lease: time.Hour})
		for range 5 {
			e.Publish("t", "x")
		}
		e.Leader.Store(false)
		time.Sleep(time.Minute)
		if n, first := count(); n != 1501 || first != 1 {
			t.Errorf("a follower swept: %d subscriptions, first offset %d", n, first)
		}
		e.Leader.Store(true)
		e.Breakdown(hub.ErrNoLeader)
		time.Sleep(time.Minute)
		e.Breakdown(nil)
		time.Sleep(11 * time.Second)
		if n, first := count(); n != 1 || first != 4 {
			t.Errorf("%d subscriptions and first offset %d left, want 1 and 4", n, first)
		}
		var ended int
		for _, ev := range e.Events() {
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
	})
}

func TestCloseWithoutStart(*testing.T) {
	sweep.NewSweeper(sweep.Options{}).Close()
}

// What an API key owns is paused once the key has expired, on the leader and once.
func TestSubscriptionsOfExpiredKeysArePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.NewEngine(t)
		s := sweep.NewSweeper(sweep.Options{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard()})
		propose := func(events ...*hubpb.Event) []hub.Result {
			t.Helper()
			res, err := e.Propose(t.Context(), events...)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		propose(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
		const keys = 250 // more than one event holds
		var subscriptions []hub.SubscriptionID
		for i := range keys {
			id := fmt.Sprint("k", i)
			res := propose(&hubpb.Event{Kind: &hubpb.Event_ApiKeyCreated{ApiKeyCreated: &hubpb.ApiKeyCreated{Id: id, ExpiresAt: time.Now().Add(time.Minute).UnixNano()}}},
				&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Mode: hub.ModeSubscribe, Topic: "t", AutoRegister: true,
					Callback: fmt.Sprint(fake.Callback, i), CallbackKey: fmt.Sprint(fake.Callback, i), LeaseSeconds: 3600, Caller: &hubpb.Caller{Principal: hub.KeyPrincipal(id)}}}})
			res = propose(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: res[1].ID, VerifiedFrom: time.Now().UnixNano()}}})
			subscriptions = append(subscriptions, hub.SubscriptionID(res[0].ID))
		}
		s.Start(t.Context())
		defer s.Close()
		paused := func() (n int) {
			e.View(func(st *hub.State) {
				n = len(st.Subscriptions(0, 0, func(sub *hub.Subscription) bool { return sub.Paused && sub.PauseReason == hub.PauseOwnerEnded }))
			})
			return n
		}
		time.Sleep(59 * time.Second)
		if n := paused(); n != 0 {
			t.Errorf("%d are paused before their keys expire", n)
		}
		e.Leader.Store(false)
		time.Sleep(time.Minute)
		if n := paused(); n != 0 {
			t.Errorf("a follower paused %d", n)
		}
		e.Leader.Store(true)
		time.Sleep(6 * time.Second)
		if n := paused(); n != keys {
			t.Errorf("%d of %d are paused", n, keys)
		}
		propose(&hubpb.Event{Kind: &hubpb.Event_SubscriptionPaused{SubscriptionPaused: &hubpb.SubscriptionPaused{Subscription: uint64(subscriptions[0])}}})
		time.Sleep(time.Minute)
		if n := paused(); n != keys-1 {
			t.Errorf("%d are paused after an operator resumed one", n)
		}
	})
}
