package exit

import (
	"context"
	"errors"
	"fmt"

	"quorumhub/configs"
)

const (
	Done        = 0
	Failed      = 1
	Usage       = 2
	Unreachable = 3
	Refused     = 4
	Timeout     = 5
	Differs     = 6
	Interrupted = 130
)

// Code is one way the program can end.
type Code struct {
	Number  int
	Meaning string
}

// Codes lists every exit code, as --help shows them.
func Codes() []Code {
	return []Code{
		{Done, "done"},
		{Failed, "failed for a reason not listed here"},
		{Usage, "wrong usage or configuration"},
		{Unreachable, "the hub cannot be reached, or cannot serve now (5xx)"},
		{Refused, "the hub refused the request (4xx) or denied the subscription"},
		{Timeout, "what was waited for did not happen in time"},
		{Differs, "apply --dry-run: the hub is not as the files say"},
		{Interrupted, "interrupted before the job was done"},
	}
}

// failure carries the exit code of a failure.
type failure struct {
	code int
	err  error
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

func With(code int, err error) error { return &failure{code: code, err: err} }

// Usagef makes the error of a wrong command line or file.
func Usagef(format string, args ...any) error {
	return With(Usage, fmt.Errorf(format, args...))
}

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
