package raftlog

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

// checkFiles refuses to start a node whose files do not belong together: that would lose acknowledged messages, or let a
// node vote again that has forgotten its votes.
func (n *Node) checkFiles() error {
	var (
		l       = n.log
		dir     = n.opts.Dir
		path    = filepath.Join(dir, logFile)
		pos     = n.store.Durable()
		cluster string
		former  []string
	)
	refuse := func(format string, args ...any) error {
		return &FileError{File: path, Problem: fmt.Sprintf(format, args...), Hint: hintRestore}
	}
	n.store.View(func(s *hub.State) { cluster, former = s.ClusterID(), s.FormerClusterIDs() })
	if cluster != "" && n.identity.ClusterID != "" && cluster != n.identity.ClusterID && !n.sameLineage(cluster, former) {
		return &FileError{File: filepath.Join(dir, identityFile), Hint: hintRestore,
			Problem: fmt.Sprintf("names cluster %s, but the store holds the state of cluster %s", n.identity.ClusterID, cluster)}
	}

	first, err := l.FirstIndex()
	if err != nil {
		return damaged(path, err)
	}
	last, err := l.LastIndex()
	if err != nil {
		return damaged(path, err)
	}
	term, err := l.mark64(keyCurrentTerm)
	if err != nil {
		return damaged(path, err)
	}
	compacted, err := l.mark64(keyCompacted)
	if err != nil {
		return damaged(path, err)
	}
	installed, err := l.mark64(keyInstalled)
	if err != nil {
		return damaged(path, err)
	}

	switch {
	case n.identity.ClusterID != "" && term == 0:
		return refuse("raft's log is empty, although this node was a member of a cluster")
	case term < pos.Term:
		return refuse("raft's log is older than the store: it is at term %d, the store is at term %d", term, pos.Term)
	case pos.Index > max(last, compacted, installed):
		return refuse("raft's log is older than the store: it ends at entry %d, the store is at entry %d", max(last, compacted), pos.Index)
	case pos.Index < compacted || first > pos.Index+1:
		return refuse("the store is older than raft's log: it is at entry %d, but the log begins after entry %d, so acknowledged messages are missing",
			pos.Index, max(compacted, first-1))
	case last > pos.Index:
		var entry raft.Log
		if err := l.GetLog(pos.Index+1, &entry); errors.Is(err, raft.ErrLogNotFound) {
			return refuse("the store is at entry %d, but the log lacks entry %d", pos.Index, pos.Index+1)
		} else if err != nil {
			return damaged(path, err)
		}
	}
	return nil
}
