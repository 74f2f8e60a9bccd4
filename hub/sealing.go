package hub

import (
	"encoding/hex"
	"maps"
	"slices"

	"quorumhub/hub/hubpb"
)

// Header of a sealed secret, from which the fold reads the sealing key's ID without having the key: SealVersion, then
// the ID. See SecretBox.
const (
	SealVersion    = 1
	SealKeyIDBytes = 4
)

// maxRetiredKeys bounds the number of retired keys remembered. It is part of the fold.
const maxRetiredKeys = 64

// SealedWith returns the ID of the sealing key that a sealed secret needs, in hex, or "" if sealed is not a sealed
// secret.
func SealedWith(sealed []byte) string {
	if len(sealed) < 1+SealKeyIDBytes || sealed[0] != SealVersion {
		return ""
	}
	return hex.EncodeToString(sealed[1 : 1+SealKeyIDBytes])
}

// SealingKeys is the log's record of the sealing keys, by ID.
type SealingKeys struct {
	Sealing string   // in use; empty: nothing agreed yet, and each node seals with its first key
	Next    string   // announced: in use once every node has it; empty: no rotation in progress
	Retired []string // no secret is or ever will be sealed with them; oldest first
}

// SealingKeys returns the sealing keys of the cluster.
func (s *State) SealingKeys() SealingKeys {
	return SealingKeys{s.meta.SealingKey, s.meta.NextSealingKey, slices.Clone(s.meta.RetiredKeys)}
}

// SealedCount counts the secrets sealed with one key.
type SealedCount struct {
	Subscriptions int // current secrets of subscriptions
	Former        int // replaced secrets that still sign
	Requests      int // secrets of pending requests
	Callbacks     int // credentials that operators have set
	Gateway       int // 1: the secrets of the gateway's registry
	// Sessions counts those whose cookies may be sealed with the key. They hold no secret of the state: without the key
	// they end. Total does not count them.
	Sessions int
}

// Total returns their sum.
func (c SealedCount) Total() int {
	return c.Subscriptions + c.Former + c.Requests + c.Callbacks + c.Gateway
}

// SealedCounts counts the secrets by the ID of their sealing key. It visits all subscriptions.
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
		if sub.SealedHeaders != "" {
			count([]byte(sub.SealedHeaders), func(c *SealedCount) *int { return &c.Subscriptions })
		}
		for i := range sub.Former {
			count(sub.Former[i].Sealed, func(c *SealedCount) *int { return &c.Former })
		}
	}
	for _, r := range s.requests {
		count(r.SealedSecret, func(c *SealedCount) *int { return &c.Requests })
		count([]byte(r.SealedHeaders), func(c *SealedCount) *int { return &c.Requests })
	}
	for _, r := range s.callbacks {
		count(r.GetSet().GetSealed(), func(c *SealedCount) *int { return &c.Callbacks })
	}
	count(s.gateway.GetApplied().GetSealed(), func(c *SealedCount) *int { return &c.Gateway })
	for key, n := range s.sessions.sealed {
		if key != 0 {
			c := out[keyText(key)]
			c.Sessions = n
			out[keyText(key)] = c
		}
	}
	return out
}

// NeededKeys returns the IDs of the sealing keys that a node needs to continue from this state, in order: the current
// one, the next one, and those of existing secrets.
func (s *State) NeededKeys() []string {
	needed := map[string]bool{s.meta.SealingKey: true, s.meta.NextSealingKey: true}
	for id, n := range s.SealedCounts() {
		if n.Total() > 0 {
			needed[id] = true
		}
	}
	delete(needed, "")
	return slices.Sorted(maps.Keys(needed))
}

// SealedSecret is a sealed secret of the state.
type SealedSecret struct {
	Subscription SubscriptionID // owner of the secret; 0: Request
	Request      RequestID
	Callback     string // owner of the secret if both are 0: the pattern of an operator's credentials
	Gateway      bool   // it is the registry's, which has its secrets in one
	Sealed       []byte
	Binding      string // see SecretBox
}

