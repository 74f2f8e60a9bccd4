package hub

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an error for the caller. Each interface maps it to its own status codes.
type Code uint8

const (
	CodeInternal      Code = iota // the hub's own fault
	CodeInvalid                   // the request itself is wrong (400)
	CodeForbidden                 // denied by policy (403)
	CodeNotFound                  // no such topic or subscription (404)
	CodeConflict                  // in conflict with the current state (409)
	CodeTooLarge                  // the content exceeds message.max_bytes (413)
	CodeUnprocessable             // the idempotency key was used with other content (422)
	CodeUnavailable               // no leader, overloaded, stopping or out of disk space; retry later (503)
	CodeLimited                   // too many requests by one caller or about one callback host; retry later (429)
	CodeRetired                   // the topic was retired (410)
	CodeUnsupported               // content of a type that is not taken (415)
)

// Error is an error the caller can act on. Message is one line of plain text; Param names the request parameter at
// fault, if any.
type Error struct {
	Code    Code
	Param   string
	Message string
	// RetryAfter is how long to wait before the next try, with CodeLimited.
	RetryAfter time.Duration
	// Quota tells which of the caller's quotas is reached; nil: none. A rate is CodeLimited, an amount CodeForbidden.
	Quota *QuotaUse
	// Successor is the URL of the topic to use instead, with CodeRetired; empty: there is none.
	Successor string
}

func (e *Error) Error() string {
	if e.Param == "" {
		return e.Message
	}
	return e.Param + ": " + e.Message
}

// Errorf returns an Error about the request as a whole.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ParamErrorf returns a CodeInvalid error about one request parameter.
func ParamErrorf(param, format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Param: param, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of err, or CodeInternal if it carries none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// Errors of a Proposer. All mean the same to a client (503, retry later). Only ErrAmbiguous leaves open whether
// the events were applied.
var (
	ErrNoLeader   = &Error{Code: CodeUnavailable, Message: "no leader at the moment; try again shortly"}
	ErrOverloaded = &Error{Code: CodeUnavailable, Message: "too many writes are waiting; try again shortly"}
	ErrStopping   = &Error{Code: CodeUnavailable, Message: "this node is stopping; try another node, or try again shortly"}
	ErrDiskFull   = &Error{Code: CodeUnavailable, Message: "disk space is below storage.min_free_bytes; writes are refused until space is freed"}
	ErrAmbiguous  = &Error{Code: CodeUnavailable, Message: "the outcome is unknown; try again"}
)

// ErrTrimmed is returned by a MessageReader for an offset that retention has dropped.
var ErrTrimmed = errors.New("message dropped by retention")

// ErrUnknownTopic is returned by a MessageReader for a topic that does not exist.
var ErrUnknownTopic = errors.New("unknown topic")
