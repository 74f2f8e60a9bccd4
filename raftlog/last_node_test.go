package raftlog_test

import (
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// The only node cannot leave, and is told what else may be meant: a hub on its own cannot be joined either.
func TestTheOnlyNodeCannotLeave(t *testing.T) {
	lone := newMember(t, "node-1")
	lone.start()
	defer lone.stop()
	err := lone.node.Change(t.Context(), raftlog.Change{Operation: raftlog.RemoveNode, Node: "node-1"})
	if hub.CodeOf(err) != hub.CodeConflict || !strings.Contains(err.Error(), "stop the process") || !strings.Contains(err.Error(), "restore the backup") || strings.Contains(err.Error(), "join") {
		t.Errorf("on its own: %v", err)
	}
	w := growing(t, 1)
	w.start()
	err = w.apply(w.leader(), raftlog.Change{Operation: raftlog.RemoveNode, Node: "node-1"})
	if hub.CodeOf(err) != hub.CodeConflict || !strings.Contains(err.Error(), "let a node join there, wait until it is a voter") {
		t.Errorf("the only member: %v", err)
	}
}
