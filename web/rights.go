package web

import (
	"context"
	"errors"
	"time"

	"quorumhub/auth"
)

// Why a stream's context ended, besides the reader's disconnecting.
var (
	errStopping  = errors.New("the node is stopping")
	errForbidden = errors.New("the reader may no longer read this")
)

// again checks the credentials of the caller in ctx once more and returns ctx with the caller as it is now, or an error if they are no
// longer valid. So a key that was revoked, a token that its service no longer knows and a role that was taken away end a stream like a
// rule that is gone. While they cannot be checked the caller stays who it was.
func again(ctx context.Context) (context.Context, error) {
	caller := auth.CallerOf(ctx)
	now, err := caller.Principal.Again(ctx)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return ctx, nil
	case err != nil:
		return ctx, err
	}
	caller.Principal = now
	return auth.WithCaller(ctx, caller), nil
}

// stillAllowed returns an error once the caller in ctx may no longer read a topic. Otherwise it returns the time at which the
// caller's credentials end by themselves, or the zero time if nothing is known to end them.
func (s *Server) stillAllowed(ctx context.Context, topic string) (until time.Time, err error) {
	ctx, err = again(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return auth.CallerOf(ctx).Principal.Until, s.Service.AuthorizeRead(ctx, topic)
}

// watchRights ends a stream with errForbidden once its reader loses the right to it. It asks allowed once a heartbeat and when the
// credentials end, so that a reader which is slow to take what it is sent loses its rights no later than any other. It ends with
// ctx, and closes the channel then.
func (s *Server) watchRights(ctx context.Context, allowed func(context.Context) (until time.Time, err error), end context.CancelCauseFunc) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		next := time.NewTimer(0)
		defer next.Stop()
		for {
			select {
			case <-next.C:
			case <-ctx.Done():
				return
			}
			until, err := allowed(ctx)
			wait := s.StreamHeartbeat
			if !until.IsZero() {
				wait = min(wait, time.Until(until))
			}
			if err != nil || wait <= 0 {
				end(errForbidden)
				return
			}
			next.Reset(wait)
		}
	}()
	return done
}
