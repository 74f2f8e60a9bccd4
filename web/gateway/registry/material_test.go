package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"quorumhub/web/gateway/registry"
)

// material is an authority's certificate, its revocation list, and a private key.
func material(t *testing.T) (certificate, crl, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "partners"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, template, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return encode("CERTIFICATE", der), encode("X509 CRL", list), encode("PRIVATE KEY", pkcs8)
}

// TestCertificatesAndKeysAreRead: broken ones are named where the registry names them.
func TestCertificatesAndKeysAreRead(t *testing.T) {
	certificate, crl, private := material(t)
	text := []byte("version: 1\nkeys: {ours: {private: \"${KEY}\"}}\ntrust: {partners: {roots: ca.pem, crl: ca.crl}}\n")
	der, _ := pem.Decode(crl)
	for name, tt := range map[string]struct {
		roots, crl []byte
		key        string
		want       string // empty: it is right
	}{
		"PEM":                    {certificate, crl, string(private), ""},
		"CRL in DER":             {certificate, der.Bytes, string(private), ""},
		"two certificates":       {append(certificate[:len(certificate):len(certificate)], certificate...), crl, string(private), ""},
		"JWK":                    {certificate, crl, `{"kty": "EC", "d": "x"}`, ""},
		"public JWK":             {certificate, crl, `{"kty": "EC"}`, "keys.ours.private: not a private key"},
		"no PEM":                 {certificate, crl, "sesame", "keys.ours.private: not a private key"},
		"certificate for a key":  {certificate, crl, string(certificate), "keys.ours.private: not a private key"},
		"no certificate":         {[]byte("text"), crl, string(private), "trust.partners.roots: ca.pem: no certificate, expected PEM"},
		"key for a certificate":  {private, crl, string(private), "trust.partners.roots: ca.pem: block 1 is a PRIVATE KEY, expected only certificates"},
		"cut certificate":        {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x82}}), crl, string(private), "trust.partners.roots: ca.pem: block 1 is not a certificate"},
		"certificate for a list": {certificate, certificate, string(private), "trust.partners.crl: ca.crl: not a revocation list"},
	} {
		reg, mistakes := registry.Read(registry.Document{Text: text, Files: map[string][]byte{"ca.pem": tt.roots, "ca.crl": tt.crl}, Secrets: map[string]string{"KEY": tt.key}}, hub{})
		switch {
		case tt.want == "":
			if reg == nil {
				t.Errorf("%s: %v", name, mistakes)
			} else if string(reg.Trust["partners"].Roots) != string(tt.roots) || string(reg.Trust["partners"].CRL) != string(tt.crl) || reg.Keys["ours"].Private != tt.key {
				t.Errorf("%s: read %+v", name, reg)
			}
		case len(mistakes) != 1 || !strings.Contains(mistakes[0].Error(), tt.want) || strings.Contains(mistakes[0].Error(), "sesame"):
			t.Errorf("%s: got %v, want %q", name, mistakes, tt.want)
		}
	}
}

// TestSchemasReferToFilesOfTheDocumentOnly: a JSON Schema may refer to one beside it, and to nothing else.
func TestSchemasReferToFilesOfTheDocumentOnly(t *testing.T) {
	text := []byte("version: 1\nupstreams: {a: {urls: [http://h]}}\nservices:\n- {name: s, uri: s, versions: [{version: \"1\", target: \"a:/\", methods: [POST], body: {schema: a/b.json}}]}\n")
	for name, tt := range map[string]struct{ ref, want string }{
		"beside":        {"c.json#/$defs/x", ""},
		"itself":        {"#/$defs/y", ""},
		"missing":       {"gone.json", "a/b.json is not a JSON Schema"},
		"web":           {"http://127.0.0.1:1/x.json", "a/b.json is not a JSON Schema"},
		"file":          {"file:///etc/hostname", "a/b.json is not a JSON Schema"},
		"another place": {"../../../etc/hostname", "a/b.json is not a JSON Schema"},
	} {
		files := map[string][]byte{"a/b.json": []byte(`{"$defs": {"y": {"type": "string"}}, "$ref": "` + tt.ref + `"}`), "a/c.json": []byte(`{"$defs": {"x": {"type": "integer"}}}`)}
		reg, mistakes := registry.Read(registry.Document{Text: text, Files: files}, nil)
		switch {
		case tt.want == "" && reg == nil:
			t.Errorf("%s: %v", name, mistakes)
		case tt.want != "" && (len(mistakes) != 1 || !strings.Contains(mistakes[0].Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", name, mistakes, tt.want)
		}
		if name == "beside" && reg != nil && reg.Schemas["a/b.json"].Validate("text") == nil {
			t.Error("the schema beside is not applied")
		}
	}
}
