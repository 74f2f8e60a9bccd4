package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/cert"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
	"github.com/lestrrat-go/jwx/v3/jws"

	"quorumhub/auth"
	"quorumhub/hub"
)

const kycService = `
version: 1
defaults: {produces: [json, xml]}
upstreams:
  kyc: {urls: [UPSTREAM]}
trust:
  partners-ca: {roots: ca.pem, crl: ca.crl}
keys:
  kyc: {private: "${KYC_KEY}"}
services:
  - name: kyc
    uri: kyc
    default: "1"
    versions:
      - version: "1"
        target: kyc:/person
        methods: [POST]
        auth: key
        body: {consumes: [json], schema: person.schema.json}
        protect:
          decrypt: kyc
          verify: {jws: true, trust: partners-ca}
          release: {kyc-basic: [/name], kyc-full: ["*"]}
          encrypt: recipient
`

// partnerCA issues certificates to partners.
type partnerCA struct {
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate
	serial  int64
	revoked []x509.RevocationListEntry
}

type partner struct {
	key *ecdsa.PrivateKey
	der []byte
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newPartnerCA(t *testing.T, now time.Time) *partnerCA {
	t.Helper()
	ca := &partnerCA{key: newKey(t), serial: 1}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "partners"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return ca
}

func (ca *partnerCA) issue(t *testing.T, name string, from, until time.Time) partner {
	t.Helper()
	ca.serial++
	p := partner{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(ca.serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement, NotBefore: from, NotAfter: until}
	var err error
	if p.der, err = x509.CreateCertificate(rand.Reader, template, ca.cert, p.key.Public(), ca.key); err != nil {
		t.Fatal(err)
	}
	return p
}

func (ca *partnerCA) revoke(now time.Time) {
	ca.revoked = append(ca.revoked, x509.RevocationListEntry{SerialNumber: big.NewInt(ca.serial), RevocationTime: now.Add(-time.Minute)})
}

func (ca *partnerCA) files(t *testing.T, now time.Time) map[string][]byte {
	t.Helper()
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour),
		RevokedCertificateEntries: ca.revoked}, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), "ca.crl": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl}),
		"person.schema.json": []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"string"}},"additionalProperties":false}`)}
}

// sends signs a payload and encrypts it to the hub.
func (p partner) sends(t *testing.T, payload string, to *ecdsa.PublicKey) string {
	t.Helper()
	chain := &cert.Chain{}
	if err := chain.AddString(base64.StdEncoding.EncodeToString(p.der)); err != nil {
		t.Fatal(err)
	}
	h := jws.NewHeaders()
	if err := h.Set(jws.X509CertChainKey, chain); err != nil {
		t.Fatal(err)
	}
	if err := h.Set(jws.ContentTypeKey, "json"); err != nil {
		t.Fatal(err)
	}
	signed, err := jws.Sign([]byte(payload), jws.WithKey(jwa.ES256(), p.key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := jwe.Encrypt(signed, jwe.WithKey(jwa.ECDH_ES_A256KW(), to), jwe.WithContentEncryption(jwa.A256GCM()))
	if err != nil {
		t.Fatal(err)
	}
	return string(sealed)
}

// kyc is a gateway with an e-KYC route, and partners in front of it.
type kyc struct {
	*guarded
	behind                         *behind
	clock                          time.Time
	ca, foreign                    *partnerCA
	basic, full, stranger, revoked partner
	hub                            *ecdsa.PublicKey
	keys                           map[string]string
}

func newKYC(t *testing.T) *kyc {
	t.Helper()
	clock := newClock().Now()
	k := &kyc{behind: newBehind(t), clock: clock, ca: newPartnerCA(t, clock), foreign: newPartnerCA(t, clock)}
	from, until := clock.Add(-time.Hour), clock.Add(time.Hour)
	k.revoked = k.ca.issue(t, "basic.example", from, until)
	k.ca.revoke(clock)
	k.basic, k.full, k.stranger = k.ca.issue(t, "basic.example", from, until), k.ca.issue(t, "full.example", from, until), k.ca.issue(t, "none.example", from, until)
	hubKey := newKey(t)
	k.hub = &hubKey.PublicKey
	der, err := x509.MarshalPKCS8PrivateKey(hubKey)
	if err != nil {
		t.Fatal(err)
	}
	src, option := serving(k.behind, kycService, k.ca.files(t, clock))
	src.active.Document.Secrets["KYC_KEY"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	k.guarded = newGuarded(t, `
  - {name: basic, may: [call], resources: [kyc-basic], who: [{scope: kyc.basic}]}
  - {name: full, may: [call], resources: [kyc-full], who: [{scope: kyc.full}]}
