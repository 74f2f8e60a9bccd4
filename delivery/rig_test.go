package delivery_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
)

// rig is a dispatcher on an engine and a network, in a synctest bubble.
type rig struct {
	*engine
	net *network
	d   *delivery.Dispatcher
	o   delivery.DispatcherOptions
}

// bubble runs f with a started dispatcher, in virtual time, and closes it afterwards.
func bubble(t *testing.T, behave func(url string, nth int, body string) answer, tune func(*delivery.DispatcherOptions), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{engine: newEngine(t), net: newNetwork(behave)}
		r.o = options(r.engine)
		r.o.Retry = delivery.RetryPolicy{Backoff: delivery.Backoff{Initial: time.Second, Max: time.Minute,
			Random: func(n int64) int64 { return n - 1 }}} // the longest waits, so that they can be told
		r.o.Pusher = &delivery.Pusher{Client: r.net, Clock: hub.SystemClock{}, UserAgent: "quorumhub/test"}
		if tune != nil {
			tune(&r.o)
		}
		r.start()
		f(r)
		r.stop()
	})
}

func (r *rig) start() {
	r.d = delivery.NewDispatcher(r.o)
	r.observe(r.d)
	r.d.Start(context.Background())
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.d.Close(ctx); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	r.forget()
}

// crash ends the dispatcher without a chance to record anything.
func (r *rig) crash() {
	r.breakdown(hub.ErrStopping)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.d.Close(ctx)
	r.forget()
	r.breakdown(nil)
}

// after lets virtual time pass and everything settle.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func options(e *engine) delivery.DispatcherOptions {
	return delivery.DispatcherOptions{
		Node: "node-1", HubURL: "https://hub.example/hub", Namer: namer(e.t), State: e, Messages: e, Proposer: e,
		Secrets: box{}, Clock: hub.SystemClock{}, Log: quiet(),
	}
}
