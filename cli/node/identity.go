package node

import (
	"context"
	"reflect"
	"slices"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/form"
	"quorumhub/auth/oidc"
	"quorumhub/auth/sequence"
)

// identityProvider is one with which people can log in.
type identityProvider struct {
	settings auth.IdentityProvider
	sequence.Interactive
	remote *oidc.Provider     // the same, if its kind is oidc; nil: it asks nobody
	stop   context.CancelFunc // nil: not running
}

// interactive returns the authenticators with which people can log in, by name.
func (a *authorities) interactive() map[string]sequence.Interactive {
	out := make(map[string]sequence.Interactive, len(a.identity))
	for _, p := range a.identity {
		out[p.Name()] = p.Interactive
	}
	return out
}

// silent returns a line for each identity provider that does not respond.
func (a *authorities) silent() (out []string) {
	for _, p := range a.identity {
		if p.remote == nil {
			continue
		}
		if err := p.remote.Status(); err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

// identityLocked returns the identity providers of settings that are switched on; the present ones as far as nothing about them has
// changed. One for keys takes those of the settings' other authorities.
func (a *accessControl) identityLocked(s *auth.Settings, asked *authorities) (out []*identityProvider, err error) {
	was := a.asked.Load().identity
	for i := range s.IdentityProviders {
		set := s.IdentityProviders[i]
		p := &identityProvider{settings: set}
		same := slices.IndexFunc(was, func(o *identityProvider) bool { return reflect.DeepEqual(o.settings, set) })
		switch {
		case set.Kind == auth.KindKey:
			p.Interactive = form.NewKey(form.KeyOptions{Name: set.Name, Label: set.Label, Authenticate: a.keyGate(s, asked).Authenticate, Now: time.Now})
		case set.Kind == auth.KindLocal && !set.Enabled:
			continue
		case same >= 0:
			p = was[same]
		case set.Kind == auth.KindLocal:
			if p.Interactive, err = a.local(&set); err != nil {
				return out, err
			}
		default:
			if p.remote, err = a.remoteLocked(&set); err != nil {
				return out, err
			}
			p.Interactive = p.remote
		}
		out = append(out, p)
	}
	return out, nil
}

// keyGate takes what people can paste into a page: API keys and access tokens.
func (a *accessControl) keyGate(s *auth.Settings, asked *authorities) *auth.Gate {
	list := []auth.Authenticator{auth.NewAPIKeys(a, time.Now)}
	if len(s.Issuers) > 0 {
		list = append(list, auth.NewTokens(s.Issuers, asked.keysOf, time.Now))
	}
	return auth.NewGate(s, list...)
}

func (a *accessControl) local(set *auth.IdentityProvider) (*form.Local, error) {
	o := form.LocalOptions{Name: set.Name, Label: set.Label, Used: a, Node: func() string { return a.node }, Log: a.log, Now: time.Now}
	for i := range set.Accounts {
		acc := &set.Accounts[i]
		o.Accounts = append(o.Accounts, form.Account{Name: acc.Name, Hash: acc.PasswordHash, TOTP: string(acc.TOTP.Bytes()), Roles: acc.Roles, Scopes: acc.Scopes})
	}
	return form.NewLocal(o)
}

func (a *accessControl) remoteLocked(set *auth.IdentityProvider) (*oidc.Provider, error) {
	client, err := a.clientLocked()
	if err != nil {
		return nil, err
	}
	way := map[string]string{"basic": "client_secret_basic", "post": "client_secret_post"}[set.ClientAuth]
	return oidc.New(oidc.Options{Name: set.Name, Label: set.Label, Issuer: set.Issuer, ClientID: set.ClientID, Secret: set.ClientSecret.Bytes(), Auth: way,
		Key: set.ClientKey.Signer(), KeyAlgorithm: set.ClientKey.Algorithm, KeyID: set.ClientKey.ID,
		Scopes: set.Scopes, Claims: set.Claims.ClaimMapping, NameClaims: append(slices.Clone(set.Claims.Name), "/preferred_username"), Wanted: set.Claims.Wanted(),
		AllowedDomains: set.AllowedDomains, EndSession: set.EndSession, Transport: client, Used: a, Log: a.log, Now: time.Now}), nil
}

// keysOf returns the keys of an issuer.
func (a *authorities) keysOf(is auth.Issuer) *auth.KeySet {
	return a.issuers[slices.IndexFunc(a.issuers, func(k *issuerKeys) bool { return k.issuer.Name == is.Name })].set
}

// Claim implements auth.Nonces by the service, which there may not be yet when providers are made.
func (a *accessControl) Claim(ctx context.Context, principal string, nonce [32]byte, until time.Time) (bool, error) {
	return nonceClaims{a.service}.Claim(ctx, principal, nonce, until)
}
