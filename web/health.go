package web

import (
	"net/http"
	"sync"
	"time"

	"quorumhub/auth"
	"quorumhub/web/problem"
)

// liveness remembers how long the node has been stuck. A process manager restarts a process that is not live, so this must be
// slow to fail.
type liveness struct {
	mu    sync.Mutex
	since time.Time // zero: not stuck
}

// dead reports whether there has been an error without interruption for grace.
func (l *liveness) dead(err error, now time.Time, grace time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.since = time.Time{}
		return false
	}
	if l.since.IsZero() {
		l.since = now
	}
	return now.Sub(l.since) >= grace
}

// getHealth shows that the process answers.
func getHealth(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusOK, "active")
}

type healthBody struct {
	Status   string   `json:"status"`
	Reasons  []string `json:"reasons"`
	Warnings []string `json:"warnings,omitempty"` // of a node that can nevertheless take requests
}

// getLive fails only once the node has been stuck for Options.LiveGrace, so that only a restart helps.
func (s *Server) getLive(w http.ResponseWriter, r *http.Request) {
	err := s.Node.Alive()
	body := healthBody{Status: "live", Reasons: []string{}}
	status := http.StatusOK
	if err != nil {
		body.Reasons = append(body.Reasons, problem.OneLine(err.Error()))
	}
	if !s.mayView(r) {
		body = body.brief()
	}
	if s.liveness.dead(err, s.Clock.Now(), s.LiveGrace) {
		body.Status, status = "not_live", http.StatusServiceUnavailable
	}
	writeJSON(w, status, body)
}

// getReady fails while requests should go to another node.
func (s *Server) getReady(w http.ResponseWriter, r *http.Request) {
	reasons := s.Node.NotReady()
	if s.draining.Load() {
		reasons = append(reasons, "this node is stopping")
	}
	body, status := healthBody{"ready", []string{}, s.Warnings()}, http.StatusOK
	if len(reasons) > 0 {
		body.Status, body.Reasons, status = "not_ready", reasons, http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	if !s.mayView(r) {
		body = body.brief()
	}
	writeJSON(w, status, body)
}

// noDetails stands for reasons and warnings, which name addresses and errors of other systems.
const noDetails = "callers who may do admin.view see the details here, and the node's log has them"

// brief returns the body for callers who may not read details.
func (b healthBody) brief() healthBody {
	if len(b.Reasons) > 0 {
		b.Reasons = []string{noDetails}
	}
	if len(b.Warnings) > 0 {
		b.Warnings = []string{noDetails}
	}
	return b
}

// mayView reports whether the caller of a public route may read the hub's state.
func (s *Server) mayView(r *http.Request) bool {
	return s.Guard == nil || s.Guard.May(auth.CallerOf(r.Context()).Principal, auth.ActionView) && s.Guard.Settle(r.Context()) == nil
}
