package broker_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// application is one that uses the hub as applications do, with golang.org/x/oauth2 and go-oidc.
type application struct {
	oauth2.Config
	c        *cluster
	provider *oidc.Provider
	ctx      context.Context
}

func (c *cluster) application(id, secret, redirect string) *application {
	c.t.Helper()
	ctx := oidc.InsecureIssuerURLContext(c.t.Context(), c.URL+"/oidc")
	p, err := oidc.NewProvider(ctx, c.URL+"/oidc")
	if err != nil {
		c.t.Fatal(err)
	}
	return &application{oauth2.Config{ClientID: id, ClientSecret: secret, RedirectURL: redirect, Endpoint: p.Endpoint(),
		Scopes: []string{"openid", "profile", "offline_access"}}, c, p, ctx}
}

func (c *cluster) shop() *application {
	return c.application("shop", shopSecret, "https://shop.example/cb")
}

func (c *cluster) app() *application { return c.application("app", "", "http://127.0.0.1/cb") }

const verifier = "a-code-verifier-of-at-least-forty-three-characters"

// code logs in with a browser and returns the code.
func (a *application) code(b *browser, more ...oauth2.AuthCodeOption) string {
	a.c.t.Helper()
	more = append([]oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier), oidc.Nonce("n-1")}, more...)
	at, _, page := b.visit(a.AuthCodeURL("state-1", more...))
	if q := at.Query(); q.Get("code") == "" || q.Get("state") != "state-1" || q.Get("iss") != a.c.URL+"/oidc" || !strings.HasPrefix(at.String(), a.RedirectURL+"?") {
		a.c.t.Fatalf("got %v\n%s", at, page)
	}
	return at.Query().Get("code")
}

func (a *application) tokens(b *browser) *oauth2.Token {
	a.c.t.Helper()
	tok, err := a.Exchange(a.ctx, a.code(b), oauth2.VerifierOption(verifier))
	if err != nil {
		a.c.t.Fatal(err)
	}
	return tok
}

// claims verifies the ID token and returns what it says.
func (a *application) claims(tok *oauth2.Token) map[string]any {
	a.c.t.Helper()
	raw, _ := tok.Extra("id_token").(string)
	id, err := a.provider.VerifierContext(a.ctx, &oidc.Config{ClientID: a.ClientID, SupportedSigningAlgs: []string{"ES256"}, Now: time.Now}).Verify(a.ctx, raw)
	if err != nil {
		a.c.t.Fatal(err)
	}
	out := map[string]any{}
	if err := id.Claims(&out); err != nil {
		a.c.t.Fatal(err)
	}
	return out
}

// userinfo returns the status and what the endpoint says.
func (c *cluster) userinfo(token string) (int, map[string]any) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.URL+"/oidc/userinfo", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, body := c.browser().send(r)
	out := map[string]any{}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		c.t.Fatalf("%s: %v", body, err)
	}
	return resp.StatusCode, out
}

// refresh uses a refresh token and returns the answer.
func (a *application) refresh(token string) (*oauth2.Token, error) {
	return a.TokenSource(a.ctx, &oauth2.Token{RefreshToken: token}).Token()
}

// Two applications let people log in through the hub: the second without another login, each with its own claims. Every request goes to
// another node than the one before, and the keys are rotated in between. A logout at one ends what both have.
func TestApplicationsShareALogin(t *testing.T) {
	c := newCluster(t)
	shop, app, alice := c.shop(), c.app(), c.browser()
	first := shop.tokens(alice)
	got := shop.claims(first)
	for claim, want := range map[string]any{"sub": "issuer:corp/alice", "name": "Name of alice", "groups": []any{"buyer", "clerk"}, "nonce": "n-1",
		"amr": []any{"pwd", "otp"}, "aud": []any{"shop"}, "azp": "shop"} {
		if !reflect.DeepEqual(got[claim], want) {
			t.Errorf("shop: claim %s is %v, want %v", claim, got[claim], want)
		}
	}
	if _, told := got["preferred_username"]; told {
		t.Error("the shop learns what only the app's claims release")
	}
	if status, info := c.userinfo(first.AccessToken); status != http.StatusOK || info["sub"] != "issuer:corp/alice" || info["name"] != "Name of alice" {
		t.Errorf("userinfo: %d %v", status, info)
	}

	for _, n := range c.nodes {
		c.rotateOn(n, 2, 1)
	}
	c.mu.Lock()
	c.who = "" // nobody can log in again
	c.mu.Unlock()
	second := app.tokens(alice)
	got = app.claims(second)
	if got["sub"] != "issuer:corp/alice" || got["preferred_username"] != "alice@corp" || got["name"] != nil {
		t.Errorf("app: got %v", got)
	}
	renewed, err := shop.refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if got := shop.claims(renewed); got["sub"] != "issuer:corp/alice" || got["nonce"] != nil || renewed.RefreshToken == first.RefreshToken {
		t.Errorf("refreshed: got %v", got)
	}
	if renewed, err = shop.refresh(renewed.RefreshToken); err != nil {
		t.Fatal(err)
	}

	to, _, page := alice.visit(c.URL + "/oidc/end_session?" + url.Values{"id_token_hint": {renewed.Extra("id_token").(string)},
		"post_logout_redirect_uri": {"https://shop.example/bye"}, "state": {"s2"}}.Encode())
	if to.String() != "https://shop.example/bye?state=s2" {
		t.Fatalf("after the logout: %v %s", to, page)
	}
	c.settle()
	for name, use := range map[string]func() error{"shop": func() error { _, err := shop.refresh(renewed.RefreshToken); return err },
		"app": func() error { _, err := app.refresh(second.RefreshToken); return err }} {
		if err := use(); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
			t.Errorf("%s refreshes after the logout: %v", name, err)
		}
	}
	for _, tok := range []*oauth2.Token{first, second, renewed} {
		if status, _ := c.userinfo(tok.AccessToken); status != http.StatusUnauthorized {
			t.Errorf("userinfo after the logout: %d", status)
		}
	}
	if to, _, _ := alice.visit(shop.AuthCodeURL("s3", oauth2.S256ChallengeOption(verifier))); to.Query().Get("error") != "access_denied" {
		t.Errorf("after the logout somebody is still logged in: %v", to)
	}
}

