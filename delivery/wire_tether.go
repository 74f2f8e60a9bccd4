package delivery

import (
	"context"
	"net"
	"sync"
)

// tether is what a context holds the connection of the request under way by, so that its end cuts the request off.
// A context with a tether of its own makes one request at a time on it without having to watch each of them anew;
// any other is watched request by request.
type tether struct {
	done <-chan struct{} // of the context it belongs to

	mu   sync.Mutex
	gone bool // the context has ended
	conn net.Conn
}

type tetherKey struct{}

// withTether is context.WithCancelCause for a row of requests. Cancelling without a cause is only for when no request
// is under way any more.
func withTether(parent context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	t := &tether{done: ctx.Done()}
	stop := context.AfterFunc(ctx, t.cut)
	return context.WithValue(ctx, tetherKey{}, t), func(cause error) {
		if cause == nil {
			stop()
		}
		cancel(cause)
	}
}

// tie sees to it that the end of ctx ends what waits for c. Release t, or call stop when t is nil: both tell whether
// ctx has left c alone.
func tie(ctx context.Context, c net.Conn) (t *tether, stop func() bool) {
	if t, ok := ctx.Value(tetherKey{}).(*tether); ok && t.done == ctx.Done() && t.hold(c) {
		return t, nil
	}
	return nil, context.AfterFunc(ctx, func() { _ = c.SetDeadline(past()) })
}

// hold reports false when another request has the tether.
func (t *tether) hold(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		return false
	}
	t.conn = c
	if t.gone {
		_ = c.SetDeadline(past())
	}
	return true
}

func (t *tether) release() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = nil
	return !t.gone
}

func (t *tether) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = true
	if t.conn != nil {
		_ = t.conn.SetDeadline(past())
	}
}
