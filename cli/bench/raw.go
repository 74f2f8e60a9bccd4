package bench

import (
	"context"
	"time"
)

// rawWindows is how many samples one raw measurement gives.
const rawWindows = 4

// rawCapacity is more messages than a raw measurement can send.
const rawCapacity = 1 << 21

// measureRaw lets connections publishers post straight to the sink, without a hub, for about d, and returns the
// rate in each window of it. client takes the place of their own when it is not nil.
func measureRaw(ctx context.Context, s *sink, connections int, d time.Duration, client poster) ([]float64, error) {
	s.set(&stage{tally: newTally(1, rawCapacity)})
	to, err := newTarget(s.callback(0), 200)
	if err != nil {
		return nil, err
	}
	p := newPool(connections, s.clock)
	defer p.close()
	if client != nil {
		p.poster = client
	}

	loadCtx, stop := context.WithCancel(ctx)
	l := newLoad(rawCapacity)
	l.latency = newLatencies(nil) // as against a hub
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.closedLoop(loadCtx, to, l, rawCapacity)
	}()

	var samples []float64
	// The connections are opened in a window that is not counted.
	err = windows(ctx, d/rawWindows, rawWindows+1, func(i int, took time.Duration, before, now int64) {
		if i > 0 {
			samples = append(samples, perSecond(now-before, took))
		}
	}, l.accepted.Load)
	stop()
	<-done
	if err == nil {
		err = l.firstProblem()
	}
	return samples, err
}

// windows reads a counter n times, d apart, and hands out what it was at both ends of each window.
func windows(ctx context.Context, d time.Duration, n int, each func(i int, took time.Duration, before, now int64), counter func() int64) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	at, before := time.Now(), counter()
	for i := range n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		t, now := time.Now(), counter()
		each(i, t.Sub(at), before, now)
		at, before = t, now
	}
	return nil
}
