package oidc

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// assertionLife is how long a client assertion may be used.
const assertionLife = time.Minute

// assertion returns what proves to the token endpoint that it is the hub which asks (private_key_jwt, OpenID Connect Core section 9). It
// is for the issuer, and not for an endpoint that another provider's discovery could name, too.
func (p *Provider) assertion() (string, error) {
	algorithm, ok := jwa.LookupSignatureAlgorithm(p.o.KeyAlgorithm)
	if !ok {
		return "", fmt.Errorf("identity provider %s: the algorithm %q of the hub's key is unknown", p.o.Name, p.o.KeyAlgorithm)
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", fmt.Errorf("make the jti of a client assertion: %w", err)
	}
	now := p.o.Now()
	token, err := jwt.NewBuilder().Issuer(p.o.ClientID).Subject(p.o.ClientID).Audience([]string{p.o.Issuer}).
		JwtID(base64.RawURLEncoding.EncodeToString(id)).IssuedAt(now).Expiration(now.Add(assertionLife)).Build()
	if err != nil {
		return "", fmt.Errorf("make a client assertion: %w", err)
	}
	head := jws.NewHeaders()
	if p.o.KeyID != "" {
		if err := head.Set(jws.KeyIDKey, p.o.KeyID); err != nil {
			return "", fmt.Errorf("make a client assertion: %w", err)
		}
	}
	signed, err := jwt.Sign(token, jwt.WithKey(algorithm, p.o.Key, jws.WithProtectedHeaders(head)))
	if err != nil {
		return "", fmt.Errorf("sign a client assertion: %w", err)
	}
	return string(signed), nil
}