// token posts to the token endpoint and returns the status and the error.
func (c *cluster) token(path string, form url.Values, basic ...string) (int, map[string]any, http.Header) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if len(basic) == 2 {
		r.SetBasicAuth(basic[0], basic[1])
	}
	resp, body := c.browser().send(r)
	out := map[string]any{}
	if len(body) > 0 {
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			c.t.Fatalf("%d %q: %v", resp.StatusCode, body, err)
		}
	}
	return resp.StatusCode, out, resp.Header
}

// plain is token for answers that are no JSON.
func (c *cluster) plain(path string, form url.Values) (int, string, http.Header) {
	c.t.Helper()
	resp, body := c.browser().post(path, form)
	return resp.StatusCode, body, resp.Header
}

// A code is used once, by the application that it is for, with the proof that began it. Whoever uses one again ends what it has become.
func TestACodeIsForOneUseByOneApplication(t *testing.T) {
	c := newCluster(t)
	shop, app, alice := c.shop(), c.app(), c.browser()
	exchange := func(code string) url.Values {
		return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {shop.RedirectURL}, "code_verifier": {verifier}}
	}
	noChallenge := func() string {
		at, _, _ := alice.visit(shop.AuthCodeURL("state-1"))
		return at.Query().Get("code")
	}
	for name, tc := range map[string]struct {
		code  func() string
		form  func(url.Values)
		basic []string
	}{
		"another application's":                    {code: func() string { return app.code(alice) }},
		"another redirect URI":                     {form: func(f url.Values) { f.Set("redirect_uri", "https://shop.example/cb?tenant=1") }},
		"no verifier":                              {form: func(f url.Values) { f.Del("code_verifier") }},
		"another verifier":                         {form: func(f url.Values) { f.Set("code_verifier", verifier+"x") }},
		"a short verifier":                         {form: func(f url.Values) { f.Set("code_verifier", "short") }},
		"the challenge taken out":                  {code: noChallenge},
		"a public application's by secret":         {code: func() string { return app.code(alice) }, form: func(f url.Values) { f.Set("redirect_uri", app.RedirectURL) }},
		"truncated":                                {code: func() string { return shop.code(alice)[:40] }},
		"changed":                                  {code: func() string { s := []byte(shop.code(alice)); s[60] ^= 1; return string(s) }},
		"an access token":                          {code: func() string { return shop.tokens(alice).AccessToken }},
		"a refresh token":                          {code: func() string { return shop.tokens(alice).RefreshToken }},
		"a refresh token that calls itself a code": {code: func() string { return "qhc_" + strings.TrimPrefix(shop.tokens(alice).RefreshToken, "qhr_") }},
		"made up":                                  {code: func() string { return "qhc_" + strings.Repeat("A", 200) }},
	} {
		code := func() string { return shop.code(alice) }
		if tc.code != nil {
			code = tc.code
		}
		form := exchange(code())
		if tc.form != nil {
			tc.form(form)
		}
		status, got, _ := c.token("/oidc/token", form, "shop", shopSecret)
		if status != http.StatusBadRequest || got["error"] != "invalid_grant" {
			t.Errorf("%s: got %d %v", name, status, got)
		}
		if why := c.logged(); !strings.Contains(why, "code of application") {
			t.Errorf("%s: the log says %q", name, why)
		}
	}

	code := shop.code(alice)
	c.pass(61 * time.Second)
	if status, got, _ := c.token("/oidc/token", exchange(code), "shop", shopSecret); got["error"] != "invalid_grant" {
		t.Errorf("after a minute: got %d %v", status, got)
	}

	code = shop.code(alice)
	tok, err := shop.Exchange(shop.ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if status, got, _ := c.token("/oidc/token", exchange(code), "shop", shopSecret); got["error"] != "invalid_grant" {
		t.Errorf("used again: got %d %v", status, got)
	}
	if why := c.logged(); !strings.Contains(why, "used before") {
		t.Errorf("the log says %q", why)
	}
	if _, err := shop.refresh(tok.RefreshToken); err == nil {
		t.Error("what a code has become survives that the code was used again")
	}
	c.settle()
	if status, _ := c.userinfo(tok.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("userinfo after a code was used again: %d", status)
	}
}

