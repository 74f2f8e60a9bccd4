package auth

import (
	"slices"
	"strings"
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
)

// Principal is an authenticated caller, or the anonymous one. Treat it as immutable.
type Principal struct {
	Method Method
	// Authority vouches for the names: the issuer's name in the settings, or empty for the hub itself.
	Authority string
	// Subject is the caller's stable name at its authority: sub, the key's name, or the certificate's URI or DNS name.
	Subject string
	// Client is the OAuth2 client. User is a name that rules may compare with parts of a topic. Both may be empty.
	Client, User string
	Scopes       []string
	Roles        []string
}

// Anonymous returns the principal of a caller without credentials.
func Anonymous() *Principal { return &Principal{Method: MethodAnonymous} }

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
