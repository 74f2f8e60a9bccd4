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
	h.Set("Link", "</v1/openapi.json>; rel=\"service-desc\"")
	_, _ = fmt.Fprintf(w, `quorumhub %s, a WebSub hub (https://www.w3.org/TR/websub/)

hub            %s   (POST: subscribe, unsubscribe, publish)
topics         %s<name>   (GET: newest content, POST: publish)
list           /v1/topics  /v1/subscriptions  /v1/dead-letters  /v1/cluster
API            /v1/openapi.json
health         /health  /health/live  /health/ready
metrics        /metrics
`, s.Version, s.hubURL, s.Service.Namer().URL(""))
}

// unhurried lifts the deadlines for a handler that is meant to take long.
func unhurried(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_, _ = rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}) // fails without a connection, as in tests
		next(w, r)
	}
}
