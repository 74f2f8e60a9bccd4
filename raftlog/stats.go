package raftlog

// Stats holds a Node's figures for metrics and the console.
type Stats struct {
	State    string // see Node.State
	Leader   string // ID, empty if none is known
	Term     uint64
	IsLeader bool // see Node.IsLeader

	LastIndex, CommitIndex uint64 // of raft's log
	AppliedIndex           uint64 // of the store's memory
	DurableIndex           uint64 // of the store's files

	LogFirst, LogLast uint64 // first and last entry in raft.db
	LogFileBytes      int64  // size of raft.db
	LogWritten        uint64 // bytes of entries written since Open
	LogEntries        uint64 // entries written since Open
	LogCommits        uint64 // transactions that wrote them

	QueuedProposals int   // waiting for a slot
	QueuedBytes     int64 // waiting and in flight
	InFlight        int   // batches
	Proposals       uint64
	Batches         uint64
	CommitLatency   Histogram // from closing a batch to its results

	FreeDiskBytes int64 // 0: not measured
	DiskFull      bool
}

// DiskShort reports whether less disk space is free than the reserve.
func (n *Node) DiskShort() bool { return n.diskFull.Load() }

// Stats returns the figures. They are not a consistent snapshot.
func (n *Node) Stats() Stats {
	s := Stats{
		State:         n.State(),
		Term:          n.raft.CurrentTerm(),
		IsLeader:      n.IsLeader(),
		LastIndex:     n.raft.LastIndex(),
		CommitIndex:   n.raft.CommitIndex(),
		AppliedIndex:  n.store.Applied().Index,
		DurableIndex:  n.store.Durable().Index,
		LogFileBytes:  n.log.fileSize(),
		LogWritten:    n.log.bytes.Load(),
		LogEntries:    n.log.entries.Load(),
		LogCommits:    n.log.writes.Load(),
		Proposals:     n.batcher.count.Load(),
		Batches:       n.batcher.batches.Load(),
		CommitLatency: n.batcher.latency.read(),
		FreeDiskBytes: n.freeDisk.Load(),
		DiskFull:      n.diskFull.Load(),
	}
	s.Leader, _ = n.Leader()
	s.QueuedProposals, s.InFlight, s.QueuedBytes = n.batcher.stats()
	s.LogFirst, s.LogLast = n.log.bounds()
	return s
}
