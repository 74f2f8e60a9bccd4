package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"quorumhub/web/problem"
)

// Request is one call. Call takes over Header; the rest stays the caller's.
type Request struct {
	Method string
	// Target is the path and the query as they go on the request line, escaped, beginning with "/". It follows the path of
	// the upstream's URL, byte for byte.
	Target string
	// Header has been cleaned by CleanRequest. Call removes hop-by-hop fields again and adds the upstream's own.
	Header http.Header
	// Body is nil if there is none, or if Replayable supplies it. Call reads it, but neither closes it nor reads it once the
	// response's body is closed or Call has failed.
	Body io.Reader
	// ContentLength is the exact length of the body in bytes; -1: unknown.
	ContentLength int64
	// Replayable returns the body from its beginning, as often as it is called; nil: Body can be read only once.
	Replayable func() io.ReadCloser
	// Interrupt makes a Read of Body that waits for the client return at once. It is called when the call ends before the
	// client has sent everything, at most once. nil: such a Read may go on for as long as the client likes, after the call.
	Interrupt func()
	// Early is called if the response begins before the whole body is sent, so that the client's connection can be prepared for
	// both at the same time (http.ResponseController.EnableFullDuplex); nil: it need not.
	Early func()
	// Informational gets 1xx responses other than 100, such as 103 Early Hints, while Call waits; nil: they are dropped.
	Informational func(status int, header http.Header)
	// Timeout replaces the upstream's; 0: it does not.
	Timeout time.Duration
}

// idempotent reports whether a request may be repeated after it may have reached the service (RFC 9110 section 9.2.2).
func (r *Request) idempotent() bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return r.Body == nil || r.Replayable != nil
	}
	return false
}

// hasBody reports whether there is something to send.
func (r *Request) hasBody() bool {
	return r.ContentLength != 0 && (r.Body != nil || r.Replayable != nil)
}

// check refuses what would not arrive as it left: net/http judges the method and the fields.
func (r *Request) check() error {
	if r.Method == http.MethodConnect {
		return &problem.Details{Status: http.StatusNotImplemented, Code: "method", Detail: "CONNECT is not passed on to services"}
	}
	if err := checkTarget(r.Target); err != nil {
		return &problem.Details{Status: http.StatusBadRequest, Code: "invalid", Detail: "the URL " + err.Error()}
	}
	return nil
}

// checkTarget refuses targets that another program would split or resolve differently.
func checkTarget(target string) error {
	path, _, _ := strings.Cut(target, "?")
	if path == "" || path[0] != '/' || strings.HasPrefix(path, "//") {
		return errors.New("has a path that does not begin with one slash")
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f || c == '#' || c == '\\' && i < len(path) {
			return errors.New("contains a character that must be escaped: space, control character, # or \\")
		}
	}
	if badEscape(path) {
		return errors.New("has a % in its path that two hexadecimal digits do not follow, or an escaped control character")
	}
	if strings.Contains(path, ".") || strings.Contains(path, "%2") {
		for segment := range strings.SplitSeq(path, "/") {
			segment, _, _ = strings.Cut(segment, ";") // parameters hide the dots from some, not from others
			switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
			case ".", "..":
				return errors.New("has a segment . or .. in its path")
			}
		}
	}
	return nil
}

func badEscape(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i+2 >= len(s) || !hexDigit(s[i+1]) || !hexDigit(s[i+2]) {
			return true
		}
		if s[i+1] < '2' || s[i+1] == '7' && (s[i+2] == 'f' || s[i+2] == 'F') {
			return true
		}
		i += 2
	}
	return false
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
