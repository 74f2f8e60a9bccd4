package auth_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
)

// A claim that its user can choose names nobody, unless an operator says so.
func TestAUserIsWhoTheIssuerSays(t *testing.T) {
	key := ecKey(t)
	a := newAuthority(t, signingKey{kid: "e", private: key})
	c := &clock{at: time.Now()}
	now := c.now().Unix()
	claims := object{"iss": a.server.URL, "aud": "hub", "sub": "mallory", "preferred_username": "u1", "email": "u1@example.org", "iat": now, "exp": now + 60}
	for name, want := range map[string]struct {
		settings, user, id string
		without            string
	}{
		"by default":               {"", "mallory", "issuer:idp/mallory", ""},
		"a claim for users":        {"    claims: {user: [/preferred_username]}\n", "u1", "issuer:idp/mallory", ""},
		"a claim for subjects":     {"    claims: {subject: [/email]}\n", "mallory", "issuer:idp/u1@example.org", ""},
		"the user's claim missing": {"    claims: {user: [/preferred_username]}\n", "", "issuer:idp/mallory", "preferred_username"},
		"the subject missing":      {"    claims: {subject: [/email]}\n", "", "", "email"},
	} {
		tk, source := tokens(t, a, c, "    typ: any\n"+want.settings)
		waitReady(t, source)
		p, err := tk.Authenticate(t.Context(), bearer(sign(t, object{"alg": "ES256", "kid": "e"}, with(claims, object{want.without: nil}), key)))
		if want.id == "" {
			if err == nil {
				t.Errorf("%s: accepted as %s", name, p.ID)
			}
			continue
		}
		if err != nil || p.User != want.user || p.ID != want.id || p.Until.Unix() != now+60 {
			t.Errorf("%s: %+v, %v; want user %q, principal %s", name, p, err, want.user, want.id)
		}
	}
}

// withSources is settings with several authorities.
func withSources(t *testing.T, sources string, rules string) (*auth.Settings, error) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	return auth.ParseSettings([]byte(strings.ReplaceAll(sources, "SECRET", secret) + "\nrules:\n" + rules))
}

// Equal names from two authorities are two callers, so a rule that could mean either is refused.
func TestNamesNeedAnAuthority(t *testing.T) {
	const (
		idp    = "issuers: [{name: idp, issuer: 'https://idp.example', audiences: [hub]}]\n"
		two    = "issuers: [{name: idp, issuer: 'https://idp.example', audiences: [hub]}, {name: other, issuer: 'https://other.example', audiences: [hub]}]\n"
		certs  = "client_certificates: {subject: dns}\n"
		signed = "signed_requests: {keys: [{id: k, algorithm: hmac-sha256, secret_file: SECRET}]}\n"
		geo    = "geo_auth: {keys: [{id: k, secret_file: SECRET, usernames: [u1]}]}\n"
		remote = "token_service: {name: manager, url: 'https://manager.example'}\n"
	)
	rule := func(who string) string {
		return "  - {name: r, may: [read], topics: ['u/{user}'], who: [" + who + "]}\n"
	}
	for name, c := range map[string]struct{ sources, who, mistake string }{
		"one issuer":                   {idp, `{user: "{user}"}`, ""},
		"only API keys":                {"", `{user: "{user}"}`, ""},
		"two issuers":                  {two, `{user: "{user}"}`, "issuer idp, issuer other"},
		"two issuers, a subject":       {two, `{subject: "{user}"}`, "issuer idp, issuer other"},
		"two issuers, a client":        {two, `{client: "{user}"}`, "issuer idp, issuer other"},
		"two issuers, one named":       {two, `{issuer: other, user: "{user}"}`, ""},
		"two issuers, only the method": {two, `{method: token, user: "{user}"}`, "issuer idp, issuer other"},
		"issuer and certificates":      {idp + certs, `{user: "{user}"}`, "issuer idp, method certificate"},
		"... with the method":          {idp + certs, `{method: certificate, user: "{user}"}`, ""},
		"issuer and signatures":        {idp + signed, `{user: "{user}"}`, "issuer idp, method signature"},
		"issuer and GEO-Auth":          {idp + geo, `{user: "{user}"}`, "issuer idp, method geo-auth"},
		"issuer and token service":     {idp + remote, `{user: "{user}"}`, "issuer idp, issuer manager"},
		"API keys":                     {two, `{method: api-key, user: "{user}"}`, ""},
		"a scope":                      {two, `{scope: x}`, ""},
		"a role with a name":           {two, `{role: "R_{user}"}`, ""},
		"a principal":                  {two, `{principal: "issuer:idp/{user}"}`, ""},
		"an unknown principal":         {two, `{principal: "issuer:nobody/1"}`, "nobody"},
		"no principal":                 {two, `{principal: "1"}`, "<authority>/<subject>"},
		"owner as a name":              {idp, `{user: "{owner}"}`, "topics only"},
	} {
		s, err := withSources(t, c.sources, rule(c.who))
		if c.mistake == "" && err != nil || c.mistake != "" && (err == nil || !strings.Contains(err.Error(), c.mistake)) {
			t.Errorf("%s: %v; want a mistake with %q", name, err, c.mistake)
		}
		_ = s
	}

	// The same for rules set at run time, and for the callers of a rule that is not ambiguous.
	s, err := withSources(t, idp, rule(`{user: "{user}"}`))
	if err != nil {
		t.Fatal(err)
	}
	of := func(m auth.Method, authority string) bool {
		return auth.Decide(s.Rules, &auth.Principal{Method: m, Authority: authority, User: "u1"}, auth.ActionRead, "u/u1").Allowed
	}
	if !of(auth.MethodToken, "idp") || of(auth.MethodAPIKey, "") {
		t.Error("a rule on users with one issuer: want its users and no API key of that name")
	}
	if s, err = withSources(t, two, ""); err != nil {
		t.Fatal(err)
	}
	r := auth.Rule{Name: "r", May: []string{"read"}, Topics: []string{"u/{user}"}, Who: []auth.Who{{User: "{user}"}}}
	if err := s.CheckRule(&r); err == nil {
		t.Error("a rule set at run time names a user of any issuer")
	}
}

