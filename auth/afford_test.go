package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

var errSpent = errors.New("too many were refused")

// Nothing that costs is done for a client of which too much was refused; what is known or cheap goes on.
func TestNothingExpensiveIsDoneUnlessAffordable(t *testing.T) {
	unread := func() ([]byte, error) { t.Error("a body was read"); return nil, io.EOF }
	spent := func(r *auth.Request) *auth.Request {
		r.Afford, r.Body = func() error { return errSpent }, unread
		return r
	}

	rt := &answering{answer: func(*http.Request) (int, string) { return 200, valid }}
	service := remote(t, &http.Client{Transport: rt}, "https://auth.example/v1", "", time.Now)
	if got := outcome(service.Authenticate(t.Context(), cookie("Authorization=known"))); !strings.HasPrefix(got, "service-account") {
		t.Fatal(got)
	}
	if _, err := service.Authenticate(t.Context(), spent(cookie("Authorization=new"))); !errors.Is(err, errSpent) || errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("token service: %v, want the client's own limit", err)
	}
	if got := outcome(service.Authenticate(t.Context(), spent(cookie("Authorization=known")))); !strings.HasPrefix(got, "service-account") || rt.asked.Load() != 1 {
		t.Errorf("token service, remembered: %s after %d questions", got, rt.asked.Load())
	}

	s := newIssued(t)
	good := sign(t, s.head, s.claims, s.rsa)
	if _, err := s.tokens.Authenticate(t.Context(), spent(bearer(good))); !errors.Is(err, errSpent) {
		t.Errorf("access token: %v", err)
	}
	if _, err := s.tokens.Authenticate(t.Context(), bearer(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.tokens.Authenticate(t.Context(), spent(bearer(good))); err != nil {
		t.Errorf("access token that was verified lately: %v", err)
	}
	if _, err := s.tokens.Authenticate(t.Context(), spent(bearer(good[:len(good)-8]+"AAAAAAAA"))); !errors.Is(err, errSpent) {
		t.Errorf("access token with another signature: %v", err)
	}

	text, keys := signers(t)
	settings, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	nonces := &memory{}
	signatures := auth.NewSignatures(*settings.SignedRequests, nonces, time.Now)
	if _, err := signatures.Authenticate(t.Context(), spent(seen(t, signedBy(t, keys["ed25519"], "ed25519", fullProfile)))); !errors.Is(err, errSpent) {
		t.Errorf("signature: %v", err)
	}
	header := "geo-key-id=GEOSystem,geo-expires-by=1368200000000,geo-nonce=" + geoNonce
	if _, err := geo(t, nonces, "").Authenticate(t.Context(), spent(request("POST", "/x", geoBiz, "GEO-Auth", header+",geo-signature="+geoSign(header+geoBiz)))); !errors.Is(err, errSpent) {
		t.Errorf("GEO-Auth: %v", err)
	}

	sum := sha256.Sum256([]byte("secret"))
	table := keyTable{"0123456789ab": hub.APIKey{ID: "0123456789ab", Name: "n", Hash: sum[:]}}
	if _, err := auth.NewAPIKeys(table, time.Now).Authenticate(t.Context(), spent(bearer("qhk_0123456789ab_secret"))); err != nil {
		t.Errorf("API key %s: %v", hex.EncodeToString(sum[:2]), err)
	}
}

// An access token that was verified is known for a while, but not longer than it is valid, and not on another connection if it is
// bound to one.
func TestVerifiedTokensAreRemembered(t *testing.T) {
	key := ecKey(t)
	a := newAuthority(t, signingKey{kid: "e", private: key})
	c := &clock{at: time.Now()}
	tk, source := tokens(t, a, c, "    typ: any\n")
	waitReady(t, source)
	now := c.now().Unix()
	token := sign(t, object{"alg": "ES256", "kid": "e"}, object{"iss": a.server.URL, "aud": "hub", "sub": "s", "iat": now, "exp": now + 20}, key)
	costs := 0
	ask := func() error {
		r := bearer(token)
		r.Afford = func() error { costs++; return nil }
		_, err := tk.Authenticate(t.Context(), r)
		return err
	}
	for range 5 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if costs != 1 {
		t.Errorf("verified %d times, want once", costs)
	}
	c.advance(time.Minute)
	if err := ask(); err == nil {
		t.Error("an expired token was remembered")
	}
}

// One client cannot take all questions to the token service.
func TestTokenServiceSlotsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		rt := &answering{answer: func(r *http.Request) (int, string) {
			if strings.Contains(r.Header.Get("Cookie"), "flood") {
				<-hold
				return 401, ""
			}
			return 200, valid
		}}
		a := remote(t, &http.Client{Transport: rt}, "https://auth.example/v1", ", timeout: 5s", time.Now)
		from := func(addr, token string) *auth.Request {
			r := &auth.Request{HTTP: httptest.NewRequest(http.MethodPost, "http://hub.example/hub", nil), Client: netip.MustParseAddr(addr)}
			r.HTTP.Header.Set("Cookie", "Authorization="+token)
			return r
		}
		var flood sync.WaitGroup
		for i := range 200 {
			flood.Go(func() { _, _ = a.Authenticate(t.Context(), from("192.0.2.1", "flood"+strings.Repeat("x", i+1))) })
		}
		synctest.Wait()
		if n := rt.asked.Load(); n != 8 {
			t.Errorf("one client asks %d questions at once, want 8", n)
		}
		begin := time.Now()
		if got := outcome(a.Authenticate(t.Context(), from("192.0.2.2", "other"))); !strings.HasPrefix(got, "service-account") || time.Since(begin) > time.Second {
			t.Errorf("another client: %s after %s", got, time.Since(begin))
		}
		close(hold)
		flood.Wait()
	})
}
