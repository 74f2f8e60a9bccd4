package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
)

// Limits on what comes back.
const (
	maxCode    = 4 << 10
	maxIDToken = 32 << 10
	maxName    = 128
	maxMethods = 8
)

// passing are the errors of a provider that may pass; after any other no other provider is tried.
var passing = [...]string{"temporarily_unavailable", "server_error"}

// Finish implements sequence.Interactive: it redeems the code of the callback and checks the ID token.
func (p *Provider) Finish(ctx context.Context, f *sequence.Finish) (*sequence.Identity, error) {
	var k kept
	if err := json.Unmarshal(f.Private, &k); err != nil {
		return nil, p.refuse("the login's own data are unreadable")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	d, err := p.known(ctx)
	if err != nil {
		return nil, err
	}
	code, err := p.code(f.Form, d)
	if err != nil {
		return nil, err
	}
	token, err := p.redeem(ctx, d, code, k.Verifier, f.Callback)
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	switch {
	case raw == "":
		return nil, p.unavailable(errors.New("the token endpoint's answer has no id_token; expected one, because the scopes include openid"))
	case len(raw) > maxIDToken:
		return nil, p.refuse("ID token of %d bytes; expected at most %d", len(raw), maxIDToken)
	}
	checked, claims, err := p.verify(ctx, raw, true)
	if err != nil {
		return nil, err
	}
	if err := p.checkIDToken(checked, claims, token.AccessToken, &k); err != nil {
		return nil, err
	}
	at, err := p.checkAge(claims, &k, f)
	if err != nil {
		return nil, err
	}
	if err := p.complete(ctx, d, claims, token.AccessToken); err != nil {
		return nil, err
	}
	return p.identity(claims, raw, at)
}

// code returns the code of a callback, which is the provider's as far as it says (RFC 9207 section 2.4).
func (p *Provider) code(form url.Values, d *discovery) (string, error) {
	for _, name := range []string{"iss", "error", "code"} {
		if len(form[name]) > 1 {
			return "", p.refuse("%s is given %d times", name, len(form[name]))
		}
	}
	switch iss := form.Get("iss"); {
	case iss == "" && d.issInCallback:
		return "", p.refuse("iss is missing in the callback, although the provider says that it sends it")
	case iss != "" && iss != p.o.Issuer:
		return "", p.refuse("iss %q in the callback; expected %q", clip(iss), p.o.Issuer)
	}
	if said := form.Get("error"); said != "" {
		if slices.Contains(passing[:], said) {
			return "", p.unavailable(errors.New(said + ": " + clip(form.Get("error_description"))))
		}
		return "", p.refuse("%q: %q", clip(said), clip(form.Get("error_description")))
	}
	code := form.Get("code")
	if code == "" || len(code) > maxCode {
		return "", p.refuse("code of %d bytes; expected 1 to %d", len(code), maxCode)
	}
	return code, nil
}

// redeem exchanges a code for tokens.
func (p *Provider) redeem(ctx context.Context, d *discovery, code, verifier, callback string) (*oauth2.Token, error) {
	flow := p.flow(d, callback)
	options := []oauth2.AuthCodeOption{oauth2.VerifierOption(verifier)}
	switch {
	case p.o.Key != nil:
		assertion, err := p.assertion()
		if err != nil {
			return nil, err
		}
		flow.Endpoint.AuthStyle = oauth2.AuthStyleInParams
		options = append(options, oauth2.SetAuthURLParam("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
			oauth2.SetAuthURLParam("client_assertion", assertion))
	case p.secretInBody(d):
		flow.ClientSecret, flow.Endpoint.AuthStyle = string(p.o.Secret), oauth2.AuthStyleInParams
	default:
		flow.ClientSecret, flow.Endpoint.AuthStyle = string(p.o.Secret), oauth2.AuthStyleInHeader
	}
	token, err := flow.Exchange(oidc.ClientContext(ctx, p.client), code, options...)
	var said *oauth2.RetrieveError
	switch {
	case err == nil:
		return token, nil
	case !errors.As(err, &said):
		p.doubt()
		return nil, p.unavailable(clipped(err)) // no answer, or none that is understood
	case said.ErrorCode == "":
		return nil, p.unavailable(errors.New("the token endpoint answered " + said.Response.Status))
	case slices.Contains([]string{"invalid_client", "unauthorized_client"}, said.ErrorCode):
		p.o.Log.Error("an identity provider refuses the hub's own credentials", "provider", p.o.Name, "error", said.ErrorCode, "description", clip(said.ErrorDescription))
		return nil, p.unavailable(errors.New("the token endpoint refuses the hub's own credentials: " + said.ErrorCode))
	case slices.Contains(passing[:], said.ErrorCode), said.Response.StatusCode >= 500, said.Response.StatusCode == http.StatusTooManyRequests:
		return nil, p.unavailable(errors.New("the token endpoint answered " + said.Response.Status + ": " + clip(said.ErrorCode)))
	}
	return nil, p.refuse("the code is refused: %q: %q", clip(said.ErrorCode), clip(said.ErrorDescription))
}

// secretInBody reports whether the token endpoint takes the secret as a parameter, or there is none and the client is named there.
func (p *Provider) secretInBody(d *discovery) bool {
	switch p.o.Auth {
	case "client_secret_post":
		return true
	case "client_secret_basic":
		return false
	}
	return len(p.o.Secret) == 0 || slices.Contains(d.auths, "client_secret_post") && !slices.Contains(d.auths, "client_secret_basic")
}

// checkIDToken checks what OpenID Connect Core section 3.1.3.7 asks for beside the signature, iss, aud and exp.
func (p *Provider) checkIDToken(t *oidc.IDToken, c claims, accessToken string, k *kept) error {
	now := p.o.Now()
	iat, ok := c.time("iat")
	started := time.Unix(k.Started, 0)
	switch azp := c["azp"]; {
	case t.Subject == "":
		return p.refuse("ID token without sub")
	case azp != nil && azp != p.o.ClientID:
		return p.refuse("ID token of another client: azp %q; expected %q", clip(c.text("azp")), p.o.ClientID)
	case azp == nil && len(t.Audience) > 1:
		return p.refuse("ID token for %d audiences without azp", len(t.Audience))
	case k.Nonce == "" || subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(k.Nonce)) != 1:
		return p.refuse("nonce of the ID token is not the one of this login")
	case !ok:
		return p.refuse("ID token without iat")
	case now.Add(skew).Before(iat):
		return p.refuse("ID token issued in the future, at %s; do the clocks agree?", iat.UTC().Format(time.RFC3339))
	case iat.Add(skew).Before(started):
		return p.refuse("ID token issued at %s, before this login began at %s; do the clocks agree?", iat.UTC().Format(time.RFC3339), started.UTC().Format(time.RFC3339))
	}
	if nbf, ok := c.time("nbf"); ok && now.Add(skew).Before(nbf) {
		return p.refuse("ID token not valid before %s", nbf.UTC().Format(time.RFC3339))
	}
	if t.AccessTokenHash != "" {
		if err := t.VerifyAccessToken(accessToken); err != nil {
			return p.refuse("at_hash of the ID token: %v", err)
		}
	}
	return nil
}

// checkAge checks how long ago the person proved to be who it is, if the login asks for that, and returns the moment.
func (p *Provider) checkAge(c claims, k *kept, f *sequence.Finish) (time.Time, error) {
	now := p.o.Now()
	oldest := time.Unix(k.Started, 0)
	switch {
	case f.Anew:
	case f.MaxAge > 0:
		oldest = now.Add(-f.MaxAge)
	default:
		oldest = time.Time{}
	}
	at, ok := c.time("auth_time")
	switch {
	case oldest.IsZero() && !ok:
		return now, nil
	case oldest.IsZero():
		return earlier(at, now), nil
	case !ok:
		return time.Time{}, p.refuse("ID token without auth_time, although the login asks how long ago the person was there")
	case at.Add(skew).Before(oldest):
		return time.Time{}, p.refuse("the person was last there at %s; expected at %s or later", at.UTC().Format(time.RFC3339), oldest.UTC().Format(time.RFC3339))
	case at.Before(oldest):
		return oldest, nil
	}
	return earlier(at, now), nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// complete adds what userinfo says to the claims of the ID token, if anything is wanted that they lack. The ID token's own stay.
func (p *Provider) complete(ctx context.Context, d *discovery, c claims, accessToken string) error {
	wanted := slices.Concat(p.o.Wanted, p.o.Claims.Subject, p.o.Claims.User)
	if len(p.o.AllowedDomains) > 0 {
		wanted = append(wanted, "/email", "/email_verified")
	}
	lacks := func(pointer string) bool { return auth.Claim(c, pointer) == nil }
	needed := slices.ContainsFunc(wanted, lacks)
	if d.userinfo == "" || !needed && !lacks(p.o.NameClaims[0]) {
		return nil
	}
	more, err := p.userinfo(ctx, d.userinfo, accessToken)
	switch {
	case err != nil && needed:
		return p.unavailable(err)
	case err != nil:
		p.o.Log.Warn("an identity provider does not tell a person's name", "provider", p.o.Name, "error", err)
		return nil
	}
	if sub := more.text("sub"); sub == "" || sub != c.text("sub") {
		return p.refuse("userinfo is about %q, and the ID token about %q", clip(sub), clip(c.text("sub")))
	}
	for name, value := range more {
		if _, there := c[name]; !there {
			c[name] = value
		}
	}
	return nil
}

func (p *Provider) userinfo(ctx context.Context, at, accessToken string) (claims, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	req.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("userinfo: answered " + resp.Status + "; expected 200")
	}
	return decodeClaims(resp.Body, "userinfo")
}

// identity returns whom the claims name.
func (p *Provider) identity(c claims, raw string, at time.Time) (*sequence.Identity, error) {
	if err := p.checkDomain(c); err != nil {
		return nil, err
	}
	principal, err := p.o.Claims.Principal(auth.MethodSession, p.o.Name, c)
	if err != nil {
		return nil, err
	}
	passed := session.Passed{Authenticator: p.o.Name, At: at, Key: session.Key(c.text("sub"), c.text("sid"))}
	if list, ok := c["amr"].([]any); ok {
		for _, m := range list[:min(len(list), maxMethods)] {
			if s, ok := m.(string); ok && plain(s) {
				passed.Method = append(passed.Method, s)
			}
		}
	}
	return &sequence.Identity{Principal: principal, Name: p.name(c), Passed: passed, IDToken: raw}, nil
}

// plain reports whether a text is short and has only letters, digits, dots, dashes and underscores, as the values of RFC 8176.
func plain(s string) bool {
	return s != "" && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	})
}

