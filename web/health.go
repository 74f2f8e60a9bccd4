package web

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"quorumhub/web/problem"
)

// liveness remembers since when the node has been in trouble. A process manager restarts what is not live, so
// that answer must be slow to change.
type liveness struct {
	mu    sync.Mutex
	since time.Time // zero: all is well
}

// dead tells whether err has been there, without a break, for grace.
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

// getHealth says that the process answers.
func getHealth(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusOK, "active")
}

type healthBody struct {
	Status   string   `json:"status"`
	Reasons  []string `json:"reasons"`
	Warnings []string `json:"warnings,omitempty"` // of a node that can take requests all the same
}

// getLive fails only when the node has been stuck for Options.LiveGrace: a restart is then the cure.
func (s *Server) getLive(w http.ResponseWriter, _ *http.Request) {
	err := s.Node.Alive()
	body := healthBody{Status: "live", Reasons: []string{}}
	status := http.StatusOK
	if err != nil {
		body.Reasons = append(body.Reasons, problem.OneLine(err.Error()))
	}
	if s.liveness.dead(err, s.Clock.Now(), s.LiveGrace) {
		body.Status, status = "not_live", http.StatusServiceUnavailable
	}
	writeJSON(w, status, body)
}

// getReady fails as soon as requests had better go to another node.
func (s *Server) getReady(w http.ResponseWriter, _ *http.Request) {
	reasons := s.Node.NotReady()
	if s.draining.Load() {
		reasons = append(reasons, "this node is stopping")
	}
	if len(reasons) == 0 {
		writeJSON(w, http.StatusOK, healthBody{"ready", []string{}, s.Warnings()})
		return
	}
	w.Header().Set("Retry-After", "1")
	writeJSON(w, http.StatusServiceUnavailable, healthBody{"not_ready", reasons, s.Warnings()})
}

// writeJSON answers with v, which must be encodable.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // recovered and logged as the fault of the program that it is
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
