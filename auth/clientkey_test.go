package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/auth"
)

// The hub's own key at a provider is read with the settings, and its algorithm is the key's.
func TestClientKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key                   any
		kind, algorithm, want string // want begins with = for the algorithm that the key gets
	}{
		"RSA":              {rsaKey(t, 2048), "PRIVATE KEY", "", "=RS256"},
		"RSA, chosen":      {rsaKey(t, 2048), "PRIVATE KEY", "PS512", "=PS512"},
		"ECDSA":            {ecKey(t), "PRIVATE KEY", "", "=ES256"},
		"Ed25519":          {ed, "PRIVATE KEY", "", "=EdDSA"},
		"the wrong one":    {ecKey(t), "PRIVATE KEY", "RS256", `algorithm: "RS256"; the key in`},
		"symmetric":        {ecKey(t), "PRIVATE KEY", "HS256", `algorithm: "HS256"`},
		"short RSA":        {rsaKey(t, 1024), "PRIVATE KEY", "", "from 2048 bits"},
		"an unusual curve": {p224, "PRIVATE KEY", "", "P-256"},
		"a certificate":    {ed, "CERTIFICATE", "", "PKCS #8"},
	} {
		der, err := x509.MarshalPKCS8PrivateKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: c.kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := auth.ParseSettings([]byte("identity_providers: [{name: corp, kind: oidc, issuer: 'https://idp.example.org', client_id: hub, client_key: {file: " + file + ", algorithm: '" + c.algorithm + "'}}]"))
		if algorithm, ok := strings.CutPrefix(c.want, "="); !ok {
			if err == nil || !strings.Contains(err.Error(), "client_key.") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v; want %q", name, err, c.want)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if k := s.IdentityProviders[0].ClientKey; k.Algorithm != algorithm || !k.Signer().Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(c.key.(crypto.Signer).Public()) {
			t.Errorf("%s: %s, want %s", name, k.Algorithm, algorithm)
		}
	}
}
