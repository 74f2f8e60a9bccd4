package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"quorumhub/web/problem"
)

// Codes of problems, which programs rely on.
const (
	codeUnknownRoute    = "unknown_route"
	codeMethod          = "method"
	codeUnauthenticated = "unauthenticated"
	codeForbidden       = "forbidden"
	codeReplayed        = "replayed"
	codeInvalid         = "invalid"
	codeTooLarge        = "too_large"
	codeURITooLong      = "uri_too_long"
	codeUnsupported     = "unsupported"
	codeNotAcceptable   = "not_acceptable"
	codeLimited         = "limited"
	codeRetired         = "retired"
	codeLoop            = "loop"
	codeUpstream        = "upstream"
	codeTimeout         = "upstream_timeout"
	codeUnavailable     = "unavailable"
)

// Errors about the service behind a route, whose cause is for the log only.
var (
	errResponseTooLarge = errors.New("the response is larger than the gateway may hold")
	errUpstreamStatus   = errors.New("the service behind this route failed")
	errUpstreamCaller   = errors.New("the service behind this route refused the gateway's own credentials")
	errUpstreamBody     = errors.New("the service behind this route sent a body that is not what it says it is")
)

func fault(status int, code, format string, args ...any) *problem.Details {
	return &problem.Details{Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

func unknownRoute() *problem.Details {
	return fault(http.StatusNotFound, codeUnknownRoute, "there is no such route")
}

// describe turns an error of any stage into what the caller is told.
func (g *Gateway) describe(err error) *problem.Details {
	var d *problem.Details
	if !errors.As(err, &d) {
		d = g.Callers.Problem(err)
	}
	if d == nil {
		return nil
	}
	return renamed(d)
}

// renamed gives problems of other rooms the codes of the gateway.
func renamed(d *problem.Details) *problem.Details {
	code := d.Code
	switch {
	case d.Status == http.StatusTooManyRequests && d.Quota == nil:
		code = codeLimited
	case d.Status == http.StatusRequestEntityTooLarge:
		code = codeTooLarge
	case d.Status == http.StatusUnsupportedMediaType:
		code = codeUnsupported
	case d.Status == http.StatusBadRequest:
		code = codeInvalid
	}
	if code == d.Code {
		return d
	}
	out := *d
	out.Code = code
	return &out
}

// checkEncoding refuses bodies that would have to be unpacked before they can be looked at.
func checkEncoding(h http.Header) error {
	for _, enc := range h["Content-Encoding"] {
		if !strings.EqualFold(enc, "identity") {
			d := fault(http.StatusUnsupportedMediaType, codeUnsupported, "is %s; this route reads the body, so expected identity (no encoding)", problem.Quote(enc))
			d.Param, d.AcceptEncoding = "Content-Encoding", "identity"
			return d
		}
	}
	return nil
}

func upstreamProblem(detail string) *problem.Details {
	return fault(http.StatusBadGateway, codeUpstream, "%s", detail)
}

func unavailable(detail string) *problem.Details {
	d := fault(http.StatusServiceUnavailable, codeUnavailable, "%s", detail)
	d.RetryAfter = 5 * time.Second
	return d
}