// Refresh tokens are rotated; one that was used before ends the grant, for whoever has the newer one, too.
func TestRefreshTokensAreUsedOnce(t *testing.T) {
	c := newCluster(t)
	shop, alice := c.shop(), c.browser()
	first := shop.tokens(alice)
	second, err := shop.refresh(first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := c.userinfo(second.AccessToken); status != http.StatusOK {
		t.Errorf("userinfo: %d", status)
	}
	if _, err := shop.refresh(first.RefreshToken); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("used again: %v", err)
	}
	if _, err := shop.refresh(second.RefreshToken); err == nil {
		t.Error("the thief's and the owner's refresh tokens go on")
	}
	c.settle()
	if status, _ := c.userinfo(second.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("userinfo after the reuse: %d", status)
	}

	third := shop.tokens(alice)
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {third.RefreshToken}, "client_id": {"app"}}
	if status, got, _ := c.token("/oidc/token", form); status != http.StatusBadRequest || got["error"] != "invalid_grant" {
		t.Errorf("by another application: %d %v", status, got)
	}
	form = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {third.RefreshToken}, "scope": {"openid admin"}}
	if status, got, _ := c.token("/oidc/token", form, "shop", shopSecret); status != http.StatusBadRequest || got["error"] != "invalid_scope" {
		t.Errorf("with more scopes: %d %v", status, got)
	}
	if _, err := shop.refresh(third.RefreshToken); err != nil {
		t.Errorf("the refused attempts used the token up: %v", err)
	}

	at, _, _ := alice.visit(shop.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("scope", "openid")))
	tok, err := shop.Exchange(shop.ctx, at.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil || tok.RefreshToken != "" {
		t.Errorf("without offline_access: %v %v", tok, err)
	}
	c.pass(13 * time.Hour)
	if status, _ := c.userinfo(tok.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("an access token after its time: %d", status)
	}
}

