package protect_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/cert"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"

	"quorumhub/web/gateway/protect"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// party is a certificate with its key.
type party struct {
	*x509.Certificate
	key crypto.Signer
}

var serial = struct {
	sync.Mutex
	last int64
}{}

// issue makes a certificate for a key; without an issuer, one that signs itself.
func issue(t testing.TB, issuer *party, key crypto.Signer, public crypto.PublicKey, edit func(*x509.Certificate)) *party {
	t.Helper()
	serial.Lock()
	serial.last++
	template := &x509.Certificate{SerialNumber: big.NewInt(serial.last), Subject: pkix.Name{CommonName: "partner"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour)}
	serial.Unlock()
	if edit != nil {
		edit(template)
	}
	signer, parent := key, template
	if issuer != nil {
		signer, parent = issuer.key, issuer.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{c, key}
}

func authority(t testing.TB, name string, issuer *party) *party {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	return issue(t, issuer, key, key.Public(), func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: name}
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		c.NotBefore, c.NotAfter = now.Add(-24*time.Hour), now.Add(365*24*time.Hour)
	})
}

// partner makes a certificate for signatures and encryption.
func partner(t testing.TB, issuer *party, edit func(*x509.Certificate)) *party {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	return issue(t, issuer, key, key.Public(), func(c *x509.Certificate) {
		c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
		if edit != nil {
			edit(c)
		}
	})
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var rsaKeys sync.Map // generating them is slow

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	if k, ok := rsaKeys.Load(bits); ok {
		return k.(*rsa.PrivateKey)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	rsaKeys.Store(bits, k)
	return k
}

func x25519Key(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func certPEM(parties ...*party) string {
	var out strings.Builder
	for _, p := range parties {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: p.Raw})
	}
	return out.String()
}

// revoking makes a revocation list in PEM.
func revoking(t testing.TB, issuer *party, thisUpdate, nextUpdate time.Time, revoked ...*party) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(thisUpdate.Unix()), ThisUpdate: thisUpdate, NextUpdate: nextUpdate}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.SerialNumber, RevocationTime: thisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer.Certificate, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// texts are those that a Trust is made of.
type texts struct{ Roots, CRLs []string }

func load(t testing.TB, f texts) *protect.Trust {
	t.Helper()
	var crl []byte
	if f.CRLs != nil {
		crl = []byte(strings.Join(f.CRLs, ""))
	}
	trust, err := protect.NewTrust([]byte(strings.Join(f.Roots, "")), crl)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// trusting makes a trust in one root without revocation lists.
func trusting(t testing.TB, root *party) *protect.Trust {
	t.Helper()
	return load(t, texts{Roots: []string{certPEM(root)}})
}

func chainOf(t testing.TB, chain ...*party) *cert.Chain {
	t.Helper()
	var x5c cert.Chain
	for _, c := range chain {
		if err := x5c.AddString(base64.StdEncoding.EncodeToString(c.Raw)); err != nil {
			t.Fatal(err)
		}
	}
	return &x5c
}

// sign makes a JWS with the certificates in x5c. edit changes its header.
func sign(t testing.TB, payload string, alg jwa.SignatureAlgorithm, key any, edit func(jws.Headers), chain ...*party) []byte {
	t.Helper()
	h := jws.NewHeaders()
	if len(chain) > 0 {
		if err := h.Set(jws.X509CertChainKey, chainOf(t, chain...)); err != nil {
			t.Fatal(err)
		}
	}
	if edit != nil {
		edit(h)
	}
	out, err := jws.Sign([]byte(payload), jws.WithKey(alg, key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func set(name string, value any) func(jws.Headers) {
	return func(h jws.Headers) { _ = h.Set(name, value) }
}

func wantRefusal(t testing.TB, name string, err error, want string) {
	t.Helper()
	var refused *protect.Error
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: got %v, want a refusal with %q", name, err, want)
	}
}

func uri(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
