package raftlog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// applyPatience is how long the store may take for one batch of entries.
	applyPatience = 30 * time.Second
	// installPatience is how long the installation of a snapshot may make no progress: raft's loop waits for it, and at its end the
	// whole state is synced and read.
	installPatience = 5 * time.Minute
)

// activity is the time since which something has been going on.
type activity struct{ since atomic.Int64 }

func (a *activity) begin() { a.since.Store(time.Now().UnixNano()) }

func (a *activity) end() { a.since.Store(0) }

// lasts returns for how long; 0: nothing is going on.
func (a *activity) lasts() time.Duration {
	if at := a.since.Load(); at != 0 {
		return max(1, time.Duration(time.Now().UnixNano()-at))
	}
	return 0
}

// Alive returns an error if the node cannot get any further by itself: it has failed, raft's loop does not answer until ctx ends, or
// the store does not return from applying an entry. A node without a leader or a quorum is alive. A store that is stuck may keep Alive
// from returning.
func (n *Node) Alive(ctx context.Context) error { return n.alive(ctx, applyPatience) }

func (n *Node) alive(ctx context.Context, patience time.Duration) error {
	if err := n.Err(); err != nil {
		return err
	}
	if took := n.fsm.applying.lasts(); took > patience {
		return fmt.Errorf("the store has been applying the same entries for %s", took.Round(time.Second))
	}
	if idle := n.installing.lasts(); idle > 0 && idle < installPatience {
		return nil
	}
	answered := make(chan error, 1)
	go func() { answered <- n.raft.VerifyLeader().Error() }() // any answer will do
	select {
	case err := <-answered:
		if errors.Is(err, raft.ErrRaftShutdown) {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("raft does not answer: %w", ctx.Err())
	}
	n.store.Applied() // takes the store's lock
	return nil
}
