// Package store keeps the hub's state and its message log: a hub.State and a tail of recent messages in
// memory, and bbolt files behind them.
//
// Apply changes memory only; raft's log is the write-ahead log. A flusher brings what changed to the files,
// rows and the position in raft's log in one transaction, so that the files always hold the state of
// exactly one position. A snapshot is these files, read in one transaction.
//
// The files of one generation are in one directory, and CURRENT names the generation:
//
//	CURRENT
//	gen-1/state.db      rows of hub.State, position, format version
//	gen-1/log/7.db      a segment of the message log
package store
