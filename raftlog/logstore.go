package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"quorumhub/store"
)

const logFile = "raft.db"

// Keys besides raft's own in the stable part of raft.db. At the next start they explain a log that ends before the store
// does, or that does not begin with its first entry.
var (
	keyCompacted   = []byte("quorumhub/compacted") // the log was compacted up to this index: the store must hold it
	keyInstalled   = []byte("quorumhub/installed") // a snapshot at this index replaced the log
	keyCurrentTerm = []byte("CurrentTerm")         // raft's own
	keyVoteTerm    = []byte("LastVoteTerm")        // raft's own

	keyVoteCandidate = []byte("LastVoteCand") // raft's own
)

// positions is what logStore needs to know of the store.
type positions interface {
	Applied() store.Position
	Durable() store.Position
}

// logStore guards raft.db. Its first failed or stalled write is its last: bbolt would accept the next write as if nothing
// had happened, and leave a hole in the log. It is safe for concurrent use.
type logStore struct {
	path  string
	db    *raftboltdb.BoltStore
	logs  raft.LogStore // the entries in db
	state positions
	stall time.Duration
	fail  func(error) // called once

	failed  atomic.Pointer[error]
	once    sync.Once
	started atomic.Bool   // raft runs
	term    atomic.Uint64 // raft's, as last saved or read; 0 when there is none

	entries atomic.Uint64 // written since Open
	bytes   atomic.Uint64 // size of their data
	writes  atomic.Uint64 // transactions

	full      chan struct{} // has a value once limit bytes were written since mark
	limit     uint64
	mark      atomic.Uint64 // bytes at the last snapshot
	compacted atomic.Uint64
}

var (
	_ raft.LogStore    = (*logStore)(nil)
	_ raft.StableStore = (*logStore)(nil)
)

// openLog opens raft.db, or creates it if create is set. It turns bbolt's panics over a damaged file into errors; the
// caller has set debug.SetPanicOnFault.
func openLog(o Options, create bool, fail func(error)) (l *logStore, err error) {
	path := filepath.Join(o.Dir, logFile)
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, fmt.Errorf("%v", p))
		}
	}()
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && !create:
		return nil, &FileError{File: path, Problem: "raft's log is missing, although this node was a member of a cluster", Hint: hintRestore}
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, &FileError{File: path, Problem: "cannot be read", Hint: "check the permissions of the data directory", Err: err}
	case fi.Size() == 0 && create:
		// The first start was interrupted between creating the file and writing to it.
	default:
		if err := checkLogFile(path, fi.Size(), o.LockTimeout); err != nil {
			return nil, err
		}
	}
	db, err := raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		MsgpackUseNewTimeFormat: true,
		BoltOptions: &bbolt.Options{
			Timeout:        o.LockTimeout,
			NoFreelistSync: true, // saves writing a page list with every commit; it is rebuilt at open
			FreelistType:   bbolt.FreelistMapType,
			// A file that outgrows its map is mapped again, for which a writer waits for every reader.
			InitialMmapSize: 1 << 30,
		},
	})
	if err != nil {
		return nil, openError(path, err)
	}
	l = &logStore{
		path:  path,
		db:    db,
		logs:  chunks{db},
		state: o.Store,
		stall: o.StallTimeout,
		fail:  fail,
		full:  make(chan struct{}, 1),
		limit: uint64(o.SnapshotBytes),
	}
	c, err := l.mark64(keyCompacted)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l.compacted.Store(c)
	if err := l.check(); err != nil {
		return nil, errors.Join(damaged(path, err), db.Close())
	}
	return l, nil
}

