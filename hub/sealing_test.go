package hub_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// sealedAs returns a secret in the form a SecretBox would seal it, but readable. No two are equal.
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

func reencrypted(items ...*hubpb.SecretsReencrypted_Item) *hubpb.Event {
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
		t.Error("the effects do not report the first key")
	}
	admit := func(node, instance string, member bool) {
		w.apply(&hubpb.Event{Kind: &hubpb.Event_NodeAdmitted{NodeAdmitted: &hubpb.NodeAdmitted{Node: node, Instance: instance, Member: member}}})
	}
	admit("n1", "i1", true)
	admit("n2", "i2", true)
	admit("expected", "", false) // its keys are checked when it joins
	want("a key that was not announced", stale, w.apply(keySwitched(keyB, "n1", "n2")), keyA, "")
	want("announced", ok, w.apply(keyAnnounced(keyB)), keyA, keyB)
	want("announced again", ok, w.apply(keyAnnounced(keyB)), keyA, keyB)
	want("another key at the same time", stale, w.apply(keyAnnounced(keyC)), keyA, keyB)
	want("the key in use", stale, w.apply(keyAnnounced(keyA)), keyA, keyB)
	want("n2 has not confirmed", stale, w.apply(keySwitched(keyB, "n1")), keyA, keyB)
	admit("n3", "i3", false) // a node that is just joining
	want("n3 joined in between", stale, w.apply(keySwitched(keyB, "n1", "n2")), keyA, keyB)
	want("all have it", ok, w.apply(keySwitched(keyB, "n3", "n2", "n1")), keyB, "")
	want("the key in use is not retired", stale, w.apply(keyRetired(keyB)), keyB, "")
	want("nothing needs the old one", ok, w.apply(keyRetired(keyA)), keyB, "", keyA)
	want("again", ok, w.apply(keyRetired(keyA)), keyB, "", keyA)
	want("a retired key does not come back", stale, w.apply(keyAnnounced(keyA)), keyB, "", keyA)
	want("a rotation begins", ok, w.apply(keyAnnounced(keyC)), keyB, keyC, keyA)
	want("and is given up", ok, w.apply(keyRetired(keyC)), keyB, "", keyA, keyC)
	want("a late switch to it", stale, w.apply(keySwitched(keyC, "n1", "n2", "n3")), keyB, "", keyA, keyC)
}

// A secret sealed with a retired key is never accepted, however long its request was in flight; and a key is not
// retired while any secret is sealed with it, including those of pending requests and former secrets.
// The public keys of tokens outlive the retirement of their sealing key by as long as a token may be valid.
func TestFormerTokenKeys(t *testing.T) {
	w := newWorld(t)
	retire := func(key, token string) {
		t.Helper()
		e := keyRetired(key)
		e.GetSealingKeyRetired().TokenKey = []byte(token)
		if hub.LevelOf(e) != 3 {
			t.Errorf("level %d, want 3", hub.LevelOf(e))
		}
		if res := w.apply(e); res.Outcome != hub.OutcomeOK {
			t.Fatalf("outcome %d", res.Outcome)
		}
	}
	w.apply(keySwitched(keyA))
	retire(keyB, "public b")
	until := w.Now().Add(hub.MaxTokenTTL)
	if got := w.FormerTokenKeys(); len(got) != 1 || string(got[0].Public) != "public b" || !got[0].Until.Equal(until) {
		t.Errorf("got %+v", got)
	}
	w.apply(keyRetired(keyB)) // again, by a node without the key
	w.now = w.now.Add(hub.MaxTokenTTL + time.Second)
	retire(keyC, "public c")
	if got := w.FormerTokenKeys(); len(got) != 1 || string(got[0].Public) != "public c" {
		t.Errorf("got %+v, want only the key whose tokens may be valid", got)
	}
}

func TestRetiredKeysAreNotUsed(t *testing.T) {
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
		t.Fatal("a key needed by a pending request was retired")
	}
	id := hub.SubscriptionID(w.apply(w.verified(r.ID)).ID)
	w.apply(w.verified(renew(keyB, 2).ID))
	if c := w.SealedCounts(); c[keyA] != (hub.SealedCount{Former: 1}) || c[keyB] != (hub.SealedCount{Subscriptions: 1}) {
		t.Fatalf("counts: %+v", c)
	}
	if w.apply(keyRetired(keyA)).Outcome != hub.OutcomeStale {
		t.Fatal("a key needed by a former secret was retired")
	}
	list := w.SecretsNotSealedWith(keyB, 0, 0, 10)
	if len(list) != 1 || list[0].Subscription != id || list[0].Binding != hub.SecretBinding("news", cb) {
		t.Fatalf("sealed otherwise: %+v", list)
	}
	before := w.sub(id)
	w.apply(reencrypted(&hubpb.SecretsReencrypted_Item{Subscription: uint64(id), Was: list[0].Sealed, Sealed: sealedAs(keyB, "s", 3)}))
	if len(w.fx.Subscriptions) != 1 || string(w.fx.Subscriptions[0].Former[0].Sealed) != string(sealedAs(keyB, "s", 3)) {
		t.Fatalf("delivery does not get the change: %+v", w.fx.Subscriptions)
	}
	if string(before.Former[0].Sealed) != string(sealedAs(keyA, "s", 1)) {
		t.Error("a copy was changed")
	}
	if w.apply(keyRetired(keyA)).Outcome != hub.OutcomeOK {
		t.Fatal("an unneeded key was not retired")
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
	w.apply(reencrypted(&hubpb.SecretsReencrypted_Item{Subscription: uint64(id), Was: sealedAs(keyB, "s", 3), Sealed: sealedAs(keyA, "s", 5)}))
	if c := w.SealedCounts(); c[keyA].Total() != 0 {
		t.Errorf("a secret was re-encrypted with a retired key: %+v", c)
	}
}

