package auth

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"quorumhub/configs/syntax"
	"quorumhub/hub"
)

// Settings is the content of auth.file: who vouches for callers, and what callers may do. The file must be the same on every
// node. Further rules may be set while the hub runs.
type Settings struct {
	Issuers            []Issuer            `yaml:"issuers"`
	TokenService       *TokenService       `yaml:"token_service"`
	APIKeys            []APIKeySetting     `yaml:"api_keys"`
	ClientCertificates *CertificateMapping `yaml:"client_certificates"`
	SignedRequests     *SignedRequests     `yaml:"signed_requests"`
	GEOAuth            *GEOAuth            `yaml:"geo_auth"`
	// Links say that some principals are one. The first of each list owns what any of them makes.
	Links map[string][]string `yaml:"links"`
	// EncryptionKeys say, by principal, to whose key answers are encrypted where the gateway's registry demands it.
	EncryptionKeys map[string]EncryptionKeySetting `yaml:"encryption_keys"`
	// Quotas limit what principals may have: by default, by role, and by principal.
	Quotas map[string]QuotaSetting `yaml:"quotas"`
	Rules  []Rule                  `yaml:"rules"`

	// IdentityProviders are where people log in, Sequences how people and programs prove who they are, by name, and ServiceProviders who
	// wants to know it.
	IdentityProviders []IdentityProvider  `yaml:"identity_providers"`
	Sequences         map[string]Sequence `yaml:"sequences"`
	ServiceProviders  []ServiceProvider   `yaml:"service_providers"`
	Sessions          SessionSettings     `yaml:"sessions"`

	strategies map[string]Strategy // see Known
	protocols  []string
}

// Issuer is an OAuth2 authorization server whose access tokens are accepted.
type Issuer struct {
	// Name identifies the issuer in logs and rules.
	Name string `yaml:"name"`
	// URL is the exact value of the iss claim.
	URL string `yaml:"issuer"`
	// Audiences are this hub's names at the issuer; a token's aud must contain one of them.
	Audiences []string `yaml:"audiences"`
	// Algorithms are the accepted signature algorithms; none and those with shared keys are not allowed.
	Algorithms []string `yaml:"algorithms"`
	// Type is strict (typ must be at+jwt, RFC 9068; the default), or any for issuers that set JWT.
	Type       string `yaml:"typ"`
	StrictType bool   `yaml:"-"`
	// KeysURL is the URL of the key set; empty: found by discovery.
	KeysURL string `yaml:"jwks_url"`
	// Cookie names a cookie that may carry this issuer's tokens; empty: none.
	Cookie         string        `yaml:"cookie"`
	RequireBinding bool          `yaml:"require_certificate_binding"`
	MaxLifetime    time.Duration `yaml:"max_lifetime"`
	Leeway         time.Duration `yaml:"leeway"`
	Claims         ClaimMapping  `yaml:"claims"`
}

// signatureAlgorithms are the ones an issuer may use, all with public keys (RFC 8725 section 3.2).
var signatureAlgorithms = [...]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// LoadSettings reads auth.file and, unless its name is empty, auth.directory. Errors name the file and the position in it.
func LoadSettings(path, directory string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("auth.file: %w", err)
	}
	s := &Settings{}
	if err = s.decode(text); err == nil && directory != "" {
		err = s.addDirectory(directory)
	}
	if err == nil {
		err = s.check()
	}
	if inDirectory := (*fileError)(nil); errors.As(err, &inDirectory) {
		return nil, fmt.Errorf("auth.directory: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("auth.file %s: %w", path, err)
	}
	return s, nil
}

// ParseSettings decodes and checks settings in YAML. Unknown keys are errors. known are names besides the hub's own.
func ParseSettings(text []byte, known ...Known) (*Settings, error) {
	s := &Settings{}
	for _, k := range known {
		k(s)
	}
	if err := s.decode(text); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Settings) decode(text []byte) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	if err := yaml.UnmarshalWithOptions(text, s, yaml.Strict()); err != nil {
		return syntax.Explain(text, err)
	}
	return nil
}

func (s *Settings) check() error {
	names, urls := map[string]bool{}, map[string]bool{}
	for i := range s.Issuers {
		is := &s.Issuers[i]
		where := fmt.Sprintf("issuers[%d]", i)
		if is.Name != "" {
			where += " (" + is.Name + ")"
		}
		if err := is.check(); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if names[is.Name] {
			return fmt.Errorf("%s: duplicate name", where)
		}
		if urls[is.URL] {
			return fmt.Errorf("%s: duplicate issuer %s", where, is.URL)
		}
		names[is.Name], urls[is.URL] = true, true
	}
	if t := s.TokenService; t != nil {
		if err := t.check(); err != nil {
			return fmt.Errorf("token_service: %w", err)
		}
		if names[t.Name] {
			return fmt.Errorf("token_service: the name %q is taken by an issuer", t.Name)
		}
		names[t.Name] = true
		for _, is := range s.Issuers {
			if is.Cookie == t.Cookie {
				return fmt.Errorf("token_service: cookie %q is also used by issuer %s; expected only one of them to use it", t.Cookie, is.Name)
			}
		}
	}
	for i := range s.APIKeys {
		if err := s.APIKeys[i].check(); err != nil {
			return fmt.Errorf("api_keys[%d]: %w", i, err)
		}
	}
	if s.ClientCertificates != nil {
		if err := s.ClientCertificates.check(); err != nil {
			return fmt.Errorf("client_certificates: %w", err)
		}
	}
	if s.SignedRequests != nil {
		if err := s.SignedRequests.check(); err != nil {
			return fmt.Errorf("signed_requests: %w", err)
		}
	}
	if s.GEOAuth != nil {
		if err := s.GEOAuth.check(); err != nil {
			return fmt.Errorf("geo_auth: %w", err)
		}
	}
	if err := s.checkLinks(); err != nil {
		return fmt.Errorf("links: %w", err)
	}
	if err := s.checkEncryptionKeys(); err != nil {
		return fmt.Errorf("encryption_keys: %w", err)
	}
	if err := s.checkQuotas(); err != nil {
		return fmt.Errorf("quotas: %w", err)
	}
	if err := s.checkIdentity(); err != nil {
		return err
	}
	for i := range s.IdentityProviders {
		names[s.IdentityProviders[i].Name] = true
	}
	return s.checkRules(names)
}

