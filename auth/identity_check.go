package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkIdentity checks what logins need: providers, sequences and who uses them.
func (s *Settings) checkIdentity() error {
	clients := map[string]string{}
	names := map[string]bool{}
	accounts := map[string]string{}
	for i := range s.IdentityProviders {
		p := &s.IdentityProviders[i]
		if err := s.checkProvider(p, names, clients, accounts); err != nil {
			return placed("identity_providers", i, p.Name, p.file, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sequences)) {
		if err := s.checkSequence(name, s.Sequences[name]); err != nil {
			return fmt.Errorf("sequences.%s: %w", name, err)
		}
	}
	if err := s.checkServiceProviders(); err != nil {
		return err
	}
	if err := s.Sessions.check(); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	return nil
}

// placed says which item of a list has a mistake, as elsewhere in auth.file; one that has a file of its own by that.
func placed(list string, i int, name, file string, err error) error {
	out := fmt.Sprintf("%s[%d]", list, i)
	if file != "" {
		out = file
	}
	if name != "" {
		out += " (" + clip(name) + ")"
	}
	if err = fmt.Errorf("%s: %w", out, err); file != "" {
		return &fileError{err}
	}
	return err
}

// checkProvider checks an identity provider, and that it does not take what another one has: a name, a client, or accounts.
func (s *Settings) checkProvider(p *IdentityProvider, names map[string]bool, clients, accounts map[string]string) error {
	if err := p.check(); err != nil {
		return err
	}
	if names[p.Name] {
		return fmt.Errorf("duplicate name")
	}
	names[p.Name] = true
	if err := s.checkNamesake(p); err != nil {
		return err
	}
	if other, twice := clients[p.Issuer+" "+p.ClientID]; twice && p.Kind == KindOIDC {
		return fmt.Errorf("is client %q of %s, as %s is; expected one name for it", clip(p.ClientID), clip(p.Issuer), other)
	}
	clients[p.Issuer+" "+p.ClientID] = p.Name
	for j := range p.Accounts {
		if other, twice := accounts[p.Accounts[j].Name]; twice {
			return fmt.Errorf("accounts[%d]: %q is also an account of %s; expected each name once", j, p.Accounts[j].Name, other)
		}
		accounts[p.Accounts[j].Name] = p.Name
	}
	return nil
}

// checkNamesake checks what else has the name of an identity provider. An issuer may: then tokens and logins of one provider name the
// same principals.
func (s *Settings) checkNamesake(p *IdentityProvider) error {
	if slices.Contains(wayKinds[:], p.Name) || p.Name == "none" {
		return fmt.Errorf("name: %q is the hub's own; expected another one", p.Name)
	}
	if s.TokenService != nil && s.TokenService.Name == p.Name {
		return fmt.Errorf("name: %q is taken by the token service", p.Name)
	}
	for i := range s.Issuers {
		if is := &s.Issuers[i]; is.Name == p.Name && (p.Kind != KindOIDC || is.URL != p.Issuer) {
			return fmt.Errorf("name: %q is also the name of the issuer %s; expected kind oidc and that very issuer, since its principals are the same", p.Name, clip(is.URL))
		}
	}
	return nil
}

func (p *IdentityProvider) check() error {
	if !validName(p.Name) {
		return fmt.Errorf("name: %q; expected at most 64 letters, digits, dots, dashes and underscores", clip(p.Name))
	}
	if len(p.Label) > 200 || strings.ContainsFunc(p.Label, isControl) {
		return fmt.Errorf("label: expected at most 200 bytes without control characters")
	}
	if p.Label == "" {
		p.Label = p.Name
	}
	oidc := p.Issuer != "" || p.ClientID != "" || p.ClientSecret.clear || p.ClientSecret.Given() || p.ClientKey != (ClientKey{}) || p.ClientAuth != "" ||
		p.Scopes != nil || p.AllowedDomains != nil || p.EndSession || !p.Claims.empty()
	local := p.Enabled || p.Accounts != nil
	switch p.Kind {
	case KindOIDC:
		if local {
			return fmt.Errorf("has enabled or accounts, which are for kind local only")
		}
		return p.checkOIDC()
	case KindLocal, KindKey:
		if oidc {
			return fmt.Errorf("has keys for kind oidc; expected none of issuer, client_id, client_secret, client_key, client_auth, scopes, claims, allowed_domains and end_session")
		}
		if p.Kind == KindKey && local {
			return fmt.Errorf("has enabled or accounts, which are for kind local only")
		}
		return p.checkLocal()
	}
	return fmt.Errorf("kind: %q; expected oidc, local or key", clip(p.Kind))
}

func (p *IdentityProvider) checkOIDC() error {
	if err := CheckEndpoint(p.Issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if strings.Contains(p.Issuer, "?") {
		return fmt.Errorf("issuer: %q has a query; expected the exact iss of its ID tokens", clip(p.Issuer))
	}
	if p.ClientID == "" || len(p.ClientID) > 256 || strings.ContainsFunc(p.ClientID, isControl) {
		return fmt.Errorf("client_id: %q; expected the hub's name at the provider", clip(p.ClientID))
	}
	if err := p.ClientSecret.check("client_secret", 8); err != nil {
		return err
	}
	if err := p.checkClientAuth(); err != nil {
		return err
	}
	if p.Scopes == nil {
		p.Scopes = []string{"openid", "profile"}
		if p.AllowedDomains != nil {
			p.Scopes = append(p.Scopes, "email")
		}
	}
	for _, scope := range p.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }) {
			return fmt.Errorf("scopes: %q; expected words such as profile", clip(scope))
		}
	}
	if !slices.Contains(p.Scopes, "openid") {
		return fmt.Errorf("scopes: expected openid among them; without it the provider gives no ID token")
	}
	for _, d := range p.AllowedDomains {
		if !validHost(d) || strings.Contains(d, ":") {
			return fmt.Errorf("allowed_domains: %q; expected a domain in lower case, such as example.org", clip(d))
		}
	}
	if p.Claims.Name == nil {
		p.Claims.Name = Pointers{"/name"}
	}
	p.Claims.setDefaults()
	if err := p.Claims.check(); err != nil {
		return err
	}
	if len(p.Claims.Name) != 1 || !strings.HasPrefix(p.Claims.Name[0], "/") {
		return fmt.Errorf("claims.name: expected one JSON pointer, such as /name")
	}
	return nil
}

