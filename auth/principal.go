package auth

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Method is how a caller proved its identity.
type Method string

// Methods.
const (
	MethodAnonymous   Method = "anonymous"
	MethodToken       Method = "token"       // OAuth2 access token in JWT form
	MethodAPIKey      Method = "api-key"     // API key issued by this hub
	MethodCertificate Method = "certificate" // TLS client certificate
	MethodSignature   Method = "signature"   // RFC 9421
	MethodGEO         Method = "geo-auth"
	MethodSession     Method = "session" // a login, see auth/session
	MethodWebhook     Method = "webhook" // a sender that the gateway's registry names, by its signature
)

// Principal is an authenticated caller, or the anonymous one. Treat it as immutable.
type Principal struct {
	Method Method
	// ID is <authority>/<subject>, such as issuer:idp/123 or key/0123456789ab: who owns what the caller makes. Empty: nobody.
	ID string
	// Authority vouches for the names: the issuer's name in the settings, or empty for the hub itself.
	Authority string
	// Subject is the caller's stable name at its authority: sub, the key's name, or the certificate's URI or DNS name.
	Subject string
	// Client is the OAuth2 client. User is a name that rules may compare with parts of a topic. Both may be empty.
	Client, User string
	Scopes       []string
	Roles        []string
	// Until is when the credential ends; zero: that is not known in advance.
	Until time.Time
	// Passed are the authenticators that a session has passed; nil for other methods.
	Passed []PassedStep
	// GEO is what a request with MethodGEO named in its signed part; nil for other methods.
	GEO *GEONames

	aliases []string                                  // IDs that auth.file says are this principal, too
	again   func(context.Context) (*Principal, error) // see Again; nil: nothing changes before Until
}

// PassedStep says when a session has passed an authenticator, by its name in auth.file.
type PassedStep struct {
	Authenticator string
	At            time.Time
}

// GEONames are the names in a request with GEO-Auth. The key vouches for them.
type GEONames struct{ Username, SourceSystem, TargetSystem string }

// Again checks the credential once more, long after its request. It returns the principal as it is now, a *RefusalError if the
// credential is no longer valid, or ErrUnavailable (wrapped) if that cannot be checked now. It does not look at Until.
func (p *Principal) Again(ctx context.Context) (*Principal, error) {
	if p.again == nil {
		return p, nil
	}
	now, err := p.again(ctx)
	if err != nil {
		return nil, err
	}
	if p.aliases != nil {
		one := *now
		one.ID, one.aliases = p.ID, p.aliases
		now = &one
	}
	return now, nil
}

// Lasting returns the principal with a way to check its credential again, see Again. The function may be called at any time and
// concurrently.
func (p *Principal) Lasting(again func(context.Context) (*Principal, error)) *Principal {
	one := *p
	one.again = again
	return &one
}

// MaxIDBytes is the longest ID of a principal.
const MaxIDBytes = 512

// identity makes the ID of a principal.
func identity(authority, subject string) string { return authority + "/" + subject }

// checkID refuses names that no log line or list could show unambiguously.
func (p *Principal) checkID() error {
	switch {
	case len(p.ID) > MaxIDBytes:
		return refuse(p.Method, "principal of %d bytes; expected at most %d", len(p.ID), MaxIDBytes)
	case !utf8.ValidString(p.ID) || strings.ContainsFunc(p.ID, unicode.IsControl):
		return refuse(p.Method, "principal %q has control characters", clip(p.ID))
	}
	return nil
}

// Check refuses a principal whose ID no log line or list could show unambiguously, or that has none.
func (p *Principal) Check() error {
	if p.ID == "" {
		return refuse(p.Method, "a principal without an ID")
	}
	return p.checkID()
}

// Is reports whether id names the principal.
func (p *Principal) Is(id string) bool {
	return id != "" && (p.ID == id || slices.Contains(p.aliases, id))
}

// Anonymous returns the principal of a caller without credentials.
func Anonymous() *Principal { return &Principal{Method: MethodAnonymous} }

// WebhookSender returns the principal of a sender of webhooks that the gateway's registry names.
func WebhookSender(name string) *Principal {
	return &Principal{Method: MethodWebhook, ID: identity("webhook", name), Subject: name}
}

// String names the principal for logs: method:authority/subject. It holds no secret.
func (p *Principal) String() string {
	if p.Method == MethodAnonymous {
		return string(MethodAnonymous)
	}
	var b strings.Builder
	b.WriteString(string(p.Method))
	b.WriteByte(':')
	if p.Authority != "" {
		b.WriteString(p.Authority)
		b.WriteByte('/')
	}
	b.WriteString(p.Subject)
	return b.String()
}

// HasScope reports whether the principal has a scope.
func (p *Principal) HasScope(name string) bool { return slices.Contains(p.Scopes, name) }

// HasRole reports whether the principal has a role.
func (p *Principal) HasRole(name string) bool { return slices.Contains(p.Roles, name) }
