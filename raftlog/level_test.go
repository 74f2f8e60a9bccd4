package raftlog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/raftlog"
)

// The cluster's feature level rises when every member supports a higher one, and not before.
func TestFeatureLevelIsThatOfTheOldestProgram(t *testing.T) {
	w := newNetwork(t, 3)
	old := uint32(0)
	w.members[2].faults.Level = &old
	w.start()
	lead := w.leader()
	eventually(t, "the leader knows the others' levels", func() bool {
		members := lead.node.Members()
		return members[0].FeatureLevel == hub.FeatureLevel && members[1].FeatureLevel == hub.FeatureLevel && members[2].Alive
	})
	if _, err := lead.node.Propose(context.Background(), publish("t", "x")); err != nil {
		t.Errorf("an event of the lowest level is refused: %v", err)
	}
	for range 3 { // checks by the leader
		time.Sleep(raftlog.LevelPause)
		if level := lead.node.FeatureLevel(); level != 0 {
			t.Fatalf("the level is %d, but one node does not support it", level)
		}
	}
	w.crash(w.members[2])
	w.members[2].faults.Level = nil // a newer program
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, w.members[2]); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.members {
		eventually(t, m.id+" learns the new level", func() bool { return m.node.FeatureLevel() == hub.FeatureLevel })
	}

	// From now on the older program is refused, whether it has the cluster's data or not.
	if err := w.members[2].store.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	w.crash(w.members[2])
	w.members[2].faults.Level = &old
	if err := w.open(ctx, w.members[2]); err == nil || !strings.Contains(err.Error(), "supports feature level 0") || strings.Contains(err.Error(), "\n") {
		t.Errorf("an older program starts with newer data: %v", err)
	}
	fresh := w.add("node-4")
	fresh.faults.Level = &old
	if err := w.open(ctx, fresh); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("node-4 supports feature level 0, but the cluster is at level %d; run the same quorumhub version there as on the other nodes", hub.FeatureLevel)) {
		t.Errorf("an older program may join: %v", err)
	}
	if _, err := w.leader().node.Propose(ctx, publish("t", "y")); err != nil {
		t.Errorf("the cluster does not accept a message: %v", err)
	}
}

// A cluster is founded with its feature level: what is made at once already has an owner.
func TestClustersAreFoundedWithTheirLevel(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	lead := w.leader()
	if level := lead.node.FeatureLevel(); level != hub.FeatureLevel {
		t.Errorf("the leader is ready at feature level %d, want %d", level, hub.FeatureLevel)
	}
	caller := &hubpb.Caller{Principal: "key/k-1"}
	if _, err := lead.node.Propose(context.Background(), &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{
		TopicRegistered: &hubpb.TopicRegistered{Topic: "t", Caller: caller}}}); err != nil {
		t.Error(err)
	}
	for _, m := range w.members {
		<-m.node.Ready()
		if level := m.node.FeatureLevel(); level != hub.FeatureLevel {
			t.Errorf("%s is ready at feature level %d, want %d", m.id, level, hub.FeatureLevel)
		}
	}
}

// An event that not every member supports is not proposed.
func TestEventsOfAHigherLevelAreRefused(t *testing.T) {
	m := newMember(t, "node-1")
	m.start()
	defer m.stop()
	ping := &hubpb.Event{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: "http://a.example/"}}}
	err := raftlog.CheckEventLevel(ping, hub.FeatureLevel+1, hub.FeatureLevel)
	if hub.CodeOf(err) != hub.CodeUnavailable || !strings.Contains(err.Error(), fmt.Sprint("topic_pinged needs feature level ", hub.FeatureLevel+1)) {
		t.Errorf("an event above the cluster's level: %v", err)
	}
	if _, err := m.node.Propose(context.Background(), publish("t", "x")); err != nil {
		t.Error(err)
	}
	eventually(t, "the only voter sets its level", func() bool { return m.node.FeatureLevel() == hub.FeatureLevel })
}

// While one member knows level 1 only, nothing of level 2 is proposed: it would stop that member, or be overlooked by it.
func TestOwnersWaitForTheOldestProgram(t *testing.T) {
	m := newMember(t, "node-1")
	old := uint32(1)
	m.faults.Level = &old
	m.start()
	defer m.stop()
	eventually(t, "the only voter sets its level", func() bool { return m.node.FeatureLevel() == old })
	caller := &hubpb.Caller{Principal: "key/k-1"}
	for _, e := range []*hubpb.Event{
		{Kind: &hubpb.Event_OwnerEnded{OwnerEnded: &hubpb.OwnerEnded{Owner: "key/k-1"}}},
		{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{Topic: "t", KeyWindow: 1}}},
		{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: "t", Caller: caller}}},
		{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Topic: "t", Caller: caller}}},
	} {
		if _, err := m.node.Propose(context.Background(), e); hub.CodeOf(err) != hub.CodeUnavailable {
			t.Errorf("%s: %v", hub.EventName(e), err)
		}
	}
	if _, err := m.node.Propose(context.Background(), publish("t", "x")); err != nil {
		t.Error(err)
	}
}