// empty reports whether no claims are given.
func (c *IdentityClaims) empty() bool {
	return c.Name == nil && c.Subject == nil && c.Client == nil && c.User == nil && c.Scopes == nil && c.Roles == nil
}

func (p *IdentityProvider) checkClientAuth() error {
	key := p.ClientKey.File != ""
	if !key && p.ClientKey != (ClientKey{}) {
		return fmt.Errorf("client_key: expected file, the private key in PEM")
	}
	if key {
		if err := p.ClientKey.check(); err != nil {
			return fmt.Errorf("client_key.%w", err)
		}
	}
	if p.ClientAuth == "" {
		switch {
		case p.ClientSecret.Given():
			p.ClientAuth = "basic"
		case key:
			p.ClientAuth = "private_key_jwt"
		default:
			p.ClientAuth = "none"
		}
	}
	wantsSecret, wantsKey := p.ClientAuth == "basic" || p.ClientAuth == "post", p.ClientAuth == "private_key_jwt"
	switch {
	case !wantsSecret && !wantsKey && p.ClientAuth != "none":
		return fmt.Errorf("client_auth: %q; expected basic, post, private_key_jwt or none", clip(p.ClientAuth))
	case wantsSecret != p.ClientSecret.Given():
		return fmt.Errorf("client_auth: %s; expected client_secret with basic and post, and only with them", p.ClientAuth)
	case wantsKey != key:
		return fmt.Errorf("client_auth: %s; expected client_key with private_key_jwt, and only with it", p.ClientAuth)
	}
	return nil
}

