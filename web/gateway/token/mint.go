package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// Keys are the keys of tokens. Safe for concurrent use.
type Keys interface {
	// TokenKeys returns the private keys (P-256), the one that signs first.
	TokenKeys() []*ecdsa.PrivateKey
	// FormerTokenKeys returns public keys (P-256, uncompressed points) that sign no more, but whose tokens may still be valid.
	FormerTokenKeys() [][]byte
}

// Caller is whom a token is for.
type Caller struct {
	ID      string // <authority>/<subject>: the client that calls
	Issuer  string // vouches for Subject; empty: the hub itself
	Subject string
	Method  string // how the caller proved who it is
	// Username, SourceSystem and TargetSystem are what a signed request names; empty: it names none.
	Username, SourceSystem, TargetSystem string
}

// Grant says what a token of an upstream holds.
type Grant struct {
	Audience string
	TTL      time.Duration
	// Claims are further claims. A text in braces stands for something about the caller or its account, see CheckClaim.
	Claims map[string]any
}

// Minter mints tokens. Safe for concurrent use.
type Minter struct {
	Issuer string
	Keys   Keys
	Clock  func() time.Time
}

// ErrNoKey means that the node has no key for tokens.
var ErrNoKey = errors.New("this node has no key for tokens")

// Mint returns a token for a caller with an account at the service. The subject is the name of the account, or that of the caller where the
// account has none.
func (m *Minter) Mint(g *Grant, c *Caller, a *Account) (string, error) {
	keys := m.Keys.TokenKeys()
	if len(keys) == 0 {
		return "", ErrNoKey
	}
	kid, err := keyID(&keys[0].PublicKey)
	if err != nil {
		return "", err
	}
	now := m.Clock()
	claims := map[string]any{}
	for name, value := range g.Claims {
		if v := fill(value, c, a); v != nil {
			claims[name] = v
		}
	}
	for name, value := range map[string]string{"username": c.Username, "source_system": c.SourceSystem, "target_system": c.TargetSystem} {
		if _, said := claims[name]; value != "" && !said {
			claims[name] = value
		}
	}
	claims["iss"], claims["sub"], claims["aud"], claims["client_id"] = m.Issuer, a.subject(c), g.Audience, c.ID
	claims["iat"], claims["exp"] = now.Unix(), now.Add(g.TTL).Unix()
	claims["jti"] = rand.Text()
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode a token: %w", err)
	}
	head := jws.NewHeaders()
	if err := errors.Join(head.Set(jws.TypeKey, "at+jwt"), head.Set(jws.KeyIDKey, kid)); err != nil {
		return "", fmt.Errorf("encode a token: %w", err)
	}
	signed, err := jws.Sign(payload, jws.WithKey(jwa.ES256(), keys[0], jws.WithProtectedHeaders(head)))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return string(signed), nil
}

// Set returns the public keys of all tokens that may be valid, as a JWK Set (RFC 7517), the one that signs first.
func (m *Minter) Set() ([]byte, error) {
	var public []*ecdsa.PublicKey
	for _, key := range m.Keys.TokenKeys() {
		public = append(public, &key.PublicKey)
	}
	for _, point := range m.Keys.FormerTokenKeys() {
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil {
			public = append(public, key)
		}
	}
	set, seen := jwk.NewSet(), map[string]bool{}
	for _, key := range public {
		kid, err := keyID(key)
		if err != nil {
			return nil, err
		}
		if seen[kid] {
			continue
		}
		seen[kid] = true
		one, err := jwk.Import(key)
		if err == nil {
			err = errors.Join(one.Set(jwk.KeyIDKey, kid), one.Set(jwk.AlgorithmKey, jwa.ES256()), one.Set(jwk.KeyUsageKey, "sig"), set.AddKey(one))
		}
		if err != nil {
			return nil, fmt.Errorf("encode the keys of tokens: %w", err)
		}
	}
	return json.Marshal(set)
}

// keyID names a key by its thumbprint (RFC 7638), which is the same on all nodes.
func keyID(key *ecdsa.PublicKey) (string, error) {
	one, err := jwk.Import(key)
	if err != nil {
		return "", fmt.Errorf("encode the key of tokens: %w", err)
	}
	sum, err := one.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("encode the key of tokens: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// standIns are the texts that stand for something about the caller.
var standIns = map[string]func(*Caller) string{
	"{id}":            func(c *Caller) string { return c.ID },
	"{issuer}":        func(c *Caller) string { return c.Issuer },
	"{subject}":       func(c *Caller) string { return c.Subject },
	"{method}":        func(c *Caller) string { return c.Method },
	"{username}":      func(c *Caller) string { return c.Username },
	"{source_system}": func(c *Caller) string { return c.SourceSystem },
	"{target_system}": func(c *Caller) string { return c.TargetSystem },
}

const accountPrefix = "{account."

// CheckClaim returns an error for a value of a claim whose stand-in is unknown. A claim whose whole value is {id}, {issuer}, {subject},
// {method}, {username}, {source_system}, {target_system} or {account.<claim>} stands for that of the caller, or for a claim of its account,
// of any type; without one the token lacks the claim. Everything else is meant as it is.
func CheckClaim(value any) error {
	switch v := value.(type) {
	case string:
		name, begins := strings.CutPrefix(v, "{")
		name, ends := strings.CutSuffix(name, "}")
		if !begins || !ends || standIns[v] != nil || strings.HasPrefix(v, accountPrefix) && len(name) > len("account.") {
			return nil
		}
		return fmt.Errorf("got %q, expected {id}, {issuer}, {subject}, {method}, {username}, {source_system}, {target_system}, {account.<claim>} or a fixed value", v)
	case []any:
		for _, item := range v {
			if err := CheckClaim(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, item := range v {
			if err := CheckClaim(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill replaces stand-ins; nil: there is nothing to say.
func fill(value any, c *Caller, a *Account) any {
	switch v := value.(type) {
	case string:
		if of := standIns[v]; of != nil {
			if s := of(c); s != "" {
				return s
			}
			return nil
		}
		if name, ok := strings.CutPrefix(v, accountPrefix); ok && strings.HasSuffix(name, "}") {
			return a.Claims[strings.TrimSuffix(name, "}")]
		}
		return v
	case []any:
		out := []any{}
		for _, item := range v {
			if f := fill(item, c, a); f != nil {
				out = append(out, f)
			}
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, item := range v {
			if f := fill(item, c, a); f != nil {
				out[name] = f
			}
		}
		return out
	}
	return value
}
