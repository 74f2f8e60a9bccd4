package web

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"

	"quorumhub/web/problem"
)

const correlationHeader = "X-Correlation-Id"

// exchange is one request with its answer: it remembers what the answer was and by which route it came.
type exchange struct {
	http.ResponseWriter
	route  *route
	status int     // 0 until the answer has begun
	signed content // a body that was read to check its signature, until the end
	reads  Reads   // nil: the request writes nothing
	client netip.Addr
}

// WriteHeader notes the status.
func (x *exchange) WriteHeader(code int) {
	if x.status == 0 && code >= 200 {
		x.begin(code)
	}
	x.ResponseWriter.WriteHeader(code)
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.begin(http.StatusOK)
	}
	return x.ResponseWriter.Write(b)
}

// begin notes the status. The answer to a write says where in the log the write stands at the latest.
func (x *exchange) begin(status int) {
	x.status = status
	if x.reads == nil || status >= 300 {
		return
	}
	if index := x.reads.Written(); index > 0 {
		x.Header()[indexHeader] = []string{strconv.FormatUint(index, 10)}
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// ServeHTTP answers one request. A panic in a handler costs that request only.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.exchanges.Get().(*exchange)
	*x = exchange{ResponseWriter: w, client: s.clientOf(r)}
	if writes(r.Method) {
		x.reads = s.Reads
	}
	w.Header()[correlationHeader] = []string{correlationID(r)}
	defer s.finish(x, r)
	if len(r.Header) > maxHeaderNames {
		// Of a header's bytes a map of it makes thirty times as many: they are not held while a body comes.
		writeProblem(x, r, &problem.Details{Status: http.StatusRequestHeaderFieldsTooLarge, Code: "too_many_headers", HangUp: true,
			Detail: fmt.Sprintf("the request has %d header fields; at most %d are accepted", len(r.Header), maxHeaderNames)})
		return
	}
	s.router.ServeHTTP(x, r)
}

func (s *Server) finish(x *exchange, r *http.Request) {
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler { //nolint:errorlint // the very value is the signal
			panic(v)
		}
		s.Log.Error("panic in a handler", slog.Any("panic", v), slog.String("method", r.Method),
			slog.String("path", r.URL.Path), slog.String("correlation_id", idOf(x)), slog.String("stack", string(debug.Stack())))
		if x.status != 0 {
			// The answer has begun; ending the connection is the only way to show that it is not whole.
			s.metrics.request(x.route, http.StatusInternalServerError)
			x.signed.release()
			panic(http.ErrAbortHandler)
		}
		writeProblem(x, r, problem.Internal(idOf(x)))
	}
	s.metrics.request(x.route, x.status)
	x.signed.release()
	*x = exchange{}
	s.exchanges.Put(x)
}

// correlationID is the id a client gave its request, or a new one.
func correlationID(r *http.Request) string {
	if given := r.Header[correlationHeader]; len(given) == 1 && validCorrelationID(given[0]) {
		return given[0]
	}
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], rand.Uint64())
	return hex.EncodeToString(raw[:])
}

func validCorrelationID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// idOf is the correlation id of the exchange that w answers.
func idOf(w http.ResponseWriter) string {
	if v := w.Header()[correlationHeader]; len(v) > 0 {
		return v[0]
	}
	return ""
}
