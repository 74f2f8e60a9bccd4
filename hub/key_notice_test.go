package hub_test

import (
	"slices"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// The end of a key is told once for each nearness, and anew after a renewal.
func TestKeysThatEndAreTold(t *testing.T) {
	w := newWorld(t)
	w.apply(levelSet(hub.FeatureLevel))
	w.subscribed(hub.EventsTopic, "https://watch.example/", 864000, "")
	request := func() hub.SubscriptionID {
		res := w.apply(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Mode: hub.ModeSubscribe, Topic: "reports",
			TopicRaw: "reports", Callback: "https://s.example/", CallbackKey: "https://s.example/", LeaseSeconds: 864000, AutoRegister: true, EncryptionKey: "key"}}})
		return hub.SubscriptionID(w.apply(w.verified(res.ID)).ID)
	}
	id := request()
	ends := w.now.Add(5 * 24 * time.Hour)
	var events []hub.Lifecycle
	notice := func(n hub.KeyNotice, renewed time.Time) {
		w.apply(&hubpb.Event{Kind: &hubpb.Event_EncryptionKeysEnding{EncryptionKeysEnding: &hubpb.EncryptionKeysEnding{Keys: []*hubpb.EndingKey{
			{Subscription: uint64(id), RenewedAt: renewed.UnixNano(), Notice: uint32(n), EndsAt: ends.UnixNano()}, {Subscription: 99, Notice: 1}}}}})
		events = append(events, w.lifecycle()...)
	}
	told := func(want ...string) {
		t.Helper()
		var got []string
		for _, e := range events {
			if e.Type == hub.LifecycleKeyEnding {
				got = append(got, e.Reason)
				if e.Subscription != id.String() || e.KeyEndsAt != ends.Format(time.RFC3339) {
					t.Errorf("told %+v", e)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	}
	renewed := w.sub(id).RenewedAt
	notice(hub.KeyWithinMonth, renewed.Add(-time.Second)) // about a former key
	told()
	notice(hub.KeyWithinMonth, renewed)
	notice(hub.KeyWithinMonth, renewed)
	notice(hub.KeyWithinDay, renewed)
	notice(hub.KeyWithinWeek, renewed)
	told("month", "day")
	if ending, ended := w.KeyNotices(); ending != 1 || ended != 0 {
		t.Errorf("%d end, %d have ended", ending, ended)
	}
	notice(hub.KeyEnded, renewed)
	told("month", "day", "ended")
	if ending, ended := w.KeyNotices(); ending != 0 || ended != 1 {
		t.Errorf("%d end, %d have ended", ending, ended)
	}
	w.now = w.now.Add(time.Minute)
	request()
	if ending, ended := w.KeyNotices(); ending != 0 || ended != 0 || w.sub(id).KeyNotice != hub.KeyNotSoon {
		t.Errorf("after a renewal %d end, %d have ended", ending, ended)
	}
	notice(hub.KeyWithinMonth, w.sub(id).RenewedAt)
	told("month", "day", "ended", "month")
	w.apply(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{Subscriptions: []uint64{uint64(id)}, Reason: hubpb.EndReason_END_OPERATOR}}})
	if ending, ended := w.KeyNotices(); ending != 0 || ended != 0 {
		t.Errorf("after the end %d end, %d have ended", ending, ended)
	}
}
