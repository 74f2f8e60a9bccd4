package auth

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Settings are what the file auth.file says: who vouches for callers, and what they may do. The file is the same
// on every node; rules may be added while the hub runs (see Rule).
type Settings struct {
	Issuers            []Issuer            `yaml:"issuers"`
	TokenService       *TokenService       `yaml:"token_service"`
	APIKeys            []KeySetting        `yaml:"api_keys"`
	ClientCertificates *CertificateMapping `yaml:"client_certificates"`
	SignedRequests     *SignedRequests     `yaml:"signed_requests"`
	GEOAuth            *GEOAuth            `yaml:"geo_auth"`
	Rules              []Rule              `yaml:"rules"`
}

// Issuer is an OAuth2 authorization server whose access tokens are accepted.
type Issuer struct {
	// Name is how logs and rules call it.
	Name string `yaml:"name"`
	// URL is the exact value of the tokens' iss.
	URL string `yaml:"issuer"`
	// Audiences are the names of this hub at the issuer; a token must be for one of them.
	Audiences []string `yaml:"audiences"`
	// Algorithms are those that may sign. Never none, never one with a shared key.
	Algorithms []string `yaml:"algorithms"`
	// Type is strict (typ must be at+jwt, RFC 9068; the default) or any, for issuers that say JWT.
	Type       string `yaml:"typ"`
	StrictType bool   `yaml:"-"`
	// KeysURL is where the key set is; empty: as discovery tells.
	KeysURL string `yaml:"jwks_url"`
	// Cookie is a cookie that tokens of this issuer are taken from as well; empty: none.
	Cookie         string        `yaml:"cookie"`
	RequireBinding bool          `yaml:"require_certificate_binding"`
	MaxLifetime    time.Duration `yaml:"max_lifetime"`
	Leeway         time.Duration `yaml:"leeway"`
	Claims         ClaimMapping  `yaml:"claims"`
}

// signatureAlgorithms are those that an issuer may be allowed: with public keys only (RFC 8725 section 3.2).
var signatureAlgorithms = [...]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// LoadSettings reads auth.file. Errors name the file and the place in it.
func LoadSettings(path string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("auth.file: %w", err)
	}
	s, err := ParseSettings(text)
	if err != nil {
		return nil, fmt.Errorf("auth.file %s: %w", path, err)
	}
	return s, nil
}

// ParseSettings decodes and checks settings in YAML. A key that is not known is an error.
func ParseSettings(text []byte) (*Settings, error) {
	s := &Settings{}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := yaml.UnmarshalWithOptions(text, s, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("%s", strings.TrimSpace(yaml.FormatError(err, false, true)))
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
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
			return fmt.Errorf("%s: the name is given twice", where)
		}
		if urls[is.URL] {
			return fmt.Errorf("%s: issuer %s is given twice", where, is.URL)
		}
		names[is.Name], urls[is.URL] = true, true
	}
	if t := s.TokenService; t != nil {
		if err := t.check(); err != nil {
			return fmt.Errorf("token_service: %w", err)
		}
		if names[t.Name] {
			return fmt.Errorf("token_service: the name %q is that of an issuer", t.Name)
		}
		names[t.Name] = true
		for _, is := range s.Issuers {
			if is.Cookie == t.Cookie {
				return fmt.Errorf("token_service: cookie %q is also that of issuer %s; expected one of the two to take it", t.Cookie, is.Name)
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
	seen := map[string]bool{}
	for i := range s.Rules {
		if err := s.Rules[i].Check(); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
		if seen[s.Rules[i].Name] {
			return fmt.Errorf("rules[%d]: the name %q is given twice", i, s.Rules[i].Name)
		}
		seen[s.Rules[i].Name] = true
		for _, w := range s.Rules[i].Who {
			if w.Issuer != "" && !names[w.Issuer] {
				return fmt.Errorf("rules[%d] (%s): issuer %q is neither among issuers nor the token_service", i, s.Rules[i].Name, w.Issuer)
			}
		}
	}
	return nil
}

func (is *Issuer) check() error {
	if !validName(is.Name) {
		return fmt.Errorf("name: %q; expected at most 64 letters, digits, dots, dashes and underscores", is.Name)
	}
	if err := checkEndpoint(is.URL); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if is.KeysURL != "" {
		if err := checkEndpoint(is.KeysURL); err != nil {
			return fmt.Errorf("jwks_url: %w", err)
		}
	}
	if len(is.Audiences) == 0 || slices.Contains(is.Audiences, "") {
		return fmt.Errorf("audiences: expected at least one name; without it tokens for other services would be accepted")
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
