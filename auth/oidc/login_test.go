package oidc_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"quorumhub/auth"
	"quorumhub/auth/oidc"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
)

func TestLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		p := provider(t, from, nil)
		who, err := through(t, from, p)
		if err != nil {
			t.Fatal(err)
		}
		got := who.Principal
		if got.ID != "issuer:corp/u1" || got.Method != auth.MethodSession || got.Authority != "corp" || got.User != "ada" || !got.HasRole("staff") || !got.Until.IsZero() {
			t.Errorf("principal %+v", got)
		}
		if who.Name != "Ada Lovelace" || strings.Count(who.IDToken, ".") != 2 {
			t.Errorf("identity %+v", who)
		}
		want := session.Passed{Authenticator: "corp", Method: []string{"pwd", "otp"}, At: time.Now(), Key: session.Key("u1", "s1")}
		if !reflect.DeepEqual(who.Passed, want) {
			t.Errorf("passed %+v, want %+v", who.Passed, want)
		}
		if n := from.count("/userinfo"); n != 0 {
			t.Errorf("userinfo was asked %d times, although the ID token has everything", n)
		}
	})
}

// What stands in an ID token must be the provider's, for this hub, of this login, and of now.
func TestForgedIDTokens(t *testing.T) {
	for name, c := range map[string]struct {
		claims func(object)
		signs  func(*testing.T, *idp) func(object) string
		want   string
	}{
		"as it is": {want: "in"},
		"alg none": {signs: func(*testing.T, *idp) func(object) string { return none }, want: "refused"},
		"alg none with the signature of another token": {signs: func(t *testing.T, p *idp) func(object) string {
			k := p.signer()
			other := signWith(t, jwa.ES256(), k.key, k.kid, object{}, nil)
			return func(c object) string { return none(c) + strings.Split(other, ".")[2] }
		}, want: "refused"},
		"HS256 with the client's secret": {signs: func(t *testing.T, _ *idp) func(object) string {
			return func(c object) string { return signWith(t, jwa.HS256(), []byte(secret), "k1", c, nil) }
		}, want: "refused"},
		"HS256 with the public key": {signs: func(t *testing.T, p *idp) func(object) string {
			public, _ := x509.MarshalPKIXPublicKey(p.signer().key.Public())
			return func(c object) string { return signWith(t, jwa.HS256(), public, "k1", c, nil) }
		}, want: "refused"},
		"another key under the same kid": {signs: func(t *testing.T, _ *idp) func(object) string {
			k := newKey(t)
			return func(c object) string { return signWith(t, jwa.ES256(), k, "k1", c, nil) }
		}, want: "refused"},
		"a key of its own in the header": {signs: func(t *testing.T, _ *idp) func(object) string {
			k := newKey(t)
			return func(c object) string {
				return signWith(t, jwa.ES256(), k, "k9", c, object{"jku": "https://attacker.example/keys"})
			}
		}, want: "refused"},
		"iss of another":                {claims: set("iss", "https://evil.example.org"), want: "refused"},
		"iss with a slash more":         {claims: set("iss", issuer+"/"), want: "refused"},
		"aud of another":                {claims: set("aud", "shop"), want: "refused"},
		"aud of both, azp is the hub":   {claims: func(c object) { c["aud"], c["azp"] = []string{"shop", clientID}, clientID }, want: "in"},
		"aud of both, azp is the other": {claims: func(c object) { c["aud"], c["azp"] = []string{"shop", clientID}, "shop" }, want: "refused"},
		"aud of both, no azp":           {claims: set("aud", []string{"shop", clientID}), want: "refused"},
		"azp is no text":                {claims: set("azp", 7), want: "refused"},
		"ended 30 s ago":                {claims: at("exp", -30*time.Second), want: "in"},
		"ended 31 s ago":                {claims: at("exp", -31*time.Second), want: "refused"},
		"without end":                   {claims: drop("exp"), want: "refused"},
		"from in 30 s":                  {claims: at("iat", 30*time.Second), want: "in"},
		"from in 31 s":                  {claims: at("iat", 31*time.Second), want: "refused"},
		"30 s older than the login":     {claims: at("iat", -30*time.Second), want: "in"},
		"31 s older than the login":     {claims: at("iat", -31*time.Second), want: "refused"},
		"without iat":                   {claims: drop("iat"), want: "refused"},
		"not before in 30 s":            {claims: at("nbf", 30*time.Second), want: "in"},
		"not before in 31 s":            {claims: at("nbf", 31*time.Second), want: "refused"},
		"nonce of another login":        {claims: set("nonce", strings.Repeat("A", 43)), want: "refused"},
		"no nonce":                      {claims: drop("nonce"), want: "refused"},
		"without sub":                   {claims: drop("sub"), want: "refused"},
		"sub is no text":                {claims: set("sub", object{}), want: "refused"},
		"sub with a line break":         {claims: set("sub", "u1\nadmin"), want: "refused"},
		"sub of 600 bytes":              {claims: set("sub", strings.Repeat("u", 600)), want: "refused"},
		"at_hash of another token":      {claims: set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), want: "refused"},
		"without at_hash":               {claims: drop("at_hash"), want: "in"},
		"no JWT":                        {signs: func(*testing.T, *idp) func(object) string { return func(object) string { return "a.b.c" } }, want: "refused"},
		"40 KiB":                        {claims: set("x", strings.Repeat("x", 40<<10)), want: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				from := newIDP(t)
				p := provider(t, from, nil)
				from.changed.claims = c.claims
				if c.signs != nil {
					from.changed.signs = c.signs(t, from)
				}
				if who, err := through(t, from, p); verdict(err) != c.want {
					t.Errorf("%s (%v, %+v), want %s", verdict(err), err, who, c.want)
				}
			})
		})
	}
}

