package auth

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Kinds of an IdentityProvider.
const (
	KindOIDC  = "oidc"  // an OpenID Connect provider
	KindLocal = "local" // accounts in auth.file, for when no provider answers
	KindKey   = "key"   // an API key of this hub, or an access token, typed into a page
)

// IdentityProvider is where people log in. Sequences refer to it by its name.
type IdentityProvider struct {
	// Name identifies the provider in sequences, sessions, rules and logs, and is the authority of its principals.
	Name string `yaml:"name"`
	// Kind is KindOIDC, KindLocal or KindKey.
	Kind string `yaml:"kind"`
	// Label is what pages call it. Empty: Name.
	Label string `yaml:"label"`

	// What follows is for KindOIDC only. Issuer is the exact iss of ID tokens and the base URL of discovery.
	Issuer   string `yaml:"issuer"`
	ClientID string `yaml:"client_id"`
	// ClientSecret authenticates the hub at the provider; without it, ClientKey (private_key_jwt), and without both PKCE alone.
	ClientSecret SecretRef `yaml:"client_secret"`
	ClientKey    ClientKey `yaml:"client_key"`
	// ClientAuth is basic (the default with a secret), post, private_key_jwt (the default with a key) or none (the default without both).
	ClientAuth string         `yaml:"client_auth"`
	Scopes     []string       `yaml:"scopes"`
	Claims     IdentityClaims `yaml:"claims"`
	// AllowedDomains are those of verified e-mail addresses; others are refused. Empty: any, and none.
	AllowedDomains []string `yaml:"allowed_domains"`
	// EndSession: a logout here goes on to the provider (OpenID Connect RP-Initiated Logout 1.0).
	EndSession bool `yaml:"end_session"`

	// What follows is for KindLocal only. Nobody can log in unless Enabled.
	Enabled  bool           `yaml:"enabled"`
	Accounts []LocalAccount `yaml:"accounts"`

	file string // of its own; empty: it is in auth.file
}

// IdentityClaims maps the claims of an ID token. User may be a name that its holder has chosen: rules that compare it say so by
// naming the provider.
type IdentityClaims struct {
	ClaimMapping `yaml:",inline"`
	// Name is what pages call somebody. Default: /name.
	Name Pointers `yaml:"name"`
}

// Wanted returns the claims that the settings ask for by name: roles and scopes that are not the usual ones.
func (c *IdentityClaims) Wanted() (out []string) {
	var usual ClaimMapping
	usual.setDefaults()
	for _, of := range [][2][]string{{c.Roles, usual.Roles}, {c.Scopes, usual.Scopes}, {c.Client, usual.Client}} {
		if !slices.Equal(of[0], of[1]) {
			out = append(out, of[0]...)
		}
	}
	return out
}

// LocalAccount is an account of KindLocal. Its principal is local/<name>.
type LocalAccount struct {
	Name string `yaml:"name"`
	// PasswordHash is argon2id's, as quorumhub auth hash-password prints it.
	PasswordHash string `yaml:"password_hash"`
	// TOTP is the secret of one-time codes (RFC 6238) in base32; neither file nor env: the password is enough.
	TOTP   SecretRef `yaml:"totp"`
	Roles  []string  `yaml:"roles"`
	Scopes []string  `yaml:"scopes"`
}

// SecretRef says where a secret is: {file: PATH} or {env: NAME}. The settings never contain it.
type SecretRef struct {
	File string `yaml:"file"`
	Env  string `yaml:"env"`

	clear  bool // it was written into the settings
	secret []byte
}

// Given reports whether there is a secret.
func (s *SecretRef) Given() bool { return s.File != "" || s.Env != "" }

// Bytes returns the secret as of when the settings were read.
func (s *SecretRef) Bytes() []byte { return s.secret }

// Format writes where the secret is, never what it is.
func (s SecretRef) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{file:%s env:%s}", s.File, s.Env) }

// LogValue is as Format.
func (s SecretRef) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// UnmarshalYAML notes a secret that stands in the settings themselves, so that the error can say where without showing it.
func (s *SecretRef) UnmarshalYAML(decode func(any) error) error {
	var text string
	if decode(&text) == nil {
		s.clear = true
		return nil
	}
	type plain SecretRef
	return decode((*plain)(s))
}

