package oidc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"quorumhub/auth"
)

// claims are those of an ID token or a logout token, or of userinfo. Numbers are json.Number.
type claims map[string]any

func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// time returns a NumericDate (RFC 7519 section 2). Dates out of range are treated as absent.
func (c claims) time(name string) (time.Time, bool) {
	n, ok := c[name].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > 1<<33 {
		return time.Time{}, false
	}
	return time.Unix(0, 0).Add(time.Duration(f * float64(time.Second))), true
}

func decodeClaims(from io.Reader, what string) (claims, error) {
	dec := json.NewDecoder(from)
	dec.UseNumber()
	var c claims
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: not a JSON object: %w", what, clipped(err))
	}
	if c == nil || dec.More() {
		return nil, fmt.Errorf("%s: not one JSON object", what)
	}
	return c, nil
}

// verify checks the signature, the issuer, the audience and the end of an ID token. direct says that it came from the token endpoint.
func (p *Provider) verify(ctx context.Context, raw string, direct bool) (*oidc.IDToken, claims, error) {
	keys := &signature{keys: p.keys, direct: direct}
	t, err := oidc.NewVerifier(p.o.Issuer, keys, p.config()).Verify(ctx, raw)
	if err != nil {
		return nil, nil, p.verdict(keys, "ID token", err)
	}
	c, err := p.claimsOf(t, "ID token")
	return t, c, err
}

func (p *Provider) config() *oidc.Config {
	return &oidc.Config{ClientID: p.o.ClientID, SupportedSigningAlgs: p.o.Algorithms, Now: func() time.Time { return p.o.Now().Add(-skew) }}
}

func (p *Provider) claimsOf(t interface{ Claims(any) error }, what string) (claims, error) {
	var text json.RawMessage
	if err := t.Claims(&text); err != nil {
		return nil, p.refuse("%s: %v", what, clipped(err))
	}
	c, err := decodeClaims(bytes.NewReader(text), what)
	if err != nil {
		return nil, p.refuse("%v", err)
	}
	return c, nil
}

// verdict says what a token that was not verified means: a refusal, or that the keys are not known now.
func (p *Provider) verdict(keys *signature, what string, err error) error {
	if errors.Is(keys.err, auth.ErrUnavailable) {
		return p.unavailable(keys.err)
	}
	return p.refuse("%s: %v", what, clipped(err))
}

// signature verifies signatures by the keys of an issuer, one token only. It implements oidc.KeySet, whose callers drop what kind an
// error is.
type signature struct {
	keys   *auth.KeySet
	direct bool
	err    error
}

// VerifySignature implements oidc.KeySet. The algorithm is one of those that were asked for.
func (s *signature) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	head, rest, _ := strings.Cut(raw, ".")
	payload, _, ok := strings.Cut(rest, ".")
	var h struct{ Kid, Alg string }
	text, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil || !ok || json.Unmarshal(text, &h) != nil {
		return nil, errors.New("not a signed JWT in compact form")
	}
	if s.err = s.keys.Verify(ctx, raw, h.Kid, h.Alg, s.direct); s.err != nil {
		return nil, s.err
	}
	return base64.RawURLEncoding.DecodeString(payload)
}

// clip shortens untrusted text for a log line.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
