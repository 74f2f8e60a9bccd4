package web

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"quorumhub/auth"
	"quorumhub/web/problem"
)

const correlationHeader = "X-Correlation-Id"

// exchange is one request and its response. It records the route and the status.
type exchange struct {
	http.ResponseWriter
	route   *route
	status  int     // 0 until the response has begun
	signed  content // a body read to verify its signature, released at the end
	reads   Reads   // nil: the request writes nothing
	client  netip.Addr
	caller  callerID    // whose shares the request draws on
	unread  atomic.Bool // the request has a body that was not read to its end
	passing atomic.Bool // it is passed on as it arrives, under a deadline of its own
	asked   *url.URL    // as in the request line, which signatures cover; nil: as in the request
	// byOrigin says that the response depends on the page that asks.
	byOrigin bool
	// cookie says that the response replaces the caller's cookie.
	cookie  bool
	closing bool        // the connection ends with this request
	audited auth.Caller // once it is known; its trail is the exchange's
	trail   auth.Trail
}

// unreadGrace is how long a connection may take for the rest of a body that nobody reads: net/http reads it before it sends the
// response.
const unreadGrace = time.Second

// WriteHeader records the status.
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

// begin records the status. The response to a write carries a log index at or after the write.
func (x *exchange) begin(status int) {
	x.status = status
	if x.byOrigin {
		x.Header().Add("Vary", "Origin")
	}
	if x.cookie {
		x.Header()["Cache-Control"] = []string{"no-store"} // a cache might give the cookie to somebody else
	}
	// In this order: a body that has just been passed on whole is no longer unread.
	if !x.passing.Load() && x.unread.Load() && (x.closing || x.Header()["Connection"] == nil) {
		x.boundUnread()
	}
	if x.reads == nil || status >= 300 {
		return
	}
	if index := x.reads.Written(); index > 0 {
		x.Header()[indexHeader] = []string{strconv.FormatUint(index, 10)}
	}
}

// setCookie adds a cookie to the response, which has not begun.
func (x *exchange) setCookie(c *http.Cookie) {
	http.SetCookie(x, c)
	x.cookie = true
}

// boundUnread bounds how long the rest of the body may take.
func (x *exchange) boundUnread() {
	_ = http.NewResponseController(x.ResponseWriter).SetReadDeadline(time.Now().Add(unreadGrace)) // fails without a connection, as in tests
}

// bodyRead records that the body of w's request was read to its end.
func bodyRead(w http.ResponseWriter) {
	if x, ok := w.(*exchange); ok {
		x.unread.Store(false)
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// ServeHTTP handles one request. A panic in a handler fails that request only.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.exchanges.Get().(*exchange)
	client := s.clientOf(r)
	*x = exchange{ResponseWriter: w, client: client, caller: callerID{client: client}}
	x.unread.Store(r.ContentLength != 0)
	if writes(r.Method) {
		x.reads = s.Reads
	}
	w.Header()[correlationHeader] = []string{correlationID(r)}
	if conn := connOfRequest(r); conn != nil {
		conn.serves()
		defer conn.served()
		if x.closing = framedTwice(r, conn); x.closing {
			w.Header()["Connection"] = []string{"close"}
		}
	}
	defer s.finish(x, r)
	if len(r.Header) > maxHeaderNames {
		// A map of many small fields takes thirty times their bytes, so do not hold one while a body arrives.
		writeProblem(x, r, &problem.Details{Status: http.StatusRequestHeaderFieldsTooLarge, Code: "too_many_headers", HangUp: true,
			Detail: fmt.Sprintf("the request has %d header fields; at most %d are accepted", len(r.Header), maxHeaderNames)})
		return
	}
	if short := s.withoutPrefix(r); short != r {
		x.asked, r = r.URL, short
	}
	if s.gatewayServes(r) {
		s.serve(s.gatewayRoute, x, r)
		return
	}
	s.router.ServeHTTP(x, r)
}

// finish ends an exchange. Whatever way the handler took out, what the request held is given back, and it is counted and reported.
func (s *Server) finish(x *exchange, r *http.Request) {
	v := recover()
	if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // net/http checks for this value
		s.Log.Error("panic in a handler", slog.Any("panic", v), slog.String("method", r.Method),
			slog.String("path", r.URL.Path), slog.String("correlation_id", idOf(x)), slog.String("stack", string(debug.Stack())))
		if x.status == 0 {
			writeProblem(x, r, problem.Internal(idOf(x)))
			v = nil
		} else {
			x.status = http.StatusInternalServerError
		}
	}
	x.signed.release()
	s.metrics.request(x.route, x.status)
	x.report(s.Guard, r, x.status)
	*x = exchange{}
	s.exchanges.Put(x)
	if v != nil {
		// The response has begun; only closing the connection shows that it is incomplete.
		panic(http.ErrAbortHandler)
	}
}

// report writes the audit lines of the request.
func (x *exchange) report(g *auth.Guard, r *http.Request, status int) {
	if g != nil && x.audited.Principal != nil {
		g.Report(r.Context(), &x.audited, status)
	}
}

// correlationID returns the ID that came with a request, or a new one.
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

// idOf returns the correlation ID of the exchange that w belongs to.
func idOf(w http.ResponseWriter) string {
	if v := w.Header()[correlationHeader]; len(v) > 0 {
		return v[0]
	}
	return ""
}
