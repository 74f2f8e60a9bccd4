// Package raftlog replicates the hub's events: hashicorp/raft around a store.Store.
//
// The way of a proposal: Node.Propose encodes it in the caller's goroutine and queues it; a slot of the batcher
// takes all that is queued (at most MaxEntryBytes) as one batch and gives it to the sink, which brings it into
// the leader's log as one entry; raft makes the entry durable on a quorum; the fsm applies it to the store and the answers
// travel back the same way. There is no linger timer: while all slots are in flight, proposals queue up, and
// that queue is the next batch.
//
// Several nodes meet at their cluster ports (port.go): raft's streams, and calls for founding a cluster
// (formation.go), for the batches of followers (forward.go), and for what nodes know of each other (members.go). Two nodes
// talk only after a handshake in which version, token, cluster, id and the instance of a node's files fit.
//
// Raft's log (raft.db) is the write-ahead log of the store, whose files are the snapshot. The two must fit
// together, at every moment and at every start:
//
//   - raft's log is cut only up to what the store has made durable (Persist flushes, logStore checks);
//   - a snapshot's index and its bytes come from one read transaction of the store;
//   - the first failed write ends the node: nothing is acknowledged or written after it (Options.Fatal);
//   - a node whose files do not fit together does not start (see checkFiles).
//
// A node's files: node.json says who the node is, raft.db is raft's log, term and vote.
package raftlog