// A callback of another provider, or of none, is refused before its code is sent anywhere (mix-up, RFC 9207).
func TestCallbacks(t *testing.T) {
	type form = url.Values
	for name, c := range map[string]struct {
		change func(form)
		old    bool // the provider does not say that it sends iss
		want   string
		asks   bool // the token endpoint
	}{
		"iss of the provider":           {func(form) {}, false, "in", true},
		"iss of another":                {func(f form) { f.Set("iss", "https://evil.example.org") }, false, "refused", false},
		"no iss":                        {func(f form) { f.Del("iss") }, false, "refused", false},
		"empty iss":                     {func(f form) { f.Set("iss", "") }, false, "refused", false},
		"two iss":                       {func(f form) { f.Add("iss", "https://evil.example.org") }, false, "refused", false},
		"no iss, from an old provider":  {func(f form) { f.Del("iss") }, true, "in", true},
		"other iss, of an old provider": {func(f form) { f.Set("iss", "https://evil.example.org") }, true, "refused", false},
		"access_denied":                 {func(f form) { f.Set("error", "access_denied") }, false, "refused", false},
		"login_required":                {func(f form) { f.Set("error", "login_required") }, false, "refused", false},
		"server_error":                  {func(f form) { f.Set("error", "server_error") }, false, "unavailable", false},
		"temporarily_unavailable":       {func(f form) { f.Set("error", "temporarily_unavailable") }, false, "unavailable", false},
		"server_error of another":       {func(f form) { f.Set("error", "server_error"); f.Set("iss", "https://evil.example.org") }, false, "refused", false},
		"an error of its own":           {func(f form) { f.Set("error", strings.Repeat("x", 9000)) }, false, "refused", false},
		"two errors":                    {func(f form) { f["error"] = []string{"server_error", "access_denied"} }, false, "refused", false},
		"no code":                       {func(f form) { f.Del("code") }, false, "refused", false},
		"two codes":                     {func(f form) { f.Add("code", "x") }, false, "refused", false},
		"a code that nobody made":       {func(f form) { f.Set("code", "x") }, false, "refused", true},
		"a code of 5 KiB":               {func(f form) { f.Set("code", strings.Repeat("x", 5<<10)) }, false, "refused", false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				from := newIDP(t)
				if c.old {
					from.changed.discovery = func(d object) { delete(d, "authorization_response_iss_parameter_supported") }
				}
				p := provider(t, from, nil)
				at, private := start(t, p, sequence.Start{})
				form := from.authorize(t, at)
				c.change(form)
				_, err := p.Finish(t.Context(), &sequence.Finish{Form: form, Private: private, Callback: callback})
				if verdict(err) != c.want || len(fmt.Sprint(err)) > 600 {
					t.Errorf("%s (%v), want %s", verdict(err), err, c.want)
				}
				if asked := from.count("/token") > 0; asked != c.asks {
					t.Errorf("the token endpoint was asked: %v, want %v", asked, c.asks)
				}
			})
		})
	}
}

