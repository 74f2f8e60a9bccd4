package protect_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"

	"quorumhub/web/gateway/protect"
)

func TestVerify(t *testing.T) {
	root := authority(t, "root", nil)
	middle := authority(t, "middle", root)
	trust := trusting(t, root)
	withMiddle := load(t, texts{Roots: []string{certPEM(root), certPEM(middle)}})
	rsaPartner := issue(t, root, rsaKey(t, 2048), rsaKey(t, 2048).Public(), nil)
	ed := edKey(t)
	edPartner := issue(t, root, ed, ed.Public(), nil)
	p384 := ecKey(t, elliptic.P384())
	p384Partner := issue(t, root, p384, p384.Public(), nil)
	p := partner(t, root, func(c *x509.Certificate) {
		c.URIs, c.DNSNames, c.EmailAddresses = []*url.URL{uri(t, "spiffe://a/b")}, []string{"p.example"}, []string{"p@p.example"}
	})
	below := partner(t, middle, nil)

	for _, c := range []struct {
		name    string
		message []byte
		trust   *protect.Trust
		caller  string
	}{
		{"the common name", sign(t, "x", jwa.ES256(), p.key, nil, p), trust, "partner"},
		{"a URI", sign(t, "x", jwa.ES256(), p.key, nil, p), trust, "spiffe://a/b"},
		{"a DNS name", sign(t, "x", jwa.ES256(), p.key, nil, p), trust, "p.example"},
		{"an e-mail address", sign(t, "x", jwa.ES256(), p.key, nil, p), trust, "p@p.example"},
		{"RSA-PSS", sign(t, "x", jwa.PS256(), rsaPartner.key, nil, rsaPartner), trust, "partner"},
		{"RSA", sign(t, "x", jwa.RS256(), rsaPartner.key, nil, rsaPartner), trust, "partner"},
		{"Ed25519", sign(t, "x", jwa.EdDSA(), edPartner.key, nil, edPartner), trust, "partner"},
		{"P-384", sign(t, "x", jwa.ES384(), p384Partner.key, nil, p384Partner), trust, "partner"},
		{"a chain", sign(t, "x", jwa.ES256(), below.key, nil, below, middle, root), trust, "partner"},
		{"an authority that is known", sign(t, "x", jwa.ES256(), below.key, nil, below), withMiddle, "partner"},
		{"white space around", append([]byte("\n "), sign(t, "x", jwa.ES256(), p.key, nil, p)...), trust, "partner"},
	} {
		payload, _, signer, err := protect.Verify(c.message, c.trust, c.caller, now)
		if err != nil || string(payload) != "x" || signer == nil {
			t.Errorf("%s: got %q, %v", c.name, payload, err)
		}
	}
	message := sign(t, `{}`, jwa.ES256(), p.key, set(jws.ContentTypeKey, "json"), p)
	if _, contentType, _, err := protect.Verify(message, trust, "partner", now); err != nil || contentType != "application/json" {
		t.Errorf("got content type %q, %v", contentType, err)
	}
}

