package session_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/auth/session"
)

// No cookie is longer than browsers keep. What gives way is the ID token, then how steps were passed; roles never do.
func TestNoCookieIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		roles := func(n int) (out []string) {
			for i := range n {
				out = append(out, fmt.Sprintf("/groups/department-%03d/team", i))
			}
			return out
		}
		for name, tc := range map[string]struct {
			change         func(*session.New)
			token, methods bool
		}{
			"as usual":        {func(*session.New) {}, true, true},
			"a long ID token": {func(n *session.New) { n.IDToken = strings.Repeat("x", 2500) }, true, true},
			"a longer one":    {func(n *session.New) { n.IDToken = strings.Repeat("x", 3000) }, false, true},
			"many roles":      {func(n *session.New) { n.Principal.Roles = roles(90) }, true, true},
			"roles and token": {func(n *session.New) { n.Principal.Roles, n.IDToken = roles(80), strings.Repeat("x", 1000) }, false, true},
			"so many methods": {func(n *session.New) {
				n.Principal.Roles, n.Passed[0].Method = roles(80), []string{strings.Repeat("m", 1000)}
			}, false, false},
		} {
			_, cookie := r.login(tc.change)
			s, _ := r.open(cookie)
			if n := len(session.Cookie(cookie).String()); n > 4096 || (s.IDToken != "") != tc.token || (len(s.Passed[0].Method) > 0) != tc.methods {
				t.Errorf("%s: %d bytes, ID token %v, methods %v", name, n, s.IDToken != "", s.Passed[0].Method)
			}
			want := alice(tc.change)
			if !slices.Equal(s.Principal.Roles, want.Principal.Roles) || !slices.Equal(s.Principal.Scopes, want.Principal.Scopes) {
				t.Errorf("%s: %d roles are left", name, len(s.Principal.Roles))
			}
		}
		before := r.log.Batches()
		_, cookie, err := r.Start(t.Context(), alice(func(n *session.New) { n.Principal.Roles = roles(200) }))
		var large *session.TooLargeError
		if !errors.As(err, &large) || large.Roles != 200 || cookie != "" || r.log.Batches() != before || !strings.Contains(err.Error(), "200 roles") {
			t.Errorf("%v", err)
		}
	})
}

// Whatever is wrong with a cookie, no session comes of it, and nothing is learnt.
func TestForgedCookies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, cookie := r.login()
		raw, _ := base64.RawURLEncoding.DecodeString(cookie)
		sealed := func(text, binding string) string {
			b, err := r.ring.Seal([]byte(text), binding)
			if err != nil {
				t.Fatal(err)
			}
			return base64.RawURLEncoding.EncodeToString(b)
		}
		other, _ := keyring.New(keyOf(5))
		foreign, _ := other.Seal([]byte(`{}`), "session-cookie")
		for name, value := range map[string]string{
			"empty": "", "text": "hello", "truncated": cookie[:len(cookie)-4], "padded": cookie + "=", "longer": cookie + "AAAA", "very long": strings.Repeat("A", 5000),
			"a secret of another purpose": sealed(`{"s":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=","p":"issuer:corp/alice"}`, "stream-ticket"),
			"no JSON":                     sealed("x", "session-cookie"), "no secret": sealed(`{"p":"issuer:corp/alice"}`, "session-cookie"),
			"of another hub": base64.RawURLEncoding.EncodeToString(foreign),
		} {
			var refusal *auth.RefusalError
			if s, _, err := r.Open(t.Context(), value); !errors.As(err, &refusal) || s != nil {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		}
		for i := range raw {
			changed := slices.Clone(raw)
			changed[i] ^= 1
			if s, _, err := r.Open(t.Context(), base64.RawURLEncoding.EncodeToString(changed)); err == nil || s != nil {
				t.Errorf("byte %d changed: %+v", i, s)
			}
		}
	})
}

func TestSessionsAreListedAndFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var ids [][32]byte
		for range 3 {
			s, _ := r.login()
			ids = append(ids, s.ID)
			time.Sleep(time.Second)
		}
		bob, _ := r.login(func(n *session.New) { n.Principal.ID = "issuer:corp/bob" })
		list, err := r.Of(t.Context(), "issuer:corp/alice")
		if err != nil || len(list) != 3 || list[0].ID != ids[2] || list[2].ID != ids[0] || list[0].Client != "Firefox on Linux" || list[0].Name != "Alice Example" ||
			list[0].Passed[0].Authenticator != "corp" || list[0].Ends.Sub(list[0].Started) != 12*time.Hour {
			t.Errorf("%+v, %v", list, err)
		}
		s, ok := r.Find(t.Context(), bob.ID)
		if !ok || s.Principal.ID != "issuer:corp/bob" || s.Name != "Alice Example" || !s.Seen.IsZero() || s.IDToken != "" {
			t.Errorf("%+v", s)
		}
		if ends, ok := r.Alive(bob.ID); !ok || !ends.Equal(bob.Ends) {
			t.Errorf("%s, %v", ends, ok)
		}
		r.settings = parse(t, strings.Replace(corpSettings, "absolute: 12h", "absolute: 1h", 1))
		time.Sleep(time.Hour)
		if _, ok := r.Alive(bob.ID); ok {
			t.Error("alive after its time")
		}
	})
}

// The cookie has each attribute that keeps it to this hub.
func TestTheCookiesAttributes(t *testing.T) {
	if got, want := session.Cookie("x").String(), "__Host-quorumhub=x; Path=/; HttpOnly; Secure; SameSite=Lax"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := session.Cookie("").String(), "__Host-quorumhub=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if c, err := http.ParseSetCookie(session.Cookie("x").String()); err != nil || c.Domain != "" {
		t.Errorf("%+v, %v", c, err)
	}
}
