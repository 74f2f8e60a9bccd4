package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/auth"
)

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type object = map[string]any

// sign makes a token by hand, so that it can be invalid in every way.
func sign(t *testing.T, head, claims object, key any) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := part(head) + "." + part(claims)
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, k, sum[:])
		sig, err = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), e
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(input))
	case []byte:
		m := hmac.New(sha256.New, k)
		m.Write([]byte(input))
		sig = m.Sum(nil)
	case nil:
	default:
		t.Fatalf("cannot sign with %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// with returns m with some values changed; a nil value removes one.
func with(m object, changes object) object {
	out := maps.Clone(m)
	for k, v := range changes {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// tokens runs an authenticator for one issuer. change adds to its settings.
func tokens(t *testing.T, a *authority, c *clock, change string) (*auth.Tokens, *auth.KeySet) {
	t.Helper()
	return tokensLogging(t, a, c, change, slog.New(slog.DiscardHandler))
}

func tokensLogging(t *testing.T, a *authority, c *clock, change string, log *slog.Logger) (*auth.Tokens, *auth.KeySet) {
	t.Helper()
	s, err := auth.ParseSettings([]byte(`
issuers:
  - name: idp
    issuer: ` + a.server.URL + `
    audiences: [hub, https://hub.example]
    algorithms: [RS256, ES256, EdDSA]
` + change))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var source *auth.KeySet
	done := make(chan struct{})
	tk := auth.NewTokens(s.Issuers, func(is auth.Issuer) *auth.KeySet {
		source = auth.NewKeySet(is, a.server.Client(), log, c.now)
		go func() { defer close(done); source.Run(ctx) }()
		return source
	}, c.now)
	t.Cleanup(func() { cancel(); <-done })
	return tk, source
}

func waitReady(t *testing.T, s *auth.KeySet) {
	t.Helper()
	eventually(t, func() bool { return s.Ready() == nil })
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("condition not met within 30 s")
		}
	}
}

func bearer(token string) *auth.Request {
	r := httptest.NewRequest(http.MethodPost, "http://hub.example/hub", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return &auth.Request{HTTP: r}
}

// issued is an issuer with keys of every kind, an authenticator that trusts it, and the parts of a valid token.
type issued struct {
	authority    *authority
	tokens       *auth.Tokens
	rsa, other   *rsa.PrivateKey // other is published for encryption only
	ec           *ecdsa.PrivateKey
	ed           ed25519.PrivateKey
	head, claims object
	now          int64
}

func newIssued(t *testing.T) *issued {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &issued{rsa: rsaKey(t, 2048), other: rsaKey(t, 2048), ec: ecKey(t), ed: ed}
	s.authority = newAuthority(t, signingKey{kid: "r1", private: s.rsa}, signingKey{kid: "e1", alg: "ES256", private: s.ec},
		signingKey{kid: "d1", private: ed}, signingKey{kid: "enc", use: "enc", private: s.other})
	c := &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var source *auth.KeySet
	s.tokens, source = tokens(t, s.authority, c, "")
	waitReady(t, source)
	s.now = c.now().Unix()
	s.head = object{"alg": "RS256", "typ": "at+jwt", "kid": "r1"}
	s.claims = object{"iss": s.authority.server.URL, "aud": "hub", "sub": "svc-1", "client_id": "app", "iat": s.now - 10, "exp": s.now + 600,
		"scope": "publish subscribe", "realm_access": object{"roles": []string{"OPERATOR", "PUBLISH_X_GENERAL"}}, "preferred_username": "service-account-app"}
	return s
}

func TestValidTokens(t *testing.T) {
	s := newIssued(t)
	key, ec, ed, head, claims, now := s.rsa, s.ec, s.ed, s.head, s.claims, s.now
	for name, token := range map[string]string{
		"RS256":              sign(t, head, claims, key),
		"ES256":              sign(t, with(head, object{"alg": "ES256", "kid": "e1"}), claims, ec),
		"EdDSA":              sign(t, with(head, object{"alg": "EdDSA", "kid": "d1"}), claims, ed),
		"long typ":           sign(t, with(head, object{"typ": "application/at+jwt"}), claims, key),
		"several audiences":  sign(t, head, with(claims, object{"aud": []string{"x", "https://hub.example"}}), key),
		"scopes as an array": sign(t, head, with(claims, object{"scope": nil, "scp": []string{"publish", "subscribe"}}), key),
		"expired just now":   sign(t, head, with(claims, object{"exp": now - 5}), key),
		"a fast issuer":      sign(t, head, with(claims, object{"iat": now + 5, "nbf": now + 5}), key),
	} {
		p, err := s.tokens.Authenticate(t.Context(), bearer(token))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.String() != "token:idp/svc-1" || p.Client != "app" || p.User != "svc-1" || p.ID != "issuer:idp/svc-1" ||
			!p.HasScope("publish") || !p.HasScope("subscribe") || !p.HasRole("PUBLISH_X_GENERAL") {
			t.Errorf("%s: principal %+v", name, p)
		}
	}
}

func TestInvalidTokens(t *testing.T) {
	s := newIssued(t)
	for name, c := range invalidTokens(t, s) {
		_, err := s.tokens.Authenticate(t.Context(), bearer(c.token))
		var refusal *auth.RefusalError
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, c.reason) {
			t.Errorf("%s: %v; want a refusal with %q", name, err, c.reason)
		}
	}
	if n := s.authority.fetches.Load(); n > 2 {
		t.Errorf("the key set was read %d times; unknown keys may cause one fetch in 30 s", n)
	}
}

type invalidToken struct{ token, reason string }

func invalidTokens(t *testing.T, s *issued) map[string]invalidToken {
	t.Helper()
	key, other, ec, head, claims, now := s.rsa, s.other, s.ec, s.head, s.claims, s.now
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, head, claims, key)
	parts := strings.Split(good, ".")
	return map[string]invalidToken{
		"alg none":                {sign(t, with(head, object{"alg": "none"}), claims, nil), "algorithm"},
		"alg None":                {sign(t, with(head, object{"alg": "None"}), claims, nil), "algorithm"},
		"public key as a secret":  {sign(t, with(head, object{"alg": "HS256"}), claims, public), "algorithm"},
		"alg of another key type": {sign(t, with(head, object{"alg": "ES256"}), claims, ec), "has no key"},
		"alg not in the settings": {sign(t, with(head, object{"alg": "RS512"}), claims, key), "algorithm"},
		"another key":             {sign(t, head, claims, other), "signature"},
		"a key for encryption":    {sign(t, with(head, object{"kid": "enc"}), claims, other), "has no key"},
		"unknown kid":             {sign(t, with(head, object{"kid": "nobody"}), claims, key), "has no key"},
		"no signature":            {parts[0] + "." + parts[1] + ".", "signature"},
		"claims of another token": {parts[0] + "." + strings.Split(sign(t, head, with(claims, object{"sub": "root"}), other), ".")[1] + "." + parts[2], "signature"},
		"two parts":               {parts[0] + "." + parts[1], "compact form"},
		"encrypted":               {good + ".x.y", "compact form"},
		"no base64":               {"a b." + parts[1] + "." + parts[2], "header"},
		"padded base64":           {parts[0] + "=." + parts[1] + "." + parts[2], "header"},
		"embedded key":            {sign(t, with(head, object{"kid": "x", "jwk": object{"kty": "oct", "k": "AAAA"}}), claims, other), "has no key"},
		"key by URL":              {sign(t, with(head, object{"kid": "x", "jku": "https://evil.example/keys"}), claims, other), "has no key"},
		"crit":                    {sign(t, with(head, object{"crit": []string{"x"}, "x": true}), claims, key), "crit"},
		"unencoded payload":       {sign(t, with(head, object{"b64": false}), claims, key), "b64"},
		"typ JWT":                 {sign(t, with(head, object{"typ": "JWT"}), claims, key), "typ"},
		"an id token":             {sign(t, with(head, object{"typ": nil}), claims, key), "typ"},
		"another issuer":          {sign(t, head, with(claims, object{"iss": "https://evil.example"}), key), "not in the settings"},
		"issuer with a slash":     {sign(t, head, with(claims, object{"iss": s.authority.server.URL + "/"}), key), "not in the settings"},
		"no issuer":               {sign(t, head, with(claims, object{"iss": nil}), key), "not in the settings"},
		"issuers in a list":       {sign(t, head, with(claims, object{"iss": []string{s.authority.server.URL}}), key), "not in the settings"},
		"another audience":        {sign(t, head, with(claims, object{"aud": "bank"}), key), "audience"},
		"no audience":             {sign(t, head, with(claims, object{"aud": nil}), key), "audience"},
		"audience of numbers":     {sign(t, head, with(claims, object{"aud": []any{"hub", 1}}), key), "audience"},
		"expired":                 {sign(t, head, with(claims, object{"exp": now - 31}), key), "expired"},
		"no expiry":               {sign(t, head, with(claims, object{"exp": nil}), key), "exp"},
		"expiry in words":         {sign(t, head, with(claims, object{"exp": "never"}), key), "exp"},
		"expiry out of range":     {sign(t, head, with(claims, object{"exp": 1e300}), key), "exp"},
		"valid for years":         {sign(t, head, with(claims, object{"exp": now + 366*86400}), key), "valid for"},
		"from the future":         {sign(t, head, with(claims, object{"iat": now + 40}), key), "future"},
		"not yet":                 {sign(t, head, with(claims, object{"nbf": now + 60}), key), "not valid before"},
		"nbf in words":            {sign(t, head, with(claims, object{"nbf": "soon"}), key), "nbf"},
		"no subject":              {sign(t, head, with(claims, object{"sub": nil}), key), "sub"},
		"client of numbers":       {sign(t, head, with(claims, object{"client_id": 7}), key), "client_id"},
		"bound to a certificate":  {sign(t, head, with(claims, object{"cnf": object{"x5t#S256": "abc"}}), key), "bound"},
		"bound by DPoP":           {sign(t, head, with(claims, object{"cnf": object{"jkt": "abc"}}), key), "binds"},
		"too long":                {sign(t, head, with(claims, object{"pad": strings.Repeat("x", 20000)}), key), "bytes"},
		"two values":              {base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"at+jwt","kid":"r1"}{}`)) + "." + parts[1] + "." + parts[2], "header"},
	}
}

func TestOtherCredentialsAreNotTokens(t *testing.T) {
	a := newAuthority(t, signingKey{kid: "e", private: ecKey(t)})
	c := &clock{at: time.Now()}
	tk, _ := tokens(t, a, c, "")
	for _, given := range []string{"", "Basic dXNlcjpwYXNz", "GEO-Auth x", "Bearer qhk_0123456789ab_secret"} {
		r := bearer("")
		r.HTTP.Header.Set("Authorization", given)
		if given == "" {
			r.HTTP.Header.Del("Authorization")
		}
		if _, err := tk.Authenticate(t.Context(), r); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("%q: %v, want ErrNotMine", given, err)
		}
	}
	twice := bearer("x")
	twice.HTTP.Header.Add("Authorization", "Bearer y")
	if _, err := tk.Authenticate(t.Context(), twice); err == nil || errors.Is(err, auth.ErrNotMine) {
		t.Errorf("two Authorization headers: %v, want a refusal", err)
	}
}

func TestTokenFromCookie(t *testing.T) {
	key := ecKey(t)
	a := newAuthority(t, signingKey{kid: "e", private: key})
	c := &clock{at: time.Now()}
	tk, source := tokens(t, a, c, "    cookie: Authorization\n    typ: any\n")
	waitReady(t, source)
	now := c.now().Unix()
	token := sign(t, object{"alg": "ES256", "kid": "e"}, object{"iss": a.server.URL, "aud": "hub", "sub": "s", "iat": now, "exp": now + 60}, key)
	r := &auth.Request{HTTP: httptest.NewRequest(http.MethodPost, "/hub", nil)}
	r.HTTP.AddCookie(&http.Cookie{Name: "Authorization", Value: token})
	if p, err := tk.Authenticate(t.Context(), r); err != nil || p.Subject != "s" {
		t.Fatalf("%v, %v", p, err)
	}
	r.HTTP.AddCookie(&http.Cookie{Name: "Authorization", Value: token})
	if _, err := tk.Authenticate(t.Context(), r); err == nil {
		t.Error("two cookies of the same name were accepted")
	}
}

func TestTokenBoundToACertificate(t *testing.T) {
	key := ecKey(t)
	a := newAuthority(t, signingKey{kid: "e", private: key})
	c := &clock{at: time.Now()}
	tk, source := tokens(t, a, c, "    require_certificate_binding: true\n")
	waitReady(t, source)
	now := c.now().Unix()
	cert := &x509.Certificate{Raw: []byte("a certificate")}
	sum := sha256.Sum256(cert.Raw)
	claims := object{"iss": a.server.URL, "aud": "hub", "sub": "s", "iat": now, "exp": now + 60,
		"cnf": object{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}}
	head := object{"alg": "ES256", "kid": "e", "typ": "at+jwt"}

	r := bearer(sign(t, head, claims, key))
	r.HTTP.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	if _, err := tk.Authenticate(t.Context(), r); err != nil {
		t.Errorf("over the connection it is bound to: %v", err)
	}
	r.HTTP.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: []byte("another")}}}
	if _, err := tk.Authenticate(t.Context(), r); err == nil {
		t.Error("a token was accepted with a certificate it is not bound to")
	}
	r.HTTP.TLS = nil
	if _, err := tk.Authenticate(t.Context(), r); err == nil {
		t.Error("a bound token was accepted without a certificate")
	}
	if _, err := tk.Authenticate(t.Context(), bearer(sign(t, head, with(claims, object{"cnf": nil}), key))); err == nil {
		t.Error("an unbound token was accepted, but the settings require a binding")
	}
}

func TestIssuerRotatesKeys(t *testing.T) {
	old, fresh := ecKey(t), ecKey(t)
	a := newAuthority(t, signingKey{kid: "old", private: old})
	c := &clock{at: time.Now()}
	tk, source := tokens(t, a, c, "")
	waitReady(t, source)
	now := c.now().Unix()
	claims := object{"iss": a.server.URL, "aud": "hub", "sub": "s", "iat": now, "exp": now + 3600}
	byOld := sign(t, object{"alg": "ES256", "kid": "old", "typ": "at+jwt"}, claims, old)
	byFresh := sign(t, object{"alg": "ES256", "kid": "fresh", "typ": "at+jwt"}, claims, fresh)

	a.setKeys(signingKey{kid: "old", private: old}, signingKey{kid: "fresh", private: fresh})
	if _, err := tk.Authenticate(t.Context(), bearer(byFresh)); err != nil {
		t.Errorf("the first token with a new key: %v", err)
	}
	if _, err := tk.Authenticate(t.Context(), bearer(byOld)); err != nil {
		t.Errorf("the old key while both are published: %v", err)
	}

	a.setKeys(signingKey{kid: "fresh", private: fresh})
	before := a.fetches.Load()
	c.advance(31 * time.Second)
	unknown := sign(t, object{"alg": "ES256", "kid": "x", "typ": "at+jwt"}, claims, old)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := tk.Authenticate(t.Context(), bearer(unknown)); err == nil {
				t.Error("a token with an unknown key was accepted")
			}
		})
	}
	wg.Wait()
	if n := a.fetches.Load() - before; n != 1 {
		t.Errorf("50 tokens with unknown keys caused %d fetches, want 1", n)
	}
	if _, err := tk.Authenticate(t.Context(), bearer(byOld)); err == nil {
		t.Error("a key that its issuer withdrew is still accepted")
	}
}

func TestIssuerDown(t *testing.T) {
	key := ecKey(t)
	a := newAuthority(t, signingKey{kid: "e", private: key})
	a.setDown(true)
	c := &clock{at: time.Now()}
	tk, source := tokens(t, a, c, "")
	now := c.now().Unix()
	token := sign(t, object{"alg": "ES256", "kid": "e", "typ": "at+jwt"},
		object{"iss": a.server.URL, "aud": "hub", "sub": "s", "iat": now, "exp": now + 23*3600}, key)

	eventually(t, func() bool { return a.fetches.Load() > 0 })
	if _, err := tk.Authenticate(t.Context(), bearer(token)); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("before the keys were ever read: %v, want ErrUnavailable", err)
	}
	if err := source.Ready(); err == nil || !strings.Contains(err.Error(), "idp") {
		t.Errorf("Ready = %v, want the issuer's name", err)
	}
	a.setDown(false)
	waitReady(t, source) // Run retries on its own

	a.setDown(true)
	c.advance(22 * time.Hour)
	if _, err := tk.Authenticate(t.Context(), bearer(token)); err != nil {
		t.Errorf("22 h after the issuer went down: %v", err)
	}
	c.advance(3 * time.Hour)
	now = c.now().Unix()
	token = sign(t, object{"alg": "ES256", "kid": "e", "typ": "at+jwt"}, object{"iss": a.server.URL, "aud": "hub", "sub": "s", "iat": now, "exp": now + 60}, key)
	if _, err := tk.Authenticate(t.Context(), bearer(token)); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("25 h after the issuer went down: %v, want ErrUnavailable", err)
	}
}
