package hub

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"quorumhub/hub/hubpb"
)

// MaxCallbackCredentials is how many patterns may have credentials. It is part of the fold.
const MaxCallbackCredentials = 1000

// setCallback sets, replaces or removes the credentials for a pattern.
func (s *State) setCallback(e *hubpb.CallbackCredentialsSet, fx *Effects) Result {
	known := s.callbacks[e.Callback] != nil
	switch {
	case s.retiredKey(e.Sealed):
		return Result{Outcome: OutcomeKeyRetired}
	case len(e.Sealed) == 0 && !known:
		return Result{Outcome: OutcomeNotFound}
	case len(e.Sealed) == 0:
		delete(s.callbacks, e.Callback)
	case !known && len(s.callbacks) >= MaxCallbackCredentials:
		return Result{Outcome: OutcomeFull}
	default:
		s.callbacks[e.Callback] = &hubpb.CallbackCredentialsRow{Set: e, SetAt: s.meta.Now}
	}
	s.touchName(TableCallback, e.Callback)
	fx.CallbacksChanged = true
	return Result{}
}

// reencryptCallback replaces the sealed credentials for a pattern by the same under another key.
func (s *State) reencryptCallback(item *hubpb.SecretsReencrypted_Item, fx *Effects) {
	r := s.callbacks[item.Callback]
	if r == nil || string(r.GetSet().GetSealed()) != string(item.Was) {
		return
	}
	e := r.GetSet()
	s.callbacks[item.Callback] = &hubpb.CallbackCredentialsRow{SetAt: r.GetSetAt(), Set: &hubpb.CallbackCredentialsSet{
		Callback: e.GetCallback(), Sealed: item.Sealed, By: e.GetBy(), Kind: e.GetKind(), Headers: e.GetHeaders()}}
	s.touchName(TableCallback, item.Callback)
	fx.CallbacksChanged = true
}

// callbackSecrets returns the credentials of patterns that are not sealed with the given key.
func (s *State) callbackSecrets(key string) (out []SealedSecret) {
	for _, pattern := range slices.Sorted(maps.Keys(s.callbacks)) {
		if sealed := s.callbacks[pattern].GetSet().GetSealed(); SealedWith(sealed) != key {
			out = append(out, SealedSecret{Callback: pattern, Sealed: sealed, Binding: CallbackBinding(pattern)})
		}
	}
	return out
}

// SetCallbackCredentials sets what the hub sends to the callbacks that match a pattern, beside what their subscribers asked
// for, and in place of it where both name the same header.
func (s *Service) SetCallbackCredentials(ctx context.Context, pattern string, c Credentials, by string) (string, error) {
	pattern, err := ParseCallbackPattern(pattern)
	if err != nil {
		return "", err
	}
	if err := c.Check(); err != nil {
		return "", err
	}
	if c.OAuth2 != nil && s.policy.CheckCallback != nil {
		u, err := url.Parse(c.OAuth2.TokenURL)
		if err == nil {
			err = s.policy.CheckCallback(u)
		}
		if err != nil {
			return "", &Error{Code: CodeForbidden, Param: "oauth2.token_url", Message: err.Error()}
		}
	}
	text, err := c.Encode()
	if err != nil {
		return "", fmt.Errorf("encode credentials: %w", err)
	}
	ev := &hubpb.CallbackCredentialsSet{Callback: pattern, By: by, Kind: c.Kind(), Headers: slices.Sorted(maps.Keys(c.Headers))}
	for tries := 1; ; tries++ {
		if ev.Sealed, err = s.secrets.Seal(text, CallbackBinding(pattern)); err != nil {
			return "", fmt.Errorf("seal credentials: %w", err)
		}
		res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_CallbackCredentialsSet{CallbackCredentialsSet: ev}})
		switch {
		case err != nil:
			return "", err
		case res[0].Outcome == OutcomeKeyRetired && tries < sealTries:
			continue // as in request
		case res[0].Outcome == OutcomeFull:
			return "", Errorf(CodeConflict, "%d patterns have credentials already; expected at most as many: use a pattern such as *.example.org for several hosts", MaxCallbackCredentials)
		}
		return pattern, res[0].Err(pattern)
	}
}

// RemoveCallbackCredentials removes what SetCallbackCredentials has set for a pattern. An unknown one is CodeNotFound.
func (s *Service) RemoveCallbackCredentials(ctx context.Context, pattern, by string) error {
	pattern, err := ParseCallbackPattern(pattern)
	if err != nil {
		return err
	}
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_CallbackCredentialsSet{
		CallbackCredentialsSet: &hubpb.CallbackCredentialsSet{Callback: pattern, By: by}}})
	switch {
	case err != nil:
		return err
	case res[0].Outcome == OutcomeNotFound:
		return Errorf(CodeNotFound, "no credentials are set for %s", quote(pattern))
	}
	return res[0].Err(pattern)
}

// sealHeaders seals the headers of a subscribe request; "" if it has none.
func (s *Service) sealHeaders(r *SubscribeRequest) (string, error) {
	if len(r.Headers) == 0 {
		return "", nil
	}
	c := Credentials{Headers: r.Headers}
	text, err := c.Encode()
	if err != nil {
		return "", fmt.Errorf("encode headers: %w", err)
	}
	sealed, err := s.secrets.Seal(text, HeadersBinding(r.Topic, r.CallbackKey))
	if err != nil {
		return "", fmt.Errorf("seal headers: %w", err)
	}
	return string(sealed), nil
}
