package login

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"quorumhub/auth/session"
)

// ByePath is where somebody ends up who has logged out, and where identity providers send people back to.
const ByePath = "/login/bye"

// MaxReturn is the longest URL that somebody is sent on to after a logout: it travels in a URL to the identity provider and back.
const MaxReturn = 2 << 10

const (
	// returnTime is how long somebody may take to log out at the identity provider.
	returnTime    = 10 * time.Minute
	returnBinding = "logout/return"
)

// Box seals what browsers carry. Safe for concurrent use.
type Box interface {
	Seal(plain []byte, bound string) ([]byte, error)
	Open(sealed []byte, bound string) ([]byte, error)
}

// Logout ends sessions, here and at the identity providers that they began at. All fields are required. Safe for concurrent use.
type Logout struct {
	// PublicURL is the hub's public base URL.
	PublicURL string
	Sessions  interface {
		// End ends one of a principal's sessions. That it has ended already is no error.
		End(ctx context.Context, principal string, id [32]byte) error
	}
	// EndSession returns where a browser is sent to log out at the identity provider, too; empty: nowhere. It comes back to returnTo with
	// state (OpenID Connect RP-Initiated Logout 1.0).
	EndSession func(ctx context.Context, s *session.Session, returnTo, state string) string
	// Box has a key that all nodes have.
	Box Box
	Now func() time.Time
}

// End ends the session of a request, and returns where the browser goes now: to the identity provider if that was configured, and from
// there or at once to then, a URL of at most MaxReturn bytes that the caller trusts. Both may be empty: to the page that says goodbye.
// With an error the cookie stays, so that it can be tried again. notes are for the audit line.
func (l *Logout) End(w http.ResponseWriter, r *http.Request, s *session.Session, then string, notes ...string) (to string, err error) {
	state := ""
	if then != "" {
		plain := append(binary.BigEndian.AppendUint64(nil, uint64(l.Now().Add(returnTime).Unix())), then...)
		sealed, err := l.Box.Seal(plain, returnBinding)
		if err != nil {
			return "", err
		}
		state = base64.RawURLEncoding.EncodeToString(sealed)
	}
	if err := l.Sessions.End(r.Context(), s.Principal.ID, s.ID); err != nil {
		return "", err
	}
	http.SetCookie(w, session.Cookie(""))
	PeerOf(r.Context()).Audit(r.Context(), s.Principal, "logout", append([]string{"session", hex.EncodeToString(s.ID[:6])}, notes...)...)
	return cmp.Or(l.EndSession(r.Context(), s, strings.TrimSuffix(l.PublicURL, "/")+ByePath, state), then), nil
}

// Return returns where somebody goes on to whom an identity provider has sent back with state; empty: nowhere, as End has not made it, or
// long ago.
func (l *Logout) Return(state string) string {
	sealed, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil || len(sealed) == 0 {
		return ""
	}
	plain, err := l.Box.Open(sealed, returnBinding)
	if err != nil || len(plain) < 8 || l.Now().Unix() > int64(binary.BigEndian.Uint64(plain)) {
		return ""
	}
	return string(plain[8:])
}
