package oidc_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"

	"quorumhub/auth/oidc"
	"quorumhub/auth/session"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

func logoutClaims() object {
	now := time.Now().Unix()
	return object{"iss": issuer, "aud": clientID, "iat": now, "exp": now + 120, "jti": rand16(), "sub": "u1", "sid": "s1", "events": object{logoutEvent: object{}}}
}

func rand16() string {
	return time.Now().String() + string(rune('a'+counter.Add(1)%26)) + url.QueryEscape(string(rune(counter.Load())))
}

// A logout token ends sessions only if the provider has just made it for that, and once.
func TestForgedLogoutTokens(t *testing.T) {
	head := object{"typ": "logout+jwt"}
	for name, c := range map[string]struct {
		change func(object)
		head   object
		want   string
	}{
		"as it is":                         {nil, head, "in"},
		"typ of its media type":            {nil, object{"typ": "application/logout+jwt"}, "in"},
		"typ JWT, as some providers do":    {nil, object{"typ": "JWT"}, "in"},
		"no typ":                           {nil, nil, "in"},
		"typ of an access token":           {nil, object{"typ": "at+jwt"}, "refused"},
		"iss of another":                   {set("iss", "https://evil.example.org"), head, "refused"},
		"aud of another":                   {set("aud", "shop"), head, "refused"},
		"no events":                        {drop("events"), head, "refused"},
		"another event":                    {set("events", object{"https://schemas.example/other": object{}}), head, "refused"},
		"a nonce, as an ID token":          {set("nonce", "n"), head, "refused"},
		"no jti":                           {drop("jti"), head, "refused"},
		"neither sub nor sid":              {drop("sub", "sid"), head, "refused"},
		"no iat":                           {drop("iat"), head, "refused"},
		"no exp":                           {drop("exp"), head, "refused"},
		"ended 30 s ago":                   {at("exp", -30*time.Second), head, "in"},
		"ended 31 s ago":                   {at("exp", -31*time.Second), head, "refused"},
		"of 6 m ago, and good for an hour": {func(c object) { at("iat", -6*time.Minute)(c); at("exp", time.Hour)(c) }, head, "refused"},
		"from in a minute":                 {at("iat", time.Minute), head, "refused"},
		"20 KiB":                           {set("x", strings.Repeat("x", 20<<10)), head, "refused"},
	} {
		bubble(t, func(t *testing.T) {
			from := newIDP(t)
			p := provider(t, from, nil)
			claims := logoutClaims()
			if c.change != nil {
				c.change(claims)
			}
			if out, err := p.Logout(t.Context(), from.sign(t, claims, c.head)); verdict(err) != c.want {
				t.Errorf("%s: %s (%v, %+v), want %s", name, verdict(err), err, out, c.want)
			}
		})
	}
}

