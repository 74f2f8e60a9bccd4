package hub

import (
	"encoding/hex"
	"maps"
	"slices"

	"quorumhub/hub/hubpb"
)

// What a sealed secret begins with, so that the fold can tell which key it needs without having any: SealVersion, then the
// key's id. See SecretBox.
const (
	SealVersion    = 1
	SealKeyIDBytes = 4
)

// maxRetiredKeys bounds the keys that are remembered as retired. It is part of the fold.
const maxRetiredKeys = 64

// SealedWith is the id of the key that a sealed secret needs, in hex; empty for what is not sealed.
func SealedWith(sealed []byte) string {
	if len(sealed) < 1+SealKeyIDBytes || sealed[0] != SealVersion {
		return ""
	}
	return hex.EncodeToString(sealed[1 : 1+SealKeyIDBytes])
}

// SealingKeys is what the log says of the keys that seal secrets, by their ids.
type SealingKeys struct {
	Sealing string   // seals; empty: nothing is agreed yet, and each node seals with the first key that it has
	Next    string   // announced: it seals once every node has it; empty: no rotation is under way
	Retired []string // no secret is sealed with them, or ever will be; oldest first
}

// SealingKeys tells which keys seal secrets.
func (s *State) SealingKeys() SealingKeys {
	return SealingKeys{s.meta.SealingKey, s.meta.NextSealingKey, slices.Clone(s.meta.RetiredKeys)}
}

// SealedCount is how many secrets are sealed with a key.
type SealedCount struct {
	Subscriptions int // present secrets of subscriptions
	Former        int // secrets that were replaced and still sign
	Requests      int // of requests that wait for their verification
}

// Total is their sum.
func (c SealedCount) Total() int { return c.Subscriptions + c.Former + c.Requests }

// SealedCounts counts the secrets by the id of the key that they are sealed with. It looks at all subscriptions.
func (s *State) SealedCounts() map[string]SealedCount {
	out := map[string]SealedCount{}
	count := func(sealed []byte, which func(*SealedCount) *int) {
		if len(sealed) > 0 {
			c := out[SealedWith(sealed)]
			*which(&c)++
			out[SealedWith(sealed)] = c
		}
	}
	for _, sub := range s.subs {
		count(sub.SealedSecret, func(c *SealedCount) *int { return &c.Subscriptions })
		for i := range sub.Former {
			count(sub.Former[i].Sealed, func(c *SealedCount) *int { return &c.Former })
		}
	}
	for _, r := range s.requests {
		count(r.SealedSecret, func(c *SealedCount) *int { return &c.Requests })
	}
	return out
}

// NeededKeys are the ids of the keys without which a node could not go on from this state, in order: what seals, what is
// to seal next, and what secrets are sealed with.
func (s *State) NeededKeys() []string {
	needed := map[string]bool{s.meta.SealingKey: true, s.meta.NextSealingKey: true}
	for id := range s.SealedCounts() {
		needed[id] = true
	}
	delete(needed, "")
	return slices.Sorted(maps.Keys(needed))
}

// SealedSecret is a secret of the state as it is sealed.
type SealedSecret struct {
	Subscription SubscriptionID // whose it is; 0: that of Request
	Request      RequestID
	Sealed       []byte
	Binding      string // see SecretBox
}

// SealedOtherwise lists at most max secrets (or a few more, of one subscription) that are sealed with another key than the
// one named: of subscriptions with an id above sub, in order of id, then of requests with an id above req.
func (s *State) SealedOtherwise(key string, sub SubscriptionID, req RequestID, max int) (out []SealedSecret) {
	other := func(sealed []byte) bool { return len(sealed) > 0 && SealedWith(sealed) != key }
	for _, id := range pageIDs(s.subs, sub, max, func(sub *Subscription) bool {
		return other(sub.SealedSecret) || slices.ContainsFunc(sub.Former, func(f FormerSecret) bool { return other(f.Sealed) })
	}) {
		sub := s.subs[id]
		bound := SecretBinding(sub.TopicName, sub.CallbackKey)
		if other(sub.SealedSecret) {
			out = append(out, SealedSecret{Subscription: id, Sealed: sub.SealedSecret, Binding: bound})
		}
		for i := range sub.Former {
			if other(sub.Former[i].Sealed) {
				out = append(out, SealedSecret{Subscription: id, Sealed: sub.Former[i].Sealed, Binding: bound})
			}
		}
	}
	if len(out) >= max {
		return out
	}
	for _, id := range pageIDs(s.requests, req, max-len(out), func(r *Request) bool { return other(r.SealedSecret) }) {
		r := s.requests[id]
		out = append(out, SealedSecret{Request: id, Sealed: r.SealedSecret, Binding: SecretBinding(r.TopicName, r.CallbackKey)})
	}
	return out
}

