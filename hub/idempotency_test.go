package hub_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func publishedOnceBy(principal, topic, body, key string, window time.Duration, most uint32) *hubpb.Event {
	e := publishedOnce(topic, body, key)
	e.GetMessagePublished().KeyWindow = uint32(window / time.Second)
	if principal == "" {
		return e
	}
	return by(principal, e, func(c *hubpb.Caller) { c.MaxKeys = most })
}

// The same key of two principals is two keys: neither learns of the other's, or takes it.
func TestIdempotencyKeysBelongToTheirPublisher(t *testing.T) {
	w := newTenants(t)
	publish := func(who, body, key string) (hub.Receipt, error) {
		return w.Publish(as(who), hub.Publication{Topic: "orders", ContentType: "text/plain", Body: []byte(body), IdempotencyKey: key})
	}
	for i, who := range []string{bob, alice, ""} {
		r, err := publish(who, "of "+who, "order-1001")
		if err != nil || r.Duplicate || r.Offset != uint64(i+1) {
			t.Fatalf("%q: %+v (%v)", who, r, err)
		}
		if r, err := publish(who, "of "+who, "order-1001"); err != nil || !r.Duplicate || r.Offset != uint64(i+1) {
			t.Errorf("%q again: %+v (%v)", who, r, err)
		}
		if _, err := publish(who, "other", "order-1001"); hub.CodeOf(err) != hub.CodeUnprocessable {
			t.Errorf("%q with other content: %v", who, err)
		}
	}
	batch := func(who string) (hub.BatchReceipt, error) {
		return w.PublishBatch(as(who), hub.Batch{Topic: "orders", Items: []hub.Item{{ContentType: "text/plain", Body: []byte("x")}}, IdempotencyKey: "batch"})
	}
	for _, who := range []string{bob, alice} {
		if r, err := batch(who); err != nil || r.Duplicate {
			t.Errorf("batch of %s: %+v (%v)", who, r, err)
		}
		if r, err := batch(who); err != nil || !r.Duplicate {
			t.Errorf("batch of %s again: %+v (%v)", who, r, err)
		}
	}
	large := func(who string) (hub.Receipt, error) {
		return w.Publish(as(who), hub.Publication{Topic: "orders", ContentType: "text/plain", Body: make([]byte, hub.MaxInlineBytes+1), IdempotencyKey: "large"})
	}
	for _, who := range []string{bob, alice} {
		if r, err := large(who); err != nil || r.Duplicate {
			t.Errorf("large of %s: %+v (%v)", who, r, err)
		}
		if r, err := large(who); err != nil || !r.Duplicate {
			t.Errorf("large of %s again: %+v (%v)", who, r, err)
		}
	}
}

// What was published before the cluster knew owners, and is sent again afterwards, is still a repetition.
func TestIdempotencyKeysOutliveTheUpgrade(t *testing.T) {
	w := newWorld(t)
	w.apply(publishedOnce("news", "a", "k"))
	w.apply(levelSet(hub.FeatureLevel))
	w.State = reloaded(t, w.State)
	if r := w.apply(publishedOnceBy(alice, "news", "a", "k", time.Hour, 9)); r.Outcome != hub.OutcomeDuplicate || r.Offset != 1 {
		t.Errorf("%+v", r)
	}
	// A key without an owner that is newer than the upgrade is nobody else's.
	w.apply(publishedOnceBy("", "news", "b", "new", time.Hour, 0))
	if r := w.apply(publishedOnceBy(alice, "news", "c", "new", time.Hour, 9)); r.Outcome != hub.OutcomeOK {
		t.Errorf("%+v", r)
	}
}

func TestIdempotencyWindowIsASetting(t *testing.T) {
	for name, tc := range map[string]struct{ set, want time.Duration }{"by default": {0, time.Hour}, "set": {5 * time.Minute, 5 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			w := newOwners(t)
			s := hub.NewService(hub.Policy{AutoRegister: true, MaxMessageBytes: 100, IdempotencyWindow: tc.set, Clock: worldClock{w}}, namer(t), single{w}, single{w}, nil)
			publish := func(topic string) hub.Receipt {
				r, err := s.Publish(context.Background(), hub.Publication{Topic: topic, ContentType: "text/plain", IdempotencyKey: "k"})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			publish("news")
			w.advance(tc.want - time.Nanosecond)
			if !publish("news").Duplicate {
				t.Error("forgotten within the window")
			}
			w.advance(time.Nanosecond)
			if r := publish("news"); r.Duplicate || r.KeysForgotten != 0 {
				t.Errorf("after the window: %+v", r)
			}
			w.advance(tc.want)
			publish("other")
			if n := countRows(w, hub.TableIdempotency); n != 1 {
				t.Errorf("%d keys are kept", n)
			}
		})
	}
}