`, option)
	k.StartServices(t.Context())
	if errs := k.Serving().Errors; len(errs) > 0 {
		t.Fatal(errs)
	}
	k.behind.answers(answering("application/json", `{"name":"Ada","dob":"1815-12-10"}`))
	k.keys = map[string]string{"basic": k.key(t, "basic.example", "kyc.basic"), "full": k.key(t, "full.example", "kyc.full"), "none": k.key(t, "none.example", "other")}
	return k
}

func (k *kyc) post(key, body string) (int, string, http.Header) {
	w := k.send("POST", "/gateway/kyc", body, "X-API-Key", k.keys[key], "Content-Type", "application/jose", "Accept", "application/json")
	return w.Code, w.Body.String(), w.Header()
}

// An e-KYC route: the partner's request is encrypted and signed, what it sees depends on its permission, and only it can read it.
func TestGatewayProtectsPayloads(t *testing.T) {
	k := newKYC(t)
	b, basic, full, stranger := k.behind, k.basic, k.full, k.stranger
	opened := func(p partner, sealed string) string {
		plain, err := jwe.Decrypt([]byte(sealed), jwe.WithKey(jwa.ECDH_ES_A256KW(), p.key))
		if err != nil {
			return err.Error()
		}
		return string(plain)
	}
	for _, c := range []struct {
		key    string
		p      partner
		want   string
		policy string
	}{{"basic", basic, `{"name":"Ada"}`, "kyc-basic"}, {"full", full, `{"name":"Ada","dob":"1815-12-10"}`, "kyc-full"}} {
		code, body, h := k.post(c.key, c.p.sends(t, `{"id":"7"}`, k.hub))
		if code != 200 || h.Get("Content-Type") != "application/jose" || h.Get("X-Gateway-Release") != c.policy || strings.Contains(body, "Ada") {
			t.Fatalf("%s: %d %v %s", c.key, code, h, body)
		}
		if got := opened(c.p, body); got != c.want {
			t.Errorf("%s reads %s, want %s", c.key, got, c.want)
		}
		if got := opened(stranger, body); strings.Contains(got, "Ada") {
			t.Errorf("a stranger reads %s", got)
		}
		if r, got := b.seen(t); got != `{"id":"7"}` || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the service got %q as %q", got, r.Header.Get("Content-Type"))
		}
	}
}

// A caller that signs nothing gets its answer encrypted to the certificate that an operator has put on record for it.
func TestGatewayEncryptsToTheKeyOnRecord(t *testing.T) {
	clock := newClock().Now()
	ca := newPartnerCA(t, clock)
	reader := ca.issue(t, "reader.example", clock.Add(-time.Hour), clock.Add(time.Hour))
	file := filepath.Join(t.TempDir(), "reader.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reader.der}), 0o600); err != nil {
		t.Fatal(err)
	}
	text, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	b := newBehind(t)
	_, option := serving(b, "version: 1\nupstreams: {a: {urls: [UPSTREAM]}}\nservices:\n"+
		"  - {name: report, uri: report, versions: [{version: \"1\", target: \"a:/report\", methods: [GET], auth: key, protect: {encrypt: recipient}}]}\n", nil)
	g := newGuarded(t, "\nencryption_keys: {key/"+id+": {file: "+file+"}}\n", option)
	g.StartServices(t.Context())
	t.Cleanup(func() { _ = g.Close(t.Context()) })
	if errs := g.Serving().Errors; len(errs) > 0 {
		t.Fatal(errs)
	}
	b.answers(answering("application/json", `{"name":"Ada"}`))
	if err := g.Service.CreateAPIKey(t.Context(), hub.APIKey{ID: id, Name: "reader", Hash: hash}); err != nil {
		t.Fatal(err)
	}
	w := want(t, g.send("GET", "/gateway/report", "", "X-API-Key", text), 200)
	plain, err := jwe.Decrypt([]byte(w), jwe.WithKey(jwa.ECDH_ES_A256KW(), reader.key))
	if err != nil || string(plain) != `{"name":"Ada"}` {
		t.Errorf("the caller reads %q, %v in %s", plain, err, w)
	}
	calls := b.count()
	if w := want(t, g.send("GET", "/gateway/report", "", "X-API-Key", g.key(t, "other", "x")), 403); !strings.Contains(w, "encryption_keys") {
		t.Errorf("without a key: %s", w)
	}
	if b.count() != calls {
		t.Error("the service was called for a caller without a key")
	}
}

func TestGatewayRefusesPayloadsThatAreNotProtected(t *testing.T) {
	k := newKYC(t)
	b, basic, full, stranger := k.behind, k.basic, k.full, k.stranger
	from, until := k.clock.Add(-time.Hour), k.clock.Add(time.Hour)
	calls := b.count()
	ended := k.ca.issue(t, "basic.example", from, k.clock.Add(-time.Minute))
	other := k.foreign.issue(t, "basic.example", from, until)
	for name, c := range map[string]struct {
		key, body string
		status    int
	}{
		"a revoked certificate":       {"basic", k.revoked.sends(t, `{"id":"7"}`, k.hub), 403},
		"an ended certificate":        {"basic", ended.sends(t, `{"id":"7"}`, k.hub), 403},
		"a foreign certificate":       {"basic", other.sends(t, `{"id":"7"}`, k.hub), 403},
		"somebody else's certificate": {"basic", full.sends(t, `{"id":"7"}`, k.hub), 403},
		"encrypted to another key":    {"basic", basic.sends(t, `{"id":"7"}`, &newKey(t).PublicKey), 400},
		"nothing may be released":     {"none", stranger.sends(t, `{"id":"7"}`, k.hub), 403},
		"a body that breaks a schema": {"basic", basic.sends(t, `{"id":7}`, k.hub), 400},
		"not encrypted":               {"basic", `{"id":"7"}`, 400},
	} {
		if code, body, _ := k.post(c.key, c.body); code != c.status || strings.Contains(body, "PRIVATE") {
			t.Errorf("%s: %d %s, want %d", name, code, body, c.status)
		}
	}
	want(t, k.send("POST", "/gateway/kyc", `{"id":"7"}`, "X-API-Key", k.keys["basic"], "Content-Type", "application/json"), 415)
	if n := b.count(); n != calls {
		t.Errorf("the service was called %d times for refused requests", n-calls)
	}
	b.answers(answering("text/plain", "Ada"))
	if code, body, _ := k.post("full", full.sends(t, `{"id":"7"}`, k.hub)); code != 502 || strings.Contains(body, "Ada") {
		t.Errorf("what is no document: %d %s", code, body)
	}
}
