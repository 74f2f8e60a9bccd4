package auth_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

type keyTable map[string]hub.APIKey

func (k keyTable) APIKey(id string) (hub.APIKey, bool) { v, ok := k[id]; return v, ok }

func TestAPIKeys(t *testing.T) {
	text, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text, "qhk_"+id+"_") || bytes.Contains(hash, []byte(text)) {
		t.Fatalf("key %s, id %s", text, id)
	}
	c := &clock{at: time.Now()}
	table := keyTable{id: {ID: id, Name: "meter-1", Hash: hash, Scopes: []string{"publish"}, ExpiresAt: c.now().Add(time.Hour)}}
	keys := auth.NewAPIKeys(table, c.now)
	try := func(header, value string) (*auth.Principal, error) {
		r := httptest.NewRequest(http.MethodPost, "/hub", nil)
		if header != "" {
			r.Header.Set(header, value)
		}
		return keys.Authenticate(t.Context(), &auth.Request{HTTP: r})
	}
	for _, h := range [][2]string{{"X-API-Key", text}, {"Authorization", "Bearer " + text}, {"Authorization", "bearer " + text}} {
		p, err := try(h[0], h[1])
		if err != nil || p.String() != "api-key:meter-1" || !p.HasScope("publish") {
			t.Errorf("%s: %v, %v", h[0], p, err)
		}
	}
	for name, h := range map[string][2]string{
		"nothing": {"", ""}, "another scheme": {"Authorization", "Basic x"}, "a token": {"Authorization", "Bearer a.b.c"},
	} {
		if _, err := try(h[0], h[1]); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("%s: %v, want ErrNotMine", name, err)
		}
	}
	for name, value := range map[string]string{
		"wrong secret": text[:len(text)-1] + "!", "unknown id": "qhk_000000000000_" + text[17:], "no key": "hello", "empty": "",
		"no secret": "qhk_" + id + "_", "long": text + strings.Repeat("x", 200), "no prefix": strings.TrimPrefix(text, "qhk_"),
	} {
		var refusal *auth.RefusalError
		if _, err := try("X-API-Key", value); !errors.As(err, &refusal) {
			t.Errorf("%s: %v, want a refusal", name, err)
		} else if strings.Contains(refusal.Reason, text[20:]) {
			t.Errorf("%s: the reason shows the secret: %s", name, refusal.Reason)
		}
	}
	c.advance(time.Hour)
	if _, err := try("X-API-Key", text); err == nil {
		t.Error("an expired key was accepted")
	}
}

func TestClientCertificates(t *testing.T) {
	spiffe, err := url.Parse("spiffe://example.org/printer")
	if err != nil {
		t.Fatal(err)
	}
	verified := func(cert *x509.Certificate) *auth.Request {
		r := httptest.NewRequest(http.MethodPost, "/hub", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		return &auth.Request{HTTP: r}
	}
	for name, c := range map[string]struct {
		subject string
		cert    *x509.Certificate
		want    string // empty: refused
	}{
		"uri":      {"uri", &x509.Certificate{URIs: []*url.URL{spiffe}}, "spiffe://example.org/printer"},
		"two uris": {"uri", &x509.Certificate{URIs: []*url.URL{spiffe, spiffe}}, ""},
		"no uri":   {"uri", &x509.Certificate{DNSNames: []string{"a.example"}}, ""},
		"dns":      {"dns", &x509.Certificate{DNSNames: []string{"a.example"}}, "a.example"},
		"cn":       {"cn", &x509.Certificate{Subject: pkix.Name{CommonName: "printer"}}, "printer"},
		"no cn":    {"cn", &x509.Certificate{}, ""},
	} {
		a := auth.NewCertificates(auth.CertificateMapping{Subject: c.subject, Roles: []string{"device"}}, time.Now, nil)
		p, err := a.Authenticate(t.Context(), verified(c.cert))
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: accepted as %s", name, p)
			}
			continue
		}
		if err != nil || p.Subject != c.want || !p.HasRole("device") {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	a := auth.NewCertificates(auth.CertificateMapping{Subject: "cn"}, time.Now, nil)
	unverified := verified(&x509.Certificate{Subject: pkix.Name{CommonName: "printer"}})
	unverified.HTTP.TLS.VerifiedChains = nil
	if _, err := a.Authenticate(t.Context(), unverified); err == nil {
		t.Error("an unverified certificate was accepted")
	}
	if _, err := a.Authenticate(t.Context(), &auth.Request{HTTP: httptest.NewRequest(http.MethodGet, "/", nil)}); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("without TLS: %v, want ErrNotMine", err)
	}
}

func TestGateRefusesAnyInvalidCredentials(t *testing.T) {
	keys := auth.NewAPIKeys(keyTable{}, time.Now)
	certs := auth.NewCertificates(auth.CertificateMapping{Subject: "cn"}, time.Now, nil)
	gate := auth.NewGate(&auth.Settings{}, keys, certs)
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "printer"}}
	r := httptest.NewRequest(http.MethodPost, "/hub", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	if p, err := gate.Authenticate(t.Context(), &auth.Request{HTTP: r}); err != nil || p.Method != auth.MethodCertificate {
		t.Fatalf("%v, %v", p, err)
	}
	r.Header.Set("X-API-Key", "qhk_000000000000_wrong")
	if p, err := gate.Authenticate(t.Context(), &auth.Request{HTTP: r}); err == nil {
		t.Errorf("a valid certificate made up for a wrong key: %s", p)
	}
	if p, err := gate.Authenticate(t.Context(), &auth.Request{HTTP: httptest.NewRequest(http.MethodGet, "/", nil)}); err != nil || p.Method != auth.MethodAnonymous {
		t.Errorf("without credentials: %v, %v", p, err)
	}
}