// Past its bound a publisher's oldest key goes, nobody else's, and the receipt tells.
func TestIdempotencyKeysAreBoundedPerPublisher(t *testing.T) {
	w := newTenants(t)
	w.quotas.IdempotencyKeys = 3
	publish := func(who string, n int) hub.Receipt {
		r, err := w.Publish(as(who), hub.Publication{Topic: fmt.Sprint("t", n%2), ContentType: "text/plain", IdempotencyKey: fmt.Sprint(n)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	publish(bob, 0)
	for n := range 3 {
		if r := publish(alice, n); r.KeysForgotten != 0 {
			t.Errorf("key %d: %+v", n, r)
		}
	}
	w.State = reloaded(t, w.State)
	if r := publish(alice, 3); r.KeysForgotten != 1 {
		t.Errorf("one past the bound: %+v", r)
	}
	if r := publish(alice, 1); !r.Duplicate {
		t.Errorf("the second oldest is gone: %+v", r)
	}
	if r := publish(alice, 0); r.Duplicate || r.KeysForgotten != 1 {
		t.Errorf("the oldest is there: %+v", r)
	}
	if r := publish(bob, 0); !r.Duplicate {
		t.Errorf("another's is gone: %+v", r)
	}
	if u := w.Usage(alice); u.IdempotencyKeys != 3 || w.Usage(bob).IdempotencyKeys != 1 {
		t.Errorf("%+v", u)
	}
	w.quotas.IdempotencyKeys = 1 // made smaller
	if r := publish(alice, 9); r.KeysForgotten != 3 {
		t.Errorf("%+v", r)
	}
}

// fill makes a state with n idempotency keys of a topic; each entry has as many as given.
func fillKeys(tb testing.TB, s *hub.State, owner, topic string, n int) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	const each = 2000
	for at := 0; at < n; at += each {
		events := make([]*hubpb.Event, 0, each)
		for i := range min(each, n-at) {
			events = append(events, publishedOnceBy(owner, topic, "", fmt.Sprint(at+i), time.Hour, 0))
		}
		if _, err := s.Apply(entry(tb, now, owner+topic, uint64(at/each+1), events...), new(hub.Effects)); err != nil {
			tb.Fatal(err)
		}
		s.TakeDirty()
	}
}

// All keys together are bounded. Whoever has more than a fair share of them loses its own.
func TestIdempotencyKeysAreBoundedInAll(t *testing.T) {
	if testing.Short() {
		t.Skip("publishes a million messages")
	}
	s := hub.NewState()
	apply := func(origin string, e *hubpb.Event) hub.Result {
		res, err := s.Apply(entry(t, time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), origin, 1, e), new(hub.Effects))
		if err != nil {
			t.Fatal(err)
		}
		return res[0].Proposals[0][0]
	}
	apply("level", levelSet(hub.FeatureLevel))
	fillKeys(t, s, alice, "news", 10)
	fillKeys(t, s, bob, "news", hub.MaxIdempotencyKeys-10)
	if r := apply("a", publishedOnceBy(bob, "news", "", "more", time.Hour, 0)); r.ID != 1 {
		t.Errorf("one past the bound: %+v", r)
	}
	a, b := s.Usage(alice).IdempotencyKeys, s.Usage(bob).IdempotencyKeys
	if a != 10 || a+b != hub.MaxIdempotencyKeys {
		t.Errorf("%d and %d are kept", a, b)
	}
	if r := apply("b", publishedOnceBy(alice, "news", "", "0", time.Hour, 0)); r.Outcome != hub.OutcomeDuplicate {
		t.Errorf("a key of one with few: %+v", r)
	}
	if r := apply("c", publishedOnceBy(alice, "news", "", "more", time.Hour, 0)); r.ID != 1 {
		t.Errorf("%+v", r)
	}
}

// Removing a topic takes time in proportion to its own keys, not to those of others.
func TestRemovingATopicLeavesOtherKeysAlone(t *testing.T) {
	const topics = 500
	took := func(keys int) time.Duration {
		s := hub.NewState()
		fillKeys(t, s, "", "busy", keys)
		best := time.Hour
		for round := range 3 {
			var events []*hubpb.Event
			for n := range topics {
				events = append(events, registered(fmt.Sprint(n)), deregistered(fmt.Sprint(n)))
			}
			data := entry(t, time.Unix(1, 0), "node-1/b", uint64(round+1), events...)
			begin := time.Now()
			if _, err := s.Apply(data, new(hub.Effects)); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(begin))
		}
		return best
	}
	few, many := took(1), took(100_000)
	if many > 10*few+5*time.Millisecond {
		t.Errorf("%d empty topics are removed in %s beside 100,000 keys, and in %s beside one", topics, many, few)
	}
}
