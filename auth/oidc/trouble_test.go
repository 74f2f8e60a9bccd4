package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"

	"quorumhub/auth"
	"quorumhub/auth/oidc"
	"quorumhub/auth/sequence"
)

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func text(code int, kind, s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = w.Write([]byte(s))
	}
}

func elsewhere(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "https://attacker.example/elsewhere", http.StatusTemporaryRedirect)
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// doc is a discovery document with one member that is not as it should be.
func doc(name, value string) string {
	d := object{"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys"}
	d[name] = value
	s, _ := json.Marshal(d)
	return string(s)
}

// Whatever a provider does, the answer is a refusal or "unavailable", as the table in doc.go says, and takes at most ten seconds.
func TestTroubleAtTheProvider(t *testing.T) {
	huge := text(200, "application/json", `{"x":"`+strings.Repeat("x", 3<<20)+`"}`)
	const discovery, token, userinfo = "/.well-known/openid-configuration", "/token", "/userinfo"
	for name, c := range map[string]struct {
		path  string
		serve http.HandlerFunc
		want  string
	}{
		"discovery does not connect":        {discovery, status(noConnection), "unavailable"},
		"discovery hangs":                   {discovery, hang, "unavailable"},
		"discovery redirects":               {discovery, elsewhere, "unavailable"},
		"discovery 404":                     {discovery, status(404), "unavailable"},
		"discovery 503":                     {discovery, status(503), "unavailable"},
		"discovery is a page":               {discovery, text(200, "text/html", "<html>maintenance</html>"), "unavailable"},
		"discovery is an error with 200":    {discovery, text(200, "application/json", `{"error":"server_error"}`), "unavailable"},
		"discovery is endless":              {discovery, huge, "unavailable"},
		"discovery of another issuer":       {discovery, text(200, "application/json", doc("issuer", "https://evil.example.org")), "unavailable"},
		"discovery with a script":           {discovery, text(200, "application/json", doc("authorization_endpoint", "javascript:alert(1)")), "unavailable"},
		"discovery with plain http":         {discovery, text(200, "application/json", doc("token_endpoint", "http://idp.example.org/token")), "unavailable"},
		"discovery without token endpoint":  {discovery, text(200, "application/json", doc("token_endpoint", "")), "unavailable"},
		"token does not connect":            {token, status(noConnection), "unavailable"},
		"token hangs":                       {token, hang, "unavailable"},
		"token redirects":                   {token, elsewhere, "unavailable"},
		"token 500":                         {token, text(500, "application/json", `{"error":"invalid_grant"}`), "unavailable"},
		"token 503":                         {token, status(503), "unavailable"},
		"token 429":                         {token, text(429, "application/json", `{"error":"slow_down"}`), "unavailable"},
		"token 404":                         {token, status(404), "unavailable"},
		"token is a page":                   {token, text(200, "text/html", "<html>maintenance</html>"), "unavailable"},
		"token is endless":                  {token, huge, "unavailable"},
		"token is an error with 200":        {token, text(200, "application/json", `{"error":"invalid_grant"}`), "refused"},
		"token is a passing error with 200": {token, text(200, "application/json", `{"error":"temporarily_unavailable"}`), "unavailable"},
		"token server_error":                {token, text(400, "application/json", `{"error":"server_error"}`), "unavailable"},
		"token invalid_grant":               {token, text(400, "application/json", `{"error":"invalid_grant","error_description":"`+strings.Repeat("x", 9000)+`"}`), "refused"},
		"token invalid_client":              {token, text(401, "application/json", `{"error":"invalid_client"}`), "unavailable"},
		"token without ID token":            {token, text(200, "application/json", `{"access_token":"at","token_type":"Bearer"}`), "unavailable"},
		"token with a number for ID token":  {token, text(200, "application/json", `{"access_token":"at","token_type":"Bearer","id_token":7}`), "unavailable"},
		"userinfo 500":                      {userinfo, status(500), "unavailable"},
		"userinfo hangs":                    {userinfo, hang, "unavailable"},
		"userinfo is endless":               {userinfo, huge, "unavailable"},
		"userinfo is a JWT":                 {userinfo, text(200, "application/jwt", "a.b.c"), "unavailable"},
		"userinfo of another":               {userinfo, text(200, "application/json", `{"sub":"u2","groups":["admin"]}`), "refused"},
		"userinfo without sub":              {userinfo, text(200, "application/json", `{"groups":["admin"]}`), "refused"},
		"keys 500":                          {"/keys", status(500), "unavailable"},
		"keys are endless":                  {"/keys", huge, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				from := newIDP(t)
				from.changed.path[c.path] = c.serve
				p := provider(t, from, func(o *oidc.Options) { o.Wanted = []string{"/groups"} })
				began := time.Now()
				var err error
				if c.path == discovery {
					_, _, err = p.Start(t.Context(), &sequence.Start{State: "s", Callback: callback})
				} else {
					_, err = through(t, from, p)
				}
				if verdict(err) != c.want || len(fmt.Sprint(err)) > 700 {
					t.Errorf("%s (%v), want %s", verdict(err), err, c.want)
				}
				if from.count("/elsewhere") > 0 {
					t.Error("a redirect was followed")
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("took %s", took)
				}
				if ready := verdict(p.Ready(t.Context())); (c.path == discovery || c.path == "/keys") != (ready == "unavailable") {
					t.Errorf("Ready: %s", ready)
				}
			})
		})
	}
}

