package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"quorumhub/web/problem"
)

// Class is what a client learns about a call that failed.
type Class string

const (
	ClassDial        Class = "dial"         // no connection: refused or unreachable
	ClassDNS         Class = "dns"          // the name has no address
	ClassTLS         Class = "tls"          // no agreement on TLS, or a certificate that does not hold
	ClassTimeout     Class = "timeout"      // no connection, answer or next piece of it in time
	ClassReset       Class = "reset"        // the connection ended before the response did
	ClassProtocol    Class = "protocol"     // not an acceptable HTTP response, or a header that is too long
	ClassDenied      Class = "denied"       // the guard forbids the address
	ClassBreakerOpen Class = "breaker_open" // not called: the latest calls have failed
	ClassTooMany     Class = "too_many"     // not called: too many calls are under way
)

// classes gives each class its place in the counters.
var classes = [...]Class{ClassDial, ClassDNS, ClassTLS, ClassTimeout, ClassReset, ClassProtocol, ClassDenied, ClassBreakerOpen, ClassTooMany}

// Error reports a call that failed, or a response whose body did.
type Error struct {
	Class      Class
	RetryAfter time.Duration // when to come back; set with ClassBreakerOpen and ClassTooMany
	// Cause is for the log only, since it names addresses; nil where the service was not called. It is not unwrapped: a
	// connection that ends is no end of a body (io.EOF), and the timeout of a service is not that of a context.
	Cause error
}

// Error names the class and nothing else, so that it may be shown to anybody.
func (e *Error) Error() string { return "calling the service failed: " + string(e.Class) }

// LogValue is the class with its cause.
func (e *Error) LogValue() slog.Value {
	if e.Cause == nil {
		return slog.StringValue(e.Error())
	}
	return slog.StringValue(e.Error() + ": " + e.Cause.Error())
}

// Problem describes the failure to a client.
func (e *Error) Problem() *problem.Details {
	d := &problem.Details{Status: http.StatusBadGateway, Code: "upstream",
		Detail: "the service behind this route did not give a usable answer (" + string(e.Class) + ")", RetryAfter: e.RetryAfter}
	switch e.Class {
	case ClassTimeout:
		d.Status, d.Code, d.Detail = http.StatusGatewayTimeout, "upstream_timeout", "the service behind this route did not answer in time"
	case ClassBreakerOpen:
		d.Status, d.Code, d.Detail = http.StatusServiceUnavailable, "breaker_open", "the service behind this route has failed repeatedly and is not called at present"
	case ClassTooMany:
		d.Status, d.Code, d.Limit = http.StatusTooManyRequests, "limited", "upstream"
		d.Detail = "too many requests to the service behind this route are under way"
	case ClassDial, ClassDNS, ClassTLS, ClassReset, ClassProtocol, ClassDenied:
	}
	return d
}

// errNoAnswer and its like are causes that this package makes.
var (
	errNoConnection    = errors.New("no connection in time")
	errNoAnswer        = errors.New("no response header in time")
	errIdle            = errors.New("the response's body stopped")
	errOver            = errors.New("the call is over")
	errSwitched        = errors.New("the upstream changed the protocol or sent an invalid status")
	errCallersDeadline = errors.New("the caller's deadline passed")
	errTooLong         = errors.New("the request's body is longer than its Content-Length")
)

// classOf classifies an error of the transport.
func classOf(err error) Class {
	var (
		forbidden interface{ Denied() bool } // of the guard, which this package does not know
		dns       *net.DNSError
		op        *net.OpError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, errNoConnection), errors.Is(err, errNoAnswer), errors.Is(err, errIdle), errors.Is(err, errCallersDeadline), errors.Is(err, context.DeadlineExceeded):
		return ClassTimeout
	case errors.As(err, &forbidden) && forbidden.Denied():
		return ClassDenied
	case errors.As(err, &dns):
		return ClassDNS
	case errors.As(err, &timeout) && timeout.Timeout():
		return ClassTimeout
	case isTLS(err):
		return ClassTLS
	case errors.As(err, &op) && op.Op == "dial":
		return ClassDial
	case isReset(err):
		return ClassReset
	}
	return ClassProtocol
}

func isTLS(err error) bool {
	var (
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		alert  tls.AlertError
		cert   x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &cert) ||
		strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "x509: ")
}

// isReset reports whether a connection or, in HTTP/2, a stream ended early. The errors of net/http's HTTP/2 have texts only.
func isReset(err error) bool {
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED},
		func(is error) bool { return errors.Is(err, is) }) ||
		slices.ContainsFunc([]string{"server closed idle connection", "stream error:", "GOAWAY", "client connection lost"},
			func(text string) bool { return strings.Contains(err.Error(), text) })
}
