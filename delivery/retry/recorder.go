package retry

import (
	"context"
	"log/slog"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// proposeTimeout bounds one proposal.
const proposeTimeout = 10 * time.Second

// LeaderCheck is how often a node that does not lead looks whether it does.
const LeaderCheck = 250 * time.Millisecond

// ProposeOnce proposes events and waits for them to be applied, for 10 s at most.
func ProposeOnce(ctx context.Context, p hub.Proposer, events ...*hubpb.Event) ([]hub.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return p.Propose(ctx, events...)
}

// Recorder writes outcomes into the log and does not give up before its context does: what a request, fetch
// or delivery came to must not be lost for want of a leader.
type Recorder struct {
	Proposer hub.Proposer
	Log      *slog.Logger
}

// Record proposes the events until they are in the log. The only error is ctx's.
func (r Recorder) Record(ctx context.Context, what string, events ...*hubpb.Event) ([]hub.Result, error) {
	wait := Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second}
	for n := 1; ; n++ {
		res, err := ProposeOnce(ctx, r.Proposer, events...)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r.Log.Warn("cannot record yet; trying again", "what", what, "error", err)
		if err := Sleep(ctx, wait.Delay(n, 0)); err != nil {
			return nil, err
		}
	}
}

func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
