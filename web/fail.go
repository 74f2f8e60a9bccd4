package web

import (
	"net/http"
	"strings"

	"quorumhub/web/problem"
)

// fail answers with an error and returns what it answered. The text of an internal error goes to the log, not to the client.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) *problem.Details {
	p := s.describe(w, r, err)
	writeProblem(w, r, p)
	return p
}

// describe describes an error to the client and counts it. The text of an internal error goes to the log.
func (s *Server) describe(w http.ResponseWriter, r *http.Request, err error) *problem.Details {
	p := s.accessProblem(err)
	if p == nil {
		p = problem.Of(err)
	}
	if p == nil {
		p = problem.Internal(idOf(w))
		s.Log.Error("request failed", "error", err, "method", r.Method, "path", r.URL.Path, "correlation_id", idOf(w))
	}
	s.limits.count(p)
	return p
}

// writeProblem answers with problem details under /v1/, and elsewhere in the form the client prefers.
func writeProblem(w http.ResponseWriter, r *http.Request, p *problem.Details) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		p.WriteJSON(w, idOf(w))
		return
	}
	p.Write(w, r, idOf(w))
}
