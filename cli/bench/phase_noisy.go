package bench

import (
	"context"
	"fmt"
	"time"
)

const (
	noisyCallbacks = 10
	noisyRate      = 60 // messages per second
	noisyDelay     = 4 * time.Second
)

// noisyPhase measures how a subscriber that takes four seconds per request affects nine others.
func noisyPhase() phase {
	p := phase{name: "noisy", group: "noisy"}
	p.expected = func(d time.Duration) time.Duration { return 2*noisyTime(d) + 2*time.Second }
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		first := func(callback int) bool { return callback == 0 }
		run := func(name string, hold func(context.Context, int)) (Result, error) {
			res := Result{Phase: name}
			err := b.withHub(ctx, func(c *child) error {
				return b.pacedRun(ctx, c, &res, pacedOptions{
					callbacks: noisyCallbacks, rate: noisyRate, duration: noisyTime(b.Duration), sick: first, hold: hold,
				})
			})
			return res, err
		}
		calm, err := run(p.name+"-none-slow", nil)
		if err != nil {
			return nil, err
		}
		res, err := run(p.name, func(ctx context.Context, callback int) {
			if first(callback) {
				pause(ctx, noisyDelay)
			}
		})
		if err != nil {
			return nil, err
		}
		res.Title = fmt.Sprintf("noisy neighbour, %d callbacks, one takes %v, %d/s", noisyCallbacks, noisyDelay, noisyRate)
		res.Unit = "× the p99 without"
		res.RawLatency = nil
		if calm.Latency.P99 > 0 {
			res.Value = res.Latency.P99 / calm.Latency.P99
		}
		res.Aim = atMost(2, ofValue, " ×")
		res.Lost += calm.Lost
		res.Doubled += calm.Doubled
		res.Failed += calm.Failed
		res.Note = join(res.Note, "none slow: "+calm.Latency.String())
		return []Result{res.judge()}, nil
	}
	return p
}

func noisyTime(d time.Duration) time.Duration {
	return max(time.Duration(0.8*float64(d)), 1500*time.Millisecond)
}
