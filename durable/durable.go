package durable

import "errors"

// ErrLocked means that another process, or another open file of this one, holds a lock.
var ErrLocked = errors.New("locked by another process")

// Pending is a file that replaces another as a whole once it is complete. It lies in the same directory. Name is the name of the
// temporary file.
type Pending interface {
	Write(p []byte) (int, error)
	Name() string
	// CloseAtomicallyReplace makes the content durable and replaces the file.
	CloseAtomicallyReplace() error
	// Cleanup removes the file, unless it has replaced the other.
	Cleanup() error
}
