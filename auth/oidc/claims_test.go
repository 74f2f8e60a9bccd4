package oidc_test

import (
	"net/http"
	"strings"
	"testing"

	"quorumhub/auth/oidc"
)

// Userinfo is asked only for what the ID token lacks, and what the ID token says stays.
func TestUserinfo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		from.userinfo = object{"sub": "u1", "preferred_username": "root", "name": "Somebody else", "groups": []string{"ops"}}
		p := provider(t, from, func(o *oidc.Options) { o.Wanted, o.Claims.Roles = []string{"/groups"}, []string{"/groups"} })
		who, err := through(t, from, p)
		if err != nil {
			t.Fatal(err)
		}
		if who.Principal.User != "ada" || who.Name != "Ada Lovelace" || !who.Principal.HasRole("ops") || from.count("/userinfo") != 1 {
			t.Errorf("%+v, %+v after %d questions", who, who.Principal, from.count("/userinfo"))
		}
	})
	// A name is worth a question, but nobody is kept out for want of one.
	for _, broken := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			from := newIDP(t)
			from.userinfo = object{"sub": "u1", "name": "Ada of userinfo", "realm_access": object{"roles": []string{"admin"}}}
			from.changed.claims = func(c object) { delete(c, "name") }
			if broken {
				from.changed.path["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
			}
			who, err := through(t, from, provider(t, from, nil))
			if err != nil || who.Name != map[bool]string{false: "Ada of userinfo", true: "ada"}[broken] || who.Principal.HasRole("admin") {
				t.Errorf("broken: %v: %+v, %v", broken, who, err)
			}
		})
	}
}

func TestAllowedDomains(t *testing.T) {
	for name, c := range map[string]struct {
		email    any
		verified any
		want     string
	}{
		"verified":             {"ada@example.org", true, "in"},
		"in capitals":          {"ada@EXAMPLE.ORG", true, "in"},
		"verified as text":     {"ada@example.org", "true", "in"},
		"not verified":         {"ada@example.org", false, "refused"},
		"nothing said of it":   {"ada@example.org", nil, "refused"},
		"no email":             {nil, true, "refused"},
		"another domain":       {"ada@example.com", true, "refused"},
		"below the domain":     {"ada@mail.example.org", true, "refused"},
		"ends like the domain": {"ada@notexample.org", true, "refused"},
		"two at signs":         {"ada@example.org@example.com", true, "refused"},
		"only the domain":      {"@example.org", true, "refused"},
		"a list":               {[]string{"ada@example.org"}, true, "refused"},
	} {
		bubble(t, func(t *testing.T) {
			from := newIDP(t)
			from.userinfo = object{"sub": "u1"}
			from.changed.claims = func(o object) { o["email"], o["email_verified"] = c.email, c.verified }
			p := provider(t, from, func(o *oidc.Options) { o.AllowedDomains = []string{"example.org", "example.net"} })
			if _, err := through(t, from, p); verdict(err) != c.want {
				t.Errorf("%s: %s (%v), want %s", name, verdict(err), err, c.want)
			}
		})
	}
}

// What a page shows of a person is one short line, whatever the provider says.
func TestNames(t *testing.T) {
	for given, want := range map[any]string{
		"Ada":                    "Ada",
		"":                       "ada",
		7:                        "ada",
		" \u202eAda\n<b>\x00 ":   "Ada<b>",
		strings.Repeat("é", 300): strings.Repeat("é", 128),
	} {
		bubble(t, func(t *testing.T) {
			from := newIDP(t)
			from.changed.claims = func(c object) { c["name"] = given }
			who, err := through(t, from, provider(t, from, nil))
			if err != nil || who.Name != want {
				t.Errorf("%q: %q (%v), want %q", given, who.Name, err, want)
			}
		})
	}
}
