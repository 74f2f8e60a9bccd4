package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxTokenBytes bounds what is decoded before anything is proven.
const maxTokenBytes = 16 << 10

// Tokens authenticates OAuth2 access tokens in JWT form (RFC 9068, RFC 8725) from several issuers. A token's iss selects the
// issuer's keys and settings; tokens of unknown issuers are refused without any request.
type Tokens struct {
	issuers map[string]*tokenIssuer // by iss
	cookies []string
	now     func() time.Time

	mu    sync.Mutex
	known verdicts // tokens that were verified lately
}

// tokenCache is how long a verified token is accepted without verifying it again: a key that its issuer withdraws is trusted for as
// much longer.
const tokenCache = 30 * time.Second

type tokenIssuer struct {
	Issuer
	keys *KeySet
}

// NewTokens makes an Authenticator for access tokens. keys returns the key set of an issuer; now is the clock.
func NewTokens(issuers []Issuer, keys func(Issuer) *KeySet, now func() time.Time) *Tokens {
	t := &Tokens{issuers: make(map[string]*tokenIssuer), now: now}
	for _, is := range issuers {
		t.issuers[is.URL] = &tokenIssuer{Issuer: is, keys: keys(is)}
		if is.Cookie != "" && !slices.Contains(t.cookies, is.Cookie) {
			t.cookies = append(t.cookies, is.Cookie)
		}
	}
	return t
}

const bearerChallenge = `Bearer realm="quorumhub"` //nolint:gosec // no credential

// Challenge is the one of RFC 6750.
func (t *Tokens) Challenge() string { return bearerChallenge }

// Authenticate checks a bearer token from the Authorization header, or else from a cookie that an issuer's settings name.
func (t *Tokens) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	raw, cookie, err := t.find(r.HTTP)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256([]byte(cookie + "\x00" + raw))
	if p := t.remembered(key); p != nil {
		return p, nil
	}
	head, claims, err := decodeToken(raw)
	if err != nil {
		return nil, err
	}
	is := t.issuers[claims.text("iss")]
	switch {
	case is == nil:
		return nil, refuse(MethodToken, "issuer %q is not in the settings", clip(claims.text("iss")))
	case cookie != "" && is.Cookie != cookie:
		return nil, refuse(MethodToken, "issuer %s does not use cookie %q", is.Name, cookie)
	}
	if err := is.checkHeader(head); err != nil {
		return nil, err
	}
	if err := is.checkClaims(claims, t.now()); err != nil {
		return nil, err
	}
	if err := is.checkBinding(claims, r.HTTP); err != nil {
		return nil, err
	}
	p, err := is.principal(claims)
	if err != nil {
		return nil, err
	}
	if err := r.afford(); err != nil {
		return nil, err
	}
	if err := is.keys.Verify(ctx, raw, head.Kid, head.Alg, false); err != nil {
		return nil, err
	}
	if _, bound := claims["cnf"]; !bound { // one that is bound depends on the connection, too
		t.remember(key, p)
	}
	return p, nil
}

func (t *Tokens) remembered(key [sha256.Size]byte) *Principal {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.known.get(key); ok && t.now().Before(v.until) {
		return v.principal
	}
	return nil
}

