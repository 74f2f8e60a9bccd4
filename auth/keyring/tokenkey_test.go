package keyring_test

import (
	"bytes"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// All nodes with the same sealing keys have the same keys for tokens, and different sealing keys have different ones.
func TestTokenKeysAreTheSameEverywhere(t *testing.T) {
	one, other := ringOf(t, 1, 2), ringOf(t, 2, 1)
	a, b := one.TokenKeys(), other.TokenKeys()
	if len(a) != 2 || len(b) != 2 || !a[0].Equal(b[1]) || !a[1].Equal(b[0]) {
		t.Error("the keys of the same sealing keys differ")
	}
	if a[0].Equal(a[1]) {
		t.Error("two sealing keys have the same key for tokens")
	}
	raw, err := a[0].Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(raw, rawKey(1)) {
		t.Error("the key for tokens is the sealing key")
	}
}

// Whoever drops a sealing key records the public key of the tokens that it signed.
func TestDroppedKeyLeavesItsTokensVerifiable(t *testing.T) {
	c := newKeyCluster(t, "a", "b")
	old := c.stores["a"].Ring().TokenKeys()[0]
	m := &keyMember{c, "a"}
	level := &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}}
	if _, err := m.Propose(t.Context(), level); err != nil {
		t.Fatal(err)
	}
	if err := c.keepers["a"].Rotate(t.Context(), "", "tester"); err != nil {
		t.Fatal(err)
	}
	if now := c.stores["b"].Ring().TokenKeys()[0]; now.Equal(old) {
		t.Error("the key for tokens is the same after a rotation")
	}
	if _, err := c.keepers["a"].Drop(t.Context(), "", "tester"); err != nil {
		t.Fatal(err)
	}
	point, err := old.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	lockedState{c}.View(func(s *hub.State) {
		if got := s.FormerTokenKeys(); len(got) != 1 || !bytes.Equal(got[0].Public, point) {
			t.Errorf("got %v, want the public key", got)
		}
	})
	c.eventually("the nodes have dropped the key", func() bool { return len(c.stores["b"].Ring().TokenKeys()) == 1 })
}
