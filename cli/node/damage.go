package node

import (
	"context"
	"time"
)

// damagePause is how often a node with a damaged file checks whether the others are a quorum without it.
const damagePause = time.Second

// reportDamage receives the damage that the store finds in its files.
func (n *Node) reportDamage(damage error) {
	select {
	case n.damaged <- damage:
	default: // one report is enough
	}
}

// watchDamage reports damage once this node should leave its work to the others: a file is damaged, and they are a quorum without
// this node. Until then the node keeps running without serving the damaged data. The channel is closed when ctx ends.
func (n *Node) watchDamage(ctx context.Context) <-chan error {
	leave := make(chan error, 1)
	go func() {
		defer close(leave)
		tick := time.NewTicker(damagePause)
		defer tick.Stop()
		var damage error
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-n.damaged:
				n.log.Error("damaged file found; its damaged part is not served", "error", err)
				damage = err
			case <-tick.C:
			}
			if damage != nil && n.dispensable() {
				leave <- damage
				<-ctx.Done()
				return
			}
		}
	}()
	return leave
}

// dispensable reports whether the other nodes are a quorum without this one.
func (n *Node) dispensable() bool {
	voters, alive := 0, 0
	for _, m := range n.raft.Members() {
		if !m.Voter {
			continue
		}
		voters++
		if m.Alive && m.ID != n.raft.ID() {
			alive++
		}
	}
	return 2*alive > voters
}
