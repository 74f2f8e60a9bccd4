package broker

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"quorumhub/auth"
	"quorumhub/auth/ticket"
)

// application is a service provider as the library sees it. It implements op.Client.
type application struct {
	*auth.ServiceProvider
	terminal bool // quorumhub login, which no setting describes
}

// application returns the registered application with a client ID.
func (b *Broker) application(clientID string) (*application, bool) {
	if clientID == ticket.Terminal {
		return &application{ServiceProvider: &auth.ServiceProvider{Name: ticket.Terminal, ClientID: ticket.Terminal}, terminal: true}, true
	}
	s := b.Settings()
	for i := range s.ServiceProviders {
		if p := &s.ServiceProviders[i]; p.Protocol == auth.ProtocolOIDC && p.ClientID == clientID {
			return &application{ServiceProvider: p}, true
		}
	}
	return nil, false
}

// proves reports whether a secret is the application's. It takes the same time for an unknown application, which is nil.
func (a *application) proves(secret string) bool {
	given := sha256.Sum256([]byte(secret))
	want := make([]byte, len(given)) // no text is known to have this hash
	if a != nil && len(a.SecretHash()) == len(want) {
		want = a.SecretHash()
	}
	return subtle.ConstantTimeCompare(given[:], want) == 1
}

// public reports whether the application has no secret.
func (a *application) public() bool { return a.SecretHash() == nil }

// GetID implements op.Client.
func (a *application) GetID() string { return a.ClientID }

// RedirectURIs implements op.Client.
func (a *application) RedirectURIs() []string { return a.ServiceProvider.RedirectURIs }

// PostLogoutRedirectURIs implements op.Client.
func (a *application) PostLogoutRedirectURIs() []string {
	return a.ServiceProvider.PostLogoutRedirectURIs
}

// ApplicationType implements op.Client. It is the one whose redirect URIs must be the registered ones, to the letter.
func (a *application) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }

// AuthMethod implements op.Client.
func (a *application) AuthMethod() oidc.AuthMethod {
	if a.public() {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

// ResponseTypes implements op.Client.
func (a *application) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

// GrantTypes implements op.Client.
func (a *application) GrantTypes() []oidc.GrantType {
	if a.terminal {
		return []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}
	}
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}

// LoginURL implements op.Client. The library never uses it here: logins are the sequences'.
func (a *application) LoginURL(string) string { return "" }

// AccessTokenType implements op.Client.
func (a *application) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }

// IDTokenLifetime implements op.Client.
func (a *application) IDTokenLifetime() time.Duration { return accessTime }

// DevMode implements op.Client.
func (a *application) DevMode() bool { return false }

// RestrictAdditionalIdTokenScopes implements op.Client.
func (a *application) RestrictAdditionalIdTokenScopes() func([]string) []string { return slices.Clone }

// RestrictAdditionalAccessTokenScopes implements op.Client.
func (a *application) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return slices.Clone
}

// IsScopeAllowed implements op.Client. What an application learns is up to its claims in auth.file, whatever it asks for.
func (a *application) IsScopeAllowed(string) bool { return false }

// IDTokenUserinfoClaimsAssertion implements op.Client.
func (a *application) IDTokenUserinfoClaimsAssertion() bool { return true }

// ClockSkew implements op.Client. Applications whose clocks are a little behind must not refuse a token of this moment.
func (a *application) ClockSkew() time.Duration { return 0 }

// release returns what the application learns about somebody besides who they are.
func (a *application) release(p *auth.Principal, name string, amr []string) map[string]any {
	out := map[string]any{}
	for claim, what := range a.Claims {
		switch v := released(p, name, amr, what).(type) {
		case string:
			if v != "" {
				out[claim] = v
			}
		case []string:
			if len(v) > 0 {
				out[claim] = v
			}
		}
	}
	return out
}

// released returns one of auth.ReleasedClaims.
func released(p *auth.Principal, name string, amr []string, what string) any {
	switch what {
	case "amr":
		return amr
	case "authority":
		return p.Authority
	case "id":
		return p.ID
	case "method":
		return string(p.Method)
	case "name":
		return name
	case "roles":
		return p.Roles
	case "scopes":
		return p.Scopes
	case "subject":
		return p.Subject
	case "user":
		return p.User
	}
	return nil
}
