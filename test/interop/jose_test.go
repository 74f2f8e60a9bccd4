package interop_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"quorumhub/web/gateway/protect"
)

// Payloads that npm's jose encrypted open here, those encrypted here open with it, and what it signed is accepted.
func TestNPMJose(t *testing.T) {
	node := needsNPM(t, "jose", "6.2.13")
	other := startDriver(t, node, "jose.mjs")
	type answer struct {
		Message, Plain string
		Header         map[string]any
	}
	ask := func(request map[string]any) answer {
		t.Helper()
		line, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		other.tell(t, string(line))
		var a answer
		if err := json.Unmarshal([]byte(other.line(t, "an answer")), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	const plain = `{"name":"Größe 𝄞"}`

	keys := joseKeys(t)
	for name, private := range keys {
		public := private.(interface{ Public() crypto.PublicKey }).Public()
		alg := "ECDH-ES+A256KW"
		if name == "RSA" {
			alg = "RSA-OAEP-256"
		}
		theirs := ask(map[string]any{"op": "encrypt", "alg": alg, "jwk": jwkJSON(t, public), "cty": "json", "kid": name, "plain": plain})
		got, contentType, id, err := protect.Decrypt([]byte(theirs.Message), protect.Keys{{ID: name, Private: private}})
		if err != nil || string(got) != plain || contentType != "application/json" || id != name {
			t.Errorf("%s, theirs: %q, %q, %q, %v", name, got, contentType, id, err)
		}
		to, err := protect.ParseRecipient(jwkJSON(t, public), nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ours, err := protect.Encrypt([]byte(plain), "application/json", to)
		if err != nil {
			t.Fatal(err)
		}
		if a := ask(map[string]any{"op": "decrypt", "jwk": jwkJSON(t, private), "message": string(ours)}); a.Plain != plain || a.Header["cty"] != "application/json" {
			t.Errorf("%s, ours: %+v", name, a)
		}
	}

	root, x5c, trust := joseAuthority(t, keys["P-256"].(*ecdsa.PrivateKey))
	signed := ask(map[string]any{"op": "sign", "alg": "ES256", "jwk": jwkJSON(t, keys["P-256"]), "x5c": x5c, "plain": plain})
	payload, contentType, signer, err := protect.Verify([]byte(signed.Message), trust, "partner", time.Now())
	if err != nil || string(payload) != plain || contentType != "application/json" || signer.CheckSignatureFrom(root) != nil {
		t.Errorf("signed: %q, %q, %v", payload, contentType, err)
	}
}

func joseKeys(t *testing.T) map[string]crypto.PrivateKey {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.PrivateKey{"RSA": rsaKey, "X25519": x}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if keys[curve.Params().Name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func jwkJSON(t *testing.T, key any) json.RawMessage {
	t.Helper()
	k, err := jwk.Import(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// joseAuthority issues a certificate for a key.
func joseAuthority(t *testing.T, key *ecdsa.PrivateKey) (root *x509.Certificate, x5c []string, trust *protect.Trust) {
	t.Helper()
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(template, parent *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, authority)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root = issue(ca, ca, authority.Public())
	partner := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "partner"}, KeyUsage: x509.KeyUsageDigitalSignature}, root, key.Public())
	if trust, err = protect.NewTrust(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), nil); err != nil {
		t.Fatal(err)
	}
	return root, []string{base64.StdEncoding.EncodeToString(partner.Raw)}, trust
}
