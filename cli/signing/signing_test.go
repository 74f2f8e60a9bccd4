package signing_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/cli/signing"
)

const (
	secret   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	nonce    = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
	business = "transactionId=10&sequenceId=123&status=COMPLETED"
)

func reference() *signing.GEO {
	return &signing.GEO{KeyID: "GEOSystem", Secret: []byte(secret), Username: "geo", Source: "INT", Target: "HRMS", Nonce: nonce, Expires: time.UnixMilli(1368200000000), Base64: true}
}

func request(t *testing.T, method, address, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGEOReferenceVectors signs the reference requests.
func TestGEOReferenceVectors(t *testing.T) {
	get := request(t, http.MethodGet, "https://hub.example/gateway/x?"+business, "")
	signed, err := reference().Sign(get, nil)
	if want := business + "&geo-username=geo&geo-key-id=GEOSystem&geo-source-system-name=INT&geo-target-system-name=HRMS&geo-expires-by=1368200000000&geo-nonce=" + nonce; err != nil || signed != want {
		t.Errorf("GET signs %q, %v; want %q", signed, err, want)
	}
	if got, want := get.URL.Query().Get("geo-signature"), "wh6qzN8xbkKuVda1qVvY9W8C/R12IEjCibULassFZmOs71nU22qSXKnyDik5ZEFGPn15Dm+Kdg8yq41bjDDulQ=="; got != want || !strings.HasSuffix(get.URL.RawQuery, "geo-signature="+url.QueryEscape(want)) {
		t.Errorf("GET has the signature %q, want %q, in %s", got, want, get.URL.RawQuery)
	}
	post := request(t, http.MethodPost, "https://hub.example/gateway/x", business)
	signed, err = reference().Sign(post, []byte(business))
	header := "geo-username=geo,geo-key-id=GEOSystem,geo-expires-by=1368200000000,geo-source-system-name=INT,geo-target-system-name=HRMS,geo-nonce=" + nonce
	if want := header + business; err != nil || signed != want {
		t.Errorf("POST signs %q, %v; want %q", signed, err, want)
	}
	if got, want := post.Header.Get("GEO-Auth"), header+",geo-signature=ZNzDx9n8Dt1MLGhILgbJwV20M8TcqFNEOBXEATZcw50jz7xKX8VJFCMU//TTewKh+0yfYNE/NWkgyfMFoSdN6g=="; got != want {
		t.Errorf("POST has %q, want %q", got, want)
	}
}

type nonces struct{}

func (nonces) Claim(context.Context, string, [32]byte, time.Time) (bool, error) { return true, nil }

func settings(t *testing.T, text string) *auth.Settings {
	t.Helper()
	s, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// received is a request as the server sees it.
func received(r *http.Request, body string) *auth.Request {
	in := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader(body))
	in.Header = r.Header
	return &auth.Request{HTTP: in, Host: r.URL.Host, Scheme: r.URL.Scheme, Body: func() ([]byte, error) { return []byte(body), nil }}
}

// TestTheHubAcceptsGEOSignatures in each encoding and algorithm, also of parameters that need encoding.
func TestTheHubAcceptsGEOSignatures(t *testing.T) {
	for _, algorithm := range []string{"", "sha512", "sha256", "sha1"} {
		known := algorithm
		if known == "" {
			known = "sha512"
		}
		s := settings(t, fmt.Sprintf("geo_auth:\n  keys:\n    - {id: GEOSystem, secret_file: %q, algorithm: %s, usernames: [geo]}\n", file(t, secret), known))
		hub := auth.NewGEO(*s.GEOAuth, nonces{}, time.Now)
		for _, inBase64 := range []bool{true, false} {
			for _, tt := range []struct{ method, query, body string }{{"GET", "a=b%20c+d&e=%C3%BC%3D1&f=", ""}, {"GET", "", ""}, {"HEAD", "a=1", ""}, {"POST", "", `{"a": 1}`}, {"PUT", "", ""}} {
				g := &signing.GEO{KeyID: "GEOSystem", Secret: []byte(secret), Username: "geo", Algorithm: algorithm, Expires: time.Now().Add(time.Minute), Base64: inBase64}
				r := request(t, tt.method, "http://hub.example/gateway/x?"+tt.query, tt.body)
				if _, err := g.Sign(r, []byte(tt.body)); err != nil {
					t.Fatal(err)
				}
				if _, err := hub.Authenticate(t.Context(), received(r, tt.body)); err != nil {
					t.Errorf("%s %s %q: %v", algorithm, tt.method, tt.query, err)
				}
				if tt.body == "" {
					continue
				}
				if _, err := hub.Authenticate(t.Context(), received(r, tt.body+" ")); err == nil {
					t.Errorf("%s %s: another body is accepted", algorithm, tt.method)
				}
			}
		}
	}
}

func TestGEORefusesWhatItCannotSign(t *testing.T) {
	for name, tt := range map[string]struct {
		method, address string
		change          func(*signing.GEO)
	}{
		"query of a POST":    {"POST", "http://h/x?a=b", func(*signing.GEO) {}},
		"encoded ampersand":  {"GET", "http://h/x?a=b%26c", func(*signing.GEO) {}},
		"own parameter":      {"GET", "http://h/x?geo-nonce=1", func(*signing.GEO) {}},
		"comma in a field":   {"POST", "http://h/x", func(g *signing.GEO) { g.Username = "a,geo-nonce=1" }},
		"no secret":          {"GET", "http://h/x", func(g *signing.GEO) { g.Secret = nil }},
		"unknown algorithm":  {"GET", "http://h/x", func(g *signing.GEO) { g.Algorithm = "md5" }},
		"broken percent":     {"GET", "http://h/x?a=%zz", func(*signing.GEO) {}},
		"line break in name": {"GET", "http://h/x", func(g *signing.GEO) { g.Source = "a\nb" }},
	} {
		g := reference()
		tt.change(g)
		if _, err := g.Sign(request(t, tt.method, tt.address, ""), nil); err == nil {
			t.Errorf("%s is signed", name)
		}
	}
}

// TestTheHubAcceptsMessageSignatures with each kind of key, and what was signed is the signature base: the HMAC over it is the signature.
func TestTheHubAcceptsMessageSignatures(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	messages := map[string]*signing.Message{"hmac-sha256": {KeyID: "k", Secret: []byte(secret), Valid: time.Minute}}
	keys := map[string]string{"hmac-sha256": fmt.Sprintf("secret_file: %q", file(t, secret))}
	for algorithm, key := range map[string]interface {
		Public() any
	}{"ed25519": public{ed, ed.Public()}, "ecdsa-p256-sha256": public{p256, p256.Public()}, "rsa-pss-sha512": public{rsaKey, rsaKey.Public()}} {
		private, err := x509.MarshalPKCS8PrivateKey(key.(public).private)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		messages[algorithm] = &signing.Message{KeyID: "k", Private: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), Valid: time.Minute}
		keys[algorithm] = fmt.Sprintf("public_key_file: %q", file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))))
	}
	for algorithm, m := range messages {
		s := settings(t, fmt.Sprintf("signed_requests:\n  keys:\n    - {id: k, algorithm: %s, %s}\n", algorithm, keys[algorithm]))
		hub := auth.NewSignatures(*s.SignedRequests, nonces{}, time.Now)
		for _, tt := range []struct{ method, address, body string }{{"GET", "http://Hub.example:80/gateway/x?ID=1", ""}, {"POST", "https://hub.example", `{"a":1}`}, {"POST", "http://hub.example:8080/a%20b?", "x"}} {
			r := request(t, tt.method, tt.address, tt.body)
			r.Header.Set("Content-Type", "application/json")
			signed, err := m.Sign(r, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hub.Authenticate(t.Context(), received(r, tt.body)); err != nil {
				t.Errorf("%s %s: %v\n%s", algorithm, tt.address, err, signed)
			}
			if algorithm != "hmac-sha256" {
				continue
			}
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(signed))
			if want := base64.StdEncoding.EncodeToString(mac.Sum(nil)); !strings.Contains(r.Header.Get("Signature"), want) {
				t.Errorf("what was signed is not\n%s", signed)
			}
		}
	}
}

// public is a private key with its public half.
type public struct{ private, half any }

func (p public) Public() any { return p.half }
