package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"quorumhub/durable"
)

// boltFile is an open, reference-counted bbolt file. The last release closes it: bbolt's own Close waits for all read
// transactions, but swapping or deleting files must not wait for a slow reader.
type boltFile struct {
	path    string // as opened; for messages
	db      *bbolt.DB
	raw     *os.File
	refs    atomic.Int64
	broken  atomic.Bool // a transaction panicked: bbolt may never release its own locks
	onClose func()
}

type boltOptions struct {
	readOnly    bool
	mmapBytes   int64
	allocBytes  int // by which the file grows; 0: bbolt's default
	lockTimeout time.Duration
}

func (o boltOptions) bolt() *bbolt.Options {
	mmap := 0
	if ^uint(0)>>63 == 1 { // address space is scarce on 32-bit systems
		mmap = int(o.mmapBytes)
	}
	return &bbolt.Options{
		Timeout: o.lockTimeout, ReadOnly: o.readOnly, FreelistType: bbolt.FreelistMapType,
		// A freelist rebuilt from the pages cannot be damaged; a wrong one would cause pages in use to be overwritten.
		NoFreelistSync: true, InitialMmapSize: mmap, NoStatistics: true,
	}
}

// createBolt durably creates a file with the content that f writes.
func createBolt(path string, opts boltOptions, f func(tx *bbolt.Tx) error) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, opts.bolt())
	if err != nil {
		return err
	}
	if opts.allocBytes > 0 {
		db.AllocSize = opts.allocBytes
	}
	err = db.Update(f)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// openBolt opens an existing file and checks that it is complete: bbolt itself silently creates a missing or empty file, and
// notices a truncated one only when it reads beyond the end. All pages of a file opened for writing are checked first
// (see checkPages).
func openBolt(path string, opts boltOptions) (*boltFile, error) {
	if !opts.readOnly {
		ro := opts
		ro.readOnly = true // takes the lock: another process may be writing
		bf, err := openWhole(path, ro)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(checkPages(path, bf.raw), bf.release()); err != nil {
			return nil, err
		}
	}
	return openWhole(path, opts)
}

func openWhole(path string, opts boltOptions) (*boltFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if info.Size() == 0 {
		return nil, corrupt(path, "the file is empty")
	}
	if info.Size() < 2*int64(os.Getpagesize()) {
		return nil, corrupt(path, "the file is truncated: %d bytes are left", info.Size())
	}
	bf := &boltFile{path: path}
	bf.refs.Store(1)
	o := opts.bolt()
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag&^os.O_CREATE, mode)
		bf.raw = f
		return f, err
	}
	err = guard(path, func() error {
		var err error
		bf.db, err = bbolt.Open(path, 0o600, o)
		return err
	})
	if err == nil && opts.allocBytes > 0 {
		bf.db.AllocSize = opts.allocBytes
	}
	if err != nil {
		var c *CorruptError
		if errors.As(err, &c) && bf.raw != nil {
			_ = bf.forceClose() // after a panic in Open nothing else closes it; report the damage
		}
		return nil, openError(path, err)
	}
	err = bf.view(func(tx *bbolt.Tx) error {
		info, err := bf.raw.Stat()
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return corrupt(path, "the file is truncated: %d bytes of %d are left", info.Size(), tx.Size())
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, bf.release())
	}
	return bf, nil
}

// view runs f in a read transaction. A panic becomes a CorruptError.
func (bf *boltFile) view(f func(tx *bbolt.Tx) error) error {
	return bf.guarded(func() error { return bf.db.View(f) })
}

// update runs f in a write transaction and commits it. A panic becomes a CorruptError.
func (bf *boltFile) update(f func(tx *bbolt.Tx) error) error {
	return bf.guarded(func() error { return bf.db.Update(f) })
}

// used returns the number of bytes in use, 0 if that cannot be read.
func (bf *boltFile) used() (n int64) {
	if err := bf.view(func(tx *bbolt.Tx) error { n = tx.Size(); return nil }); err != nil {
		return 0
	}
	return n
}

// begin starts a read transaction. The caller must roll it back, and hold a reference until then.
func (bf *boltFile) begin() (*bbolt.Tx, error) {
	var tx *bbolt.Tx
	err := bf.guarded(func() error {
		var err error
		tx, err = bf.db.Begin(false)
		return err
	})
	return tx, err
}

func (bf *boltFile) guarded(f func() error) error {
	done := false
	err := guard(bf.path, func() error {
		err := f()
		done = true
		return err
	})
	if !done {
		bf.broken.Store(true)
	}
	return err
}

// acquire takes a reference. The caller must make sure that another reference is held meanwhile.
func (bf *boltFile) acquire() { bf.refs.Add(1) }

// release gives up a reference. The last one closes the file.
func (bf *boltFile) release() error {
	if bf.refs.Add(-1) != 0 {
		return nil
	}
	var err error
	if bf.broken.Load() {
		// bbolt may still hold its own locks, and Close would wait for them.
		err = bf.forceClose()
	} else {
		err = bf.db.Close()
	}
	if bf.onClose != nil {
		bf.onClose()
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", bf.path, err)
	}
	return nil
}

// forceClose closes the file and releases its lock explicitly, because the abandoned memory map would keep the lock alive.
func (bf *boltFile) forceClose() error {
	return errors.Join(durable.Unlock(bf.raw), bf.raw.Close())
}
