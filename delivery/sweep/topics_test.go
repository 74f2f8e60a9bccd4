package sweep_test

import (
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery/sweep"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// When the sunset of a topic passes, the leader retires it; its subscriptions end when they have received everything, not
// before.
func TestSweeperRetiresTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.NewEngine(t)
		e.Leader.Store(false)
		s := sweep.NewSweeper(sweep.Options{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard()})
		e.Do(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
		e.Publish("orders", "1")
		done, behind := e.Subscribe(fake.Want{Topic: "orders", Callback: "http://a.example/", From: 1}), e.Subscribe(fake.Want{Topic: "orders", Callback: "http://b.example/"})
		e.Do(&hubpb.Event{Kind: &hubpb.Event_TopicLifecycleSet{TopicLifecycleSet: &hubpb.TopicLifecycleSet{Topic: "orders",
			Lifecycle: &hubpb.TopicLifecycle{SunsetAt: time.Now().Add(time.Minute).UnixNano()}}}})
		s.Start(t.Context())
		defer s.Close()
		retired := func() bool { return e.Topic("orders").Lifecycle.Retired() }
		known := func(id hub.SubscriptionID) bool { _, ok := e.Subscription(id); return ok }
		time.Sleep(2 * time.Minute)
		if retired() {
			t.Error("a node that does not lead has retired it")
		}
		e.Leader.Store(true)
		time.Sleep(11 * time.Second)
		if !retired() || known(done) || !known(behind) {
			t.Errorf("retired %v; the subscription without anything left goes on: %v, the other: %v", retired(), known(done), known(behind))
		}
		e.Do(&hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Node: "node-1",
			Cursors: []*hubpb.Cursor{{Subscription: uint64(behind), Offset: 1, Epoch: 1}}}}})
		time.Sleep(6 * time.Second)
		if known(behind) {
			t.Error("a subscription that has received everything goes on")
		}
	})
}