// A code that was stolen from somebody else's login is worth nothing in one's own: PKCE stops it at the provider and, if the provider
// does not look, the nonce stops it here.
func TestCodeOfAnotherLogin(t *testing.T) {
	for _, careless := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			from := newIDP(t)
			from.noPKCE = careless
			p := provider(t, from, nil)
			victim, _ := start(t, p, sequence.Start{})
			_, attacker := start(t, p, sequence.Start{})
			_, err := p.Finish(t.Context(), &sequence.Finish{Form: from.authorize(t, victim), Private: attacker, Callback: callback})
			if verdict(err) != "refused" || !strings.Contains(err.Error(), map[bool]string{false: "invalid_grant", true: "nonce"}[careless]) {
				t.Errorf("PKCE ignored: %v: %v", careless, err)
			}
			at, private := start(t, p, sequence.Start{})
			form := from.authorize(t, at)
			finish := &sequence.Finish{Form: form, Private: private, Callback: callback}
			if _, err := p.Finish(t.Context(), finish); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Finish(t.Context(), finish); verdict(err) != "refused" {
				t.Errorf("the code once more: %v", err)
			}
		})
	}
}

func TestMaxAge(t *testing.T) {
	at := func(d time.Duration) func(object) {
		return func(c object) { c["auth_time"] = time.Now().Add(d).Unix() }
	}
	for name, c := range map[string]struct {
		age    time.Duration
		anew   bool
		claims func(object)
		want   string
		passed time.Duration // before now
	}{
		"nothing asked, nothing said":      {0, false, nil, "in", 0},
		"nothing asked, long ago":          {0, false, at(-5 * time.Hour), "in", 5 * time.Hour},
		"10 m asked, nothing said":         {10 * time.Minute, false, nil, "refused", 0},
		"10 m asked, 5 m ago":              {10 * time.Minute, false, at(-5 * time.Minute), "in", 5 * time.Minute},
		"10 m asked, 30 s too long ago":    {10 * time.Minute, false, at(-10*time.Minute - 30*time.Second), "in", 10 * time.Minute},
		"10 m asked, 31 s too long ago":    {10 * time.Minute, false, at(-10*time.Minute - 31*time.Second), "refused", 0},
		"anew, nothing said":               {0, true, nil, "refused", 0},
		"anew, now":                        {0, true, at(0), "in", 0},
		"anew, a minute ago":               {0, true, at(-time.Minute), "refused", 0},
		"anew, the clock is 20 s behind":   {0, true, at(-20 * time.Second), "in", 0},
		"anew, the clock is 20 s in front": {0, true, at(20 * time.Second), "in", 0},
		"auth_time is no number":           {time.Minute, false, func(c object) { c["auth_time"] = "now" }, "refused", 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				from := newIDP(t)
				p := provider(t, from, nil)
				from.changed.claims = c.claims
				to, private := start(t, p, sequence.Start{MaxAge: c.age, Anew: c.anew})
				u, _ := url.Parse(to)
				want := url.Values{}
				if c.anew {
					want.Set("prompt", "login")
					want.Set("max_age", "0")
				} else if c.age > 0 {
					want.Set("max_age", fmt.Sprint(int(c.age.Seconds())))
				}
				for _, name := range []string{"prompt", "max_age"} {
					if got := u.Query().Get(name); got != want.Get(name) {
						t.Errorf("%s: %q, want %q", name, got, want.Get(name))
					}
				}
				who, err := p.Finish(t.Context(), &sequence.Finish{Form: from.authorize(t, to), Private: private, Callback: callback, MaxAge: c.age, Anew: c.anew})
				if verdict(err) != c.want {
					t.Fatalf("%s (%v), want %s", verdict(err), err, c.want)
				}
				if err == nil && !who.Passed.At.Equal(time.Now().Add(-c.passed)) {
					t.Errorf("passed %s ago, want %s", time.Since(who.Passed.At), c.passed)
				}
			})
		})
	}
}