func TestSignaturesThatAreRefused(t *testing.T) {
	root, foreign := authority(t, "root", nil), authority(t, "root", nil)
	trust := trusting(t, root)
	p, other := partner(t, root, nil), partner(t, root, nil)
	good := sign(t, `{"amount":1}`, jwa.ES256(), p.key, nil, p)
	parts := strings.Split(string(good), ".")
	edited := func(edit func(*x509.Certificate)) []byte {
		p := partner(t, root, edit)
		return sign(t, "x", jwa.ES256(), p.key, nil, p)
	}
	weak := issue(t, root, rsaKey(t, 1024), rsaKey(t, 1024).Public(), nil)
	b64 := base64.RawURLEncoding.EncodeToString
	signedBy := func(issuer *party) []byte {
		p := partner(t, issuer, nil)
		return sign(t, "x", jwa.ES256(), p.key, nil, p, issuer)
	}
	pretender := partner(t, root, nil) // no authority, but signs a certificate
	ended := authority(t, "ended", root)
	endedMiddle := issue(t, root, ended.key, ended.key.Public(), func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.Subject, c.NotAfter = true, true, x509.KeyUsageCertSign, ended.Subject, now.Add(-time.Minute)
	})

	for _, c := range []struct {
		name    string
		message []byte
		want    string
	}{
		{"nothing", nil, "not a JWS in compact"},
		{"a JWE", []byte("a.b.c.d.e"), "not a JWS in compact"},
		{"JSON serialization", []byte(`{"payload":"","signatures":[]}`), "not a JWS in compact"},
		{"line breaks inside", bytes.Replace(good, []byte("."), []byte(".\n"), 1), "not a JWS in compact"},
		{"another payload", []byte(parts[0] + "." + b64([]byte(`{"amount":2}`)) + "." + parts[2]), "not that of the certificate"},
		{"a cut signature", good[:len(good)-4], "not that of the certificate"},
		{"no signature", []byte(parts[0] + "." + parts[1] + "."), ""},
		{"no algorithm", []byte(b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."), ""},
		{"another certificate", sign(t, "x", jwa.ES256(), p.key, nil, other), "not that of the certificate"},
		{"no certificate", sign(t, "x", jwa.ES256(), p.key, nil), "no certificate (x5c)"},
		{"a shared key", sign(t, "x", jwa.HS256(), p.Raw, nil, p), "does not go with"},
		{"an algorithm for another curve", []byte(b64(bytes.Replace(decode64(t, parts[0]), []byte("ES256"), []byte("ES384"), 1)) + "." + parts[1] + "." + parts[2]), "does not go with"},
		{"critical extensions", sign(t, "x", jwa.ES256(), p.key, func(h jws.Headers) { _ = h.Set("exp", 1); _ = h.Set(jws.CriticalKey, []string{"exp"}) }, p), "crit"},
		{"a foreign authority of the same name", signedBy(foreign), "not issued by an authority"},
		{"a party as authority", signedBy(pretender), "not issued by an authority"},
		{"an authority that has ended", signedBy(endedMiddle), "authority is not valid now"},
		{"its own certificate", func() []byte { p := partner(t, nil, nil); return sign(t, "x", jwa.ES256(), p.key, nil, p) }(), "not issued by an authority"},
		{"an ended certificate", edited(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), "has ended"},
		{"a certificate of tomorrow", edited(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }), "not valid before"},
		{"a certificate for encryption", edited(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), "not for signatures"},
		{"an authority's certificate", edited(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "that of an authority"},
		{"a weak key", sign(t, "x", jwa.RS256(), weak.key, nil, weak), "1024 bits"},
		{"somebody else", edited(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "partner2"} }), "not the caller's"},
		{"a name inside another", edited(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "partner,CN=x"} }), "not the caller's"},
		{"many certificates", sign(t, "x", jwa.ES256(), p.key, nil, p, p, p, p, p, p, p, p, p), "9 certificates"},
		{"a large header", append(bytes.Repeat([]byte("a"), 1<<17), "..."[:2]...), "header has more than"},
	} {
		_, _, signer, err := protect.Verify(c.message, trust, "partner", now)
		wantRefusal(t, c.name, err, c.want)
		if signer != nil {
			t.Errorf("%s: a signer in spite of the refusal", c.name)
		}
	}
	_, _, _, err := protect.Verify(good, trust, "", now)
	wantRefusal(t, "nobody", err, "not the caller's")
}

