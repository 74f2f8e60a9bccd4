package delivery

import (
	"context"
	"log/slog"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// proposeTimeout bounds one proposal.
const proposeTimeout = 10 * time.Second

// leaderCheck is how often a node that does not lead looks whether it does.
const leaderCheck = 250 * time.Millisecond

// ProposeOnce proposes events and waits for them to be applied, for 10 s at most.
func ProposeOnce(ctx context.Context, p hub.Proposer, events ...*hubpb.Event) ([]hub.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return p.Propose(ctx, events...)
}

// recorder writes outcomes into the log and does not give up before its context does: what a request, fetch
// or delivery came to must not be lost for want of a leader.
type recorder struct {
	proposer hub.Proposer
	log      *slog.Logger
}

// record proposes the events until they are in the log. The only error is ctx's.
func (r recorder) record(ctx context.Context, what string, events ...*hubpb.Event) ([]hub.Result, error) {
	wait := Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second}
	for n := 1; ; n++ {
		res, err := ProposeOnce(ctx, r.proposer, events...)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r.log.Warn("cannot record yet; trying again", "what", what, "error", err)
		if err := sleep(ctx, wait.Delay(n, 0)); err != nil {
			return nil, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
