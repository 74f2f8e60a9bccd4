package broker_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// A request to log in goes back to the application only if it is to a redirect URI of its own, to the letter.
func TestRedirectURIsAreExact(t *testing.T) {
	c := newCluster(t)
	alice := c.browser()
	for _, to := range []string{
		"", "https://shop.example/", "https://shop.example/cb/", "https://shop.example/CB", "https://SHOP.example/cb", "https://shop.example:443/cb",
		"https://shop.example/cb?", "https://shop.example/cb?x=1", "https://shop.example/cb#x", "https://shop.example/cb%2f", "https://shop.example/./cb",
		"https://shop.example/x/../cb", "https://shop.example//cb", "https://shop.example.evil.example/cb", "https://evil.example/https://shop.example/cb",
		"https://user@shop.example/cb", "https://shop.example@evil.example/cb", "https://shop.example\\@evil.example/cb", "http://shop.example/cb",
		"//shop.example/cb", "/cb", "javascript:alert(1)", "data:text/html,x", "https://shop.example/cb\n", " https://shop.example/cb", "https://shop.example/cb ",
		"https%3A%2F%2Fshop.example%2Fcb", "https://shop.example/cb%00", "https://sho\u0440.example/cb", "http://127.0.0.1/cb", "http://127.0.0.1:8080/cb",
	} {
		q := url.Values{"client_id": {"shop"}, "redirect_uri": {to}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"}}
		at, status, page := alice.visit(c.URL + "/oidc/authorize?" + q.Encode())
		if !strings.HasPrefix(at.String(), c.URL) || status != http.StatusBadRequest {
			t.Errorf("%q: the browser ends up at %v with %d", to, at, status)
		}
		if to != "" && strings.Contains(page, to) {
			t.Errorf("%q is on the page", to)
		}
	}
	unknown := func(q url.Values) string {
		_, status, page := alice.visit(c.URL + "/oidc/authorize?" + q.Encode())
		if status != http.StatusBadRequest {
			t.Errorf("%v: got %d", q, status)
		}
		return page
	}
	a := unknown(url.Values{"client_id": {"nobody"}, "redirect_uri": {"https://shop.example/cb"}, "response_type": {"code"}, "scope": {"openid"}})
	b := unknown(url.Values{"client_id": {"shop"}, "redirect_uri": {"https://nobody.example/cb"}, "response_type": {"code"}, "scope": {"openid"}})
	d := unknown(url.Values{"client_id": {"quorumhub-terminal"}, "redirect_uri": {"https://shop.example/cb"}, "response_type": {"code"}, "scope": {"openid"}})
	if a != b || a != d {
		t.Error("the page tells registered applications from others")
	}
}

// What is wrong with a request is told to the application, with the issuer, so that it is not taken for another's answer.
func TestWrongRequestsAreToldToTheApplication(t *testing.T) {
	c := newCluster(t)
	shop, app := c.shop(), c.app()
	for name, tc := range map[string]struct {
		of   *application
		set  url.Values
		want string
	}{
		"no challenge of a public application": {of: app, set: url.Values{"code_challenge": nil, "code_challenge_method": nil}, want: "invalid_request"},
		"a plain challenge":                    {of: shop, set: url.Values{"code_challenge_method": {"plain"}}, want: "invalid_request"},
		"a challenge without a method":         {of: app, set: url.Values{"code_challenge_method": nil}, want: "invalid_request"},
		"a method without a challenge":         {of: shop, set: url.Values{"code_challenge": nil}, want: "invalid_request"},
		"a short challenge":                    {of: shop, set: url.Values{"code_challenge": {"abc"}}, want: "invalid_request"},
		"an implicit flow":                     {of: shop, set: url.Values{"response_type": {"id_token token"}}, want: "unauthorized_client"},
		"no response type":                     {of: shop, set: url.Values{"response_type": nil}, want: "invalid_request"},
		"a fragment":                           {of: shop, set: url.Values{"response_mode": {"fragment"}}, want: "invalid_request"},
		"a form":                               {of: shop, set: url.Values{"response_mode": {"form_post"}}, want: "invalid_request"},
		"no openid":                            {of: shop, set: url.Values{"scope": {"profile"}}, want: "invalid_scope"},
		"no scope":                             {of: shop, set: url.Values{"scope": nil}, want: "invalid_request"},
		"a request object":                     {of: shop, set: url.Values{"request": {"eyJhbGciOiJub25lIn0.e30."}}, want: "request_not_supported"},
		"a request object elsewhere":           {of: shop, set: url.Values{"request_uri": {"https://evil.example/r"}}, want: "request_not_supported"},
		"none with others":                     {of: shop, set: url.Values{"prompt": {"none login"}}, want: "invalid_request"},
		"none and nobody there":                {of: shop, set: url.Values{"prompt": {"none"}}, want: "login_required"},
		"a hint of another issuer":             {of: shop, set: url.Values{"id_token_hint": {"eyJhbGciOiJub25lIn0.e30."}}, want: "login_required"},
		"a long state":                         {of: shop, set: url.Values{"state": {strings.Repeat("s", 2000)}}, want: "invalid_request"},
		"a long nonce":                         {of: shop, set: url.Values{"nonce": {strings.Repeat("n", 1600)}}, want: "invalid_request"},
	} {
		at, err := url.Parse(tc.of.AuthCodeURL("s t&a=te", oauth2.S256ChallengeOption(verifier)))
		if err != nil {
			t.Fatal(err)
		}
		q := at.Query()
		for k, v := range tc.set {
			q[k] = v
			if v == nil {
				delete(q, k)
			}
		}
		at.RawQuery = q.Encode()
		to, _, page := c.browser().visit(at.String())
		got := to.Query()
		state := got.Get("state")
		if !strings.HasPrefix(to.String(), tc.of.RedirectURL+"?") || got.Get("error") != tc.want || got.Get("iss") != c.URL+"/oidc" || got.Has("code") {
			t.Errorf("%s: got %v %s", name, to, page)
		}
		if q.Get("state") == "s t&a=te" && state != "s t&a=te" {
			t.Errorf("%s: the state comes back as %q", name, state)
		}
	}
	for _, query := range []string{"client_id=shop&client_id=app", "client_id=shop&redirect_uri=https%3A%2F%2Fshop.example%2Fcb&scope=openid&scope=x&response_type=code", "client_id=%zz", strings.Repeat("a=b&", 3000)} {
		if at, status, _ := c.browser().visit(c.URL + "/oidc/authorize?" + query); status != http.StatusBadRequest || !strings.HasPrefix(at.String(), c.URL) {
			t.Errorf("%.40s: got %d at %v", query, status, at)
		}
	}
	for who, want := range map[string]string{"": "access_denied", "down": "temporarily_unavailable"} {
		c.mu.Lock()
		c.who = who
		c.mu.Unlock()
		if to, _, _ := c.browser().visit(shop.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier))); to.Query().Get("error") != want {
			t.Errorf("%q: got %v, want %s", who, to, want)
		}
	}
}

