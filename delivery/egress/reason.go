package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// Reason classifies a failure. It is all this package reveals about a failed connection: more would turn the hub into
// a port scanner.
type Reason string

const (
	ReasonNone        Reason = ""
	ReasonDenied      Reason = "forbidden-address" // the egress policy forbids the target
	ReasonCrowded     Reason = "crowded"           // too many verifications go to the target's network; tried again later
	ReasonUnreachable Reason = "unreachable"       // no such name, refused, reset or cut off
	ReasonTimeout     Reason = "timeout"
	ReasonTLS         Reason = "tls"
	ReasonStatus      Reason = "http-status"
	ReasonChallenge   Reason = "wrong-challenge" // a 2xx response whose body is not the challenge
	ReasonCancelled   Reason = "cancelled"
	ReasonProtocol    Reason = "protocol"    // not an HTTP response, or a header too long
	ReasonTooLarge    Reason = "too-large"   // topic content above message.max_bytes
	ReasonRedirect    Reason = "redirect"    // too many, to a forbidden URL, or from https to http
	ReasonEncoding    Reason = "encoding"    // encoded content that was not requested
	ReasonURL         Reason = "bad-url"     // not usable as a URL
	ReasonUnreadable  Reason = "unreadable"  // this node's log cannot supply the message
	ReasonProxy       Reason = "proxy"       // the configured proxy cannot be reached or refuses the target
	ReasonCredentials Reason = "credentials" // what the callback demands cannot be obtained
	ReasonSecret      Reason = "bad-secret"  // this node's keys do not open the sealed secret
	ReasonPolicy      Reason = "policy"      // the topic's policy cannot be carried out on the message
)

// Classify returns the class of an error from a request or from reading its response. ctx is the request's.
func Classify(ctx context.Context, err error) Reason {
	var (
		den  *DeniedError
		nerr net.Error
		op   *net.OpError
		dns  *net.DNSError
	)
	switch {
	case err == nil:
		return ReasonNone
	case errors.As(err, &den):
		return ReasonDenied
	case errors.Is(err, errProxy) && ctx.Err() == nil:
		return ReasonProxy
	case errors.Is(err, context.DeadlineExceeded), errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return ReasonTimeout
	case ctx.Err() != nil:
		return ReasonCancelled
	case errors.As(err, &nerr) && nerr.Timeout():
		return ReasonTimeout
	case isTLS(err):
		return ReasonTLS
	case errors.As(err, &op), errors.As(err, &dns), isCutOff(err):
		return ReasonUnreachable
	}
	return ReasonProtocol
}

func isTLS(err error) bool {
	var (
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		alert  tls.AlertError
		host   x509.HostnameError
		auth   x509.UnknownAuthorityError
		cert   x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &host) ||
		errors.As(err, &auth) || errors.As(err, &cert) || strings.Contains(err.Error(), "tls: ")
}

func isCutOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED) ||
		strings.Contains(err.Error(), "server closed idle connection")
}

// DeniedError reports why the policy forbids a URL or an address. Its text is meant for the operator and, from
// CheckURL, for whoever sent the URL.
type DeniedError struct {
	Message string
}

func (e *DeniedError) Error() string { return e.Message }

// Denied reports true: it tells rooms that do not know this one what kind of error this is.
func (e *DeniedError) Denied() bool { return true }

func denied(format string, args ...any) error {
	return &DeniedError{Message: fmt.Sprintf(format, args...)}
}
