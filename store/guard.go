package store

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const restoreHint = "restore a backup into an empty data_dir, or rejoin the cluster with a new node id and an empty data_dir"

func corrupt(file, format string, args ...any) *CorruptError {
	return &CorruptError{File: file, Problem: fmt.Sprintf(format, args...), Hint: restoreHint}
}

// guard runs f, which reads a memory-mapped bbolt file. It turns bbolt's panics over a damaged file, and SIGBUS beyond the
// end of a truncated one, into a CorruptError.
func guard(file string, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = corrupt(file, "reading the file failed: %v", r)
		}
	}()
	return f()
}

// openError explains to an operator why bbolt did not open a file.
func openError(file string, err error) error {
	var c *CorruptError
	switch {
	case errors.As(err, &c):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%s: locked by another process; is a node already running on this data_dir?: %w", file, err)
	case errors.Is(err, os.ErrNotExist):
		return corrupt(file, "the file is missing")
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch),
		errors.Is(err, bolterrors.ErrInvalidMapping):
		return corrupt(file, "not a valid bbolt file (%v)", err)
	}
	return fmt.Errorf("open %s: %w", file, err)
}

// bucket is tx.Bucket for a bucket that every intact file has.
func bucket(file string, tx *bbolt.Tx, name string) (*bbolt.Bucket, error) {
	b := tx.Bucket([]byte(name))
	if b == nil {
		return nil, corrupt(file, "bucket %q is missing", name)
	}
	return b, nil
}
