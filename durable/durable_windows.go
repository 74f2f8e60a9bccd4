package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// WriteFile replaces a file as a whole: after a crash it has its former content or the new one. The content is durable.
func WriteFile(path string, data []byte, perm os.FileMode) (err error) {
	f, err := NewPending(path, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// pending is a Pending. Rename replaces the other file (MOVEFILE_REPLACE_EXISTING).
type pending struct {
	*os.File
	path     string
	replaced bool
}

// NewPending begins to replace a file. Who may read it follows from the directory.
func NewPending(path string, _ os.FileMode) (Pending, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return nil, err
	}
	return &pending{File: f, path: path}, nil
}

// CloseAtomicallyReplace implements Pending.
func (p *pending) CloseAtomicallyReplace() error {
	if err := errors.Join(p.Sync(), p.Close()); err != nil {
		return err
	}
	if err := os.Rename(p.Name(), p.path); err != nil {
		return err
	}
	p.replaced = true
	return nil
}

// Cleanup implements Pending.
func (p *pending) Cleanup() error {
	if p.replaced {
		return nil
	}
	p.Close() // it may be closed already
	return os.Remove(p.Name())
}

// SyncDir does nothing: Windows writes names with the files' own journal, and opens no directory for writing.
func SyncDir(string) error { return nil }

// TryLock locks a file for whoever has opened it, until it is closed. The error is ErrLocked if somebody else holds the lock.
func TryLock(f *os.File) error {
	err := lock(f, windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}

// Unlock releases a lock at once.
func Unlock(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, new(windows.Overlapped))
}

func lock(f *os.File, flags uint32) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
}

// LockDir waits for the lock of a directory and returns what releases it. Directories cannot be locked here: a file in it is.
func LockDir(dir string) (unlock func(), _ error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f, windows.LOCKFILE_EXCLUSIVE_LOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { f.Close() }, nil
}
