// Package exit defines the program's exit codes and attaches them to errors. It knows of no command and may import only configs,
// whose errors have a code of their own.
package exit

import (
	"context"
	"errors"
	"fmt"

	"quorumhub/configs"
)

// The exit codes; Codes says what each means.
const (
	Done        = 0
	Failed      = 1
	Usage       = 2
	Unreachable = 3
	Refused     = 4
	Timeout     = 5
	Differs     = 6
	Interrupted = 130
	Unread      = 141
)

// Code is an exit code and its meaning.
type Code struct {
	Number  int
	Meaning string
}

// Codes lists every exit code, as --help shows them.
func Codes() []Code {
	return []Code{
		{Done, "success"},
		{Failed, "failed for a reason not listed below"},
		{Usage, "invalid usage or configuration"},
		{Unreachable, "the hub is unreachable or unavailable (5xx)"},
		{Refused, "the hub refused the request (4xx) or denied the subscription"},
		{Timeout, "timed out"},
		{Differs, "apply --dry-run, gateway diff: the hub differs from the files"},
		{Interrupted, "interrupted before the command finished"},
		{Unread, "nobody reads the output any more, such as after | head"},
	}
}

// failure is an error with an exit code.
type failure struct {
	code int
	err  error
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

// With returns err with an exit code.
func With(code int, err error) error { return &failure{code: code, err: err} }

// Usagef returns an error with the exit code Usage. It formats as fmt.Errorf does.
func Usagef(format string, args ...any) error { return With(Usage, fmt.Errorf(format, args...)) }

// CodeOf returns the exit code of an error: the one attached by With, else the one that fits its kind, else Failed.
func CodeOf(err error) int {
	var coded *failure
	var invalid *configs.InvalidError
	switch {
	case err == nil:
		return Done
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &invalid):
		return Usage
	case errors.Is(err, context.Canceled):
		return Interrupted
	default:
		return Failed
	}
}
