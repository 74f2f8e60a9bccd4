package hub

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub/hubpb"
)

// Limits of access control. A nonce is kept until its request is too old to be accepted; while MaxNonces are kept,
// signed requests are refused.
const (
	MaxAPIKeys     = 10_000
	MaxAccessRules = 1_000
	MaxNonces      = 200_000
)

// APIKey describes an API key: enough to recognise it, not to recreate it.
type APIKey struct {
	ID, Name  string
	Hash      []byte // SHA-256 of the key's secret part
	Scopes    []string
	Roles     []string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	By        string    // principal who created it
}

// AccessRule is an access rule set at run time. The hub stores it; interpreting it is up to the caller.
type AccessRule struct {
	Name  string
	Rule  []byte // JSON
	SetAt time.Time
	By    string
}

// access is the part of the state that concerns access control.
type access struct {
	keys   map[string]*hubpb.ApiKeyRow
	rules  map[string]*hubpb.AccessRuleRow
	nonces map[string]int64 // expiry, Unix nanoseconds
	expiry nonceHeap
}

func newAccess() access {
	return access{keys: map[string]*hubpb.ApiKeyRow{}, rules: map[string]*hubpb.AccessRuleRow{}, nonces: map[string]int64{}}
}

func (s *State) createAPIKey(e *hubpb.ApiKeyCreated) Result {
	switch {
	case s.access.keys[e.Id] != nil:
		return Result{Outcome: OutcomeStale}
	case len(s.access.keys) >= MaxAPIKeys:
		return Result{Outcome: OutcomeFull}
	}
	s.access.keys[e.Id] = &hubpb.ApiKeyRow{Key: e, CreatedAt: s.meta.Now}
	s.meta.AccessVersion++
	s.touchName(TableAPIKey, e.Id)
	return Result{}
}

func (s *State) revokeAPIKey(e *hubpb.ApiKeyRevoked) Result {
	if s.access.keys[e.Id] == nil {
		return Result{Outcome: OutcomeNotFound}
	}
	delete(s.access.keys, e.Id)
	s.meta.AccessVersion++
	s.touchName(TableAPIKey, e.Id)
	return Result{}
}

func (s *State) setRule(e *hubpb.AccessRuleSet) Result {
	if s.access.rules[e.Name] == nil && len(s.access.rules) >= MaxAccessRules {
		return Result{Outcome: OutcomeFull}
	}
	s.access.rules[e.Name] = &hubpb.AccessRuleRow{Rule: e, SetAt: s.meta.Now}
	s.meta.AccessVersion++
	s.touchName(TableAccessRule, e.Name)
	return Result{}
}

func (s *State) removeRule(e *hubpb.AccessRuleRemoved) Result {
	if s.access.rules[e.Name] == nil {
		return Result{Outcome: OutcomeNotFound}
	}
	delete(s.access.rules, e.Name)
	s.meta.AccessVersion++
	s.touchName(TableAccessRule, e.Name)
	return Result{}
}

// claimNonce consumes a nonce. A nonce that has expired by the log's clock is never fresh, known or not: it may have
// been forgotten.
func (s *State) claimNonce(e *hubpb.NonceClaimed) Result {
	a := &s.access
	for len(a.expiry) > 0 && a.expiry[0].until <= s.meta.Now {
		gone := heap.Pop(&a.expiry).(nonceExpiry)
		delete(a.nonces, gone.nonce)
		s.touchName(TableNonce, gone.nonce)
	}
	nonce := string(e.Nonce)
	if _, used := a.nonces[nonce]; used || e.Until <= s.meta.Now {
		return Result{Outcome: OutcomeStale}
	}
	if len(a.nonces) >= MaxNonces {
		return Result{Outcome: OutcomeFull}
	}
	a.nonces[nonce] = e.Until
	heap.Push(&a.expiry, nonceExpiry{e.Until, nonce})
	s.touchName(TableNonce, nonce)
	return Result{}
}

// AccessVersion returns a number that rises with every change of API keys and access rules, so that caches know when
// to reload.
func (s *State) AccessVersion() uint64 { return s.meta.AccessVersion }

// APIKey returns the API key with this ID.
func (s *State) APIKey(id string) (APIKey, bool) {
	r := s.access.keys[id]
	if r == nil {
		return APIKey{}, false
	}
	return apiKeyFromRow(r), true
}

// APIKeys returns all API keys, in order of creation.
func (s *State) APIKeys() []APIKey {
	out := make([]APIKey, 0, len(s.access.keys))
	for _, r := range s.access.keys {
		out = append(out, apiKeyFromRow(r))
	}
	slices.SortFunc(out, func(a, b APIKey) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// AccessRules returns the rules set at run time, in order of name.
func (s *State) AccessRules() []AccessRule {
	out := make([]AccessRule, 0, len(s.access.rules))
	for _, r := range s.access.rules {
		out = append(out, AccessRule{Name: r.GetRule().GetName(), Rule: r.GetRule().GetRule(), SetAt: timeOf(r.SetAt), By: r.GetRule().GetBy()})
	}
	slices.SortFunc(out, func(a, b AccessRule) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func apiKeyFromRow(r *hubpb.ApiKeyRow) APIKey {
	k := r.GetKey()
	return APIKey{ID: k.GetId(), Name: k.GetName(), Hash: k.GetHash(), Scopes: k.GetScopes(), Roles: k.GetRoles(),
		CreatedAt: timeOf(r.CreatedAt), ExpiresAt: timeOf(k.GetExpiresAt()), By: k.GetBy()}
}

func (a *access) row(k RowKey) proto.Message {
	switch k.Table { //nolint:exhaustive // called for these tables only
	case TableAPIKey:
		if r := a.keys[k.Name]; r != nil {
			return r
		}
	case TableAccessRule:
		if r := a.rules[k.Name]; r != nil {
			return r
		}
	case TableNonce:
		if until, ok := a.nonces[k.Name]; ok {
			return &hubpb.NonceRow{Until: until}
		}
	}
	return nil
}

// rowKeys appends the keys of all access control rows.
func (a *access) rowKeys(keys []RowKey) []RowKey {
	for id := range a.keys {
		keys = append(keys, RowKey{Table: TableAPIKey, Name: id})
	}
	for name := range a.rules {
		keys = append(keys, RowKey{Table: TableAccessRule, Name: name})
	}
	for nonce := range a.nonces {
		keys = append(keys, RowKey{Table: TableNonce, Name: nonce})
	}
	return keys
}

func (a *access) load(k RowKey, value []byte) error {
	switch k.Table { //nolint:exhaustive // called for these tables only
	case TableAPIKey:
		return decodeRow(value, func(r *hubpb.ApiKeyRow) { a.keys[k.Name] = r })
	case TableAccessRule:
		return decodeRow(value, func(r *hubpb.AccessRuleRow) { a.rules[k.Name] = r })
	case TableNonce:
		return decodeRow(value, func(r *hubpb.NonceRow) {
			a.nonces[k.Name] = r.Until
			heap.Push(&a.expiry, nonceExpiry{r.Until, k.Name})
		})
	}
	return nil
}

type nonceExpiry struct {
	until int64
	nonce string
}

// nonceHeap is a min-heap by expiry. Nonces that expire at the same time are removed together, so their relative
// order does not matter.
type nonceHeap []nonceExpiry

func (h nonceHeap) Len() int           { return len(h) }
func (h nonceHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h nonceHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *nonceHeap) Push(x any)        { *h = append(*h, x.(nonceExpiry)) }
func (h *nonceHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
