package hub

import (
	"cmp"
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
	// MaxLogins bounds the nonces that are states of logins, which anybody can begin.
	MaxLogins = 50_000
)

// APIKey describes an API key: enough to recognise it, not to recreate it.
type APIKey struct {
	ID, Name  string
	Hash      []byte // SHA-256 of the key's secret part
	Scopes    []string
	Roles     []string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	By        string    // who created it, for people
	Owner     string    // principal who created it, empty: none
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
	quotas map[string]*hubpb.QuotaRow
	nonces map[string]nonceUse
	logins int // of these, states of logins
	expiry nonceHeap
	shares map[string]*nonceShare // by principal
}

func newAccess() access {
	return access{keys: map[string]*hubpb.ApiKeyRow{}, rules: map[string]*hubpb.AccessRuleRow{}, quotas: map[string]*hubpb.QuotaRow{}, nonces: map[string]nonceUse{},
		shares: map[string]*nonceShare{}}
}

func (s *State) createAPIKey(e *hubpb.ApiKeyCreated) Result {
	switch {
	case s.access.keys[e.Id] != nil:
		return Result{Outcome: OutcomeStale}
	case len(s.access.keys) >= MaxAPIKeys:
		return Result{Outcome: OutcomeFull}
	}
	owner := e.GetCaller().GetPrincipal()
	if used := s.held(owner).apiKeys; owner != "" && reached(used, e.Caller.GetMaxApiKeys()) {
		return quotaReached(QuotaAPIKeys, used, e.Caller.GetMaxApiKeys())
	}
	defer s.recordLimits(e.Caller)
	if e.Caller != nil {
		e.Caller = &hubpb.Caller{Principal: owner} // its limits were for this event
	}
	s.access.keys[e.Id] = &hubpb.ApiKeyRow{Key: e, CreatedAt: s.meta.Now}
	s.hold(owner, func(h *holding) { h.apiKeys++ })
	s.meta.AccessVersion++
	s.touchName(TableAPIKey, e.Id)
	return Result{}
}

// revokeAPIKey removes an API key. What it owns is paused, or ends.
func (s *State) revokeAPIKey(e *hubpb.ApiKeyRevoked, fx *Effects) Result {
	k := s.access.keys[e.Id]
	if k == nil {
		return Result{Outcome: OutcomeNotFound}
	}
	s.hold(k.GetKey().GetCaller().GetPrincipal(), func(h *holding) { h.apiKeys-- })
	delete(s.access.keys, e.Id)
	s.meta.AccessVersion++
	s.touchName(TableAPIKey, e.Id)
	ids := s.ofOwner(KeyPrincipal(e.Id), nil)
	s.stopOwned(ids, PauseOwnerEnded, e.EndSubscriptions, fx)
	s.endSessionsOf(KeyPrincipal(e.Id), "key_revoked", fx)
	return Result{ID: uint64(len(ids))}
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
		CreatedAt: timeOf(r.CreatedAt), ExpiresAt: timeOf(k.GetExpiresAt()), By: k.GetBy(), Owner: k.GetCaller().GetPrincipal()}
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
	case TableQuota:
		if r := a.quotas[k.Name]; r != nil {
			return r
		}
	case TableNonce:
		if n, ok := a.nonces[k.Name]; ok {
			return &hubpb.NonceRow{Until: n.until, Owner: n.owner, At: n.at, Login: n.login}
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
	for name := range a.quotas {
		keys = append(keys, RowKey{Table: TableQuota, Name: name})
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
	case TableQuota:
		return decodeRow(value, func(r *hubpb.QuotaRow) { a.quotas[k.Name] = r })
	case TableNonce:
		return decodeRow(value, func(r *hubpb.NonceRow) { a.addNonce(k.Name, nonceUse{r.Until, shared(r.Owner), r.At, r.Login}) })
	}
	return nil
}
