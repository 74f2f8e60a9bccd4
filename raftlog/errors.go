package raftlog

import (
	"errors"
	"fmt"
)

// FileError reports a file that keeps the node from starting, and what an operator can do about it.
type FileError struct {
	File    string // path of the file
	Problem string
	Hint    string
	Err     error // cause, may be nil
}

func (e *FileError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v; %s", e.File, e.Problem, e.Err, e.Hint)
	}
	return fmt.Sprintf("%s: %s; %s", e.File, e.Problem, e.Hint)
}

func (e *FileError) Unwrap() error { return e.Err }

const hintRestore = "restore this node's whole data directory from a backup, or empty it and let the node join the cluster again under a new cluster.node_id"

var (
	// ErrLogFailed is wrapped by every error from raft.db after its first failed write.
	ErrLogFailed = errors.New("raft log stopped after a disk error")
	// ErrApplyFailed is wrapped by the reason why a node could not apply a committed entry.
	ErrApplyFailed = errors.New("committed entry could not be applied")

	// errNotLeader is a sink's error for a batch that is certainly in no log.
	errNotLeader = errors.New("not the leader")
	// errUnknown is a sink's error for a batch that may or may not be in the log.
	errUnknown = errors.New("outcome unknown")
)
