package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
)

// boltFile is an open bbolt file that is closed by whoever lets go of it last: bbolt's own Close waits for
// all read transactions, and nobody who swaps or drops files may wait for a slow reader.
type boltFile struct {
	path    string // as it was opened; for messages
	db      *bbolt.DB
	raw     *os.File
	refs    atomic.Int64
	broken  atomic.Bool // a transaction panicked: bbolt may hold its own locks for ever
	onClose func()
}

type boltOptions struct {
	readOnly    bool
	mmapBytes   int64
	lockTimeout time.Duration
}

func (o boltOptions) bolt() *bbolt.Options {
	mmap := 0
	if ^uint(0)>>63 == 1 { // on 32 bits address space is scarce
		mmap = int(o.mmapBytes)
	}
	return &bbolt.Options{
		Timeout: o.lockTimeout, ReadOnly: o.readOnly, FreelistType: bbolt.FreelistMapType,
		// A freelist that is found by looking at the pages cannot be damaged: a wrong one would have pages
		// in use written over.
		NoFreelistSync: true, InitialMmapSize: mmap, NoStatistics: true,
	}
}

// createBolt makes a new file with the content f writes, durable with its name.
func createBolt(path string, opts boltOptions, f func(tx *bbolt.Tx) error) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, opts.bolt())
	if err != nil {
		return err
	}
	err = db.Update(f)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// openBolt opens a file that exists, and checks that it is whole: bbolt itself makes a missing or empty
// file silently new, and notices a truncated one only when it reads behind its end. All pages of a file
// opened for writing are checked first (see checkPages).
func openBolt(path string, opts boltOptions) (*boltFile, error) {
	if !opts.readOnly {
		ro := opts
		ro.readOnly = true // only to lock it: another process may be writing
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
		return nil, corrupt(path, "it is truncated: %d bytes are left", info.Size())
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
	if err != nil {
		var c *CorruptError
		if errors.As(err, &c) && bf.raw != nil {
			_ = bf.letGo() // a panic in Open: nobody else does; the damage is what to tell
		}
		return nil, openError(path, err)
	}
	err = bf.view(func(tx *bbolt.Tx) error {
		info, err := bf.raw.Stat()
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return corrupt(path, "it is truncated: %d bytes of %d are left", info.Size(), tx.Size())
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

// used is the number of bytes in use, 0 when that cannot be read.
func (bf *boltFile) used() (n int64) {
	if err := bf.view(func(tx *bbolt.Tx) error { n = tx.Size(); return nil }); err != nil {
		return 0
	}
	return n
}

// begin starts a read transaction; the caller rolls it back and holds a reference until then.
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

// acquire takes a reference; the caller must know that another one is held meanwhile.
func (bf *boltFile) acquire() { bf.refs.Add(1) }

// release gives a reference back; the last one closes the file.
func (bf *boltFile) release() error {
	if bf.refs.Add(-1) != 0 {
		return nil
	}
	var err error
	if bf.broken.Load() {
		// bbolt may have left its own locks taken, and Close would wait for them.
		err = bf.letGo()
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

// letGo frees the file and its lock, and gives up the memory map, which keeps the lock alive else.
func (bf *boltFile) letGo() error {
	return errors.Join(syscall.Flock(int(bf.raw.Fd()), syscall.LOCK_UN), bf.raw.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("fsync %s: %w", dir, err)
	}
	return nil
}
