package store

import (
	"errors"
	"fmt"

	"quorumhub/hub"
)

// CorruptError reports a file that does not hold what was written to it. It wraps hub.ErrCorrupt.
type CorruptError struct {
	File    string // path of the file
	Problem string
	Hint    string // what an operator can do
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: %s; %s", e.File, e.Problem, e.Hint)
}

// Unwrap makes errors.Is(err, hub.ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return hub.ErrCorrupt }

var (
	// ErrClosed is returned by a Store after Close.
	ErrClosed = errors.New("store is closed")
	// ErrFailed is wrapped by a Store's errors after its first failed commit: nothing more is written.
	ErrFailed = errors.New("store stopped writing after a disk error")
	// ErrNotIncreasing is wrapped by Apply's error for an entry whose index has already been applied.
	ErrNotIncreasing = errors.New("raft index does not increase")
)
