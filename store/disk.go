package store

import "go.etcd.io/bbolt"

// disk commits what a running store writes. An error from it means that the disk can no longer be trusted.
type disk interface {
	// update runs f in a write transaction of the file and commits it.
	update(file *boltFile, f func(tx *bbolt.Tx) error) error
	// makeCurrent gives a complete generation directory its name and switches CURRENT to it.
	makeCurrent(tmp string, number uint64) error
}

// localDisk is the disk that holds Options.Dir.
type localDisk struct{ opts *Options }

func (localDisk) update(file *boltFile, f func(tx *bbolt.Tx) error) error { return file.update(f) }

func (d localDisk) makeCurrent(tmp string, number uint64) error {
	return d.opts.makeCurrent(tmp, number)
}