func TestRulesOfOwners(t *testing.T) {
	s, err := auth.ParseSettings([]byte(`
rules:
  - {name: own, may: [publish], topics: ["reports/{owner}/**", "inbox/{owner}"]}
  - {name: named, may: [read], topics: ["x"], who: [{principal: "key/0123456789ab"}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	may := func(id string, a auth.Action, topic string) bool {
		return auth.Decide(s.Rules, &auth.Principal{Method: auth.MethodToken, ID: id}, a, topic).Allowed
	}
	for topic, want := range map[string]bool{"reports/issuer:idp/123/a": true, "reports/issuer:idp/123/a/b": true, "inbox/issuer:idp/123": true,
		"reports/issuer:idp/1234/a": false, "reports/issuer:idp/123": false, "reports/issuer:idp/12/a": false, "inbox/issuer:idp/123/a": false, "inbox/": false} {
		if got := may("issuer:idp/123", auth.ActionPublish, topic); got != want {
			t.Errorf("%s: %v, want %v", topic, got, want)
		}
	}
	for _, id := range []string{"", "issuer:idp/**", "issuer:idp/*", "issuer:idp/{x}", "**", "*"} {
		if may(id, auth.ActionPublish, "reports/issuer:idp/123/a") {
			t.Errorf("%q may publish under another principal", id)
		}
	}
	if auth.Decide(s.Rules, auth.Anonymous(), auth.ActionPublish, "reports//a").Allowed {
		t.Error("anonymous owns a topic")
	}
	if !may("key/0123456789ab", auth.ActionRead, "x") || may("key/0123456789ac", auth.ActionRead, "x") {
		t.Error("principal in who: want exactly this one")
	}
	if _, err := auth.ParseSettings([]byte("rules: [{name: r, may: [publish], topics: ['a/{owner}', b]}]")); err == nil {
		t.Error("a rule without who on a topic that has no owner in it was accepted")
	}
}

func TestLinks(t *testing.T) {
	s, err := auth.ParseSettings([]byte("client_certificates: {subject: cn}\nlinks: {alice: [key/0123456789ab, cert/alice]}\nrules: [{name: r, may: [read], topics: [a], who: [{principal: cert/alice}, {principal: cert/bob}]}]"))
	if err != nil {
		t.Fatal(err)
	}
	gate := auth.NewGate(s, auth.NewCertificates(*s.ClientCertificates, time.Now, nil))
	as := func(name string) *auth.Principal {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
		r := httptest.NewRequest(http.MethodPost, "/hub", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		p, err := gate.Authenticate(t.Context(), &auth.Request{HTTP: r})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return p
	}
	alice, bob := as("alice"), as("bob")
	if alice.ID != "key/0123456789ab" || !alice.Is("cert/alice") || bob.ID != "cert/bob" || bob.Is("cert/alice") {
		t.Errorf("alice is %s, bob is %s; want alice to be the first of her link", alice.ID, bob.ID)
	}
	if !auth.Decide(s.Rules, alice, auth.ActionRead, "a").Allowed {
		t.Error("a rule on a linked principal does not apply")
	}
	for name, text := range map[string]string{
		"one":         "links: {a: [cert/a]}",
		"in two":      "links: {a: [cert/a, cert/b], c: [cert/b, cert/d]}",
		"no form":     "links: {a: [cert/a, b]}",
		"no issuer":   "links: {a: [cert/a, 'issuer:idp/1']}",
		"bad name":    "links: {'a b': [cert/a, cert/b]}",
		"no subjects": "links: {a: [cert/, cert/b]}",
	} {
		if _, err := auth.ParseSettings([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "links: ") {
			t.Errorf("%s: %v, want a mistake", name, err)
		}
	}
}

// A principal's ID goes into lists and logs, so what would be ambiguous there is refused, whoever vouches for it.
func TestPrincipalsHavePlainNames(t *testing.T) {
	gate := auth.NewGate(&auth.Settings{}, auth.NewCertificates(auth.CertificateMapping{Subject: "cn"}, time.Now, nil))
	for _, name := range []string{"a\nb", "\x7f", "\xff", strings.Repeat("x", 600)} {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
		r := httptest.NewRequest(http.MethodPost, "/hub", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		if p, err := gate.Authenticate(t.Context(), &auth.Request{HTTP: r}); err == nil {
			t.Errorf("%q: accepted as %q", name, p.ID)
		}
	}
}
