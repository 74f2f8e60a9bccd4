package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"quorumhub/auth/session"
)

// logoutLife is how old a logout token may be.
const logoutLife = 5 * time.Minute

// maxLogoutToken bounds what is decoded before anything is proven.
const maxLogoutToken = 16 << 10

// LoggedOut is who has logged out at the provider.
type LoggedOut struct {
	// Key matches the sessions to end, see session.KeyMatches.
	Key [16]byte
	// Subject is the provider's name for the person, and SID its session; one may be empty.
	Subject, SID string
}

// Logout checks a logout token that came to the hub (OpenID Connect Back-Channel Logout 1.0, section 2.6). Each is good once, on
// whichever node. Errors are *auth.RefusalError, or auth.ErrUnavailable (wrapped).
func (p *Provider) Logout(ctx context.Context, raw string) (*LoggedOut, error) {
	if len(raw) > maxLogoutToken {
		return nil, p.refuse("logout token of %d bytes; expected at most %d", len(raw), maxLogoutToken)
	}
	if typ := typeOf(raw); typ != "" && typ != "jwt" && typ != "logout+jwt" {
		return nil, p.refuse("typ %q; expected logout+jwt", clip(typ))
	}
	keys := &signature{keys: p.keys}
	t, err := oidc.NewVerifier(p.o.Issuer, keys, p.config()).VerifyLogout(ctx, raw)
	if err != nil {
		return nil, p.verdict(keys, "logout token", err)
	}
	c, err := p.claimsOf(t, "logout token")
	if err != nil {
		return nil, err
	}
	iat, ok := c.time("iat")
	now := p.o.Now()
	switch {
	case !ok:
		return nil, p.refuse("logout token without iat")
	case now.Add(skew).Before(iat), iat.Add(logoutLife + skew).Before(now):
		return nil, p.refuse("logout token of %s; expected one of the last %s", iat.UTC().Format(time.RFC3339), logoutLife)
	}
	used := sha256.Sum256([]byte("logout\x00" + p.o.Name + "\x00" + t.TokenID))
	fresh, err := p.o.Used.Claim(ctx, "issuer:"+p.o.Name, used, iat.Add(logoutLife+2*skew))
	switch {
	case err != nil:
		return nil, p.unavailable(fmt.Errorf("claim the logout token: %w", err))
	case !fresh:
		return nil, p.refuse("logout token %q was used before", clip(t.TokenID))
	}
	return &LoggedOut{session.Key(t.Subject, t.SessionID), t.Subject, t.SessionID}, nil
}

// typeOf returns the typ of a JWT in lower case without "application/"; empty if it has none.
func typeOf(raw string) string {
	head, _, _ := strings.Cut(raw, ".")
	var h struct{ Typ string }
	if text, err := base64.RawURLEncoding.DecodeString(head); err != nil || json.Unmarshal(text, &h) != nil {
		return ""
	}
	return strings.TrimPrefix(strings.ToLower(h.Typ), "application/")
}
