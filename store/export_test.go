package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// OpenFaulty is Open on a disk that calls beforeCommit before each commit, with the name of the file relative to
// Options.Dir. An error from it is a failed commit.
func OpenFaulty(opts Options, beforeCommit func(file string) error) (*Store, error) {
	s := newStore(opts)
	s.disk = faultyDisk{s.disk, opts.Dir, beforeCommit}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

type faultyDisk struct {
	disk
	dir          string
	beforeCommit func(file string) error
}

func (d faultyDisk) update(file *boltFile, f func(tx *bbolt.Tx) error) error {
	name, err := filepath.Rel(d.dir, file.path)
	if err != nil {
		return err
	}
	if err := d.beforeCommit(name); err != nil {
		return err
	}
	return d.disk.update(file, f)
}

func (d faultyDisk) makeCurrent(tmp string, number uint64) error {
	if err := d.beforeCommit(currentFile); err != nil {
		return err
	}
	return d.disk.makeCurrent(tmp, number)
}

// The functions below lack one safeguard each. Tests use them in place of the real ones to see that their checks notice.

// InstallDuringFlush is Install that does not wait for a flush in progress.
func InstallDuringFlush(s *Store, in *Incoming) error { return s.installLocked(in) }

// FlushWhateverIsCurrent is Flush that counts for the current generation, whichever it wrote to.
func FlushWhateverIsCurrent(s *Store, _ context.Context) error {
	b, err := s.takeBatch()
	if err != nil {
		return err
	}
	log, err := s.commit(b)
	if err != nil {
		return err
	}
	s.figures.flushed(time.Millisecond, b)
	s.mu.Lock()
	s.countLocked(b, log)
	s.advanceLocked()
	s.mu.Unlock()
	return b.gen.state.release()
}

// FlushByIndex is Flush that compares indexes to decide whether there is anything to write.
func FlushByIndex(s *Store, ctx context.Context) error {
	if s.Applied().Index <= s.Durable().Index {
		return nil
	}
	return s.Flush(ctx)
}

// SnapshotFromMemory is Snapshot with the position of the memory, not that of the files.
func SnapshotFromMemory(s *Store, ctx context.Context) (*Snapshot, error) {
	m, pinned, err := s.pin()
	if err != nil {
		return nil, err
	}
	m.Position = s.Applied()
	return s.sendPinned(ctx, m, pinned)
}

// UnlinkEarly removes segments that are trimmed before the trim is durable.
func UnlinkEarly(s *Store) error { return s.unlinkDead(s.gen, s.deadSegments()) }

// KeptParts returns how many parts of blobs are in the state file of a closed store.
func KeptParts(tb testing.TB, dir string) int {
	tb.Helper()
	number, err := readCurrent(dir)
	if err != nil {
		tb.Fatal(err)
	}
	file, err := openBolt(filepath.Join(dir, generationName(number), stateFile), boltOptions{readOnly: true})
	if err != nil {
		tb.Fatal(err)
	}
	kept, err := keptParts(file, nil)
	if err := errors.Join(err, file.release()); err != nil {
		tb.Fatal(err)
	}
	return len(kept)
}
