package view

import (
	"context"
	"io"
)

// Backup is a consistent copy of a node's files, ready to be written. Close it: until then the files keep old pages for it.
type Backup interface {
	io.WriterTo
	io.Closer
}

// Backups takes backups of the node.
type Backups interface {
	// Begin begins a backup and returns its size in bytes. Cancelling ctx ends it early.
	Begin(ctx context.Context) (b Backup, size int64, name string, err error)
}
