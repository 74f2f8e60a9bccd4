package bench

import (
	"context"
	"time"
)

// rawWindows is the number of samples in a raw measurement.
const rawWindows = 4

// rawCapacity exceeds the number of messages a raw measurement can send.
const rawCapacity = 1 << 21

// measureRaw makes publishers post directly to the sink, without a hub, for about d. It returns the rate in each window. The publishers
// use client unless it is nil.
func measureRaw(ctx context.Context, s *sink, connections int, d time.Duration, client poster) ([]float64, error) {
	s.set(&stage{tally: newTally(1, rawCapacity)})
	to, err := newTarget(s.callback(0))
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
	l.latency = newLatencies(nil) // the same cost as in a measurement with a hub
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.closedLoop(loadCtx, to, l, rawCapacity)
	}()

	var samples []float64
	// The first window opens the connections and is not counted.
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

// windows divides the time into n windows of length d and calls each with the counter at both ends of a window.
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
