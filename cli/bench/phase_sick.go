package bench

import (
	"context"
	"fmt"
	"time"
)

const (
	sickCallbacks = 1000
	sickHanging   = 100 // take hangTime per request
	sickRefusing  = 100 // refuse connections
	sickRate      = 5   // messages per second
	hangTime      = 10 * time.Second
)

// sickPhase measures how 100 hanging subscribers and 100 that refuse connections affect 800 others.
func sickPhase() phase {
	p := phase{name: "sick", group: "sick", slow: true}
	p.expected = expected(2, 4)
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		// Spread the sick callbacks evenly, so that no message has them all first or last.
		hangs := func(callback int) bool { return callback%10 == 3 }
		refuses := func(callback int) bool { return callback%10 == 7 }
		sick := func(callback int) bool { return hangs(callback) || refuses(callback) }
		run := func(name string, o pacedOptions) (Result, error) {
			res := Result{Phase: name}
			o.callbacks, o.rate, o.duration, o.sick = sickCallbacks, sickRate, max(b.part(1), 2*time.Second), sick
			err := b.withHub(ctx, func(c *child) error { return b.pacedRun(ctx, c, &res, o) })
			return res, err
		}
		well, err := run(p.name+"-none", pacedOptions{})
		if err != nil {
			return nil, err
		}
		door, err := b.sink.door()
		if err != nil {
			return nil, err
		}
		defer door.shut()
		res, err := run(p.name, pacedOptions{
			hold: func(ctx context.Context, callback int) {
				if hangs(callback) {
					pause(ctx, hangTime)
				}
			},
			url: func(callback int) string {
				if refuses(callback) {
					return door.callback(callback)
				}
				return b.sink.callback(callback)
			},
			ready: door.shut,
		})
		if err != nil {
			return nil, err
		}
		res.Title = fmt.Sprintf("%d subscriptions, %d hang %v, %d refuse: the others", sickCallbacks, sickHanging, hangTime, sickRefusing)
		res.Unit = "× the p99 without"
		if well.Latency.P99 > 0 {
			res.Value = res.Latency.P99 / well.Latency.P99
		}
		res.Aim = atMost(2, ofValue, " ×")
		res.Lost += well.Lost
		res.Doubled += well.Doubled
		res.Failed += well.Failed
		res.Note = join(res.Note, "none sick: "+well.Latency.String())
		return []Result{res.judge()}, nil
	}
	return p
}

// expected estimates how long a phase takes: a multiple of the duration, plus some seconds for starting hubs.
func expected(durations, seconds float64) func(time.Duration) time.Duration {
	return func(d time.Duration) time.Duration {
		return time.Duration(durations*float64(d)) + time.Duration(seconds*float64(time.Second))
	}
}
