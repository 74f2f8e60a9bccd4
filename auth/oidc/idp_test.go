package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"quorumhub/auth"
	"quorumhub/auth/oidc"
	"quorumhub/auth/sequence"
)

const (
	issuer   = "https://idp.example.org"
	clientID = "quorumhub"
	secret   = "a secret of the hub"
	callback = "https://hub.example.org/login/callback/corp"
)

type object = map[string]any

// idp is an OpenID provider in memory, which does as its functions say. It checks PKCE, the redirect URI and the client as a provider must.
type idp struct {
	mu      sync.Mutex
	keys    []signingKey // the last one signs
	codes   map[string]login
	asked   map[string]int // by path
	noPKCE  bool
	changed struct {
		discovery func(object)
		claims    func(object)        // of ID tokens
		token     func(object)        // the token endpoint's answer
		signs     func(object) string // an ID token otherwise made
		serve     http.HandlerFunc    // instead of all
		path      map[string]http.HandlerFunc
	}
	userinfo object
	check    func(*http.Request) error // the client, at the token endpoint
}

type signingKey struct {
	kid string
	key *ecdsa.PrivateKey
}

// login is what an authorization request asked for.
type login struct{ nonce, challenge, redirect string }

func newIDP(t *testing.T) *idp {
	p := &idp{codes: map[string]login{}, asked: map[string]int{}}
	p.changed.path = map[string]http.HandlerFunc{}
	p.check = func(r *http.Request) error {
		if id, s, ok := r.BasicAuth(); !ok || id != clientID || s != url.QueryEscape(secret) {
			return errors.New("not the client")
		}
		return nil
	}
	p.rotate(t, "k1")
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rotate makes another key the only one.
func (p *idp) rotate(t *testing.T, kid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = []signingKey{{kid, newKey(t)}}
}

func (p *idp) signer() signingKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[len(p.keys)-1]
}

func (p *idp) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

// sign makes a JWT. head is added to alg and kid.
func (p *idp) sign(t *testing.T, claims, head object) string {
	t.Helper()
	k := p.signer()
	return signWith(t, jwa.ES256(), k.key, k.kid, claims, head)
}

func signWith(t *testing.T, alg jwa.SignatureAlgorithm, key any, kid string, claims, head object) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	h := jws.NewHeaders()
	for name, value := range head {
		_ = h.Set(name, value)
	}
	if kid != "" {
		_ = h.Set("kid", kid)
	}
	out, err := jws.Sign(text, jws.WithKey(alg, key, jws.WithProtectedHeaders(h)))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// RoundTrip serves the hub's requests without a network.
func (p *idp) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.asked[r.URL.Path]++
	serve := p.changed.serve
	if s := p.changed.path[r.URL.Path]; s != nil {
		serve = s
	}
	p.mu.Unlock()
	if serve == nil {
		serve = p.serve
	}
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(w, r)
	}()
	select {
	case <-done:
	case <-r.Context().Done():
		<-done
		return nil, r.Context().Err()
	}
	if w.Code == noConnection {
		return nil, errors.New("connection refused")
	}
	return w.Result(), nil
}

func (p *idp) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		doc := object{"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys",
			"userinfo_endpoint": issuer + "/userinfo", "end_session_endpoint": issuer + "/end", "authorization_response_iss_parameter_supported": true}
		if f := p.changed.discovery; f != nil {
			f(doc)
		}
		answer(doc)
	case "/keys":
		set := jwk.NewSet()
		for _, k := range p.keys {
			public, _ := jwk.Import(k.key.Public())
			_ = public.Set("kid", k.kid)
			_ = set.AddKey(public)
		}
		answer(set)
	case "/token":
		p.token(w, r, answer)
	case "/userinfo":
		if r.Header.Get("Authorization") != "Bearer at" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(p.userinfo)
	default:
		http.NotFound(w, r)
	}
}

