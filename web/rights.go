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
	errForbidden = errors.New("the reader may no longer read the topic")
)

// stillAllowed returns an error once the caller in ctx may no longer read a topic. Otherwise it returns the time at which the
// caller's credentials end by themselves, or the zero time if nothing is known to end them.
//
// The credentials are checked again, so a key that was revoked, a token that its service no longer knows and a role that was taken away
// end it like a rule that is gone. While they cannot be checked the caller stays who it was.
func (s *Server) stillAllowed(ctx context.Context, topic string) (until time.Time, err error) {
	caller := auth.CallerOf(ctx)
	now, err := caller.Principal.Again(ctx)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
	case err != nil:
		return time.Time{}, err
	default:
		caller.Principal = now
		ctx = auth.WithCaller(ctx, caller)
	}
	return caller.Principal.Until, s.Service.AuthorizeRead(ctx, topic)
}

// watchRights ends a stream with errForbidden once its reader may no longer read the topic. It asks once a heartbeat and when the
// credentials end, so that a reader which is slow to take what it is sent loses its rights no later than any other. It ends with
// ctx, and closes the channel then.
func (s *Server) watchRights(ctx context.Context, topic string, end context.CancelCauseFunc) <-chan struct{} {
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
			until, err := s.stillAllowed(ctx, topic)
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
