package protect

import "fmt"

// Error says why a message, a key or a certificate is refused. Its text may be shown to whoever sent it; Cause is for the log
// only.
type Error struct {
	Detail string
	Cause  error // nil: Detail says it all
}

func (e *Error) Error() string { return e.Detail }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func refuse(format string, args ...any) *Error { return &Error{Detail: fmt.Sprintf(format, args...)} }

func refuseBecause(cause error, format string, args ...any) *Error {
	return &Error{Detail: fmt.Sprintf(format, args...), Cause: cause}
}

// quote shortens and quotes text of a stranger.
func quote(s string) string {
	if len(s) > 64 {
		s = s[:61] + "..."
	}
	return fmt.Sprintf("%q", s)
}