func decode64(t testing.TB, s string) []byte {
	t.Helper()
	out, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRevocation(t *testing.T) {
	root := authority(t, "root", nil)
	middle := authority(t, "middle", root)
	good, bad, below := partner(t, root, nil), partner(t, root, nil), partner(t, middle, nil)
	list := revoking(t, root, now.Add(-time.Hour), now.Add(time.Hour), bad)
	middleList := revoking(t, middle, now.Add(-time.Hour), now.Add(time.Hour))
	trust := load(t, texts{Roots: []string{certPEM(root)}, CRLs: []string{list, middleList}})
	verify := func(at time.Time, trust *protect.Trust, chain ...*party) error {
		_, _, _, err := protect.Verify(sign(t, "x", jwa.ES256(), chain[0].key, nil, chain...), trust, "partner", at)
		return err
	}
	if err := verify(now, trust, good); err != nil {
		t.Fatal(err)
	}
	if err := verify(now, trust, below, middle); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, "a revoked certificate", verify(now, trust, bad), "revoked")
	wantRefusal(t, "an ended list", verify(now.Add(2*time.Hour), trust, good), "list of the certificate's issuer has ended")
	wantRefusal(t, "a list of tomorrow", verify(now.Add(-90*time.Minute), trust, issueEarly(t, root)), "list of the certificate's issuer is not valid before")
	onlyMiddle := load(t, texts{Roots: []string{certPEM(root)}, CRLs: []string{middleList}})
	wantRefusal(t, "no list of the issuer", verify(now, onlyMiddle, good), "no revocation list")

	// A list that somebody else has signed under the authority's name counts for nothing.
	forged := load(t, texts{Roots: []string{certPEM(root)},
		CRLs: []string{revoking(t, authority(t, "root", nil), now, now.Add(time.Hour))}})
	wantRefusal(t, "a forged list", verify(now, forged, bad), "no revocation list")

	// Of two lists the newer counts, in whatever order they are read.
	both := load(t, texts{Roots: []string{certPEM(root)}, CRLs: []string{list,
		revoking(t, root, now.Add(-2*time.Hour), now.Add(time.Hour))}})
	wantRefusal(t, "an older list beside", verify(now, both, bad), "revoked")

	wantRefusal(t, "a revoked authority", verify(now, load(t, texts{Roots: []string{certPEM(root)}, CRLs: []string{revoking(t, root, now, now.Add(time.Hour), middle), middleList}}), below, middle), "revoked")
}

// issueEarly makes a certificate that was valid before all lists.
func issueEarly(t *testing.T, issuer *party) *party {
	return partner(t, issuer, func(c *x509.Certificate) { c.NotBefore = now.Add(-2 * time.Hour) })
}

func TestTextsOfATrustAreChecked(t *testing.T) {
	root := authority(t, "root", nil)
	roots := []string{certPEM(root)}
	partial := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}}
	delta, err := x509.CreateRevocationList(rand.Reader, partial, root.Certificate, root.key)
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]texts{
		"line 1: no PEM":         {Roots: []string{"roots"}},
		"line 3: no certificate": {Roots: []string{"# ours\n\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}},
		"line 1: the PEM block":  {Roots: []string{"-----BEGIN CERTIFICATE-----\n!\n" + certPEM(root)}},
		fmt.Sprintf("line %d: the certificate of CN=partner is not that of an", 1+strings.Count(certPEM(root), "\n")): {Roots: []string{certPEM(root, partner(t, root, nil))}},
		`line 1: a "PRIVATE KEY"`:         {Roots: []string{"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}},
		"crl, line 1: no revocation list": {Roots: roots, CRLs: []string{"AAAA"}},
		"for a part of":                   {Roots: roots, CRLs: []string{string(delta)}},
		`a "CERTIFICATE"; expected rev`:   {Roots: roots, CRLs: roots},
	} {
		if _, err := protect.NewTrust([]byte(strings.Join(f.Roots, "")), []byte(strings.Join(f.CRLs, ""))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestTrustIsShared: many verify at a time, and lists remember whose they are.
func TestTrustIsShared(t *testing.T) {
	root := authority(t, "root", nil)
	p, bad := partner(t, root, nil), partner(t, root, nil)
	trust := load(t, texts{Roots: []string{certPEM(root)}, CRLs: []string{revoking(t, root, now.Add(-time.Hour), now.Add(time.Hour), bad)}})
	good, revoked := sign(t, "x", jwa.ES256(), p.key, nil, p), sign(t, "x", jwa.ES256(), bad.key, nil, bad)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if _, _, _, err := protect.Verify(good, trust, "partner", now); err != nil {
					t.Error(err)
				}
				if _, _, _, err := protect.Verify(revoked, trust, "partner", now); err == nil {
					t.Error("a revoked certificate is accepted")
				}
			}
		})
	}
	all.Wait()
}
