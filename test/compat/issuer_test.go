package compat_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// issuer signs tokens as Keycloak does for MOSIP: typ JWT, roles in realm_access.
type issuer struct {
	tb     testing.TB
	server *httptest.Server
	key    *ecdsa.PrivateKey
}

func newIssuer(tb testing.TB) *issuer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	is := &issuer{tb: tb, key: key}
	point := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	is.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "alg": "ES256",
			"x": point(key.X.FillBytes(make([]byte, 32))), "y": point(key.Y.FillBytes(make([]byte, 32)))}}})
	}))
	tb.Cleanup(is.server.Close)
	return is
}

// token returns a token that is valid for a minute; scope is space-separated.
func (is *issuer) token(user, scope string, roles ...string) string {
	return is.sign(user, scope, time.Minute, roles)
}

func (is *issuer) expired(user string, roles ...string) string {
	return is.sign(user, "", -time.Hour, roles)
}

func (is *issuer) sign(user, scope string, life time.Duration, roles []string) string {
	is.tb.Helper()
	now := time.Now()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			is.tb.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := part(map[string]string{"alg": "ES256", "typ": "JWT", "kid": "k1"}) + "." + part(map[string]any{
		"iss": is.server.URL, "aud": []string{"account", "ballerina"}, "sub": "id-of-" + user, "azp": user, "preferred_username": user,
		"iat": now.Add(-2 * time.Hour).Unix(), "exp": now.Add(life).Unix(), "scope": scope, "realm_access": map[string]any{"roles": roles}})
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, is.key, sum[:])
	if err != nil {
		is.tb.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}
