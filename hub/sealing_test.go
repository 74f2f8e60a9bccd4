package hub_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// sealedAs is a secret as a SecretBox would seal it with a key, but readable. No two are the same.
func sealedAs(key, secret string, n int) []byte {
	id, err := hex.DecodeString(key)
	if err != nil {
		panic(err)
	}
	return append(append([]byte{hub.SealVersion}, id...), fmt.Sprintf("%d:%s", n, secret)...)
}

// openedFrom is the inverse.
func openedFrom(sealed []byte) (key, secret string) {
	_, secret, _ = strings.Cut(string(sealed[1+hub.SealKeyIDBytes:]), ":")
	return hub.SealedWith(sealed), secret
}

func keyAnnounced(key string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SealingKeyAnnounced{SealingKeyAnnounced: &hubpb.SealingKeyAnnounced{Key: key}}}
}

func keySwitched(key string, nodes ...string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SealingKeySwitched{SealingKeySwitched: &hubpb.SealingKeySwitched{Key: key, Nodes: nodes}}}
}

func keyRetired(key string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SealingKeyRetired{SealingKeyRetired: &hubpb.SealingKeyRetired{Key: key}}}
}

func resealed(items ...*hubpb.SecretsReencrypted_Item) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SecretsReencrypted{SecretsReencrypted: &hubpb.SecretsReencrypted{Items: items}}}
}

const keyA, keyB, keyC = "aaaaaaaa", "bbbbbbbb", "cccccccc"

func TestSealingKeysInTheLog(t *testing.T) {
	w := newWorld(t)
	want := func(step string, outcome hub.Outcome, got hub.Result, sealing, next string, retired ...string) {
		t.Helper()
		k := w.SealingKeys()
		if got.Outcome != outcome || k.Sealing != sealing || k.Next != next || !slices.Equal(k.Retired, retired) {
			t.Errorf("%s: outcome %d, keys %+v", step, got.Outcome, k)
		}
	}
	const ok, stale = hub.OutcomeOK, hub.OutcomeStale
	want("the first key", ok, w.apply(keySwitched(keyA)), keyA, "")
	if !w.fx.KeysChanged {
		t.Error("who acts on keys does not hear of the first one")
	}
	admit := func(node, instance string, member bool) {
		w.apply(&hubpb.Event{Kind: &hubpb.Event_NodeAdmitted{NodeAdmitted: &hubpb.NodeAdmitted{Node: node, Instance: instance, Member: member}}})
	}
	admit("n1", "i1", true)
	admit("n2", "i2", true)
	admit("expected", "", false) // it may join one day, and is asked for its keys then
	want("a key that nobody announced", stale, w.apply(keySwitched(keyB, "n1", "n2")), keyA, "")
	want("announced", ok, w.apply(keyAnnounced(keyB)), keyA, keyB)
	want("announced again", ok, w.apply(keyAnnounced(keyB)), keyA, keyB)
	want("another one at the same time", stale, w.apply(keyAnnounced(keyC)), keyA, keyB)
	want("the one that seals", stale, w.apply(keyAnnounced(keyA)), keyA, keyB)
	want("n2 has not confirmed", stale, w.apply(keySwitched(keyB, "n1")), keyA, keyB)
	admit("n3", "i3", false) // a node that is just joining
	want("n3 came in between", stale, w.apply(keySwitched(keyB, "n1", "n2")), keyA, keyB)
	want("all have it", ok, w.apply(keySwitched(keyB, "n3", "n2", "n1")), keyB, "")
	want("the one that seals is not retired", stale, w.apply(keyRetired(keyB)), keyB, "")
	want("nothing needs the old one", ok, w.apply(keyRetired(keyA)), keyB, "", keyA)
	want("again", ok, w.apply(keyRetired(keyA)), keyB, "", keyA)
	want("a retired key does not come back", stale, w.apply(keyAnnounced(keyA)), keyB, "", keyA)
	want("a rotation begins", ok, w.apply(keyAnnounced(keyC)), keyB, keyC, keyA)
	want("and is given up", ok, w.apply(keyRetired(keyC)), keyB, "", keyA, keyC)
	want("late word of it", stale, w.apply(keySwitched(keyC, "n1", "n2", "n3")), keyB, "", keyA, keyC)
}

