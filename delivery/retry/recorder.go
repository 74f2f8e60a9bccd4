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

// LeaderCheck is how often a follower with work waiting checks whether it leads.
const LeaderCheck = 250 * time.Millisecond

// ProposeOnce proposes events and waits until they are applied, at most 10 s.
func ProposeOnce(ctx context.Context, p hub.Proposer, events ...*hubpb.Event) ([]hub.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return p.Propose(ctx, events...)
}

// Recorder writes outcomes into the log, retrying until its context ends: the outcome of a request, fetch or delivery
// must not be lost for want of a leader.
type Recorder struct {
	Proposer hub.Proposer
	Log      *slog.Logger
}

// Record proposes events until they are applied. The only possible error is ctx's. what names them in the log
// messages.
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
		r.Log.Warn("cannot record yet; will retry", "what", what, "error", err)
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
