package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
)

// certAuthority issues client certificates and revokes them.
type certAuthority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCertAuthority(t *testing.T, name string) *certAuthority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &certAuthority{t: t, key: key, cert: &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name)}}
	a.cert = a.sign(a.cert)
	return a
}

func (a *certAuthority) sign(template *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *certAuthority) issue(name string, serial int64) *x509.Certificate {
	return a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(serial)})
}

// revoke returns a list of revoked serial numbers in DER.
func (a *certAuthority) revoke(serials ...int64) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// A certificate that its authority has revoked is refused, and what rests on it ends, once the list says so. A file that
// cannot be read changes nothing.
func TestRevokedCertificates(t *testing.T) {
	a, other := newCertAuthority(t, "authority"), newCertAuthority(t, "other")
	file := filepath.Join(t.TempDir(), "crl.pem")
	changes := time.Now().Add(-time.Minute)
	write := func(data []byte) {
		t.Helper()
		changes = changes.Add(time.Second)
		if err := errors.Join(os.WriteFile(file, data, 0o600), os.Chtimes(file, changes, changes)); err != nil {
			t.Fatal(err)
		}
	}
	inPEM := func(der ...[]byte) (out []byte) {
		for _, d := range der {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: d})...)
		}
		return out
	}
	write(inPEM(a.revoke(7), other.revoke(9)))
	settings, err := auth.ParseSettings([]byte("client_certificates: {subject: cn, crl: '" + file + "'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var failed []error
	certs := auth.NewCertificates(*settings.ClientCertificates, func() time.Time { return now }, func(err error) { failed = append(failed, err) })
	try := func(by *certAuthority, name string, serial int64) (*auth.Principal, error) {
		cert := by.issue(name, serial)
		r := httptest.NewRequest(http.MethodPost, "/hub", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert, by.cert}}}
		return certs.Authenticate(t.Context(), &auth.Request{HTTP: r})
	}
	refused := func(err error) bool { var r *auth.RefusalError; return errors.As(err, &r) }
	if _, err := try(a, "old", 7); !refused(err) {
		t.Errorf("a revoked certificate: %v", err)
	}
	good, err := try(a, "new", 9) // another authority's 9 is revoked
	if err != nil {
		t.Fatal(err)
	}
	if _, err := good.Again(t.Context()); err != nil {
		t.Errorf("it is still good: %v", err)
	}
	write(a.revoke(9))
	if _, err := good.Again(t.Context()); err != nil {
		t.Errorf("the file is looked at once a second, and already: %v", err)
	}
	now = now.Add(time.Second)
	if _, err := good.Again(t.Context()); !refused(err) {
		t.Errorf("a certificate that was revoked meanwhile: %v", err)
	}
	if _, err := try(a, "old", 7); err != nil {
		t.Errorf("it is in the list no longer: %v", err)
	}
	write([]byte("no list"))
	now = now.Add(time.Second)
	for range 2 {
		if _, err := try(a, "new", 9); !refused(err) {
			t.Errorf("with an unreadable file: %v", err)
		}
		now = now.Add(time.Second)
	}
	if len(failed) != 1 || strings.Contains(failed[0].Error(), "\n") {
		t.Errorf("told %v", failed)
	}
	write(inPEM(a.revoke()))
	now = now.Add(time.Second)
	if _, err := try(a, "new", 9); err != nil {
		t.Errorf("with an empty list: %v", err)
	}
	for text, says := range map[string]string{file + ".none": "no such file", os.Args[0]: "crl"} {
		if _, err := auth.ParseSettings([]byte("client_certificates: {crl: '" + text + "'}\n")); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