// A secret under a retired key never comes in, however long its request was on its way; and a key is not retired while
// anything is sealed with it, a pending request and a former secret included.
func TestRetiredKeysSealNothing(t *testing.T) {
	w := newWorld(t)
	w.apply(keySwitched(keyA))
	renew := func(key string, n int) hub.Result {
		e := requested(hub.ModeSubscribe, "news", cb, hr, "x")
		e.GetSubscriptionRequested().SealedSecret = sealedAs(key, "s", n)
		e.GetSubscriptionRequested().Scheme, e.GetSubscriptionRequested().SecretGrace = hub.SchemeStandardWebhooks, 3600
		return w.apply(e)
	}
	r := renew(keyA, 1)
	w.apply(keyAnnounced(keyB))
	w.apply(keySwitched(keyB))
	if w.apply(keyRetired(keyA)).Outcome != hub.OutcomeStale {
		t.Fatal("a key was retired that a pending request needs")
	}
	id := hub.SubscriptionID(w.apply(w.verified(r.ID)).ID)
	w.apply(w.verified(renew(keyB, 2).ID))
	if c := w.SealedCounts(); c[keyA] != (hub.SealedCount{Former: 1}) || c[keyB] != (hub.SealedCount{Subscriptions: 1}) {
		t.Fatalf("counts: %+v", c)
	}
	if w.apply(keyRetired(keyA)).Outcome != hub.OutcomeStale {
		t.Fatal("a key was retired that a former secret needs")
	}
	list := w.SealedOtherwise(keyB, 0, 0, 10)
	if len(list) != 1 || list[0].Subscription != id || list[0].Binding != hub.SecretBinding("news", cb) {
		t.Fatalf("sealed otherwise: %+v", list)
	}
	before := w.sub(id)
	w.apply(resealed(&hubpb.SecretsReencrypted_Item{Subscription: uint64(id), Was: list[0].Sealed, Sealed: sealedAs(keyB, "s", 3)}))
	if len(w.fx.Subscriptions) != 1 || string(w.fx.Subscriptions[0].Former[0].Sealed) != string(sealedAs(keyB, "s", 3)) {
		t.Fatalf("whoever delivers does not hear of it: %+v", w.fx.Subscriptions)
	}
	if string(before.Former[0].Sealed) != string(sealedAs(keyA, "s", 1)) {
		t.Error("a copy that was handed out was changed")
	}
	if w.apply(keyRetired(keyA)).Outcome != hub.OutcomeOK {
		t.Fatal("a key that nothing needs was not retired")
	}
	counts := w.Counts()
	if got := renew(keyA, 4); got.Outcome != hub.OutcomeKeyRetired || got.Err("") == nil || w.Counts() != counts {
		t.Fatalf("a late request under a retired key: %+v", got)
	}
	imported := requested(hub.ModeSubscribe, "news", "https://other.example/", hr, "x").GetSubscriptionRequested()
	imported.SealedSecret = sealedAs(keyA, "s", 6)
	if got := w.apply(&hubpb.Event{Kind: &hubpb.Event_SubscriptionImported{SubscriptionImported: &hubpb.SubscriptionImported{Request: imported}}}); got.Outcome != hub.OutcomeKeyRetired || w.Counts() != counts {
		t.Fatalf("a late import under a retired key: %+v", got)
	}
	w.apply(resealed(&hubpb.SecretsReencrypted_Item{Subscription: uint64(id), Was: sealedAs(keyB, "s", 3), Sealed: sealedAs(keyA, "s", 5)}))
	if c := w.SealedCounts(); c[keyA].Total() != 0 {
		t.Errorf("a secret was sealed back with a retired key: %+v", c)
	}
}

