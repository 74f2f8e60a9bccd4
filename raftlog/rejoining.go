package raftlog

import (
	"context"
	"time"
)

// joinAgainPause is how long a node waits for its leader before it asks to join again.
const joinAgainPause = time.Second

// joinAgain asks to join although this node is said to be a member: the one that said so may have been behind itself, and have
// had the configuration of a former cluster (after recover), whose leader never comes. For a member nothing changes.
func (n *Node) joinAgain(ctx context.Context) {
	for _, p := range n.opts.Peers {
		if p.ID == n.opts.ID {
			continue
		}
		a, err := n.requestJoin(ctx, p)
		if err == nil && a.Leader != "" && a.LeaderID != p.ID {
			a, err = n.requestJoin(ctx, Peer{a.LeaderID, a.Leader})
		}
		switch {
		case err != nil:
		case a.Joined:
			n.idMu.Lock()
			err := n.joined(a.Members)
			n.idMu.Unlock()
			if err != nil {
				n.fail(err)
			}
			n.port.logOnce("asked to join a cluster again, for nothing came from its leader", "asked", p.ID)
			return
		case a.Reason != "":
			n.port.logOnce("cannot join the cluster yet; retrying", "error", oneLine(a.Reason))
		}
	}
}
