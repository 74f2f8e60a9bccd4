package hub

import (
	"context"
	"time"

	"quorumhub/hub/hubpb"
)

// CreateAPIKey records an API key, so that every node accepts it. The log's time replaces k.CreatedAt.
func (s *Service) CreateAPIKey(ctx context.Context, k APIKey) error {
	_, err := s.propose(ctx, k.ID, &hubpb.Event{Kind: &hubpb.Event_ApiKeyCreated{ApiKeyCreated: &hubpb.ApiKeyCreated{
		Id: k.ID, Name: k.Name, Hash: k.Hash, Scopes: k.Scopes, Roles: k.Roles, ExpiresAt: nanos(k.ExpiresAt), By: k.By}}})
	return err
}

// RevokeAPIKey revokes an API key. It stops working on each node as soon as that node has applied the event. An
// unknown key is CodeNotFound.
func (s *Service) RevokeAPIKey(ctx context.Context, id, by string) error {
	_, err := s.propose(ctx, id, &hubpb.Event{Kind: &hubpb.Event_ApiKeyRevoked{ApiKeyRevoked: &hubpb.ApiKeyRevoked{Id: id, By: by}}})
	return err
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
// time, exactly one is fresh. After until the request itself is too old to be accepted.
func (s *Service) ClaimNonce(ctx context.Context, nonce [32]byte, until time.Time) (fresh bool, err error) {
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_NonceClaimed{
		NonceClaimed: &hubpb.NonceClaimed{Nonce: nonce[:], Until: until.UnixNano()}}})
	switch {
	case err != nil:
		return false, err
	case res[0].Outcome == OutcomeStale:
		return false, nil
	}
	return res[0].Outcome == OutcomeOK, res[0].Err("nonce")
}
