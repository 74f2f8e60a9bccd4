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

// ends are the ends of keys, by their text.
type ends map[string]time.Time

func (e ends) KeyNotice(_, key string) (hub.KeyNotice, time.Time) {
	switch left := time.Until(e[key]); {
	case left < 0:
		return hub.KeyEnded, e[key]
	case left < 24*time.Hour:
		return hub.KeyWithinDay, e[key]
	}
	return hub.KeyNotSoon, e[key]
}

// The sweeper notices keys that end, once for each notice.
func TestSweeperNoticesKeysThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fake.NewEngine(t)
		keys := ends{"short": time.Now().Add(2 * time.Hour), "long": time.Now().Add(1000 * time.Hour)}
		e.Do(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
		var ids []hub.SubscriptionID
		for _, key := range []string{"short", "long", ""} {
			callback := "http://" + key + ".example/"
			id := e.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Mode: hub.ModeSubscribe,
				Topic: "t", TopicRaw: "t", Callback: callback, CallbackKey: callback, LeaseSeconds: 1e6, AutoRegister: true, EncryptionKey: key}}})[0].ID
			ids = append(ids, hub.SubscriptionID(e.Do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: id, VerifiedFrom: time.Now().UnixNano()}}})[0].ID))
		}
		s := sweep.NewSweeper(sweep.Options{State: e, Proposer: e, Leadership: e, Clock: hub.SystemClock{}, Log: fake.Discard(), Recipients: keys})
		s.Start(t.Context())
		defer s.Close()
		for _, step := range []struct {
			wait  time.Duration
			short hub.KeyNotice
		}{{11 * time.Minute, hub.KeyWithinDay}, {2 * time.Hour, hub.KeyEnded}, {time.Hour, hub.KeyEnded}} {
			time.Sleep(step.wait)
			synctest.Wait()
			for i, want := range []hub.KeyNotice{step.short, hub.KeyNotSoon, hub.KeyNotSoon} {
				if sub, ok := e.Subscription(ids[i]); !ok || sub.KeyNotice != want {
					t.Errorf("subscription %d: notice %q, want %q", i, sub.KeyNotice, want)
				}
			}
		}
		told := 0
		for _, ev := range e.Events() {
			if ev.GetEncryptionKeysEnding() != nil {
				told++
			}
		}
		if told != 2 {
			t.Errorf("told %d times, want 2", told)
		}
	})
}