func (p *IdentityProvider) checkLocal() error {
	if p.Enabled && len(p.Accounts) == 0 {
		return fmt.Errorf("enabled: true without accounts; expected at least one, such as {name: root, password_hash: (quorumhub auth hash-password)}")
	}
	for i := range p.Accounts {
		a := &p.Accounts[i]
		if !validName(a.Name) {
			return fmt.Errorf("accounts[%d]: name: %q; expected at most 64 letters, digits, dots, dashes and underscores", i, clip(a.Name))
		}
		if err := checkPasswordHash(a.PasswordHash); err != nil {
			return fmt.Errorf("accounts[%d] (%s): password_hash: %w", i, a.Name, err)
		}
		if err := a.TOTP.check("totp", 16); err != nil {
			return fmt.Errorf("accounts[%d] (%s): %w", i, a.Name, err)
		}
	}
	return nil
}

// checkPasswordHash checks the form $argon2id$v=19$m=65536,t=3,p=4$salt$hash and what it costs. The error does not show the text, which
// may be a password.
func checkPasswordHash(text string) error {
	const expected = "expected $argon2id$v=19$m=…,t=…,p=…$…$…, the output of quorumhub auth hash-password"
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" || len(parts[4]) < 11 || len(parts[5]) < 22 || len(text) > 512 {
		return fmt.Errorf("is none of argon2id; %s", expected)
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return fmt.Errorf("has no costs; %s", expected)
	}
	for i, c := range []struct {
		name     string
		min, max int
	}{{"m=", 8 << 10, 256 << 10}, {"t=", 1, 10}, {"p=", 1, 16}} {
		digits, named := strings.CutPrefix(costs[i], c.name)
		n, err := strconv.Atoi(digits)
		if !named || err != nil || n < c.min || n > c.max {
			return fmt.Errorf("its cost %s is not from %d to %d; %s", strings.TrimSuffix(c.name, "="), c.min, c.max, expected)
		}
	}
	return nil
}

// authenticators returns the names that steps may use, and whether each needs somebody to act, and nothing else.
func (s *Settings) authenticators() map[string]bool {
	out := map[string]bool{WayDefault: false, WayKey: false}
	for i := range s.IdentityProviders {
		out[s.IdentityProviders[i].Name] = true
	}
	for i := range s.Issuers {
		out[s.Issuers[i].Name], out[WayToken] = false, false
	}
	if s.TokenService != nil {
		out[s.TokenService.Name], out[WayToken] = false, false
	}
	if s.ClientCertificates != nil {
		out[WayCertificate] = false
	}
	if s.SignedRequests != nil {
		out[WaySignature] = false
	}
	if s.GEOAuth != nil {
		out[WayGEO] = false
	}
	return out
}

