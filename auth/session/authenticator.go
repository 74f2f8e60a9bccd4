package session

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"quorumhub/auth"
)

// Authenticator recognises callers by the cookie of their session. It implements auth.Authenticator. Safe for concurrent use.
//
// Browsers send cookies by themselves, so a cookie counts only if the hub's own page, or the person at the browser, has caused the
// request. What another site causes is as if there were no cookie; only following a link there, which shows a page of the hub in
// place of the other's, is not (as with SameSite=Lax, RFC 6265bis section 5.6.7). What changes something must come from the hub's
// own page, and say so.
type Authenticator struct{ m *Manager }

// Authenticator returns one.
func (m *Manager) Authenticator() *Authenticator { return &Authenticator{m} }

// OfSessions says that the principals have sessions.
func (*Authenticator) OfSessions() {}

// Challenge is empty: there is no scheme by which a program could log in like a person.
func (*Authenticator) Challenge() string { return "" }

// Authenticate returns who has logged in. A session that has ended is none.
func (a *Authenticator) Authenticate(ctx context.Context, r *auth.Request) (*auth.Principal, error) {
	found := r.HTTP.CookiesNamed(CookieName)
	switch {
	case len(found) == 0:
		return nil, auth.ErrNotMine
	case len(found) > 1:
		return nil, &auth.RefusalError{Method: auth.MethodSession, Reason: "the cookie is given more than once"}
	case !ours(r):
		if !safe(r.HTTP.Method) {
			return nil, &auth.RefusalError{Method: auth.MethodSession, Reason: "a " + r.HTTP.Method + " that is not from a page of this hub"}
		}
		return nil, auth.ErrNotMine
	}
	s, fresh, err := a.m.Open(ctx, found[0].Value)
	switch {
	case errors.Is(err, ErrEnded):
		return nil, auth.ErrNotMine
	case err != nil:
		return nil, err
	}
	if fresh != "" && r.SetCookie != nil {
		r.SetCookie(Cookie(fresh))
	}
	return a.lasting(s), nil
}

// lasting returns the principal of a session, which ends with it. A stream that the session has opened is no use of it: it ends when the
// session would if there were no other, and can be opened again if there was.
func (a *Authenticator) lasting(s *Session) *auth.Principal {
	p := *s.Principal
	p.Until = s.Seen.Add(a.m.o.Limits().Idle)
	if s.Ends.Before(p.Until) {
		p.Until = s.Ends
	}
	return p.Lasting(func(ctx context.Context) (*auth.Principal, error) {
		now, ok := a.m.Find(ctx, s.ID)
		if !ok {
			return nil, &auth.RefusalError{Method: auth.MethodSession, Reason: ErrEnded.Error()}
		}
		still := *s
		still.Ends = now.Ends
		return a.lasting(&still), nil
	})
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// ours reports whether the hub's own page, or the person at the browser, has caused the request (Fetch Metadata; without it, Origin).
func ours(r *auth.Request) bool {
	h := r.HTTP.Header
	switch h.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		if origin := h.Get("Origin"); origin != "" || !safe(r.HTTP.Method) {
			u, err := url.Parse(origin)
			return err == nil && u.Host != "" && u.Host == r.Host
		}
		return true
	}
	return safe(r.HTTP.Method) && h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Sec-Fetch-Dest") == "document"
}
