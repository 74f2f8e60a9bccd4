package cli

import (
	"context"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// lateProposer stands in for the raft node until it is open: those who observe the log must be there before
// the log moves, and propose through the node that moves it.
type lateProposer struct {
	ready chan struct{}
	to    hub.Proposer // set before ready is closed
}

func newLateProposer() *lateProposer { return &lateProposer{ready: make(chan struct{})} }

// set gives the proposer that everything goes to from now on. It is called once.
func (p *lateProposer) set(to hub.Proposer) {
	p.to = to
	close(p.ready)
}

// Propose implements hub.Proposer; it waits for set.
func (p *lateProposer) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	select {
	case <-p.ready:
		return p.to.Propose(ctx, events...)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
