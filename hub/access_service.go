package hub

import (
	"context"
	"time"

	"quorumhub/hub/hubpb"
)

// CreateAPIKey records an API key, so that every node accepts it; it belongs to the caller. The log's time replaces
// k.CreatedAt.
func (s *Service) CreateAPIKey(ctx context.Context, k APIKey) error {
	if err := s.checkFounded(ctx); err != nil {
		return err
	}
	_, err := s.propose(ctx, k.ID, &hubpb.Event{Kind: &hubpb.Event_ApiKeyCreated{ApiKeyCreated: &hubpb.ApiKeyCreated{
		Id: k.ID, Name: k.Name, Hash: k.Hash, Scopes: k.Scopes, Roles: k.Roles, ExpiresAt: nanos(k.ExpiresAt), By: k.By, Caller: s.caller(ctx)}}})
	return err
}

// RevokeAPIKey revokes an API key. It stops working on each node as soon as that node has applied the event. The
// subscriptions that it owns are paused, or ended if end is set; the result is their number. An unknown key, and one
// that the caller may not manage, is CodeNotFound.
func (s *Service) RevokeAPIKey(ctx context.Context, id, by string, end bool) (subscriptions int, err error) {
	var k APIKey
	known := false
	s.state.View(func(st *State) { k, known = st.APIKey(id) })
	if known && !s.MayManage(ctx, k.Owner) {
		return 0, Result{Outcome: OutcomeNotFound}.Err(id)
	}
	res, err := s.propose(ctx, id, &hubpb.Event{Kind: &hubpb.Event_ApiKeyRevoked{ApiKeyRevoked: &hubpb.ApiKeyRevoked{Id: id, By: by, EndSubscriptions: end}}})
	return int(res.ID), err
}

// SetAccessRule adds an access rule or replaces the one with the same name. The caller must have validated it.
func (s *Service) SetAccessRule(ctx context.Context, r AccessRule) error {
	_, err := s.propose(ctx, r.Name, &hubpb.Event{Kind: &hubpb.Event_AccessRuleSet{AccessRuleSet: &hubpb.AccessRuleSet{Name: r.Name, Rule: r.Rule, By: r.By}}})
	return err
}

// RemoveAccessRule removes an access rule. An unknown rule is CodeNotFound.
func (s *Service) RemoveAccessRule(ctx context.Context, name, by string) error {
	_, err := s.propose(ctx, name, &hubpb.Event{Kind: &hubpb.Event_AccessRuleRemoved{AccessRuleRemoved: &hubpb.AccessRuleRemoved{Name: name, By: by}}})
	return err
}

// ClaimNonce consumes the nonce of a signed request through the log: of all claims of one nonce, on any node at any
// time, exactly one is fresh. After until the request itself is too old to be accepted. It counts as principal's, whose
// quota of nonces may refuse it (CodeLimited) without a word in the log; an empty principal has no quota.
func (s *Service) ClaimNonce(ctx context.Context, principal string, nonce [32]byte, until time.Time) (fresh bool, err error) {
	ev := &hubpb.NonceClaimed{Nonce: nonce[:], Until: until.UnixNano()}
	if principal != "" && s.ownersKnown() {
		ev.Caller = &hubpb.Caller{Principal: principal, MaxNonces: limit(s.quotas(ctx, principal).NoncesPerMinute)}
	}
	return s.claim(ctx, ev, QuotaNonces)
}

// claim claims a nonce, of which the caller has a quota.
func (s *Service) claim(ctx context.Context, ev *hubpb.NonceClaimed, q Quota) (fresh bool, err error) {
	if ev.Caller != nil {
		if err := s.checkNonces(ev.Caller, q); err != nil {
			return false, err
		}
	}
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: ev}})
	switch {
	case err != nil:
		return false, err
	case res[0].Outcome == OutcomeStale:
		return false, nil
	}
	return res[0].Outcome == OutcomeOK, res[0].Err("nonce")
}

// checkNonces refuses, before anything is written to the log, a nonce that a quota would refuse.
func (s *Service) checkNonces(c *hubpb.Caller, q Quota) error {
	used, now := 0, s.now()
	s.state.View(func(st *State) { _, used = st.access.nonceUse(c.Principal, max(st.meta.Now, now.UnixNano())) })
	if reached(used, c.MaxNonces) {
		return quotaReached(q, used, c.MaxNonces).Err("nonce")
	}
	return nil
}
