package login

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"quorumhub/auth/session"
)

const (
	contextPrefix = session.CookieName + "-login-"
	// maxState is longer than any state of ours.
	maxState = 128
	// maxContexts is how many logins one browser may have under way. A further one takes the place of the oldest.
	maxContexts = 4
	// contextSeconds is how long a browser keeps the context of a login.
	contextSeconds = 600
)

// contextCookie names the cookie with the context of the login that has a state, so that several tabs can log in at once.
func contextCookie(state string) string {
	sum := sha256.Sum256([]byte(state))
	return contextPrefix + hex.EncodeToString(sum[:4])
}

// remember gives the browser a context. If it has maxContexts others it forgets the oldest: browsers send the oldest first (RFC 6265
// section 5.4).
func remember(w http.ResponseWriter, r *http.Request, name, sealed string) {
	var others []string
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, contextPrefix) && c.Name != name && !slices.Contains(others, c.Name) {
			others = append(others, c.Name)
		}
	}
	for len(others) >= maxContexts {
		drop(w, others[0])
		others = others[1:]
	}
	c := session.Cookie(sealed) //nolint:gosec // it has the attributes
	c.Name, c.MaxAge = name, contextSeconds
	http.SetCookie(w, c)
}

// drop makes the browser forget a cookie.
func drop(w http.ResponseWriter, name string) {
	c := session.Cookie("") //nolint:gosec // likewise
	c.Name, c.MaxAge = name, -1
	http.SetCookie(w, c)
}
