package bench

import (
	"context"
	"fmt"
)

// The load that MOSIP publishes figures for: 8 topics with 10 signed subscriptions each.
const (
	mosipTopics    = 8
	mosipCallbacks = 80
	mosipRate      = 239 // publishes per second, over all topics
)

// mosipPhase measures the time from a message's scheduled time to its arrivals.
func mosipPhase() phase {
	p := phase{name: "mosip", group: "mosip"}
	p.expected = expected(1, 2)
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		res := Result{
			Phase: p.name, Unit: "ms p99", Aim: atMost(50, ofP99, " ms"),
			Title: fmt.Sprintf("end to end, %d topics × %d signed, %d publishes/s", mosipTopics, mosipCallbacks/mosipTopics, mosipRate),
		}
		err := b.withHub(ctx, func(c *child) error {
			return b.pacedRun(ctx, c, &res, pacedOptions{
				callbacks: mosipCallbacks, topics: mosipTopics, rate: mosipRate, duration: b.part(1),
			})
		})
		if err != nil {
			return nil, err
		}
		res.Value = res.Latency.P99
		return []Result{res.judge()}, nil
	}
	return p
}
