package hub

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an error for the one who caused it. Faces map it to their own status codes.
type Code uint8

const (
	CodeInternal      Code = iota // a fault of the hub
	CodeInvalid                   // the request itself is wrong (400)
	CodeForbidden                 // policy forbids it (403)
	CodeNotFound                  // no such topic or subscription (404)
	CodeConflict                  // the state does not allow it (409)
	CodeTooLarge                  // the content exceeds message.max_bytes (413)
	CodeUnprocessable             // an idempotency key was used with other content (422)
	CodeUnavailable               // no leader, overloaded, stopping or out of disk space; retry later (503)
	CodeLimited                   // too many requests of one caller, or about one callback host; retry later (429)
)

// Error is an error a user can act on. Message is one line of plain text; Param names the request
// parameter that is wrong, if one is.
type Error struct {
	Code    Code
	Param   string
	Message string
	// RetryAfter is when it is worth trying again, with CodeLimited.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Param == "" {
		return e.Message
	}
	return e.Param + ": " + e.Message
}

// Errorf builds an Error about the request as a whole.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ParamErrorf builds a CodeInvalid error about one request parameter.
func ParamErrorf(param, format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Param: param, Message: fmt.Sprintf(format, args...)}
}

// CodeOf tells the code of err, CodeInternal when err carries none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// Errors of a Proposer. They mean the same to a client (503, retry later); ErrAmbiguous alone leaves open
// whether the events were applied.
var (
	ErrNoLeader   = &Error{Code: CodeUnavailable, Message: "no leader at the moment; try again shortly"}
	ErrOverloaded = &Error{Code: CodeUnavailable, Message: "too much is waiting to be written; try again shortly"}
	ErrStopping   = &Error{Code: CodeUnavailable, Message: "this node is stopping; try another node or again shortly"}
	ErrDiskFull   = &Error{Code: CodeUnavailable, Message: "disk space is below storage.min_free_bytes; nothing is accepted until there is room"}
	ErrAmbiguous  = &Error{Code: CodeUnavailable, Message: "the outcome is not known; try again"}
)

// ErrTrimmed is returned by a MessageReader for an offset that retention has dropped.
var ErrTrimmed = errors.New("message was dropped by retention")

// ErrUnknownTopic is returned by a MessageReader for a topic that does not exist.
var ErrUnknownTopic = errors.New("unknown topic")
