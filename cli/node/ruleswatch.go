package node

import (
	"context"
	"time"

	"quorumhub/auth"
)

// rulesPause is how often the leader looks whether the rules have changed.
const rulesPause = 5 * time.Second

// watchRules pauses, on the leader, the subscriptions that no rule allows any more after auth.file was changed: since this node leads, or
// was started. It ends with ctx.
func (n *Node) watchRules(ctx context.Context, guard *auth.Guard) {
	var done *auth.Revision
	tick := time.NewTicker(rulesPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if now := guard.Revision(); !n.raft.IsLeader() {
			done = nil // another node looks after it
		} else if now != done {
			paused, err := n.server.PauseNotAllowed(ctx, byFile)
			switch {
			case err != nil && ctx.Err() == nil:
				n.log.Warn("cannot pause subscriptions that the rules no longer allow; will retry", "error", err)
			case err == nil:
				done = now
			}
			if paused > 0 {
				n.log.Info("subscriptions paused: no rule allows them any more", "subscriptions", paused)
			}
		}
	}
}
