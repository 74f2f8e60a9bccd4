package topics_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/gateway/topics"
)

// authority issues certificates for encryption, and revokes them.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	next int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, key: key, cert: c, next: 2}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) issue(name string) (x5c string, serial *big.Int) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial = big.NewInt(a.next)
	a.next++
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageKeyAgreement}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der), serial
}

func (a *authority) revoking(serials ...*big.Int) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// Where a topic trusts an authority, only keys with its certificates are encrypted to; one that it revokes gets nothing more, from the
// registry with the new list on.
func TestKeysOfSubscriptionsMustBeTrusted(t *testing.T) {
	partners, strangers := newAuthority(t, "partners"), newAuthority(t, "partners")
	trusted, serial := partners.issue("a")
	foreign, _ := strangers.issue("a")
	p := topics.New(topics.Options{Callers: callers{}, MaxBytes: 1 << 20})
	apply := func(crl []byte) {
		t.Helper()
		doc := registry.Document{Text: []byte("version: 1\nservices: []\ntrust: {partners-ca: {roots: ca.pem, crl: ca.crl}}\ntopics:\n  - {match: b, deliver: {protect: {encrypt: recipient, trust: partners-ca}}}\n"),
			Files: map[string][]byte{"ca.pem": partners.pem(), "ca.crl": crl}}
		reg, mistakes := registry.Read(doc, nil)
		if reg == nil {
			t.Fatal(mistakes)
		}
		if problems := p.Load(reg); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	apply(partners.revoking())
	cb, _ := url.Parse("https://partner.example/cb")
	const bare = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	for _, c := range []struct{ topic, key, says string }{
		{"b", trusted, ""}, {"b", foreign, "hub.encryption_key"}, {"b", bare, "expected a certificate"}, {"other", bare, ""}, {"other", foreign, ""},
	} {
		err := p.CheckSubscription(as("x"), c.topic, cb, c.key, func() []string { return nil })
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %.20q: %v, want %q", c.topic, c.key, err, c.says)
		}
	}
	first, _, err := p.Encrypt("b", []byte("x"), "text/plain", trusted)
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := p.Encrypt("b", []byte("x"), "text/plain", trusted); err != nil || string(again) != string(first) {
		t.Errorf("a message is encrypted twice for one key (%v)", err)
	}
	if other, _, err := p.Encrypt("b", []byte("x"), "text/html", trusted); err != nil || string(other) == string(first) {
		t.Errorf("content of another type is taken for the same (%v)", err)
	}
	if n, ends := p.KeyNotice("b", trusted); n != hub.KeyWithinDay || time.Until(ends) > time.Hour {
		t.Errorf("the key ends at %v: %q", ends, n)
	}
	if n, _ := p.KeyNotice("other", bare); n != hub.KeyNotSoon {
		t.Errorf("a key without a certificate: %q", n)
	}
	apply(partners.revoking(serial))
	if n, _ := p.KeyNotice("b", trusted); n != hub.KeyEnded {
		t.Errorf("a key that was revoked: %q", n)
	}
	if sent, _, err := p.Encrypt("b", []byte("x"), "text/plain", trusted); err == nil {
		t.Errorf("encrypted to a certificate that was revoked: %s", sent)
	}
	_, mistakes := registry.Read(registry.Document{Text: []byte("version: 1\nservices: []\ntopics:\n  - {match: b, deliver: {protect: {trust: nobody}}}\n")}, nil)
	if len(mistakes) == 0 || !strings.Contains(mistakes[0].Error(), "unknown authorities") {
		t.Errorf("a trust that does not exist: %v", mistakes)
	}
}
