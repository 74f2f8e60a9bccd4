package identity_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"quorumhub/test/idp"
)

// Nobody serves these; browsers stop in front of them.
const (
	shopURL = "https://shop.example.org/cb"
	shopBye = "https://shop.example.org/bye"
	wikiURL = "https://wiki.example.org/cb"
)

// application is one that uses the hub as its identity provider, made with go-oidc.
type application struct {
	oauth2.Config
	provider *oidc.Provider
	by       string // the identity provider that people choose
}

// journey is a person's browser, and the hosts that it has been at since the last look.
type journey struct {
	*idp.Browser
	hosts []string
}

func (j *journey) stop(u *url.URL) bool {
	if strings.HasSuffix(u.Host, ".example.org") {
		return true
	}
	j.hosts = append(j.hosts, u.Host)
	return false
}

// open goes where an application sends the browser for a login, and returns the page where it stops.
func (a *application) open(t *testing.T, j *journey, verifier string, more ...oauth2.AuthCodeOption) *idp.Page {
	t.Helper()
	j.hosts = nil
	return j.Go(t, a.AuthCodeURL("st", append(more, oauth2.S256ChallengeOption(verifier), oidc.Nonce("n-"+a.ClientID), oauth2.SetAuthURLParam("idp", a.by))...), j.stop)
}

// redeem returns the tokens of the code with which a browser has come back, and what the ID token says.
func (a *application) redeem(t *testing.T, back *idp.Page, verifier string) (*oauth2.Token, map[string]any) {
	t.Helper()
	q := back.URL.Query()
	if !strings.HasPrefix(back.URL.String(), a.RedirectURL+"?") || q.Get("state") != "st" {
		t.Fatalf("%s: not back at the application, but at %s", a.ClientID, back)
	}
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Timeout: 10 * time.Second})
	tok, err := a.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := tok.Extra("id_token").(string)
	id, err := a.provider.VerifierContext(ctx, &oidc.Config{ClientID: a.ClientID}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if id.Nonce != "n-"+a.ClientID {
		t.Errorf("%s: nonce %q", a.ClientID, id.Nonce)
	}
	return tok, claims
}

// asksForPassword reports whether a page is the provider's that asks who somebody is.
func asksForPassword(p *idp.Page, issuer string) bool {
	return strings.HasPrefix(p.URL.String(), issuer) && len(p.Forms) > 0 && slices.Contains(p.Forms[0].Fields, "password")
}

// Two applications use the hub as their identity provider, and people log in at a real one behind it. The second does not ask them again,
// unless it wants them to be asked. A logout at one goes on to the provider and comes back to the application.
func TestApplicationsWithRealProviders(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	provider, err := oidc.NewProvider(t.Context(), f.URL+"/oidc")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by, login, sub string
		at             *idp.Provider
	}{{"corp", "test-user2", "issuer:corp/id2", f.corp}, {"partner", "ada", "issuer:partner/ada", f.partner}} {
		shop := &application{oauth2.Config{ClientID: "shop", ClientSecret: secret, RedirectURL: shopURL, Endpoint: provider.Endpoint(), Scopes: []string{"openid", "offline_access"}}, provider, c.by}
		wiki := &application{oauth2.Config{ClientID: "wiki", RedirectURL: wikiURL, Endpoint: provider.Endpoint(), Scopes: []string{"openid"}}, provider, c.by}
		j, v := &journey{Browser: idp.NewBrowser(t)}, oauth2.GenerateVerifier()
		page := shop.open(t, j, v)
		if !asksForPassword(page, c.at.Issuer) {
			t.Fatalf("%s: the first login: %s", c.by, page)
		}
		tok, claims := shop.redeem(t, j.LogIn(t, page, c.login, "verysecure", j.stop), v)
		if claims["sub"] != c.sub || claims["preferred_username"] != nil || c.by == "partner" && claims["groups"] == nil {
			t.Errorf("%s: the shop learns %v", c.by, claims)
		}

		atProvider := strings.TrimPrefix(c.at.Issuer, "http://")
		for _, more := range [][]oauth2.AuthCodeOption{nil, {oauth2.SetAuthURLParam("prompt", "none")}, {oauth2.SetAuthURLParam("max_age", "3600")}} {
			_, claims = wiki.redeem(t, wiki.open(t, j, v, more...), v)
			if claims["sub"] != c.sub || claims["groups"] != nil || slices.Contains(j.hosts, atProvider) {
				t.Errorf("%s: the wiki learns %v, and the browser was at %v", c.by, claims, j.hosts)
			}
		}
		for name, value := range map[string]string{"prompt": "login", "max_age": "0"} {
			page = wiki.open(t, j, v, oauth2.SetAuthURLParam(name, value))
			if !asksForPassword(page, c.at.Issuer) {
				t.Fatalf("%s: %s=%s does not ask again: %s", c.by, name, value, page)
			}
			if _, claims = wiki.redeem(t, j.LogIn(t, page, c.login, "verysecure", j.stop), v); claims["sub"] != c.sub || claims["auth_time"] == nil {
				t.Errorf("%s: after %s=%s the wiki learns %v", c.by, name, value, claims)
			}
		}
		stranger := &journey{Browser: idp.NewBrowser(t)}
		if page = wiki.open(t, stranger, v, oauth2.SetAuthURLParam("prompt", "none")); page.URL.Query().Get("error") != "login_required" || slices.Contains(stranger.hosts, atProvider) {
			t.Errorf("%s: prompt=none for a stranger: %s", c.by, page)
		}
		f.logOut(t, c.at, shop, j, tok)
		if page = wiki.open(t, j, v); !asksForPassword(page, c.at.Issuer) {
			t.Errorf("%s: after the logout the wiki need not ask: %s", c.by, page)
		}
	}
}

// logOut logs out at the shop: the browser goes to the provider, which ends its own login, and comes back to the shop.
func (f *federation) logOut(t *testing.T, at *idp.Provider, shop *application, j *journey, tok *oauth2.Token) {
	t.Helper()
	j.hosts = nil
	page := j.Go(t, f.URL+"/oidc/end_session?"+url.Values{"id_token_hint": {tok.Extra("id_token").(string)}, "post_logout_redirect_uri": {shopBye}, "state": {"x&y"}}.Encode(), j.stop)
	if at == f.partner { // it asks
		if len(page.Forms) == 0 {
			t.Fatalf("logging out: %s", page)
		}
		page = j.Send(t, page.Forms[0], url.Values{"logout": {"yes"}}, j.stop)
	}
	if got := page.URL.String(); got != shopBye+"?state=x%26y" || !slices.Contains(j.hosts, strings.TrimPrefix(at.Issuer, "http://")) {
		t.Errorf("logged out: at %s by %v\n%s", got, j.hosts, page)
	}
	if _, err := shop.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token(); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("the shop refreshes after the logout: %v", err)
	}
	if who := f.me(t, j.Browser); who != "" {
		t.Errorf("still logged in as %s", who)
	}
}
