package raftlog_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"quorumhub/raftlog"
)

// A follower learns of a single write's commit at once, not with raft's next message.
func TestFollowersLearnOfASingleCommitAtOnce(t *testing.T) {
	const commit, writes = 2 * time.Second, 20
	w := newNetwork(t, 3)
	w.change = func(_ *member, o *raftlog.Options) { o.Timing.Commit = commit }
	w.start()
	m := w.follower()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	begin := time.Now()
	for i := range writes {
		// A follower answers once it has applied the write itself.
		if _, err := m.node.Propose(ctx, publish("t", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	// Without nudges each write takes one to two commit timeouts.
	if took := time.Since(begin); took >= writes*commit/2 {
		t.Errorf("%d consecutive writes through a follower took %v", writes, took)
	}
}

// A follower that was away learns of the commits when it returns, and a refused nudge does no harm.
func TestNudgesReachAReturningFollower(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	m := w.follower()
	w.crash(m)
	lead := w.leader()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for i := range 50 {
		if _, err := lead.node.Propose(ctx, publish("t", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.open(ctx, m); err != nil {
		t.Fatal(err)
	}
	w.ready(m)
	eventually(t, "all nodes have the same state", w.sameState)
}