// Applications can ask for a new login, for a recent one, or for somebody in particular.
func TestApplicationsAskForAFreshLogin(t *testing.T) {
	c := newCluster(t)
	shop, alice := c.shop(), c.browser()
	first := shop.claims(shop.tokens(alice))
	c.pass(time.Hour)
	for name, tc := range map[string]struct {
		set   oauth2.AuthCodeOption
		anew  bool
		error string
	}{
		"nothing":               {set: oauth2.SetAuthURLParam("ui_locales", "en")},
		"prompt=none":           {set: oauth2.SetAuthURLParam("prompt", "none")},
		"max_age of two hours":  {set: oauth2.SetAuthURLParam("max_age", "7200")},
		"max_age of a minute":   {set: oauth2.SetAuthURLParam("max_age", "60"), anew: true},
		"max_age of nothing":    {set: oauth2.SetAuthURLParam("max_age", "0"), anew: true},
		"prompt=login":          {set: oauth2.SetAuthURLParam("prompt", "login"), anew: true},
		"prompt=select_account": {set: oauth2.SetAuthURLParam("prompt", "select_account"), anew: true},
	} {
		again := c.browser()
		again.Jar = alice.Jar
		if tc.anew {
			again = c.browser() // the test's session would be replaced for the others
			shop.tokens(again)
			c.pass(2 * time.Minute)
		}
		tok, err := shop.Exchange(shop.ctx, shop.code(again, tc.set), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		at, _ := shop.claims(tok)["auth_time"].(float64)
		was, _ := first["auth_time"].(float64)
		if fresh := c.now().Sub(time.Unix(int64(at), 0)) < 30*time.Second; fresh != tc.anew || !tc.anew && at != was {
			t.Errorf("%s: auth_time %v, at first %v", name, at, was)
		}
	}
	raw, _ := shop.tokens(alice).Extra("id_token").(string)
	c.mu.Lock()
	c.who = "bob"
	c.mu.Unlock()
	if to, _, _ := c.browser().visit(shop.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("id_token_hint", raw))); to.Query().Get("error") != "login_required" {
		t.Errorf("bob instead of alice: got %v", to)
	}
	if to, _, _ := alice.visit(shop.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("id_token_hint", raw))); to.Query().Get("code") == "" {
		t.Errorf("alice herself: got %v", to)
	}
}
