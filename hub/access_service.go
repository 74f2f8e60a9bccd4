package hub

import (
	"context"
	"time"

	"quorumhub/hub/hubpb"
)

// CreateAPIKey makes an API key known to all nodes. The key's CreatedAt is the log's time, whatever it says.
func (s *Service) CreateAPIKey(ctx context.Context, k APIKey) error {
	return s.proposeAccess(ctx, k.ID, &hubpb.Event{Kind: &hubpb.Event_ApiKeyCreated{ApiKeyCreated: &hubpb.ApiKeyCreated{
		Id: k.ID, Name: k.Name, Hash: k.Hash, Scopes: k.Scopes, Roles: k.Roles, ExpiresAt: nanos(k.ExpiresAt), By: k.By}}})
}

// RevokeAPIKey ends an API key at once, on every node that has applied it. An unknown one is CodeNotFound.
func (s *Service) RevokeAPIKey(ctx context.Context, id, by string) error {
	return s.proposeAccess(ctx, id, &hubpb.Event{Kind: &hubpb.Event_ApiKeyRevoked{ApiKeyRevoked: &hubpb.ApiKeyRevoked{Id: id, By: by}}})
}

// SetAccessRule adds a rule of access, or replaces the one of the same name. Its meaning must have been checked.
func (s *Service) SetAccessRule(ctx context.Context, r AccessRule) error {
	return s.proposeAccess(ctx, r.Name, &hubpb.Event{Kind: &hubpb.Event_AccessRuleSet{AccessRuleSet: &hubpb.AccessRuleSet{Name: r.Name, Rule: r.Rule, By: r.By}}})
}

// RemoveAccessRule takes a rule away. An unknown one is CodeNotFound.
func (s *Service) RemoveAccessRule(ctx context.Context, name, by string) error {
	return s.proposeAccess(ctx, name, &hubpb.Event{Kind: &hubpb.Event_AccessRuleRemoved{AccessRuleRemoved: &hubpb.AccessRuleRemoved{Name: name, By: by}}})
}

func (s *Service) proposeAccess(ctx context.Context, name string, ev *hubpb.Event) error {
	res, err := s.proposer.Propose(ctx, ev)
	if err != nil {
		return err
	}
	return res[0].Err(name)
}

// ClaimNonce uses up the nonce of a signed request, through the log: of several claims of one nonce, on any nodes at any
// time, exactly one is fresh. until is when the request becomes too old to be taken.
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
