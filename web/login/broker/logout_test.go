package broker_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/web/login"
)

// An application logs people out with an ID token of theirs. Without one the person is asked, and nobody is sent anywhere unregistered.
func TestLogoutByAnApplication(t *testing.T) {
	c := newCluster(t)
	shop, alice, bob := c.shop(), c.browser(), c.browser()
	tok := shop.tokens(alice)
	hint, _ := tok.Extra("id_token").(string)
	c.mu.Lock()
	c.who = "bob"
	c.mu.Unlock()
	bobs := shop.tokens(bob)
	bye := "https://shop.example/bye"
	for name, q := range map[string]url.Values{
		"no hint":             {},
		"only the client":     {"client_id": {"shop"}, "post_logout_redirect_uri": {bye}},
		"somebody else's":     {"id_token_hint": {bobs.Extra("id_token").(string)}, "post_logout_redirect_uri": {bye}},
		"confirmed by a link": {"client_id": {"shop"}, "post_logout_redirect_uri": {bye}, "confirm": {"yes"}},
	} {
		if to, status, page := alice.visit(c.URL + "/oidc/end_session?" + q.Encode()); status != http.StatusOK || !strings.Contains(page, "Log out") {
			t.Errorf("%s: ends up at %v with %d", name, to, status)
		}
	}
	for name, q := range map[string]url.Values{
		"elsewhere":              {"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://evil.example/"}},
		"another's":              {"id_token_hint": {hint}, "client_id": {"app"}},
		"an unknown application": {"client_id": {"nobody"}, "post_logout_redirect_uri": {bye}},
		"a forged hint":          {"id_token_hint": {hint[:len(hint)-6] + "AAAAAA"}, "post_logout_redirect_uri": {bye}},
		"an unsigned hint":       {"id_token_hint": {"eyJhbGciOiJub25lIn0." + strings.Split(hint, ".")[1] + "."}, "post_logout_redirect_uri": {bye}},
		"twice":                  {"state": {"a", "b"}},
	} {
		if to, status, _ := alice.visit(c.URL + "/oidc/end_session?" + q.Encode()); status != http.StatusBadRequest || !strings.HasPrefix(to.String(), c.URL) {
			t.Errorf("%s: ends up at %v with %d", name, to, status)
		}
	}
	if status, _ := c.userinfo(tok.AccessToken); status != http.StatusOK {
		t.Fatal("a request that was refused or not confirmed ended the session")
	}
	resp, page := alice.post("/oidc/end_session", url.Values{"client_id": {"shop"}, "post_logout_redirect_uri": {bye}, "state": {"z"}, "confirm": {"yes"}})
	if resp.Header.Get("Location") != bye+"?state=z" {
		t.Errorf("confirmed: %d %v %s", resp.StatusCode, resp.Header, page)
	}
	c.settle()
	if status, _ := c.userinfo(tok.AccessToken); status != http.StatusUnauthorized {
		t.Error("the session goes on after a confirmed logout")
	}
	if status, _ := c.userinfo(bobs.AccessToken); status != http.StatusOK {
		t.Error("alice's logout ended bob's session")
	}
	c.pass(time.Hour) // the hint has expired, which is no reason not to log out
	if to, _, _ := bob.visit(c.URL + "/oidc/end_session?" + url.Values{"id_token_hint": {bobs.Extra("id_token").(string)}, "post_logout_redirect_uri": {bye}}.Encode()); to.String() != bye {
		t.Errorf("with an expired ID token: %v", to)
	}
}

// A logout goes on to the identity provider, and from there to the application, on whichever node somebody comes back.
func TestLogoutGoesOnToTheProvider(t *testing.T) {
	c := newCluster(t)
	shop, bye := c.shop(), "https://shop.example/bye"
	c.mu.Lock()
	c.corp = "https://corp.example/logout"
	c.mu.Unlock()
	for name, post := range map[string]string{bye + "?state=z": bye, "": ""} {
		alice := c.browser()
		tok := shop.tokens(alice)
		q := url.Values{"id_token_hint": {tok.Extra("id_token").(string)}, "state": {"z"}}
		if post != "" {
			q.Set("post_logout_redirect_uri", post)
		}
		to, _, page := alice.visit(c.URL + "/oidc/end_session?" + q.Encode())
		if to.Host != "corp.example" || to.Query().Get("post_logout_redirect_uri") != c.URL+"/login/bye" {
			t.Fatalf("%q: sent to %v: %s", name, to, page)
		}
		for _, n := range c.nodes {
			if got := (&login.Logout{Box: boxOf{n}, Now: c.now}).Return(to.Query().Get("state")); got != name {
				t.Errorf("back from the provider: sent to %q, want %q", got, name)
			}
		}
		c.settle()
		if status, _ := c.userinfo(tok.AccessToken); status != http.StatusUnauthorized {
			t.Errorf("userinfo after the logout: %d", status)
		}
	}
	alice := c.browser()
	tok := shop.tokens(alice)
	q := url.Values{"id_token_hint": {tok.Extra("id_token").(string)}, "post_logout_redirect_uri": {bye}, "state": {strings.Repeat("z", login.MaxReturn)}}
	if to, status, _ := alice.visit(c.URL + "/oidc/end_session?" + q.Encode()); status != http.StatusBadRequest || to.Host == "corp.example" {
		t.Errorf("a state that is too long: %d at %v", status, to.Host)
	}
	if status, _ := c.userinfo(tok.AccessToken); status != http.StatusOK {
		t.Error("a refused logout ended the session")
	}
}