// check reads the whole log, some 128 MiB at most. Raft itself reads only the entries beyond the store's position, and would find
// damage in the others only when another node asks for them.
func (l *logStore) check() error {
	if errs := checkValues(l.db); len(errs) > 0 {
		return errs[0]
	}
	first, err := l.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.logs.LastIndex()
	if err != nil {
		return err
	}
	superseded, err := l.superseded()
	if err != nil {
		return err
	}
	if first > 0 && last <= superseded {
		return supersede(l, superseded) // whether it is damaged does not matter any more
	}
	for i := first; i > 0 && i <= last; i++ {
		var e raft.Log
		err := l.logs.GetLog(i, &e)
		if errors.Is(err, raft.ErrLogNotFound) && i <= superseded {
			if err := supersede(l, superseded); err != nil {
				return err
			}
			i = superseded
			continue
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if err := checkEntry(i, &e); err != nil {
			return err
		}
	}
	return nil
}

// superseded returns the index up to which a snapshot that was installed stands in for the entries, 0 without one.
func (l *logStore) superseded() (uint64, error) {
	installed, err := l.mark64(keyInstalled)
	if err != nil || installed == 0 {
		return 0, err
	}
	return min(installed, l.state.Durable().Index), nil
}

// supersede drops the entries up to a snapshot that was installed. Raft itself leaves some of them, as many as it leaves
// when it cuts its log: behind them the log would have a gap, and they may be entries that were never committed, which this
// node would send to others if it came to lead.
func supersede(log raft.LogStore, index uint64) error {
	first, err := log.FirstIndex()
	if err != nil || first == 0 || first > index {
		return err
	}
	last, err := log.LastIndex()
	if err != nil {
		return err
	}
	return log.DeleteRange(first, min(last, index))
}

// checkLogFile finds damage over which bbolt would crash the process when it opens the file for writing: a file shorter
// than its pages, and pages that do not form a tree.
func checkLogFile(path string, size int64, lockTimeout time.Duration) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return openError(path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if want := tx.Size(); size < want {
			return fmt.Errorf("the file has %d bytes, expected %d", size, want)
		}
		return nil
	})
	if err == nil {
		err = store.CheckPages(path)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		var c *store.CorruptError
		if errors.As(err, &c) {
			err = errors.New(c.Problem)
		}
		return damaged(path, err)
	}
	return nil
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return &FileError{File: path, Problem: "is locked by another process", Hint: "stop the other node that uses this data directory"}
	case errors.Is(err, os.ErrPermission):
		return &FileError{File: path, Problem: "cannot be opened", Hint: "check the permissions of the data directory", Err: err}
	}
	return damaged(path, err)
}

func damaged(path string, err error) error {
	return &FileError{File: path, Problem: "raft's log is damaged", Hint: hintRestore, Err: err}
}

// write runs one write under the guard: after the first failure no further write runs, and a write that takes longer than
// the stall timeout has failed.
func (l *logStore) write(what string, f func() error) (err error) {
	if p := l.failed.Load(); p != nil {
		return *p
	}
	watch := time.AfterFunc(l.stall, func() {
		_ = l.poison(fmt.Errorf("%s: %s takes longer than %v: %w", l.path, what, l.stall, ErrLogFailed))
	})
	defer watch.Stop()
	defer func() {
		if p := recover(); p != nil { // bbolt, on a damaged page
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			err = l.poison(fmt.Errorf("%s: %s: %w: %w", l.path, what, ErrLogFailed, err))
		} else if p := l.failed.Load(); p != nil {
			err = *p // it stalled: success now is too late
		}
	}()
	return f()
}

// poison records the first failure and returns it.
func (l *logStore) poison(err error) error {
	l.once.Do(func() {
		l.failed.Store(&err)
		l.fail(err)
	})
	return *l.failed.Load()
}

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l *logStore) StoreLogs(logs []*raft.Log) error {
	// Entries damaged in transit are refused and will be sent again; the file is not at fault.
	if err := sealEntries(logs); err != nil {
		return err
	}
	if err := l.write("append entries", func() error { return l.logs.StoreLogs(logs) }); err != nil {
		return err
	}
	var bytes uint64
	for _, e := range logs {
		bytes += uint64(len(e.Data))
	}
	l.writes.Add(1)
	l.entries.Add(uint64(len(logs)))
	l.bytes.Add(bytes)
	if l.isFull() {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
	return nil
}

// isFull reports whether limit bytes were written since the last snapshot.
func (l *logStore) isFull() bool { return l.bytes.Load()-l.mark.Load() >= l.limit }

// snapshotTaken restarts the count towards limit.
func (l *logStore) snapshotTaken() { l.mark.Store(l.bytes.Load()) }

// DeleteRange implements raft.LogStore. Raft deletes entries for two reasons: they were never committed and a new leader
// has others in their place, or a snapshot holds them. The second must not go beyond what the store has made durable, or
// the next crash would lose acknowledged messages (invariant I8).
func (l *logStore) DeleteRange(from, to uint64) error {
	applied := l.state.Applied().Index
	if from > applied { // not applied, hence not committed
		return l.write("delete uncommitted entries", func() error { return l.logs.DeleteRange(from, to) })
	}
	if durable := l.state.Durable().Index; to > durable {
		return l.write("compact the log", func() error {
			return fmt.Errorf("cannot delete entries %d to %d: the store is durable only up to entry %d", from, to, durable)
		})
	}
	if to > l.compacted.Load() {
		if err := l.SetUint64(keyCompacted, to); err != nil {
			return err
		}
		l.compacted.Store(to)
	}
	return l.write("compact the log", func() error { return l.logs.DeleteRange(from, to) })
}

// installing records that a received snapshot is about to replace the store's content.
func (l *logStore) installing(index uint64) error { return l.SetUint64(keyInstalled, index) }

// read turns bbolt's panics over a damaged page into a failure of the log.
func (l *logStore) read(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = l.poison(fmt.Errorf("%s: %s: %w: %v", l.path, what, ErrLogFailed, p))
		}
	}()
	return f()
}

