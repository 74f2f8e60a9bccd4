package session

import "net/http"

// CookieName is the name of the cookie of a session. Its prefix makes browsers take it only over a secure connection and from this very
// host (RFC 6265bis section 4.1.3.2).
const CookieName = "__Host-quorumhub"

// Cookie returns the cookie with a content; empty: one that makes the browser forget it.
func Cookie(content string) *http.Cookie {
	c := &http.Cookie{Name: CookieName, Value: content, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if content == "" {
		c.MaxAge = -1
	}
	return c
}