// Whatever the order of renewals, verifications, ends, and re-encryption based on outdated reads: every subscription
// keeps the secret of its last verified request, and no secret is sealed with a retired key.
func TestReencryptionAgainstRenewals(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &sealingModel{world: newWorld(t), current: map[string]string{}, pending: map[uint64][2]string{}}
		m.apply(keySwitched(keyA))
		rt.Repeat(map[string]func(*rapid.T){
			"request":   m.request,
			"verify":    m.verify,
			"end":       m.end,
			"rotate":    m.rotate,
			"read":      func(*rapid.T) { m.late = append(m.late, m.reencryption()) },
			"reencrypt": m.reencrypt,
			"retire":    m.retire,
			"":          m.check,
		})
		// Undisturbed, one pass is enough.
		m.apply(reencrypted(m.reencryption()...))
		if left := m.SecretsNotSealedWith(m.SealingKeys().Sealing, 0, 0, 10); len(left) > 0 {
			rt.Fatalf("left: %+v", left)
		}
	})
}

// sealingModel knows which secret every subscription must have.
type sealingModel struct {
	*world
	current map[string]string                  // secret by callback, of active subscriptions
	pending map[uint64][2]string               // callback and secret by request
	late    [][]*hubpb.SecretsReencrypted_Item // re-encryptions not proposed yet
	sealed  int
}

func drawKey(rt *rapid.T) string {
	return rapid.SampledFrom([]string{keyA, keyB, keyC, "dddddddd"}).Draw(rt, "key")
}

func sealingCallbacks() []string {
	return []string{"https://a.example/", "https://b.example/", "https://c.example/"}
}

func (m *sealingModel) seal(key, secret string) []byte {
	m.sealed++
	return sealedAs(key, secret, m.sealed)
}

func (m *sealingModel) request(rt *rapid.T) {
	callback := rapid.SampledFrom(sealingCallbacks()).Draw(rt, "callback")
	key := drawKey(rt) // of a node that may lag behind
	secret := fmt.Sprint("secret ", m.sealed)
	e := requested(hub.ModeSubscribe, "news", callback, hr, "x")
	q := e.GetSubscriptionRequested()
	q.SealedSecret = m.seal(key, secret)
	if rapid.Bool().Draw(rt, "former") {
		q.Scheme, q.SecretGrace = hub.SchemeStandardWebhooks, 3600
	}
	if r := m.apply(e); r.Outcome == hub.OutcomeOK {
		m.pending[r.ID] = [2]string{callback, secret}
	} else if !slices.Contains(m.SealingKeys().Retired, key) {
		rt.Fatalf("a request was refused: %+v", r)
	}
}

func (m *sealingModel) verify(rt *rapid.T) {
	if len(m.pending) == 0 {
		return
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.pending))).Draw(rt, "request")
	p := m.pending[id]
	delete(m.pending, id)
	if m.apply(m.verified(id)).Outcome == hub.OutcomeOK {
		m.current[p[0]] = p[1]
	}
}

func (m *sealingModel) end(rt *rapid.T) {
	callback := rapid.SampledFrom(sealingCallbacks()).Draw(rt, "callback")
	if sub, ok := m.SubscriptionByKey("news", callback); ok {
		m.apply(ended(hubpb.EndReason_END_OPERATOR, sub.ID))
		delete(m.current, callback)
	}
}

func (m *sealingModel) rotate(rt *rapid.T) {
	key := drawKey(rt)
	m.apply(keyAnnounced(key))
	m.apply(keySwitched(key))
}

// reencryption returns the items that re-encrypt all secrets as they are now.
func (m *sealingModel) reencryption() (items []*hubpb.SecretsReencrypted_Item) {
	key := m.SealingKeys().Sealing
	for _, s := range m.SecretsNotSealedWith(key, 0, 0, 1000) {
		_, secret := openedFrom(s.Sealed)
		items = append(items, &hubpb.SecretsReencrypted_Item{Subscription: uint64(s.Subscription), Request: uint64(s.Request),
			Was: s.Sealed, Sealed: m.seal(key, secret)})
	}
	return items
}

func (m *sealingModel) reencrypt(rt *rapid.T) {
	if len(m.late) > 0 {
		i := rapid.IntRange(0, len(m.late)-1).Draw(rt, "which")
		m.apply(reencrypted(m.late[i]...))
	}
}

func (m *sealingModel) retire(rt *rapid.T) {
	key := drawKey(rt)
	used := m.SealedCounts()[key].Total()
	if m.apply(keyRetired(key)).Outcome == hub.OutcomeOK && used > 0 {
		rt.Fatalf("%s was retired with %d secrets sealed with it", key, used)
	}
}

func (m *sealingModel) check(rt *rapid.T) {
	for _, callback := range sealingCallbacks() {
		sub, ok := m.SubscriptionByKey("news", callback)
		if want, active := m.current[callback]; ok != active {
			rt.Fatalf("%s: active %v, want %v", callback, ok, active)
		} else if ok {
			if _, secret := openedFrom(sub.SealedSecret); secret != want {
				rt.Fatalf("%s signs with %q, want %q from its last verified request", callback, secret, want)
			}
		}
	}
	counts := m.SealedCounts()
	for _, key := range m.SealingKeys().Retired {
		if counts[key].Total() > 0 {
			rt.Fatalf("%s is retired but seals %+v", key, counts[key])
		}
	}
}