// Whatever the order of renewals, verifications, ends, and resealing from reads that are out of date: every subscription keeps
// the secret that its last verified request brought, and what a retired key sealed is nowhere.
func TestResealingAgainstRenewals(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.apply(keySwitched(keyA))
		keys := []string{keyA, keyB, keyC, "dddddddd"}
		n := 0
		callbacks := []string{"https://a.example/", "https://b.example/", "https://c.example/"}
		present := map[string]string{}    // secret by callback, of active subscriptions
		pending := map[uint64][2]string{} // callback and secret by request
		var late [][]*hubpb.SecretsReencrypted_Item
		seal := func(key, secret string) []byte { n++; return sealedAs(key, secret, n) }
		sealing := func() string { return w.SealingKeys().Sealing }
		rt.Repeat(map[string]func(*rapid.T){
			"request": func(rt *rapid.T) {
				callback := rapid.SampledFrom(callbacks).Draw(rt, "callback")
				key := rapid.SampledFrom(keys).Draw(rt, "key") // of a node that may be behind
				secret := fmt.Sprint("secret ", n)
				e := requested(hub.ModeSubscribe, "news", callback, hr, "x")
				q := e.GetSubscriptionRequested()
				q.SealedSecret = seal(key, secret)
				if rapid.Bool().Draw(rt, "former") {
					q.Scheme, q.SecretGrace = hub.SchemeStandardWebhooks, 3600
				}
				if r := w.apply(e); r.Outcome == hub.OutcomeOK {
					pending[r.ID] = [2]string{callback, secret}
				} else if !slices.Contains(w.SealingKeys().Retired, key) {
					rt.Fatalf("a request was refused: %+v", r)
				}
			},
			"verify": func(rt *rapid.T) {
				if len(pending) == 0 {
					return
				}
				id := rapid.SampledFrom(slices.Sorted(maps.Keys(pending))).Draw(rt, "request")
				p := pending[id]
				delete(pending, id)
				if w.apply(w.verified(id)).Outcome == hub.OutcomeOK {
					present[p[0]] = p[1]
				}
			},
			"end": func(rt *rapid.T) {
				callback := rapid.SampledFrom(callbacks).Draw(rt, "callback")
				if sub, ok := w.SubscriptionByKey("news", callback); ok {
					w.apply(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
						Subscriptions: []uint64{uint64(sub.ID)}, Reason: hubpb.EndReason_END_OPERATOR}}})
					delete(present, callback)
				}
			},
			"rotate": func(rt *rapid.T) {
				key := rapid.SampledFrom(keys).Draw(rt, "key")
				w.apply(keyAnnounced(key))
				w.apply(keySwitched(key))
			},
			"read": func(*rapid.T) {
				var items []*hubpb.SecretsReencrypted_Item
				for _, s := range w.SealedOtherwise(sealing(), 0, 0, 100) {
					_, secret := openedFrom(s.Sealed)
					items = append(items, &hubpb.SecretsReencrypted_Item{Subscription: uint64(s.Subscription), Request: uint64(s.Request), Was: s.Sealed, Sealed: seal(sealing(), secret)})
				}
				late = append(late, items)
			},
			"reencrypt": func(rt *rapid.T) {
				if len(late) > 0 {
					i := rapid.IntRange(0, len(late)-1).Draw(rt, "which")
					w.apply(resealed(late[i]...))
				}
			},
			"retire": func(rt *rapid.T) {
				key := rapid.SampledFrom(keys).Draw(rt, "key")
				used := w.SealedCounts()[key].Total()
				if w.apply(keyRetired(key)).Outcome == hub.OutcomeOK && used > 0 {
					rt.Fatalf("%s was retired with %d secrets sealed with it", key, used)
				}
			},
			"": func(rt *rapid.T) {
				for _, callback := range callbacks {
					sub, ok := w.SubscriptionByKey("news", callback)
					if want, active := present[callback]; ok != active {
						rt.Fatalf("%s: active %v, want %v", callback, ok, active)
					} else if ok {
						if _, secret := openedFrom(sub.SealedSecret); secret != want {
							rt.Fatalf("%s signs with %q, its last verified request brought %q", callback, secret, want)
						}
					}
				}
				counts := w.SealedCounts()
				for _, key := range w.SealingKeys().Retired {
					if counts[key].Total() > 0 {
						rt.Fatalf("%s is retired, and seals %+v", key, counts[key])
					}
				}
			},
		})
		// Without disturbance one pass is enough.
		var items []*hubpb.SecretsReencrypted_Item
		for _, s := range w.SealedOtherwise(sealing(), 0, 0, 1000) {
			_, secret := openedFrom(s.Sealed)
			items = append(items, &hubpb.SecretsReencrypted_Item{Subscription: uint64(s.Subscription), Request: uint64(s.Request), Was: s.Sealed, Sealed: seal(sealing(), secret)})
		}
		w.apply(resealed(items...))
		if left := w.SealedOtherwise(sealing(), 0, 0, 10); len(left) > 0 {
			rt.Fatalf("left: %+v", left)
		}
	})
}