// An application authenticates as it is registered. All that is wrong gets one answer, and is taken from the client's budget.
func TestApplicationsAuthenticate(t *testing.T) {
	c := newCluster(t)
	shop, alice := c.shop(), c.browser()
	var answers []string
	for name, tc := range map[string]struct {
		form  url.Values
		basic []string
	}{
		"no secret":                     {form: url.Values{"client_id": {"shop"}}},
		"a wrong secret":                {basic: []string{"shop", "wrong"}},
		"a wrong secret in the form":    {form: url.Values{"client_id": {"shop"}, "client_secret": {"wrong"}}},
		"an empty secret":               {basic: []string{"shop", ""}},
		"the hash of the secret":        {basic: []string{"shop", "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069"}},
		"an unknown application":        {basic: []string{"nobody", shopSecret}},
		"a secret of one that has none": {form: url.Values{"client_id": {"app"}, "client_secret": {"x"}}},
		"two ways at once":              {form: url.Values{"client_secret": {shopSecret}}, basic: []string{"shop", shopSecret}},
		"an assertion": {form: url.Values{"client_id": {"shop"}, "client_assertion": {"x.y.z"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}},
	} {
		form := url.Values{"grant_type": {"authorization_code"}, "code": {shop.code(alice)}, "redirect_uri": {shop.RedirectURL}, "code_verifier": {verifier}}
		for k, v := range tc.form {
			form[k] = v
		}
		status, got, h := c.token("/oidc/token", form, tc.basic...)
		if status != http.StatusUnauthorized || got["error"] != "invalid_client" || !strings.HasPrefix(h.Get("WWW-Authenticate"), "Basic ") || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d %v %v", name, status, got, h)
		}
		answers = append(answers, got["error_description"].(string))
		if why := c.logged(); !strings.Contains(why, "application ") {
			t.Errorf("%s: the log says %q", name, why)
		}
	}
	if slices.Sort(answers); len(slices.Compact(answers)) != 1 {
		t.Errorf("the answers differ: %v", answers)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {shop.code(alice)}, "redirect_uri": {shop.RedirectURL}, "code_verifier": {verifier},
		"client_id": {"shop"}, "client_secret": {shopSecret}}
	if status, got, _ := c.token("/oidc/token", form); status != http.StatusOK {
		t.Errorf("by client_secret_post: got %d %v", status, got)
	}
	form = url.Values{"grant_type": {"authorization_code"}, "code": {shop.code(alice)}, "redirect_uri": {shop.RedirectURL}, "code_verifier": {verifier}}
	if status, got, _ := c.token("/oidc/token?client_id=shop&client_secret="+url.QueryEscape(shopSecret), form); status != http.StatusBadRequest || got["error"] != "invalid_request" {
		t.Errorf("a secret in the URL: got %d %v", status, got)
	}
	twice := url.Values{"grant_type": {"authorization_code", "refresh_token"}}
	if status, got, _ := c.token("/oidc/token", twice, "shop", shopSecret); status != http.StatusBadRequest || got["error"] != "invalid_request" {
		t.Errorf("a parameter twice: got %d %v", status, got)
	}
	for _, grant := range []string{"client_credentials", "password", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:token-exchange", ""} {
		form := url.Values{"grant_type": {grant}, "subject_token": {"x"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "assertion": {"x"}}
		if status, got, _ := c.token("/oidc/token", form, "shop", shopSecret); status != http.StatusBadRequest {
			t.Errorf("grant type %q: got %d %v", grant, status, got)
		}
	}
	c.mu.Lock()
	c.budget = 3
	c.mu.Unlock()
	for i := range 5 {
		status, _, _ := c.token("/oidc/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"qhr_x"}}, "shop", shopSecret)
		if want := map[bool]int{true: http.StatusBadRequest, false: http.StatusTooManyRequests}[i < 3]; status != want {
			t.Errorf("refused request %d: got %d, want %d", i+1, status, want)
		}
	}
}

// Tokens of one application are nothing to another, and those of applications are nothing to the hub's API.
func TestTokensAreForOneApplication(t *testing.T) {
	c := newCluster(t)
	shop, app, alice := c.shop(), c.app(), c.browser()
	ofShop, ofApp := shop.tokens(alice), app.tokens(alice)
	if _, err := shop.provider.VerifierContext(shop.ctx, &oidc.Config{ClientID: "shop"}).Verify(shop.ctx, ofApp.Extra("id_token").(string)); err == nil {
		t.Error("the shop takes an ID token that is for the app")
	}
	introspect := func(token string) map[string]any {
		status, got, _ := c.token("/oidc/introspect", url.Values{"token": {token}}, "shop", shopSecret)
		if status != http.StatusOK {
			t.Errorf("introspect: got %d %v", status, got)
		}
		return got
	}
	if got := introspect(ofShop.AccessToken); got["active"] != true || got["sub"] != "issuer:corp/alice" || got["client_id"] != "shop" {
		t.Errorf("its own: got %v", got)
	}
	for name, token := range map[string]string{"another's": ofApp.AccessToken, "a refresh token": ofShop.RefreshToken, "nonsense": "x"} {
		if got := introspect(token); len(got) != 1 || got["active"] != false {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if status, got, _ := c.token("/oidc/introspect", url.Values{"token": {ofApp.AccessToken}, "client_id": {"app"}}); status == http.StatusOK {
		t.Errorf("by an application that cannot authenticate: got %d %v", status, got)
	}
	api := c.nodes[0].verifier()
	if _, _, err := api.Principal(t.Context(), ofShop.AccessToken); err == nil {
		t.Error("the hub's API takes a token of an application")
	}
	if status, _, _ := c.token("/oidc/revoke", url.Values{"token": {ofApp.RefreshToken}}, "shop", shopSecret); status != http.StatusOK {
		t.Errorf("revoke another's: got %d", status)
	}
	if status, _ := c.userinfo(ofApp.AccessToken); status != http.StatusOK {
		t.Error("an application revoked another's tokens")
	}
	for _, token := range []string{ofShop.AccessToken, "nonsense"} {
		if status, _, _ := c.token("/oidc/revoke", url.Values{"token": {token}}, "shop", shopSecret); status != http.StatusOK {
			t.Errorf("revoke: got %d", status)
		}
	}
	c.settle()
	if status, _ := c.userinfo(ofShop.AccessToken); status != http.StatusUnauthorized {
		t.Errorf("userinfo after the tokens were revoked: %d", status)
	}
	if _, err := shop.refresh(ofShop.RefreshToken); err == nil {
		t.Error("refresh after the tokens were revoked")
	}
	s := *c.settings.Load()
	s.ServiceProviders = s.ServiceProviders[:1]
	c.settings.Store(&s)
	if status, _ := c.userinfo(ofApp.AccessToken); status != http.StatusUnauthorized {
		t.Error("an application that was removed from auth.file learns who somebody is")
	}
}
