// Package raftlog replicates the hub's events with hashicorp/raft, on top of a store.Store.
//
// What it promises: Propose returns after a quorum has made the events durable and this node has applied them. Nothing
// acknowledged is lost as long as a quorum of the disks survives. A node whose files do not belong together does not start.
// It may import hub and store, nothing else of this program.
//
// The path of a proposal: Node.Propose encodes it in the caller's goroutine and queues it. A slot of the batcher takes
// everything queued (up to MaxEntryBytes) as one batch and gives it to the sink, which writes it to the leader's log as
// one entry. Raft makes the entry durable on a quorum, the fsm applies it to the store, and the results travel back the
// same way. There is no linger timer: while all slots are busy, proposals queue up, and that queue is the next batch.
//
// Nodes meet at their cluster ports (port.go). A connection carries either raft's own streams or calls: for founding a
// cluster (formation.go), for followers' batches (forward.go) and for the members' status (members.go). Two nodes talk only
// after a handshake (handshake.go) that compares version, token, cluster, ID and the instance of a node's files.
//
// Raft's log (raft.db) is the write-ahead log of the store, and the store's files are the snapshot. At every moment and
// at every start the two must fit together:
//
//   - raft's log is compacted only up to what the store has made durable (Persist flushes, logStore checks);
//   - a snapshot's index and its bytes come from one read transaction of the store;
//   - the first failed write stops the node: afterwards nothing is acknowledged or written (Options.Fatal);
//   - a node whose files do not fit together does not start (checkFiles).
//
// A node's own files: node.json identifies the node; raft.db holds raft's log, term and vote.
package raftlog
