package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"quorumhub/web/problem"
)

// getLanding introduces the hub to a program that asks for its address, and leads people to the console.
func (s *Server) getLanding(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Vary", "Accept")
	if wantsPage(r) {
		h.Set("Location", prefixOf(s.PublicURL)+"/console/")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	prefix := prefixOf(s.PublicURL)
	h.Set("Link", "<"+prefix+"/v1/openapi.json>; rel=\"service-desc\"")
	_, _ = fmt.Fprintf(w, `quorumhub %s, a WebSub hub (https://www.w3.org/TR/websub/)

hub            %s   (POST: subscribe, unsubscribe, publish)
topics         %s<name>   (GET: newest content, POST: publish)
console        %[4]s/console/   (for people)
list           %[4]s/v1/topics  %[4]s/v1/subscriptions  %[4]s/v1/dead-letters  %[4]s/v1/cluster
API            %[4]s/v1/openapi.json
health         %[4]s/health  %[4]s/health/live  %[4]s/health/ready
metrics        %[4]s/metrics
`, s.Version, s.hubURL, s.Service.Namer().URL(""), prefix)
}

// wantsPage reports whether a client asks for HTML by name, as browsers do.
func wantsPage(r *http.Request) bool {
	for _, line := range r.Header["Accept"] {
		for item := range strings.SplitSeq(line, ",") {
			kind, params, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/html") && problem.Quality(params) > 0 {
				return true
			}
		}
	}
	return false
}

// unhurried lifts the deadlines for a handler that is meant to take long.
func unhurried(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_, _ = rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}) // fails without a connection, as in tests
		next(w, r)
	}
}
