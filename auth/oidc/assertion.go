package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
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
	algorithm, err := algorithmOf(p.o.Key.Public())
	if err != nil {
		return "", err
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

func algorithmOf(key crypto.PublicKey) (jwa.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return jwa.RS256(), nil
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return jwa.ES256(), nil
		case 384:
			return jwa.ES384(), nil
		}
	case ed25519.PublicKey:
		return jwa.EdDSA(), nil
	}
	return jwa.EmptySignatureAlgorithm(), fmt.Errorf("a %T signs no client assertions; expected RSA, ECDSA P-256 or P-384, or Ed25519", key)
}
