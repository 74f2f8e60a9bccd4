package auth

import (
	"slices"
	"strings"
)

// Method says how a caller proved who it is.
type Method string

// Methods.
const (
	MethodAnonymous   Method = "anonymous"
	MethodToken       Method = "token"       // OAuth2 access token in JWT form
	MethodKey         Method = "api-key"     // key issued by this hub
	MethodCertificate Method = "certificate" // TLS client certificate
	MethodSignature   Method = "signature"   // RFC 9421
	MethodGEO         Method = "geo-auth"
)

// Principal is a caller whose identity is proven, or the anonymous one. It is a plain value that nobody changes.
type Principal struct {
	Method Method
	// Authority is who vouches for the names: the issuer's name in the settings, empty for the hub itself.
	Authority string
	// Subject is the caller's stable name at its authority: sub, the key's name, the certificate's URI or DNS name.
	Subject string
	// Client is the OAuth2 client, User a name that rules may compare with parts of a topic. Both may be empty.
	Client, User string
	Scopes       []string
	Roles        []string
}

// Anonymous is the caller who showed nothing.
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

// HasScope tells whether one of the principal's scopes is name.
func (p *Principal) HasScope(name string) bool { return slices.Contains(p.Scopes, name) }

// HasRole tells whether one of the principal's roles is name.
func (p *Principal) HasRole(name string) bool { return slices.Contains(p.Roles, name) }
