package web

import (
	"fmt"
	"net/http"
	"time"
)

// getLanding introduces the hub to somebody who opens its address.
func (s *Server) getLanding(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	prefix := prefixOf(s.PublicURL)
	h.Set("Link", "<"+prefix+"/v1/openapi.json>; rel=\"service-desc\"")
	_, _ = fmt.Fprintf(w, `quorumhub %s, a WebSub hub (https://www.w3.org/TR/websub/)

hub            %s   (POST: subscribe, unsubscribe, publish)
topics         %s<name>   (GET: newest content, POST: publish)
list           %[4]s/v1/topics  %[4]s/v1/subscriptions  %[4]s/v1/dead-letters  %[4]s/v1/cluster
API            %[4]s/v1/openapi.json
health         %[4]s/health  %[4]s/health/live  %[4]s/health/ready
metrics        %[4]s/metrics
`, s.Version, s.hubURL, s.Service.Namer().URL(""), prefix)
}

// unhurried lifts the deadlines for a handler that is meant to take long.
func unhurried(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_, _ = rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}) // fails without a connection, as in tests
		next(w, r)
	}
}
