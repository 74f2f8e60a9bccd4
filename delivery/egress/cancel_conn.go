package egress

import (
	"context"
	"net"
	"sync"
	"time"
)

// cancelConn holds the connection of a request in flight, so that the end of a context cuts the request off. A
// context with a cancelConn makes one request at a time without a watcher per request; any other context is watched
// request by request.
type cancelConn struct {
	done <-chan struct{} // of the context it belongs to

	mu   sync.Mutex
	gone bool // the context has ended
	conn net.Conn
}

type cancelConnKey struct{}

// WithCancelConn is context.WithCancelCause for a sequence of requests by Client.Post, one at a time, which then cost
// less. Cancel without a cause only when no request is in flight.
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

// tie makes the end of ctx end any operation that waits for c. Detach t or, if it is nil, call stop: both report
// whether ctx has left c alone.
func tie(ctx context.Context, c net.Conn) (t *cancelConn, stop func() bool) {
	if t, ok := ctx.Value(cancelConnKey{}).(*cancelConn); ok && t.done == ctx.Done() && t.attach(c) {
		return t, nil
	}
	return nil, context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo()) })
}

// attach reports false if another request is attached.
func (t *cancelConn) attach(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		return false
	}
	t.conn = c
	if t.gone {
		_ = c.SetDeadline(longAgo())
	}
	return true
}

func (t *cancelConn) detach() bool {
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
		_ = t.conn.SetDeadline(longAgo())
	}
}

// longAgo is a deadline that ends any operation that waits for a connection.
func longAgo() time.Time { return time.Unix(1, 0) }