// Ready finds a provider that has died in time for the next of a failover, asks seldom, and does not keep people waiting.
func TestReady(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const discovery = "/.well-known/openid-configuration"
		from := newIDP(t)
		p := provider(t, from, nil)
		asked := from.count(discovery)
		for range 100 {
			if err := p.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := from.count(discovery) - asked; n != 0 {
			t.Errorf("asked %d times within ten seconds", n)
		}
		from.mu.Lock()
		from.changed.serve = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		from.mu.Unlock()
		time.Sleep(11 * time.Second)
		began := time.Now()
		if err := p.Ready(t.Context()); verdict(err) != "unavailable" || time.Since(began) > 3*time.Second {
			t.Errorf("a provider that hangs: %v after %s", err, time.Since(began))
		}
		began, asked = time.Now(), from.count(discovery)
		for range 100 {
			if err := p.Ready(t.Context()); verdict(err) != "unavailable" {
				t.Fatal(err)
			}
		}
		if n := from.count(discovery) - asked; n != 0 || time.Since(began) > 0 {
			t.Errorf("asked %d times within a moment, which took %s", n, time.Since(began))
		}
		if err := p.Status(); err == nil {
			t.Error("Status does not say that the provider hangs")
		}
		from.mu.Lock()
		from.changed.serve = nil
		from.mu.Unlock()
		time.Sleep(6 * time.Second)
		if err := p.Ready(t.Context()); err != nil {
			t.Errorf("after it has come back: %v", err)
		}
		if err := p.Status(); err != nil {
			t.Error(err)
		}

		// A login that fails in the middle makes the next one look again, however lately it was asked.
		at, private := start(t, p, sequence.Start{})
		form := from.authorize(t, at)
		from.mu.Lock()
		from.changed.serve = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(noConnection) }
		from.mu.Unlock()
		if _, err := p.Finish(t.Context(), &sequence.Finish{Form: form, Private: private, Callback: callback}); verdict(err) != "unavailable" {
			t.Error(err)
		}
		if err := p.Ready(t.Context()); verdict(err) != "unavailable" {
			t.Errorf("Ready after a login has found nobody there: %v", err)
		}
		from.mu.Lock()
		from.changed.serve = nil
		from.mu.Unlock()

		// A caller that goes away has learned nothing about the provider.
		time.Sleep(11 * time.Second)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Ready(gone); !errors.Is(err, auth.ErrUnavailable) {
			t.Error(err)
		}
		if err := p.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A hub that starts while its provider is down lets people log in as soon as the provider is up, not minutes later when it would ask again.
func TestProviderComesUpLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		from.changed.serve = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(noConnection) }
		p := provider(t, from, nil)
		time.Sleep(time.Hour)
		if err := p.Ready(t.Context()); verdict(err) != "unavailable" {
			t.Fatal(err)
		}
		from.mu.Lock()
		from.changed.serve = nil
		from.mu.Unlock()
		time.Sleep(6 * time.Second)
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := through(t, from, p); err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) { // its first answer takes a second, and somebody is there already
		from := newIDP(t)
		from.changed.path["/keys"] = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			from.serve(w, r)
		}
		p := provider(t, from, nil)
		if err := p.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
	bubble(t, func(t *testing.T) { // only its keys are missing, and many people come
		from := newIDP(t)
		from.changed.path["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
		p := provider(t, from, nil)
		time.Sleep(time.Minute)
		asked := from.count("/keys")
		for range 100 {
			if err := p.Ready(t.Context()); verdict(err) != "unavailable" {
				t.Fatal(err)
			}
		}
		if n := from.count("/keys") - asked; n != 1 {
			t.Errorf("100 people cause %d requests for keys at once, want 1", n)
		}
	})
}

// The provider replaces its keys between the start of a login and its callback, and strangers keep sending logout tokens with keys that
// do not exist.
func TestKeysRotateInTheMiddleOfALogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		p := provider(t, from, nil)
		time.Sleep(time.Minute)
		for i := range 50 {
			raw := signWith(t, jwa.ES256(), newKey(t), fmt.Sprint("made-up-", i), logoutClaims(), object{"typ": "logout+jwt"})
			if _, err := p.Logout(t.Context(), raw); verdict(err) != "refused" {
				t.Fatal(err)
			}
		}
		if n := from.count("/keys"); n != 2 {
			t.Errorf("50 made-up keys caused %d fetches, want 1", n-1)
		}
		at, private := start(t, p, sequence.Start{})
		form := from.authorize(t, at)
		from.rotate(t, "k2")
		if _, err := p.Finish(t.Context(), &sequence.Finish{Form: form, Private: private, Callback: callback}); err != nil {
			t.Errorf("after the rotation: %v", err)
		}
		// Twice within a second: the login waits for its turn to ask.
		at, private = start(t, p, sequence.Start{})
		form = from.authorize(t, at)
		from.rotate(t, "k2b")
		began := time.Now()
		if _, err := p.Finish(t.Context(), &sequence.Finish{Form: form, Private: private, Callback: callback}); err != nil || time.Since(began) > time.Second {
			t.Errorf("after another rotation at once: %v after %s", err, time.Since(began))
		}
		from.rotate(t, "k3")
		show := from.signer()
		from.rotate(t, "k4")
		from.changed.signs = func(c object) string { return signWith(t, jwa.ES256(), show.key, show.kid, c, nil) }
		time.Sleep(2 * time.Second)
		if _, err := through(t, from, p); verdict(err) != "refused" {
			t.Errorf("signed with a key that the provider does not show: %v", err)
		}
		from.changed.path["/keys"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
		time.Sleep(2 * time.Second)
		if _, err := through(t, from, p); verdict(err) != "unavailable" {
			t.Errorf("signed with an unknown key, and the provider shows none: %v", err)
		}
	})
}
