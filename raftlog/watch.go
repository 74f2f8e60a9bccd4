package raftlog

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

const (
	diskInterval = 500 * time.Millisecond
	// maxTrailing bounds the entries kept after compaction, however small they are: each takes time to scan at start.
	maxTrailing = 8192
)

// watchLog makes raft compact its log early when much was written to it.
func (n *Node) watchLog() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.log.full:
		}
		if !n.log.isFull() {
			continue // raft has just done it
		}
		err := await(n.ctx, n.raft.Snapshot())
		switch {
		case err == nil, n.ctx.Err() != nil, errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
		default:
			n.opts.Logger.Warn("could not compact raft's log; it grows until the next attempt", "error", err)
		}
	}
}

// trailing returns how many entries stay in the log after compaction.
func (n *Node) trailing() uint64 {
	if n.opts.TrailingBytes == 0 {
		return uint64(n.opts.MinTrailing)
	}
	mean := uint64(n.opts.MaxEntryBytes) // until there are enough entries to measure
	if entries := n.log.entries.Load(); entries >= 64 {
		mean = max(1, n.log.bytes.Load()/entries)
	}
	return min(max(uint64(n.opts.TrailingBytes)/mean, uint64(n.opts.MinTrailing)), max(maxTrailing, uint64(n.opts.MinTrailing)))
}

// tuneTrailing adapts the number of kept entries to their size.
func (n *Node) tuneTrailing() {
	n.reload.Lock()
	defer n.reload.Unlock()
	c := n.raft.ReloadableConfig()
	if keep := n.trailing(); keep != c.TrailingLogs {
		c.TrailingLogs = keep
		if err := n.raft.ReloadConfig(c); err != nil {
			n.opts.Logger.Warn("could not change how much of raft's log is kept", "error", err)
		}
	}
}

// watchDisk refuses new work while less disk space is free than the reserve.
func (n *Node) watchDisk() {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
			n.measureDisk()
		}
	}
}

func (n *Node) measureDisk() {
	free, err := freeBytes(n.opts.Dir)
	if err != nil {
		n.opts.Logger.Warn("could not measure free disk space", "dir", n.opts.Dir, "error", err)
		return
	}
	n.freeDisk.Store(free)
	full := free < n.opts.MinFreeBytes
	if n.diskFull.Swap(full) == full {
		return
	}
	what := "enough disk space is free again; accepting new work"
	if full {
		what = "free disk space is below storage.min_free_bytes; refusing new work until there is room"
	}
	n.opts.Logger.Warn(what, "dir", n.opts.Dir, "free_bytes", free, "min_free_bytes", n.opts.MinFreeBytes)
}