func (s *Settings) checkSequence(name string, q Sequence) error {
	known := s.authenticators()
	if _, taken := known[name]; taken || slices.Contains(wayKinds[:], name) || name == "none" {
		return fmt.Errorf("the name is an authenticator's; expected another one")
	}
	if !validName(name) {
		return fmt.Errorf("name %q; expected at most 64 letters, digits, dots, dashes and underscores", clip(name))
	}
	if len(q.Steps) == 0 || len(q.Steps) > maxSteps {
		return fmt.Errorf("has %d steps; expected 1 to %d", len(q.Steps), maxSteps)
	}
	used := map[string]int{}
	for i := range q.Steps {
		step := &q.Steps[i]
		where := fmt.Sprintf("steps[%d]", i)
		if err := step.check(s.strategies); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		for _, of := range step.Of {
			acts, ok := known[of]
			other, twice := used[of]
			switch {
			case !ok:
				return fmt.Errorf("%s: there is no authenticator %q; auth.file sets up %s", where, clip(of), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			case acts && step.Strategy == StrategyParallel:
				return fmt.Errorf("%s: %s needs somebody to act, so it cannot be asked in parallel; expected authenticators of programs, such as certificate", where, of)
			case twice && other == i:
				return fmt.Errorf("%s: names %s twice", where, of)
			case twice:
				return fmt.Errorf("%s: %s is in steps[%d], too; one proof would do for both", where, of, other)
			case of == WayDefault && (len(q.Steps) > 1 || len(step.Of) > 1):
				return fmt.Errorf("%s: %s is whatever credentials the hub accepts; expected it alone", where, of)
			}
			used[of] = i
		}
	}
	return nil
}

func (s *Settings) checkServiceProviders() error {
	taken := map[string]string{} // what only one provider may have, and which has it
	for i := range s.ServiceProviders {
		p := &s.ServiceProviders[i]
		if err := s.checkServiceProvider(p, taken); err != nil {
			return placed("service_providers", i, p.Name, p.file, err)
		}
	}
	return nil
}

func (s *Settings) checkServiceProvider(p *ServiceProvider, taken map[string]string) error {
	if err := p.check(s.protocols); err != nil {
		return err
	}
	if _, ok := s.StepsOf(p.Sequence); !ok {
		all := append(slices.Sorted(maps.Keys(s.Sequences)), slices.Sorted(maps.Keys(s.authenticators()))...)
		return fmt.Errorf("sequence: %q; expected one of %s", clip(p.Sequence), strings.Join(all, ", "))
	}
	take := func(key string) (other string, twice bool) {
		other, twice = taken[key]
		taken[key] = p.Name
		return other, twice
	}
	if _, twice := take("name " + p.Name); twice {
		return fmt.Errorf("duplicate name")
	}
	if p.Protocol == ProtocolAPI {
		if other, twice := take("api"); twice {
			return fmt.Errorf("protocol: api, as %s has it; the hub has one API", other)
		}
	}
	for _, h := range p.Hosts {
		if other, twice := take("host " + h); twice {
			return fmt.Errorf("hosts: %s is also a host of %s; expected each once", h, other)
		}
	}
	if p.ClientID != "" {
		if other, twice := take("client " + p.ClientID); twice {
			return fmt.Errorf("client_id: %q is also %s's; expected each once", clip(p.ClientID), other)
		}
	}
	return nil
}

func (p *ServiceProvider) check(protocols []string) error {
	if !validName(p.Name) {
		return fmt.Errorf("name: %q; expected at most 64 letters, digits, dots, dashes and underscores", clip(p.Name))
	}
	known := append([]string{ProtocolPages, ProtocolAPI, ProtocolForwardAuth, ProtocolOIDC}, protocols...)
	if !slices.Contains(known, p.Protocol) {
		return fmt.Errorf("protocol: %q; expected one of %s", clip(p.Protocol), strings.Join(known, ", "))
	}
	if p.MaxAge < 0 {
		return fmt.Errorf("max_age: %v; expected more than 0", p.MaxAge)
	}
	if p.Hosts != nil && p.Protocol != ProtocolForwardAuth {
		return fmt.Errorf("hosts: is for protocol forward-auth only")
	}
	if p.Protocol == ProtocolForwardAuth && len(p.Hosts) == 0 {
		return fmt.Errorf("hosts: expected the hosts of the application, such as [wiki.example.org]")
	}
	for _, h := range p.Hosts {
		if !validHost(h) {
			return fmt.Errorf("hosts: %q; expected a host in lower case, with a port unless it is the scheme's own, such as wiki.example.org", clip(h))
		}
	}
	if p.Protocol != ProtocolOIDC && (p.ClientID != "" || p.ClientSecretHash != "" || p.RedirectURIs != nil || p.PostLogoutRedirectURIs != nil) {
		return fmt.Errorf("has client_id, client_secret_hash, redirect_uris or post_logout_redirect_uris, which are for protocol oidc only")
	}
	if p.Claims != nil && p.Protocol != ProtocolOIDC && p.Protocol != ProtocolForwardAuth && !slices.Contains(protocols, p.Protocol) {
		return fmt.Errorf("claims: is for protocols oidc and forward-auth only")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Claims)) {
		if !validName(name) {
			return fmt.Errorf("claims: name %q; expected at most 64 letters, digits, dots, dashes and underscores", clip(name))
		}
		if !slices.Contains(ReleasedClaims(), p.Claims[name]) {
			return fmt.Errorf("claims.%s: %q; expected one of %s", name, clip(p.Claims[name]), strings.Join(ReleasedClaims(), ", "))
		}
	}
	if p.Protocol == ProtocolOIDC {
		return p.checkClient()
	}
	return nil
}

