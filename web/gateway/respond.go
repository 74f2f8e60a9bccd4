package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/web/gateway/registry"
)

// isOfTheGateway reports whether only the gateway says a field of a response, or it means something else at its origin.
func isOfTheGateway(name string) bool {
	switch name {
	case correlationHeader, "Set-Cookie", "Set-Cookie2", "Www-Authenticate", "Server", "X-Powered-By", "X-Aspnet-Version", "X-Aspnetmvc-Version",
		"Strict-Transport-Security", "Public-Key-Pins", "Clear-Site-Data", "Service-Worker-Allowed", "Nel", "Report-To", "Reporting-Endpoints", "Refresh",
		"Deprecation", "Sunset", "Ratelimit", "Ratelimit-Policy", "X-Hub-Message-Id", "X-Accel-Redirect", "X-Sendfile":
		return true
	}
	return false
}

func isCORS(name string) bool { return strings.HasPrefix(name, "Access-Control-") }

// relocate makes URLs at the service URLs at the gateway. One that is at the service but not below the route's target has none: it
// would tell the service's address, and the caller could not reach it.
func (x *exchange) relocate(h http.Header) error {
	for _, name := range [...]string{"Location", "Content-Location"} {
		given := h[name]
		if given == nil {
			continue
		}
		moved, ok := "", false
		if len(given) == 1 {
			moved, ok = x.version.relocated(x, given[0])
		}
		switch {
		case ok:
			h[name] = []string{moved}
		case name == "Content-Location":
			delete(h, name)
		default:
			x.note(errors.New("the service answered with a Location that is not below the route's target"), 0)
			return upstreamProblem("the service behind this route redirects to where callers cannot go")
		}
	}
	return nil
}

// relocated returns the URL at the gateway of a URL that the service sent.
func (v *version) relocated(x *exchange, location string) (string, bool) {
	u, err := url.Parse(location)
	if err != nil || u.User != nil {
		return "", false
	}
	inside, ok := v.pool.Inside(location)
	switch {
	case ok:
	case u.Host != "":
		return location, u.Scheme == "http" || u.Scheme == "https" // somewhere else on the web
	default: // relative to the request at the service
		base, err := url.Parse(x.out.target)
		if err != nil {
			return "", false
		}
		inside = base.ResolveReference(u).String()
	}
	path, query, asked := strings.Cut(inside, "?")
	here := x.match.Location(v.service.Service)
	there, _, _ := strings.Cut(x.out.target, "?")
	if matched := x.match.UpstreamPath(registry.Target{}); matched != "" { // of a wildcard: what is below the service's URI
		here, there = strings.TrimSuffix(here, matched), strings.TrimSuffix(there, matched)
	}
	rest, ok := cutPath(path, there)
	if !ok {
		return "", false
	}
	out := here + rest
	if asked {
		out += "?" + query
	}
	return out, true
}

// cutPath returns what follows a path, which ends at a slash or at the end.
func cutPath(path, base string) (string, bool) {
	base = strings.TrimSuffix(base, "/")
	rest, ok := strings.CutPrefix(path, base)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// respondStage sends the response.
type respondStage struct{}

func (respondStage) name() string { return "respond" }
func (respondStage) explain(v *version) string {
	text := "with " + correlationHeader
	if v.Status == registry.StatusDeprecated {
		text += ", Deprecation, Sunset and the successor"
	}
	return text
}

// writeTime is how long the client may take for each piece of a response.
const writeTime = 30 * time.Second

func (respondStage) do(x *exchange) error {
	resp := x.resp
	h := x.w.Header()
	for name, values := range resp.header {
		h[name] = values
	}
	x.version.lifeHeaders(x, h)
	x.commonHeaders(h)
	switch {
	case resp.body == nil && resp.length < 0 && bodiless(x.r.Method, resp.status):
		// HEAD keeps the Content-Length that a GET would have.
	case resp.body == nil:
		h["Content-Length"] = []string{"0"}
	case resp.length >= 0:
		h["Content-Length"] = []string{strconv.FormatInt(resp.length, 10)}
	default:
		delete(h, "Content-Length")
	}
	x.status = resp.status
	x.mayWrite()
	x.w.WriteHeader(resp.status)
	if resp.body == nil {
		return nil
	}
	n, err := x.stream(resp.body)
	x.sent = n
	if err != nil || resp.length >= 0 && n != resp.length {
		return errors.Join(errCut, err)
	}
	return nil
}

// mayWrite gives the client its time to take what comes. The service may have taken all that the server grants a request.
func (x *exchange) mayWrite() {
	if time.Since(x.start) > writeTime/2 {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(writeTime)) // fails without a connection, as in tests
	}
}

var errCut = errors.New("the response ended early")

func bodiless(method string, status int) bool {
	return method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
}

// commonHeaders keep what a service sends from running with the gateway's origin.
func (x *exchange) commonHeaders(h http.Header) {
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Content-Security-Policy"] = []string{"sandbox"}
	if h["Cache-Control"] == nil && !x.caller.Anonymous {
		h["Cache-Control"] = []string{"private"} // caches know of no credentials but Authorization (RFC 9111 section 3.5)
	}
	if len(x.version.Produces) > 1 && !x.resp.final {
		addVary(h, "Accept")
	}
}

func addVary(h http.Header, field string) {
	for _, line := range h["Vary"] {
		for item := range strings.SplitSeq(line, ",") {
			if item = strings.TrimSpace(item); item == "*" || strings.EqualFold(item, field) {
				return
			}
		}
	}
	h["Vary"] = append(h["Vary"][:len(h["Vary"]):len(h["Vary"])], field)
}

// stream passes a body on as it comes.
func (x *exchange) stream(body io.Reader) (int64, error) {
	if b, ok := body.(held); ok {
		return b.WriteTo(x.w)
	}
	control := http.NewResponseController(x.w)
	if strings.HasPrefix(x.resp.header.Get("Content-Type"), "text/event-stream") {
		_ = control.Flush() // the first event may be a while away, and the caller waits for the header
	}
	buf := x.g.buffers.Get().(*[]byte) //nolint:forcetypeassert // it holds nothing else
	defer x.g.buffers.Put(buf)
	var n int64
	var renewed time.Time
	for {
		got, err := body.Read(*buf)
		if got > 0 {
			if now := time.Now(); now.Sub(renewed) > writeTime/30 { // a timer for each piece costs more than the precision is worth
				_ = control.SetWriteDeadline(now.Add(writeTime)) // fails without a connection, as in tests
				renewed = now
			}
			wrote, werr := x.w.Write((*buf)[:got])
			n += int64(wrote)
			if werr != nil {
				return n, werr
			}
			if x.resp.length < 0 {
				_ = control.Flush() // an event or a line may be all there is for a while
			}
		}
		switch {
		case err == io.EOF: // not errors.Is: a wrapped EOF would be a failure
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

func readerOf(b []byte) io.ReadCloser { return held{bytes.NewReader(b)} }

// held is a body in memory.
type held struct{ *bytes.Reader }

// Close implements io.Closer.
func (held) Close() error { return nil }

// recorder takes the answer of an operation of the hub.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
	limit  int64
}

// newRecorder begins with the header of the response that it becomes.
func newRecorder(h http.Header, limit int64) *recorder {
	return &recorder{header: h.Clone(), limit: limit}
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if int64(r.body.Len()+len(b)) > r.limit {
		return 0, errResponseTooLarge
	}
	return r.body.Write(b)
}

func (r *recorder) response() *response {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return &response{status: r.status, header: r.header, body: readerOf(r.body.Bytes()), length: int64(r.body.Len())}
}