// KeyHolders returns the principals of the API keys, signing keys and local accounts in the settings.
func (s *Settings) KeyHolders() (out []string) {
	for i := range s.APIKeys {
		out = append(out, hub.KeyPrincipal(s.APIKeys[i].ID))
	}
	if s.SignedRequests != nil {
		for i := range s.SignedRequests.Keys {
			out = append(out, identity("signed:rfc9421", s.SignedRequests.Keys[i].ID))
		}
	}
	for i := range s.IdentityProviders {
		for j := range s.IdentityProviders[i].Accounts {
			out = append(out, identity("local", s.IdentityProviders[i].Accounts[j].Name))
		}
	}
	return out
}

// SecretFiles returns the names of the files that hold shared secrets.
func (s *Settings) SecretFiles() (out []string) {
	if s.SignedRequests != nil {
		for i := range s.SignedRequests.Keys {
			out = append(out, s.SignedRequests.Keys[i].Secret.File)
		}
	}
	if s.GEOAuth != nil {
		for i := range s.GEOAuth.Keys {
			out = append(out, s.GEOAuth.Keys[i].Secret.File)
		}
	}
	for i := range s.IdentityProviders {
		p := &s.IdentityProviders[i]
		out = append(out, p.ClientSecret.File, p.ClientKey.File)
		for j := range p.Accounts {
			out = append(out, p.Accounts[j].TOTP.File)
		}
	}
	return slices.DeleteFunc(out, func(f string) bool { return f == "" })
}

// checkRules checks the rules. authorities are the names that rules may give as issuer.
func (s *Settings) checkRules(authorities map[string]bool) error {
	seen := map[string]bool{}
	for i := range s.Rules {
		r := &s.Rules[i]
		if err := r.Check(); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
		var err error
		if *r, err = s.pin(*r); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
		if seen[r.Name] {
			return fmt.Errorf("rules[%d]: duplicate name %q", i, r.Name)
		}
		seen[r.Name] = true
		for _, w := range r.Who {
			if w.Issuer != "" && !authorities[w.Issuer] {
				return fmt.Errorf("rules[%d] (%s): unknown issuer %q; expected a name under issuers, token_service or identity_providers", i, r.Name, w.Issuer)
			}
			if w.Principal != "" && len(placeholders(w.Principal)) == 0 {
				if err := s.checkPrincipal(w.Principal); err != nil {
					return fmt.Errorf("rules[%d] (%s): %w", i, r.Name, err)
				}
			}
		}
	}
	return nil
}

// CheckRule reports the first mistake in a rule, and whether these settings leave it open whom it names.
func (s *Settings) CheckRule(r *Rule) error {
	if err := r.Check(); err != nil {
		return err
	}
	_, err := s.pin(*r)
	return err
}

func (is *Issuer) check() error {
	if !validName(is.Name) {
		return fmt.Errorf("name: %q; expected at most 64 letters, digits, dots, dashes and underscores", is.Name)
	}
	if err := CheckEndpoint(is.URL); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if is.KeysURL != "" {
		if err := CheckEndpoint(is.KeysURL); err != nil {
			return fmt.Errorf("jwks_url: %w", err)
		}
	}
	if len(is.Audiences) == 0 || slices.Contains(is.Audiences, "") {
		return fmt.Errorf("audiences: expected at least one; otherwise tokens for other services would be accepted")
	}
	if is.Algorithms == nil {
		is.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	for _, a := range is.Algorithms {
		if !slices.Contains(signatureAlgorithms[:], a) {
			return fmt.Errorf("algorithms: %q; expected some of %s", a, strings.Join(signatureAlgorithms[:], ", "))
		}
	}
	switch is.Type {
	case "", "strict":
		is.StrictType = true
	case "any":
	default:
		return fmt.Errorf("typ: %q; expected strict or any", is.Type)
	}
	if is.MaxLifetime == 0 {
		is.MaxLifetime = 24 * time.Hour
	}
	if is.Leeway == 0 {
		is.Leeway = 30 * time.Second
	}
	if is.MaxLifetime < 0 || is.Leeway < 0 || is.Leeway > time.Minute {
		return fmt.Errorf("max_lifetime, leeway: expected a lifetime above 0 and a leeway of at most 1m")
	}
	is.Claims.setDefaults()
	return is.Claims.check()
}

func validName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}
