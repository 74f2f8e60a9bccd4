package web

import (
	"net/http"
	"slices"
)

// What pages of other origins may send and read.
const (
	corsRequestHeaders  = "Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, X-API-Key, X-Correlation-Id"
	corsResponseHeaders = "ETag, Idempotency-Replayed, Link, RateLimit, RateLimit-Policy, Retry-After, X-Correlation-Id, X-Hub-Message-Id"
	corsMaxAge          = "600" // seconds
)

// allowOrigin lets pages of the origins in Options.CORSOrigins read the response (Fetch standard, section 3.2). Cookies are not among
// what they may use: such a page brings credentials of its own, or a ticket.
func (s *Server) allowOrigin(x *exchange, r *http.Request, rt *route) {
	if len(s.CORSOrigins) == 0 {
		return
	}
	x.byOrigin = true
	origin := r.Header.Get("Origin")
	if !slices.Contains(s.CORSOrigins, origin) {
		return
	}
	h := x.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	if isPreflight(r) {
		h.Set("Access-Control-Allow-Methods", rt.allow)
		h.Set("Access-Control-Allow-Headers", corsRequestHeaders)
		h.Set("Access-Control-Max-Age", corsMaxAge)
		return
	}
	h.Set("Access-Control-Expose-Headers", corsResponseHeaders)
}

// isPreflight reports whether a browser asks what a page may send.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}
