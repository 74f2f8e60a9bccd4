package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"quorumhub/hub"
)

// problem is an error as HTTP tells it: one line of plain text, or problem details (RFC 9457).
type problem struct {
	status     int
	code       string // stable, for programs
	param      string // the parameter that is wrong, if one is
	detail     string
	allow      string   // Allow header of a 405
	retryAfter int      // seconds, 0: no Retry-After
	challenges []string // WWW-Authenticate, of a 401 or 403
	limit      string   // of a 429: which one was reached

	acceptEncoding string // of a 415, Accept-Encoding (RFC 9110 section 15.5.16)
	hangUp         bool   // without waiting for the body, which net/http else does
}

func (p *problem) Error() string {
	if p.param == "" {
		return p.detail
	}
	return p.param + ": " + p.detail
}

// problemOf turns any error into what the client is told. Errors of the hub itself keep their text to the log.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var e *hub.Error
	if errors.As(err, &e) {
		p := &problem{param: e.Param, detail: e.Message}
		switch e.Code {
		case hub.CodeInvalid:
			p.status, p.code = http.StatusBadRequest, "invalid"
		case hub.CodeForbidden:
			p.status, p.code = http.StatusForbidden, "forbidden"
		case hub.CodeNotFound:
			p.status, p.code = http.StatusNotFound, "not_found"
		case hub.CodeConflict:
			p.status, p.code = http.StatusConflict, "conflict"
		case hub.CodeTooLarge:
			p.status, p.code = http.StatusRequestEntityTooLarge, "too_large"
		case hub.CodeUnprocessable:
			p.status, p.code = http.StatusUnprocessableEntity, "unprocessable"
		case hub.CodeUnavailable:
			p.status, p.code, p.retryAfter = http.StatusServiceUnavailable, "unavailable", 1
		case hub.CodeLimited:
			p.status, p.code, p.limit, p.retryAfter = http.StatusTooManyRequests, "rate_limited", "pending", max(seconds(e.RetryAfter), 1)
			if e.Param != "" {
				p.limit = "callback"
			}
		case hub.CodeInternal:
			return nil
		}
		return p
	}
	var ended *hub.DeadLetterEndedError
	if errors.As(err, &ended) {
		return &problem{status: http.StatusGone, code: "gone", param: "id", detail: ended.Error()}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &problem{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: 1,
			detail: "the request was given up before it was written; try again"}
	}
	return nil
}

func internalProblem(w http.ResponseWriter) *problem {
	return &problem{status: http.StatusInternalServerError, code: "internal",
		detail: "internal error; the node's log has it under " + idOf(w)}
}

// fail answers with an error and tells what it answered. An error of the hub itself is logged; its text is not
// shown.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) *problem {
	p := s.accessProblem(err)
	if p == nil {
		p = problemOf(err)
	}
	if p == nil {
		p = internalProblem(w)
		s.Log.Error("request failed", "error", err, "method", r.Method, "path", r.URL.Path, "correlation_id", idOf(w))
	}
	s.limits.count(p)
	writeProblem(w, r, p)
	return p
}

// writeProblem answers in plain text, or in problem details where the client prefers JSON or the path belongs to
// the API.
func writeProblem(w http.ResponseWriter, r *http.Request, p *problem) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	for _, c := range p.challenges {
		h.Add("WWW-Authenticate", c)
	}
	if p.hangUp {
		h.Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // without a connection there is none
	}
	if p.acceptEncoding != "" {
		h.Set("Accept-Encoding", p.acceptEncoding)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	api := strings.HasPrefix(r.URL.Path, "/v1/")
	if !api {
		h.Set("Vary", "Accept")
	}
	if api || prefersJSON(r.Header["Accept"]) {
		body, err := json.Marshal(struct {
			Type          string `json:"type"`
			Title         string `json:"title"`
			Status        int    `json:"status"`
			Detail        string `json:"detail"`
			Code          string `json:"code"`
			Param         string `json:"param,omitempty"`
			CorrelationID string `json:"correlation_id"`
		}{"urn:quorumhub:problem:" + p.code, http.StatusText(p.status), p.status, oneLine(p.Error()), p.code, p.param, idOf(w)})
		if err != nil {
			panic(err) // strings and numbers always encode
		}
		h.Set("Content-Type", "application/problem+json")
		w.WriteHeader(p.status)
		_, _ = w.Write(append(body, '\n')) // the client is gone: nobody is left to tell
		return
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(p.status)
	_, _ = w.Write([]byte(oneLine(p.Error()) + "\n"))
}

// oneLine keeps what a client sent from breaking the line or steering a terminal.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}
