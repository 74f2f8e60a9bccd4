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
		try, cancel := context.WithTimeout(ctx, proposeTimeout)
		res, err := r.proposer.Propose(try, events...)
		cancel()
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