// Nothing that is not proven is remembered, and what is proven is good once.
func TestLogoutTokensAreGoodOnce(t *testing.T) {
	head := object{"typ": "logout+jwt"}
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		used := &claimedOnce{}
		p := provider(t, from, func(o *oidc.Options) { o.Used = used })
		for name, raw := range map[string]string{"alg none": none(logoutClaims()), "HS256 with the client's secret": signWith(t, jwa.HS256(), []byte(secret), "k1", logoutClaims(), head),
			"another key": signWith(t, jwa.ES256(), newKey(t), "k1", logoutClaims(), head), "nothing": "", "no JWT": "a.b.c"} {
			if _, err := p.Logout(t.Context(), raw); verdict(err) != "refused" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(used.used) != 0 {
			t.Errorf("%d forged tokens are remembered; strangers could fill the memory", len(used.used))
		}
		// An ID token is no logout token.
		who, err := through(t, from, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Logout(t.Context(), who.IDToken); verdict(err) != "refused" {
			t.Errorf("an ID token: %v", err)
		}
		// Once, on whichever node, however many there are at once; and not while it is unknown whether it was used.
		raw := from.sign(t, logoutClaims(), head)
		other := provider(t, from, func(o *oidc.Options) { o.Used = used })
		used.err = errors.New("no leader")
		if _, err := p.Logout(t.Context(), raw); verdict(err) != "unavailable" {
			t.Errorf("without a quorum: %v", err)
		}
		used.err = nil
		if _, err := p.Logout(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		for _, on := range []*oidc.Provider{p, other} {
			if _, err := on.Logout(t.Context(), raw); verdict(err) != "refused" {
				t.Errorf("once more: %v", err)
			}
		}
		for nonce, until := range used.used {
			if until.Before(time.Now().Add(5 * time.Minute)) {
				t.Errorf("%x is forgotten at %s, while the token could still be used", nonce[:4], until)
			}
		}
	})
}

// A logout names a session, a person, or both, and ends those only.
func TestWhomALogoutEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		p := provider(t, from, nil)
		mine, sibling, other := session.Key("u1", "s1"), session.Key("u1", "s2"), session.Key("u2", "s1")
		unnamed := session.Key("u1", "") // the provider gave no sid
		for name, c := range map[string]struct {
			without string
			want    [4]bool
		}{
			"session and person": {"", [4]bool{true, false, false, false}},
			"session":            {"sub", [4]bool{true, false, true, false}},
			"person":             {"sid", [4]bool{true, true, false, true}},
		} {
			claims := logoutClaims()
			delete(claims, c.without)
			out, err := p.Logout(t.Context(), from.sign(t, claims, nil))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i, have := range [][16]byte{mine, sibling, other, unnamed} {
				if got := session.KeyMatches(have, out.Key); got != c.want[i] {
					t.Errorf("%s: session %d ends: %v, want %v", name, i, got, c.want[i])
				}
			}
		}
		if session.KeyMatches(mine, [16]byte{}) || session.KeyMatches([16]byte{}, [16]byte{}) {
			t.Error("a logout that names nobody ends sessions")
		}
	})
}

// Logging out at the provider goes to the provider, whatever is in the request, and returns only where the hub says.
func TestEndSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		from.changed.discovery = func(d object) { d["end_session_endpoint"] = issuer + "/end?realm=a" }
		p := provider(t, from, nil)
		got, err := url.Parse(p.EndSession("id.token.x&post_logout_redirect_uri=https://evil.example", "https://hub.example.org/login?x=1&y=2", "st"))
		if err != nil {
			t.Fatal(err)
		}
		q := got.Query()
		if got.Host != "idp.example.org" || got.Path != "/end" || q.Get("realm") != "a" || q.Get("client_id") != clientID || q.Get("state") != "st" ||
			len(q["post_logout_redirect_uri"]) != 1 || q.Get("post_logout_redirect_uri") != "https://hub.example.org/login?x=1&y=2" ||
			!strings.HasPrefix(q.Get("id_token_hint"), "id.token.x&") {
			t.Errorf("%s", got)
		}
		if got := p.EndSession(strings.Repeat("x", 7<<10), "", ""); strings.Contains(got, "id_token_hint") || !strings.HasPrefix(got, issuer+"/end?") {
			t.Errorf("with a long token: %d bytes", len(got))
		}
		for name, change := range map[string]func(object){"none": func(d object) { delete(d, "end_session_endpoint") }, "a script": func(d object) { d["end_session_endpoint"] = "javascript:alert(1)" }} {
			bad := newIDP(t)
			bad.changed.discovery = change
			if got := provider(t, bad, nil).EndSession("t", "https://hub.example.org/", ""); got != "" {
				t.Errorf("%s: %s", name, got)
			}
		}
		if got := provider(t, from, func(o *oidc.Options) { o.EndSession = false }).EndSession("t", "https://hub.example.org/", ""); got != "" {
			t.Errorf("not asked for: %s", got)
		}
	})
}
