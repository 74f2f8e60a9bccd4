// Package store keeps the hub's state and its message log: a hub.State and the newest messages in memory, and bbolt files
// behind them.
//
// What it promises: the files always hold the state of exactly one position in raft's log. Damage to a file is detected and
// reported (CorruptError); a damaged record is never served, and a store never opens with less than it had. After the first
// failed commit nothing more is written. It may import hub, nothing else of this program.
//
// Apply changes memory only; raft's log is the write-ahead log. A flusher commits changes to the files: messages to the
// newest segment first, then rows and position to state.db in one transaction. A snapshot is these files, read in one
// transaction each between two flushes; Receive and Install replace a store's content with another node's snapshot.
//
// The files of one generation are in one directory, and CURRENT names the generation:
//
//	CURRENT
//	gen-1/state.db      rows of hub.State, position, format version
//	gen-1/log/7.db      a segment of the message log
package store
