package egress

import (
	"context"
	"net"
	"sync"
)

// cancelConn is what a context holds the connection of the request under way by, so that its end cuts the request off.
// A context with a cancelConn of its own makes one request at a time on it without having to watch each of them anew;
// any other is watched request by request.
type cancelConn struct {
	done <-chan struct{} // of the context it belongs to

	mu   sync.Mutex
	gone bool // the context has ended
	conn net.Conn
}

type cancelConnKey struct{}

// WithCancelConn is context.WithCancelCause for a row of requests. Cancelling without a cause is only for when no request
// is under way any more.
func WithCancelConn(parent context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	t := &cancelConn{done: ctx.Done()}
	stop := context.AfterFunc(ctx, t.cut)
	return context.WithValue(ctx, cancelConnKey{}, t), func(cause error) {
		if cause == nil {
			stop()
		}
		cancel(cause)
	}
}

// tie sees to it that the end of ctx ends what waits for c. Release t, or call stop when t is nil: both tell whether
// ctx has left c alone.
func tie(ctx context.Context, c net.Conn) (t *cancelConn, stop func() bool) {
	if t, ok := ctx.Value(cancelConnKey{}).(*cancelConn); ok && t.done == ctx.Done() && t.hold(c) {
		return t, nil
	}
	return nil, context.AfterFunc(ctx, func() { _ = c.SetDeadline(past()) })
}

// hold reports false when another request has the cancelConn.
func (t *cancelConn) hold(c net.Conn) bool {
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

func (t *cancelConn) release() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = nil
	return !t.gone
}

func (t *cancelConn) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = true
	if t.conn != nil {
		_ = t.conn.SetDeadline(past())
	}
}