func (s *State) retiredKey(sealed []byte) bool {
	return len(sealed) > 0 && slices.Contains(s.meta.RetiredKeys, SealedWith(sealed))
}

// announceKey begins a rotation. There is one at a time, and a key that was retired never comes back.
func (s *State) announceKey(e *hubpb.SealingKeyAnnounced, fx *Effects) Result {
	m := &s.meta
	switch {
	case e.Key == "", e.Key == m.SealingKey, slices.Contains(m.RetiredKeys, e.Key), m.NextSealingKey != "" && m.NextSealingKey != e.Key:
		return Result{Outcome: OutcomeStale}
	}
	m.NextSealingKey = e.Key
	fx.KeysChanged = true
	return Result{}
}

// switchKey makes the announced key the one that seals, when all nodes that the log knows are among those that hold it: one
// that was admitted since they were asked would meet secrets that it cannot open.
func (s *State) switchKey(e *hubpb.SealingKeySwitched, fx *Effects) Result {
	m := &s.meta
	switch {
	case e.Key == "":
		return Result{Outcome: OutcomeStale}
	case m.SealingKey == "" && !slices.Contains(m.RetiredKeys, e.Key):
		// The first one: the nodes compared it when they founded the cluster.
	case e.Key != m.NextSealingKey:
		return Result{Outcome: OutcomeStale}
	default:
		for _, n := range s.nodes {
			if n.Phase != NodeRemoved && n.Instance != "" && !slices.Contains(e.Nodes, n.ID) {
				return Result{Outcome: OutcomeStale}
			}
		}
	}
	m.SealingKey = e.Key
	if m.NextSealingKey == e.Key {
		m.NextSealingKey = ""
	}
	fx.KeysChanged = true
	return Result{}
}

// reencrypt replaces secrets by the same ones under another key, where they are still those that were read: a renewal that
// came in between has brought its own.
func (s *State) reencrypt(e *hubpb.SecretsReencrypted, fx *Effects) Result {
	for _, item := range e.Items {
		if len(item.Was) == 0 || len(item.Sealed) == 0 || s.retiredKey(item.Sealed) {
			continue
		}
		if r := s.requests[RequestID(item.Request)]; item.Subscription == 0 {
			if r != nil && string(r.SealedSecret) == string(item.Was) {
				r.SealedSecret = item.Sealed
				s.touch(TableRequest, item.Request)
			}
			continue
		}
		sub := s.subs[SubscriptionID(item.Subscription)]
		if sub == nil || !sub.reencrypt(item.Was, item.Sealed) {
			continue
		}
		s.touch(TableSubscription, item.Subscription)
		fx.Subscriptions = append(fx.Subscriptions, s.view(sub))
	}
	return Result{}
}

// reencrypt replaces one of a subscription's secrets; false: it has none like that.
func (s *Subscription) reencrypt(was, sealed []byte) bool {
	if string(s.SealedSecret) == string(was) {
		s.SealedSecret = sealed
		return true
	}
	for i := range s.Former {
		if string(s.Former[i].Sealed) == string(was) {
			s.Former = slices.Clone(s.Former) // copies share it
			s.Former[i].Sealed = sealed
			return true
		}
	}
	return false
}

// retireKey ends a key that nothing needs, or gives up a rotation to it.
func (s *State) retireKey(e *hubpb.SealingKeyRetired, fx *Effects) Result {
	m := &s.meta
	switch {
	case slices.Contains(m.RetiredKeys, e.Key):
		return Result{}
	case e.Key == "", e.Key == m.SealingKey, s.SealedCounts()[e.Key].Total() > 0:
		return Result{Outcome: OutcomeStale}
	}
	if m.NextSealingKey == e.Key {
		m.NextSealingKey = ""
	}
	m.RetiredKeys = append(m.RetiredKeys, e.Key)
	if n := len(m.RetiredKeys) - maxRetiredKeys; n > 0 {
		m.RetiredKeys = slices.Clone(m.RetiredKeys[n:])
	}
	fx.KeysChanged = true
	return Result{}
}