// checkDomain lets in people with a verified email of an allowed domain.
func (p *Provider) checkDomain(c claims) error {
	if len(p.o.AllowedDomains) == 0 {
		return nil
	}
	verified := c["email_verified"] == true || c["email_verified"] == "true" // some providers send a text
	email := c.text("email")
	at := strings.LastIndexByte(email, '@')
	switch {
	case !verified || at < 1:
		return p.refuse("email %q is not verified; expected one of %s", clip(email), strings.Join(p.o.AllowedDomains, ", "))
	case !slices.ContainsFunc(p.o.AllowedDomains, func(d string) bool { return strings.EqualFold(d, email[at+1:]) }):
		return p.refuse("email %q; expected a domain of %s", clip(email), strings.Join(p.o.AllowedDomains, ", "))
	}
	return nil
}

// name returns what pages call the person.
func (p *Provider) name(c claims) string {
	for _, pointer := range append(slices.Clone(p.o.NameClaims), p.o.Claims.User...) {
		s, _ := auth.Claim(c, pointer).(string)
		s = strings.TrimSpace(strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return -1
			}
			return r
		}, strings.ToValidUTF8(s, "")))
		if s != "" {
			runes := []rune(s)
			return string(runes[:min(len(runes), maxName)])
		}
	}
	return ""
}
