package bench

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// catchupRate is how many messages a subscriber is behind for each second of Options.Duration.
const catchupRate = 4000

// catchupPhase measures how fast a subscriber gets what was published while its first request hung.
func catchupPhase() phase {
	p := phase{name: "catchup", group: "catchup"}
	p.expected = func(d time.Duration) time.Duration { return d + d/3 + 1500*time.Millisecond }
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		messages := int(catchupRate * b.Duration.Seconds())
		res := Result{
			Phase: p.name, Title: fmt.Sprintf("catch-up, %s messages behind, ordered", thousands(int64(messages))),
			Unit: "deliveries/s", Aim: atLeast(0.1, ofRatio, ""),
		}
		raw, err := b.besideRaw(ctx, fanoutPublishers, func(Spread) error {
			// The hub must not give up on the request that hangs.
			return b.withHub(ctx, func(c *child) error { return b.catchup(ctx, c, &res, messages) }, "timeout: 2m")
		})
		if err != nil {
			return nil, err
		}
		res.Raw, res.Ratio = &raw, ratio(res.Value, raw)
		return []Result{res.judge()}, nil
	}
	return p
}

func (b *bench) catchup(ctx context.Context, c *child, res *Result, messages int) error {
	messages++
	closed, opened := make(chan struct{}), make(chan struct{})
	open := sync.OnceFunc(func() { close(opened) })
	defer open()
	st := &stage{tally: newTally(1, messages), secret: []byte(benchSecret), hold: func(ctx context.Context, _ int) {
		select {
		case <-closed:
		default:
			return
		}
		select {
		case <-opened:
		case <-ctx.Done():
		}
	}}
	b.sink.set(st)
	if err := b.subscribe(ctx, c, "bench", st, 1); err != nil {
		return err
	}
	to, err := newTarget(c.publishURL("bench"), 200)
	if err != nil {
		return err
	}
	p := newPool(fanoutPublishers, b.clock)
	defer p.close()
	l := newLoad(messages)
	if err := b.warmUp(ctx, c, p, to, l, st.tally, nil); err != nil {
		return err
	}
	close(closed)
	within, cancel := context.WithTimeout(ctx, 3*b.Duration+stallAfter)
	defer cancel()
	p.closedLoop(within, to, l, messages)

	written := b.profile(ctx, c, res.Phase, b.part(0.5))
	arrived := st.tally.first.Load()
	usedBefore, cpuErr := c.cpu()
	began := b.clock.now()
	open()
	lost, unfinished, err := drain(ctx, c, l, st.tally, 3*b.Duration, nil)
	used, usedErr := c.cpu()
	if err := written(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	delivered := st.tally.first.Load() - arrived
	took := time.Duration(st.tally.last.Load()) - began
	res.Value = perSecond(delivered, took)
	if delivered > 0 && cpuErr == nil && usedErr == nil {
		res.CPU = float64((used - usedBefore).Microseconds()) / float64(delivered)
	}
	res.book(l, st.tally)
	res.Lost, res.Unfinished = int64(lost), int64(unfinished)
	return nil
}
