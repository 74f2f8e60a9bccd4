package hub

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub/hubpb"
)

// Bounds of what is kept for access control. A nonce is kept until its request is too old anyway; with more than
// MaxNonces at a time signed requests are refused until some have run out.
const (
	MaxAPIKeys     = 10_000
	MaxAccessRules = 1_000
	MaxNonces      = 200_000
)

// APIKey is what the hub knows of an API key: enough to recognise it, not to make it.
type APIKey struct {
	ID, Name  string
	Hash      []byte // SHA-256 of the key's secret part
	Scopes    []string
	Roles     []string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	By        string    // who made it
}

// AccessRule is a rule of access that was set while the hub ran. The hub keeps it and leaves its meaning to
// whoever decides.
type AccessRule struct {
	Name  string
	Rule  []byte // JSON
	SetAt time.Time
	By    string
}

// access is the part of the state about who may do what.
type access struct {
	keys   map[string]*hubpb.ApiKeyRow
	rules  map[string]*hubpb.AccessRuleRow
	nonces map[string]int64 // until when, Unix nanoseconds
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

// claimNonce uses a nonce up. One whose time is over by the log's clock is not fresh whether it is known or
// not: it may have been forgotten.
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

// AccessVersion rises with every change of API keys and rules, so that readers know when to read them again.
func (s *State) AccessVersion() uint64 { return s.meta.AccessVersion }

// APIKey finds an API key by its id.
func (s *State) APIKey(id string) (APIKey, bool) {
	r := s.access.keys[id]
	if r == nil {
		return APIKey{}, false
	}
	return apiKeyFromRow(r), true
}

// APIKeys are all API keys, in order of creation.
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

// AccessRules returns the rules that were set while the hub ran, in order of name.
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
	switch k.Table { //nolint:exhaustive // only these three are asked for
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

// rowKeys appends the keys of all its rows.
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
	switch k.Table { //nolint:exhaustive // only these three are asked for
	case TableAPIKey:
		r := new(hubpb.ApiKeyRow)
		if err := proto.Unmarshal(value, r); err != nil {
			return err
		}
		a.keys[k.Name] = r
	case TableAccessRule:
		r := new(hubpb.AccessRuleRow)
		if err := proto.Unmarshal(value, r); err != nil {
			return err
		}
		a.rules[k.Name] = r
	case TableNonce:
		r := new(hubpb.NonceRow)
		if err := proto.Unmarshal(value, r); err != nil {
			return err
		}
		a.nonces[k.Name] = r.Until
		heap.Push(&a.expiry, nonceExpiry{r.Until, k.Name})
	}
	return nil
}

type nonceExpiry struct {
	until int64
	nonce string
}

// nonceHeap has the nonce that runs out first in front. Those that run out at one time all go at one time, so
// their order among themselves changes nothing.
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