// protocolClaims are those that the protocol itself sets in ID tokens.
var protocolClaims = [...]string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "nonce", "azp", "auth_time", "at_hash", "c_hash", "sid", "events"}

// terminalClient is the client ID of quorumhub login, see auth/ticket.
const terminalClient = "quorumhub-terminal"

func (p *ServiceProvider) checkClient() (err error) {
	if !validName(p.ClientID) {
		return fmt.Errorf("client_id: %q; expected at most 64 letters, digits, dots, dashes and underscores", clip(p.ClientID))
	}
	if p.ClientID == terminalClient {
		return fmt.Errorf("client_id: %q is what quorumhub login calls itself; expected another one", p.ClientID)
	}
	if p.ClientSecretHash != "" {
		if p.secretHash, err = hex.DecodeString(p.ClientSecretHash); err != nil || len(p.secretHash) != sha256.Size {
			return fmt.Errorf("client_secret_hash: is no hash; expected 64 hexadecimal digits, the SHA-256 of a long random secret")
		}
	}
	if len(p.RedirectURIs) == 0 {
		return fmt.Errorf("redirect_uris: expected at least one, such as https://shop.example.org/callback")
	}
	for _, of := range []struct {
		key  string
		uris []string
	}{{"redirect_uris", p.RedirectURIs}, {"post_logout_redirect_uris", p.PostLogoutRedirectURIs}} {
		for i, raw := range of.uris {
			if err := checkRedirect(raw); err != nil {
				return fmt.Errorf("%s[%d]: %w", of.key, i, err)
			}
		}
	}
	for _, name := range protocolClaims {
		if _, given := p.Claims[name]; given {
			return fmt.Errorf("claims.%s: the protocol sets it; expected another name", name)
		}
	}
	return nil
}

// checkRedirect checks where browsers may be sent with a code. It is compared byte by byte with what an application asks for.
func checkRedirect(raw string) error {
	if err := CheckEndpoint(raw); err != nil {
		return err
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > 2048 || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }):
		return fmt.Errorf("%q has characters that belong in no URI, or more than 2048 of them", clip(raw))
	case strings.Contains(raw, "*"):
		return fmt.Errorf("%q has a *; expected the exact URI, since it is compared as a whole", clip(raw))
	case strings.Contains(raw, "#"):
		return fmt.Errorf("%q has a fragment", clip(raw))
	case u.Host != strings.ToLower(u.Host):
		return fmt.Errorf("%q; expected its host in lower case", clip(raw))
	}
	return nil
}

// validHost reports whether a host, perhaps with a port, is in the form in which requests name it.
func validHost(h string) bool {
	u, err := url.Parse("https://" + h + "/")
	return err == nil && h != "" && len(h) <= 255 && u.Host == h && u.User == nil && u.Path == "/" && strings.ToLower(h) == h &&
		strings.Trim(h, "abcdefghijklmnopqrstuvwxyz0123456789.-:[]") == "" && !strings.HasSuffix(h, ":") && !strings.HasSuffix(h, ".")
}

func isControl(r rune) bool {
	return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029'
}

// Bounds of sessions. A cookie is renewed at most once a minute, so that a shorter Idle would end sessions in use.
const (
	minIdle     = 2 * time.Minute
	maxAbsolute = 7 * 24 * time.Hour
)

func (s *SessionSettings) check() error {
	if s.Idle == 0 {
		s.Idle = 30 * time.Minute
		if s.Absolute > 0 {
			s.Idle = min(s.Idle, s.Absolute)
		}
	}
	if s.Absolute == 0 {
		s.Absolute = max(12*time.Hour, s.Idle)
	}
	switch {
	case s.Idle < minIdle || s.Idle > s.Absolute:
		return fmt.Errorf("idle: %v; expected %v to %v, the absolute limit", s.Idle, minIdle, s.Absolute)
	case s.Absolute > maxAbsolute:
		return fmt.Errorf("absolute: %v; expected at most %v", s.Absolute, maxAbsolute)
	}
	return nil
}