func (p *idp) token(w http.ResponseWriter, r *http.Request, answer func(any)) {
	fail := func(code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(object{"error": code})
	}
	if p.check(r) != nil {
		fail("invalid_client")
		return
	}
	l, ok := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || r.FormValue("redirect_uri") != l.redirect || !p.noPKCE && base64.RawURLEncoding.EncodeToString(sum[:]) != l.challenge {
		fail("invalid_grant")
		return
	}
	now := time.Now().Unix()
	half := sha256.Sum256([]byte("at"))
	claims := object{"iss": issuer, "aud": clientID, "sub": "u1", "iat": now, "exp": now + 300, "nonce": l.nonce, "sid": "s1", "amr": []string{"pwd", "otp"},
		"name": "Ada Lovelace", "preferred_username": "ada", "realm_access": object{"roles": []string{"staff"}},
		"at_hash": base64.RawURLEncoding.EncodeToString(half[:16])}
	if f := p.changed.claims; f != nil {
		f(claims)
	}
	var raw string
	if f := p.changed.signs; f != nil {
		raw = f(claims)
	} else {
		k := p.keys[len(p.keys)-1]
		text, _ := json.Marshal(claims)
		h := jws.NewHeaders()
		_ = h.Set("kid", k.kid)
		signed, _ := jws.Sign(text, jws.WithKey(jwa.ES256(), k.key, jws.WithProtectedHeaders(h)))
		raw = string(signed)
	}
	out := object{"access_token": "at", "token_type": "Bearer", "id_token": raw}
	if f := p.changed.token; f != nil {
		f(out)
	}
	answer(out)
}

// authorize does as the provider when a person has logged in: it returns the parameters of the callback.
func (p *idp) authorize(t *testing.T, at string) url.Values {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("response_type") != "code" || len(q.Get("nonce")) < 43 || q.Get("client_id") != clientID {
		t.Fatalf("authorization request %s", at)
	}
	code := fmt.Sprint("code-", counter.Add(1))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[code] = login{q.Get("nonce"), q.Get("code_challenge"), q.Get("redirect_uri")}
	return url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {issuer}}
}

// noConnection is the status by which a handler says that there is none.
const noConnection = 599

var counter atomic.Int64

// claimedOnce is the cluster's memory of what was used.
type claimedOnce struct {
	mu   sync.Mutex
	used map[[32]byte]time.Time
	err  error
}

func (c *claimedOnce) Claim(_ context.Context, _ string, nonce [32]byte, until time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.used[nonce]; twice || c.err != nil {
		return false, c.err
	}
	if c.used == nil {
		c.used = map[[32]byte]time.Time{}
	}
	c.used[nonce] = until
	return true, nil
}

// provider starts a Provider for an idp and waits until it is ready.
func provider(t *testing.T, p *idp, change func(*oidc.Options)) *oidc.Provider {
	t.Helper()
	o := oidc.Options{Name: "corp", Issuer: issuer, ClientID: clientID, Secret: []byte(secret), Scopes: []string{"profile"}, Transport: p,
		Claims: auth.ClaimMapping{Subject: []string{"/sub"}, User: []string{"/preferred_username"}, Roles: []string{"/realm_access/roles"}},
		Used:   &claimedOnce{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, EndSession: true}
	if change != nil {
		change(&o)
	}
	out := oidc.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { out.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	synctest.Wait()
	return out
}

// start begins a login.
func start(t *testing.T, p *oidc.Provider, s sequence.Start) (at string, private []byte) {
	t.Helper()
	s.State, s.Callback = "state-of-256-bits", callback
	next, private, err := p.Start(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	return next.Redirect, private
}

// through logs in.
func through(t *testing.T, from *idp, p *oidc.Provider) (*sequence.Identity, error) {
	t.Helper()
	at, private := start(t, p, sequence.Start{})
	return p.Finish(t.Context(), &sequence.Finish{Form: from.authorize(t, at), Private: private, Callback: callback})
}

// verdict is how a login ended, in a word.
func verdict(err error) string {
	var refused *auth.RefusalError
	switch {
	case err == nil:
		return "in"
	case errors.As(err, &refused) && errors.Is(err, auth.ErrUnavailable):
		return "both"
	case errors.As(err, &refused):
		return "refused"
	case errors.Is(err, auth.ErrUnavailable):
		return "unavailable"
	}
	return "neither"
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// none makes a JWT without a signature.
func none(claims object) string {
	text, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"logout+jwt"}`)) + "." + base64.RawURLEncoding.EncodeToString(text) + "."
}

// at, set and drop change claims.
func at(name string, d time.Duration) func(object) {
	return func(c object) { c[name] = time.Now().Add(d).Unix() }
}

func set(name string, value any) func(object) { return func(c object) { c[name] = value } }

func drop(names ...string) func(object) {
	return func(c object) {
		for _, n := range names {
			delete(c, n)
		}
	}
}