// FirstIndex implements raft.LogStore.
func (l *logStore) FirstIndex() (index uint64, err error) {
	err = l.read("find the first entry", func() (err error) { index, err = l.logs.FirstIndex(); return })
	return index, err
}

// LastIndex implements raft.LogStore.
func (l *logStore) LastIndex() (index uint64, err error) {
	err = l.read("find the last entry", func() (err error) { index, err = l.logs.LastIndex(); return })
	return index, err
}

// GetLog implements raft.LogStore.
func (l *logStore) GetLog(index uint64, log *raft.Log) error {
	return l.read("read an entry", func() error {
		err := l.logs.GetLog(index, log)
		if err == nil {
			err = checkEntry(index, log)
		}
		if errors.Is(err, errChecksum) {
			panic(err) // like bbolt on a damaged page: the log has failed
		}
		return err
	})
}

// Set implements raft.StableStore.
func (l *logStore) Set(key, val []byte) error {
	return l.write("save "+string(key), func() error { return l.db.Set(key, sealValue(key, val)) })
}

// SetUint64 implements raft.StableStore. Raft panics when it cannot save its term. Once raft runs, its goroutine ends here
// instead, and Options.Fatal lets the process exit cleanly. A term that is saved already is not saved again: NewRaft does
// that on the goroutine of Open's caller, which must not end.
func (l *logStore) SetUint64(key []byte, val uint64) error {
	isTerm := string(key) == string(keyCurrentTerm)
	if isTerm && val == l.term.Load() {
		return nil
	}
	err := l.Set(key, binary.BigEndian.AppendUint64(nil, val))
	switch {
	case isTerm && err == nil:
		l.term.Store(val)
	case isTerm && l.started.Load():
		runtime.Goexit()
	}
	return err
}

// Get implements raft.StableStore.
func (l *logStore) Get(key []byte) (val []byte, err error) {
	err = l.read("read "+string(key), func() error {
		stored, err := l.db.Get(key)
		if err != nil {
			return err
		}
		if val, err = openValue(key, stored); err != nil {
			panic(err)
		}
		return nil
	})
	return val, err
}

// GetUint64 implements raft.StableStore.
func (l *logStore) GetUint64(key []byte) (val uint64, err error) {
	b, err := l.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, l.poison(fmt.Errorf("%s: read %s: %w: value has %d bytes, expected 8", l.path, key, ErrLogFailed, len(b)))
	}
	val = binary.BigEndian.Uint64(b)
	if string(key) == string(keyCurrentTerm) {
		l.term.Store(val)
	}
	return val, nil
}

// mark64 is GetUint64, but returns 0 for a key that was never set.
func (l *logStore) mark64(key []byte) (uint64, error) {
	v, err := l.GetUint64(key)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	return v, err
}

// fileSize returns the size of raft.db in bytes, 0 if it cannot be determined.
func (l *logStore) fileSize() int64 {
	fi, err := os.Stat(l.path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

func (l *logStore) close() error { return l.db.Close() }

// bounds returns the indexes of the first and last entry, 0 if there is none or raft.db is closed.
func (l *logStore) bounds() (first, last uint64) {
	first, err1 := l.FirstIndex()
	last, err2 := l.LastIndex()
	if err1 != nil || err2 != nil {
		return 0, 0
	}
	return first, last
}
