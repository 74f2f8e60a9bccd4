package bench

import (
	"context"
	"fmt"
	"time"
)

// maxPublishes exceeds the number of messages a publish phase can send.
const maxPublishes = 1 << 23

// publishPhase measures publishes to a topic without subscriptions: the cost of making messages durable.
func publishPhase(publishers int, share float64, slow bool, aim *Aim) phase {
	title := fmt.Sprintf("publish 1 KiB, %d publishers", publishers)
	if publishers == 1 {
		title = "publish 1 KiB, 1 publisher"
	}
	p := phase{name: fmt.Sprintf("publish-%d", publishers), group: "publish", slow: slow}
	p.expected = func(d time.Duration) time.Duration {
		return time.Duration(share*float64(d)) + d/3 + 1500*time.Millisecond
	}
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		res := Result{Phase: p.name, Title: title, Unit: "publishes/s", Aim: aim}
		err := b.besideRaw(ctx, publishers, func(Spread) error {
			return b.withHub(ctx, func(c *child) error {
				return b.publish(ctx, c, &res, publishers, b.part(share))
			})
		}, &res)
		if err != nil {
			return nil, err
		}
		return []Result{res.judge()}, nil
	}
	return p
}

func (b *bench) publish(ctx context.Context, c *child, res *Result, publishers int, d time.Duration) error {
	b.sink.set(nil)
	to, err := c.target("bench")
	if err != nil {
		return err
	}
	p := newPool(publishers, b.clock)
	defer p.close()
	l := newLoad(maxPublishes)
	l.latency = newLatencies(nil)

	loadCtx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.closedLoop(loadCtx, to, l, maxPublishes)
	}()
	written := b.profile(ctx, c, res.Phase, d)
	usedBefore, cpuErr := c.cpu()
	counted, took := int64(0), time.Duration(0)
	// The first window opens the connections and is not counted.
	const count = 10
	err = windows(ctx, d/count, count+1, func(i int, t time.Duration, before, now int64) {
		if i > 0 {
			counted += now - before
			took += t
		} else {
			usedBefore, cpuErr = c.cpu()
		}
	}, l.accepted.Load)
	used, usedErr := c.cpu()
	stop()
	<-done
	if err := written(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	res.Value = perSecond(counted, took)
	if counted > 0 && cpuErr == nil && usedErr == nil {
		res.CPU = float64((used - usedBefore).Microseconds()) / float64(counted)
	}
	res.Latency = l.latency.quantiles()
	res.book(l, nil)
	return nil
}
