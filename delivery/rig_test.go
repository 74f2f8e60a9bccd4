package delivery_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

// rig is a dispatcher with an engine and a network, in a synctest bubble.
type rig struct {
	*fake.Engine
	net *fake.Network
	d   *delivery.Dispatcher
	o   delivery.DispatcherOptions
}

// bubble runs f with a started dispatcher, in virtual time, and closes it afterwards.
func bubble(t *testing.T, behave func(url string, nth int, body string) fake.Answer, tune func(*delivery.DispatcherOptions), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{Engine: fake.NewEngine(t), net: fake.NewNetwork(behave)}
		r.o = options(r.Engine)
		r.o.Retry = retry.Policy{Backoff: retry.Backoff{Initial: time.Second, Max: time.Minute,
			Random: func(n int64) int64 { return n - 1 }}} // the longest waits, so that they are predictable
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
	r.Observe(r.d)
	r.d.Start(context.Background())
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.d.Close(ctx); err != nil {
		r.T.Errorf("Close: %v", err)
	}
	r.Forget()
}

// crash stops the dispatcher without a chance to record anything.
func (r *rig) crash() {
	r.Breakdown(hub.ErrStopping)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.d.Close(ctx)
	r.Forget()
	r.Breakdown(nil)
}

// after lets virtual time pass and everything settle.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func options(e *fake.Engine) delivery.DispatcherOptions {
	return delivery.DispatcherOptions{
		Node: "node-1", HubURL: "https://hub.example/hub", Namer: fake.Namer(e.T), State: e, Messages: e, Proposer: e,
		Secrets: fake.Box{}, Clock: hub.SystemClock{}, Log: fake.Discard(),
	}
}