// The hub proves itself at the token endpoint as the settings or the provider's discovery say.
func TestClientAuthentication(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	post := func(r *http.Request) error {
		if _, _, ok := r.BasicAuth(); ok || r.PostFormValue("client_secret") != secret || r.PostFormValue("client_id") != clientID {
			return errors.New("no")
		}
		return nil
	}
	assertion := func(alg jwa.SignatureAlgorithm, key crypto.Signer) func(*http.Request) error {
		seen := map[string]bool{}
		return func(r *http.Request) error {
			tok, err := jwt.Parse([]byte(r.PostFormValue("client_assertion")), jwt.WithKey(alg, key.Public()), jwt.WithIssuer(clientID), jwt.WithSubject(clientID),
				jwt.WithAudience(issuer), jwt.WithRequiredClaim("exp"), jwt.WithRequiredClaim("jti"))
			if err != nil {
				return err
			}
			id, _ := tok.JwtID()
			if r.PostFormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || r.PostFormValue("client_secret") != "" || seen[id] {
				return errors.New("no")
			}
			seen[id] = true
			return nil
		}
	}
	methods := func(m ...string) func(object) {
		return func(d object) { d["token_endpoint_auth_methods_supported"] = m }
	}
	for name, c := range map[string]struct {
		change    func(*oidc.Options)
		discovery func(object)
		check     func(*http.Request) error
	}{
		"basic, by default":      {nil, nil, nil},
		"basic, if both":         {nil, methods("client_secret_post", "client_secret_basic"), nil},
		"post, by discovery":     {nil, methods("client_secret_post"), post},
		"post, by the settings":  {func(o *oidc.Options) { o.Auth = "client_secret_post" }, methods("client_secret_basic"), post},
		"basic, by the settings": {func(o *oidc.Options) { o.Auth = "client_secret_basic" }, methods("client_secret_post"), nil},
		"a key, RSA":             {func(o *oidc.Options) { o.Secret, o.Key, o.KeyAlgorithm, o.KeyID = nil, rsaKey, "RS256", "hub" }, nil, assertion(jwa.RS256(), rsaKey)},
		"a key, Ed25519":         {func(o *oidc.Options) { o.Secret, o.Key, o.KeyAlgorithm = nil, edKey, "EdDSA" }, nil, assertion(jwa.EdDSA(), edKey)},
		"a public client, PKCE only": {func(o *oidc.Options) { o.Secret = nil }, nil, func(r *http.Request) error {
			if _, _, ok := r.BasicAuth(); ok || r.PostFormValue("client_id") != clientID || r.PostForm.Has("client_secret") {
				return errors.New("no")
			}
			return nil
		}},
	} {
		bubble(t, func(t *testing.T) {
			from := newIDP(t)
			from.changed.discovery = c.discovery
			if c.check != nil {
				from.check = c.check
			}
			p := provider(t, from, c.change)
			for range 2 {
				if _, err := through(t, from, p); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// Damaged private data of a login, which only a bug could bring, are refused.
func TestUnreadablePrivateData(t *testing.T) {
	bubble(t, func(t *testing.T) {
		from := newIDP(t)
		p := provider(t, from, nil)
		at, _ := start(t, p, sequence.Start{})
		for _, private := range []string{"", "{", `{}`, `{"v":"","n":"","t":0}`} {
			if _, err := p.Finish(t.Context(), &sequence.Finish{Form: from.authorize(t, at), Private: []byte(private), Callback: callback}); verdict(err) != "refused" {
				t.Errorf("%q: %v", private, err)
			}
		}
	})
}
