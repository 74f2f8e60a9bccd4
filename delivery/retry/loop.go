package retry

import (
	"context"
	"sync"
)

// Loop is the frame of a component that works in the background: a goroutine that others wake, and those that it starts. Make it with
// NewLoop. Begin and Close may be called once each, in any order; Wake at any time; the other methods by the loop's own goroutines.
type Loop struct {
	wake chan struct{}
	work sync.WaitGroup

	mu     sync.Mutex
	ctx    context.Context // since Begin
	cancel context.CancelFunc
}

// NewLoop returns a loop that does nothing until Begin.
func NewLoop() *Loop { return &Loop{wake: make(chan struct{}, 1)} }

// Begin starts run, which must return when Done is closed.
func (l *Loop) Begin(ctx context.Context, run func()) {
	l.mu.Lock()
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.mu.Unlock()
	l.work.Go(run)
}

// Close ends the loop's context, and waits for its goroutines.
func (l *Loop) Close() {
	l.mu.Lock()
	cancel := l.cancel
	l.mu.Unlock()
	if cancel != nil {
		cancel()
		l.work.Wait()
	}
}

// Wake makes Woken ready. Several calls before the loop looks are one.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Woken is ready after Wake.
func (l *Loop) Woken() <-chan struct{} { return l.wake }

// Context ends with Close.
func (l *Loop) Context() context.Context { return l.ctx }

// Done is closed with Close.
func (l *Loop) Done() <-chan struct{} { return l.ctx.Done() }

// Closing reports whether Close has begun: nothing new is to be started.
func (l *Loop) Closing() bool { return l.ctx.Err() != nil }

// Go starts one more goroutine, for which Close waits.
func (l *Loop) Go(f func()) { l.work.Go(f) }
