package raftlog

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// What raft says again and again is one line, then one a minute with a count; nothing about a node that does not answer.
func TestRepeatedMessagesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var verbose, answers atomic.Bool
		verbose.Store(true)
		l := newRaftLogger(slog.New(slog.NewTextHandler(&out, nil)), &verbose, newRepeats(func(string) bool { return answers.Load() }))
		peer := raft.Server{ID: "node-2", Address: "127.0.0.1:1"}
		trouble := func(d time.Duration) (lines []string) {
			out.Reset()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				l.Error("failed to appendEntries to", "peer", peer, "error", "refused")
				l.Error("failed to heartbeat to", "peer", peer.Address, "error", "refused")
				l.Warn("failed to contact", "server-id", peer.ID, "time", time.Second)
				l.Error("failed to make requestVote RPC", "target", peer, "error", "refused")
			}
			return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		}
		if lines := trouble(5 * time.Minute); lines[0] != "" {
			t.Errorf("about a node that does not answer: %q", lines)
		}
		time.Sleep(time.Minute)
		answers.Store(true)
		if lines := trouble(time.Second); lines[0] != "" {
			t.Errorf("about trouble that may be over in a moment: %q", lines)
		}
		time.Sleep(time.Minute)
		// One for the ID and one for the address, at first and in each of the next two minutes.
		if lines := trouble(150 * time.Second); len(lines) != 6 || !strings.Contains(lines[2], "repeated=") {
			t.Errorf("about a node that answers while raft fails to reach it: %d lines %q", len(lines), lines)
		}

		out.Reset()
		for range 3000 { // five minutes
			l.Warn("Election timeout reached, restarting election")
			time.Sleep(100 * time.Millisecond)
		}
		if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 5 || !strings.Contains(lines[1], "repeated=599") {
			t.Errorf("about elections: %q", lines)
		}
		verbose.Store(false)
		out.Reset()
		l.Warn("while starting or stopping")
		if out.Len() > 0 {
			t.Errorf("%s", out.String())
		}
	})
}
