package cli

import (
	"context"
	"errors"

	"quorumhub/configs"
)

const (
	codeDone        = 0
	codeFailed      = 1
	codeUsage       = 2
	codeUnreachable = 3
	codeRefused     = 4
	codeTimeout     = 5
	codeDiffers     = 6
	codeInterrupted = 130
)

// ExitCode is one way the program can end.
type ExitCode struct {
	Code    int
	Meaning string
}

// ExitCodes lists every exit code, as --help shows them.
func ExitCodes() []ExitCode {
	return []ExitCode{
		{codeDone, "done"},
		{codeFailed, "failed for a reason not listed here"},
		{codeUsage, "wrong usage or configuration"},
		{codeUnreachable, "the hub cannot be reached, or cannot serve now (5xx)"},
		{codeRefused, "the hub refused the request (4xx) or denied the subscription"},
		{codeTimeout, "what was waited for did not happen in time"},
		{codeDiffers, "apply --dry-run: the hub is not as the files say"},
		{codeInterrupted, "interrupted before the job was done"},
	}
}

// codedError carries the exit code of a failure.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func withCode(code int, err error) error { return &codedError{code: code, err: err} }

func usageError(text string) error { return withCode(codeUsage, errors.New(text)) }

func exitCode(err error) int {
	var coded *codedError
	var invalid *configs.InvalidError
	switch {
	case err == nil:
		return codeDone
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &invalid):
		return codeUsage
	case errors.Is(err, context.Canceled):
		return codeInterrupted
	default:
		return codeFailed
	}
}