// SecretsNotSealedWith returns at most max secrets (or a few more, of one subscription) sealed with a key other than the
// given one: at first, with sub and req 0, the secrets of the gateway's registry and the credentials of
// operators, of which there are few; then of subscriptions with an ID greater than sub, then of requests with an ID greater
// than req, each in order of ID.
func (s *State) SecretsNotSealedWith(key string, sub SubscriptionID, req RequestID, max int) (out []SealedSecret) {
	other := func(sealed []byte) bool { return len(sealed) > 0 && SealedWith(sealed) != key }
	if sub == 0 && req == 0 {
		out = append(s.gatewaySecrets(key), s.callbackSecrets(key)...)
	}
	for _, id := range pageIDs(s.subs, sub, max, func(sub *Subscription) bool {
		return other(sub.SealedSecret) || other([]byte(sub.SealedHeaders)) || slices.ContainsFunc(sub.Former, func(f FormerSecret) bool { return other(f.Sealed) })
	}) {
		sub := s.subs[id]
		bound := SecretBinding(sub.TopicName, sub.CallbackKey)
		if other(sub.SealedSecret) {
			out = append(out, SealedSecret{Subscription: id, Sealed: sub.SealedSecret, Binding: bound})
		}
		if other([]byte(sub.SealedHeaders)) {
			out = append(out, SealedSecret{Subscription: id, Sealed: []byte(sub.SealedHeaders), Binding: HeadersBinding(sub.TopicName, sub.CallbackKey)})
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
	for _, id := range pageIDs(s.requests, req, max-len(out), func(r *Request) bool { return other(r.SealedSecret) || other([]byte(r.SealedHeaders)) }) {
		r := s.requests[id]
		if other(r.SealedSecret) {
			out = append(out, SealedSecret{Request: id, Sealed: r.SealedSecret, Binding: SecretBinding(r.TopicName, r.CallbackKey)})
		}
		if other([]byte(r.SealedHeaders)) {
			out = append(out, SealedSecret{Request: id, Sealed: []byte(r.SealedHeaders), Binding: HeadersBinding(r.TopicName, r.CallbackKey)})
		}
	}
	return out
}

func (s *State) retiredKey(sealed []byte) bool {
	return len(sealed) > 0 && slices.Contains(s.meta.RetiredKeys, SealedWith(sealed))
}

// announceKey starts a rotation. There is only one at a time, and a retired key cannot come back.
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

// switchKey puts the announced key into use, provided that every node in the log is listed as holding it: a node
// admitted since they were asked could not open the new secrets.
func (s *State) switchKey(e *hubpb.SealingKeySwitched, fx *Effects) Result {
	m := &s.meta
	switch {
	case e.Key == "":
		return Result{Outcome: OutcomeStale}
	case m.SealingKey == "" && !slices.Contains(m.RetiredKeys, e.Key):
		// The first key: the nodes compared it when they founded the cluster.
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

// reencrypt replaces sealed secrets by the same secrets under another key, unless a renewal has changed them since
// they were read.
func (s *State) reencrypt(e *hubpb.SecretsReencrypted, fx *Effects) Result {
	for _, item := range e.Items {
		if len(item.Was) == 0 || len(item.Sealed) == 0 || s.retiredKey(item.Sealed) {
			continue
		}
		if item.Gateway {
			s.reencryptGateway(item)
			continue
		}
		if item.Callback != "" {
			s.reencryptCallback(item, fx)
			continue
		}
		if r := s.requests[RequestID(item.Request)]; item.Subscription == 0 {
			if r != nil && r.reencrypt(item.Was, item.Sealed) {
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

// reencrypt replaces one of the request's sealed secrets. It reports false if there is no such secret.
func (r *Request) reencrypt(was, sealed []byte) bool {
	switch string(was) {
	case string(r.SealedSecret):
		r.SealedSecret = sealed
	case r.SealedHeaders:
		r.SealedHeaders = string(sealed)
	default:
		return false
	}
	return true
}

// reencrypt replaces one of the subscription's sealed secrets. It reports false if there is no such secret.
func (s *Subscription) reencrypt(was, sealed []byte) bool {
	if string(s.SealedSecret) == string(was) {
		s.SealedSecret = sealed
		return true
	}
	if s.SealedHeaders == string(was) {
		s.SealedHeaders = string(sealed)
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

// retireKey retires a key that nothing needs, or abandons a rotation to it.
func (s *State) retireKey(e *hubpb.SealingKeyRetired, fx *Effects) Result {
	m := &s.meta
	switch {
	case slices.Contains(m.RetiredKeys, e.Key):
		return Result{}
	case e.Key == "", e.Key == m.SealingKey, s.SealedCounts()[e.Key].Total() > 0, s.sessions.sealed[keyNumber(e.Key)] > 0, s.grants.sealed[keyNumber(e.Key)] > 0:
		return Result{Outcome: OutcomeStale}
	}
	if m.NextSealingKey == e.Key {
		m.NextSealingKey = ""
	}
	s.keepTokenKey(e.TokenKey)
	m.RetiredKeys = append(m.RetiredKeys, e.Key)
	if n := len(m.RetiredKeys) - maxRetiredKeys; n > 0 {
		m.RetiredKeys = slices.Clone(m.RetiredKeys[n:])
	}
	fx.KeysChanged = true
	return Result{}
}