func (t *Tokens) remember(key [sha256.Size]byte, p *Principal) {
	until := t.now().Add(tokenCache)
	if p.Until.Before(until) {
		until = p.Until
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known.put(key, verdict{principal: p, until: until})
}

// find returns the token of a request and the name of its cookie, if it came in one.
func (t *Tokens) find(r *http.Request) (raw, cookie string, err error) {
	switch given := r.Header["Authorization"]; {
	case len(given) > 1:
		return "", "", refuse(MethodToken, "more than one Authorization header")
	case len(given) == 1:
		scheme, value, _ := strings.Cut(given[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			if value = strings.TrimSpace(value); !strings.HasPrefix(value, apiKeyPrefix) && !strings.HasPrefix(value, TicketPrefix) {
				return value, "", nil
			}
		}
		return "", "", ErrNotMine
	}
	for _, name := range t.cookies {
		if found := r.CookiesNamed(name); len(found) > 1 {
			return "", "", refuse(MethodToken, "cookie %q is given %d times", name, len(found))
		} else if len(found) == 1 {
			return strings.TrimPrefix(found[0].Value, "Bearer "), name, nil
		}
	}
	return "", "", ErrNotMine
}

// tokenHeader is the part of the JOSE header that is checked.
type tokenHeader struct {
	Alg  string          `json:"alg"`
	Typ  string          `json:"typ"`
	Kid  string          `json:"kid"`
	Crit json.RawMessage `json:"crit"`
	B64  json.RawMessage `json:"b64"`
}

type tokenClaims map[string]any

// decodeToken parses a token. Nothing it returns is proven yet.
func decodeToken(raw string) (tokenHeader, tokenClaims, error) {
	var head tokenHeader
	if len(raw) > maxTokenBytes {
		return head, nil, refuse(MethodToken, "token of %d bytes; expected at most %d", len(raw), maxTokenBytes)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return head, nil, refuse(MethodToken, "not a signed JWT in compact form")
	}
	if err := decodePart(parts[0], &head); err != nil {
		return head, nil, refuse(MethodToken, "header: %v", err)
	}
	claims := tokenClaims{}
	if err := decodePart(parts[1], &claims); err != nil {
		return head, nil, refuse(MethodToken, "claims: %v", err)
	}
	return head, claims, nil
}

func decodePart(part string, into any) error {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return fmt.Errorf("not base64url: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	if dec.More() {
		return fmt.Errorf("more than one JSON value")
	}
	return nil
}

func (is *tokenIssuer) checkHeader(h tokenHeader) error {
	switch {
	case h.Crit != nil || h.B64 != nil:
		return refuse(MethodToken, "unsupported header parameter crit or b64")
	case !slices.Contains(is.Algorithms, h.Alg):
		return refuse(MethodToken, "algorithm %q; issuer %s may use %s", clip(h.Alg), is.Name, strings.Join(is.Algorithms, ", "))
	case is.StrictType && !strings.EqualFold(h.Typ, "at+jwt") && !strings.EqualFold(h.Typ, "application/at+jwt"):
		return refuse(MethodToken, "typ %q; expected at+jwt for issuer %s", clip(h.Typ), is.Name)
	case strings.EqualFold(h.Typ, "dpop+jwt"), strings.EqualFold(h.Typ, "logout+jwt"), strings.EqualFold(h.Typ, "secevent+jwt"):
		return refuse(MethodToken, "typ %q is not an access token", clip(h.Typ))
	}
	return nil
}

// checkClaims checks what RFC 9068 section 4 requires of an access token.
func (is *tokenIssuer) checkClaims(c tokenClaims, now time.Time) error {
	exp, ok := c.time("exp")
	if !ok {
		return refuse(MethodToken, "exp is missing or not a number")
	}
	iat, ok := c.time("iat")
	if !ok {
		return refuse(MethodToken, "iat is missing or not a number")
	}
	nbf, given := c.time("nbf")
	if _, there := c["nbf"]; there && !given {
		return refuse(MethodToken, "nbf is not a number")
	}
	switch {
	case now.After(exp.Add(is.Leeway)):
		return refuse(MethodToken, "expired at %s", exp.UTC().Format(time.RFC3339))
	case now.Add(is.Leeway).Before(iat):
		return refuse(MethodToken, "issued in the future, at %s", iat.UTC().Format(time.RFC3339))
	case given && now.Add(is.Leeway).Before(nbf):
		return refuse(MethodToken, "not valid before %s", nbf.UTC().Format(time.RFC3339))
	case exp.Sub(iat) > is.MaxLifetime:
		return refuse(MethodToken, "valid for %s; issuer %s may use at most %s", exp.Sub(iat), is.Name, is.MaxLifetime)
	}
	audience, ok := c.list("aud")
	if !ok || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(is.Audiences, a) }) {
		return refuse(MethodToken, "audience %q; expected one of %q", audience, is.Audiences)
	}
	return nil
}

// checkBinding checks that a token bound to a certificate (RFC 8705 section 3) came over a connection that proves it.
func (is *tokenIssuer) checkBinding(c tokenClaims, r *http.Request) error {
	cnf, bound := c["cnf"]
	if !bound {
		if is.RequireBinding {
			return refuse(MethodToken, "not bound to a certificate, as required for issuer %s", is.Name)
		}
		return nil
	}
	m, _ := cnf.(map[string]any)
	want, _ := m["x5t#S256"].(string)
	if want == "" {
		return refuse(MethodToken, "cnf binds to something other than a certificate")
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return refuse(MethodToken, "bound to a certificate, but the connection has none")
	}
	sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	if subtle.ConstantTimeCompare([]byte(want), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1 {
		return refuse(MethodToken, "bound to a different certificate than the connection's")
	}
	return nil
}

func (is *tokenIssuer) principal(c tokenClaims) (*Principal, error) {
	p, err := is.Claims.principal(MethodToken, is.Name, c)
	if err != nil {
		return nil, err
	}
	p.Until, _ = c.time("exp")
	return p, nil
}

func (c tokenClaims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// list returns a claim that is a string or an array of strings.
func (c tokenClaims) list(name string) ([]string, bool) {
	switch v := c[name].(type) {
	case string:
		return []string{v}, true
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	}
	return nil, false
}

// time returns a NumericDate (RFC 7519 section 2). Dates out of range are treated as absent.
func (c tokenClaims) time(name string) (time.Time, bool) {
	n, ok := c[name].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(0, 0).Add(time.Duration(math.Min(f, 1<<33) * float64(time.Second))), true
}

// clip shortens untrusted text for a log line.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