func (s *SecretRef) check(key string, atLeast int) (err error) {
	switch {
	case s.clear:
		return fmt.Errorf("%s: is written in the clear; expected {file: PATH} or {env: NAME}", key)
	case !s.Given():
		return nil
	case s.File != "" && s.Env != "":
		return fmt.Errorf("%s: has file and env; expected one of them", key)
	}
	from := SecretSource{File: s.File, Env: s.Env}
	if s.secret, err = from.read(atLeast); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// Pointers are JSON pointers (RFC 6901). In YAML one of them need not be a list.
type Pointers []string

// UnmarshalYAML takes a text or a list.
func (p *Pointers) UnmarshalYAML(decode func(any) error) error {
	var one string
	if decode(&one) == nil {
		*p = Pointers{one}
		return nil
	}
	return decode((*[]string)(p))
}

// Sequence says in which steps people or programs prove who they are.
type Sequence struct {
	Steps []Step `yaml:"steps"`
}

// Protocols of a ServiceProvider.
const (
	ProtocolPages       = "pages"        // pages of the hub itself
	ProtocolAPI         = "api"          // the hub's own API
	ProtocolForwardAuth = "forward-auth" // applications behind a reverse proxy that asks about each request
	ProtocolOIDC        = "oidc"         // applications that use the hub as their OpenID Connect provider
)

// ServiceProvider is who wants to know who somebody is: a page, the API, or an application elsewhere.
type ServiceProvider struct {
	Name     string `yaml:"name"`
	Protocol string `yaml:"protocol"`
	// Sequence is the name of a sequence, or of an authenticator, which is a sequence of one step.
	Sequence string `yaml:"sequence"`
	// MaxAge is how long ago a step may have been passed; 0: as long as the session lives.
	MaxAge time.Duration `yaml:"max_age"`
	// Claims says what the provider learns of somebody: the name under which it expects it, and one of ReleasedClaims.
	Claims map[string]string `yaml:"claims"`

	// Hosts are those of the application, for ProtocolForwardAuth only.
	Hosts []string `yaml:"hosts"`

	// What follows is for ProtocolOIDC only. ClientSecretHash is the SHA-256 of the application's secret in hex; empty: it has none
	// (a public client).
	ClientID               string   `yaml:"client_id"`
	ClientSecretHash       string   `yaml:"client_secret_hash"`
	RedirectURIs           []string `yaml:"redirect_uris"`
	PostLogoutRedirectURIs []string `yaml:"post_logout_redirect_uris"`

	secretHash []byte
	file       string // of its own; empty: it is in auth.file
}

// SecretHash is ClientSecretHash decoded; nil for a public client.
func (p *ServiceProvider) SecretHash() []byte { return p.secretHash }

// ReleasedClaims lists what a service provider may learn of somebody: parts of the principal, its name on pages, and the methods by
// which it logged in (amr, RFC 8176).
func ReleasedClaims() []string {
	return []string{"amr", "authority", "id", "method", "name", "roles", "scopes", "subject", "user"}
}

// SessionSettings bound sessions.
type SessionSettings struct {
	// Idle ends a session that is not used for so long. 0: 30 m.
	Idle time.Duration `yaml:"idle"`
	// Absolute ends a session in any case. 0: 12 h.
	Absolute time.Duration `yaml:"absolute"`
}

// Known says what a program that embeds sequences knows besides the hub's own names.
type Known func(*Settings)

// KnownStrategies are strategies of steps, by name.
func KnownStrategies(s map[string]Strategy) Known { return func(to *Settings) { to.strategies = s } }

// KnownProtocols are names of protocols of service providers.
func KnownProtocols(names ...string) Known { return func(to *Settings) { to.protocols = names } }

// IdentityProvider returns a provider by its name.
func (s *Settings) IdentityProvider(name string) (*IdentityProvider, bool) {
	for i := range s.IdentityProviders {
		if p := &s.IdentityProviders[i]; p.Name == name {
			return p, true
		}
	}
	return nil, false
}

// HasAuthenticator reports whether sequences could name an authenticator. A provider of KindLocal that is not enabled is none.
func (s *Settings) HasAuthenticator(name string) bool {
	if p, ok := s.IdentityProvider(name); ok {
		return p.Kind != KindLocal || p.Enabled
	}
	_, ok := s.authenticators()[name]
	return ok
}

// HasLocalAccount reports whether somebody may log in with an account of KindLocal.
func (s *Settings) HasLocalAccount(name string) bool {
	return slices.ContainsFunc(s.IdentityProviders, func(p IdentityProvider) bool {
		return p.Kind == KindLocal && p.Enabled && slices.ContainsFunc(p.Accounts, func(a LocalAccount) bool { return a.Name == name })
	})
}

// ServiceProvider returns a provider by its name.
func (s *Settings) ServiceProvider(name string) (*ServiceProvider, bool) {
	for i := range s.ServiceProviders {
		if p := &s.ServiceProviders[i]; p.Name == name {
			return p, true
		}
	}
	return nil, false
}

// StepsOf returns the steps of a sequence, or the one step that an authenticator of this name is; false if there is none of this name.
func (s *Settings) StepsOf(name string) ([]Step, bool) {
	if q, ok := s.Sequences[name]; ok {
		return q.Steps, true
	}
	if _, ok := s.authenticators()[name]; ok {
		return []Step{{Strategy: StrategySingle, Of: []string{name}}}, true
	}
	return nil, false
}
