package bench

import (
	"context"
	"fmt"
	"time"
)

// fanoutPublishers is the number of publishers in the phases that measure delivery.
const fanoutPublishers = 64

// benchSecret signs the deliveries.
const benchSecret = "not secret at all, but as long as a real one"

// fanoutPhase measures the delivery rate from the first publish to the last arrival, for one topic with signed subscriptions. guess is
// the expected share of the raw rate, which determines how many messages are sent.
func fanoutPhase(subscriptions int, share, guess float64, slow bool, aim *Aim) phase {
	p := phase{name: fmt.Sprintf("fanout-%d", subscriptions), group: "fanout", slow: slow}
	p.expected = func(d time.Duration) time.Duration {
		return time.Duration(share*float64(d)) + d/3 + 1700*time.Millisecond
	}
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		res := Result{Phase: p.name, Title: fmt.Sprintf("fan-out 1 → %d, signed", subscriptions), Unit: "deliveries/s", Aim: aim}
		connections := max(subscriptions, fanoutPublishers)
		err := b.besideRaw(ctx, connections, func(before Spread) error {
			messages := int(before.Median*guess*b.part(share).Seconds())/subscriptions + 1
			return b.withHub(ctx, func(c *child) error {
				return b.fanout(ctx, c, &res, subscriptions, messages, b.part(share))
			})
		}, &res)
		if err != nil {
			return nil, err
		}
		return []Result{res.judge()}, nil
	}
	return p
}

func (b *bench) fanout(ctx context.Context, c *child, res *Result, subscriptions, messages int, d time.Duration) error {
	messages++ // the first one opens the connections
	st := &stage{tally: newTally(subscriptions, messages), secret: []byte(benchSecret)}
	b.sink.set(st)
	if err := b.subscribe(ctx, c, "bench", st, subscriptions); err != nil {
		return err
	}
	to, err := c.target("bench")
	if err != nil {
		return err
	}
	p := newPool(min(fanoutPublishers, messages), b.clock)
	defer p.close()
	l := newLoad(messages)
	if err := b.warmUp(ctx, c, p, to, l, st.tally, nil); err != nil {
		return err
	}

	written := b.profile(ctx, c, res.Phase, d)
	arrived := st.tally.first.Load()
	usedBefore, cpuErr := c.cpu()
	began := b.clock.now()
	within, cancel := context.WithTimeout(ctx, 3*d+stallAfter)
	defer cancel()
	p.closedLoop(within, to, l, messages)
	lost, unfinished, err := drain(ctx, c, l, st.tally, max(3*d-(b.clock.now()-began), time.Second), nil)
	used, usedErr := c.cpu()
	if err := written(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	delivered := st.tally.first.Load() - arrived
	res.Value = perSecond(delivered, time.Duration(st.tally.last.Load())-began)
	if delivered > 0 && cpuErr == nil && usedErr == nil {
		res.CPU = float64((used - usedBefore).Microseconds()) / float64(delivered)
	}
	res.book(l, st.tally)
	res.Lost, res.Unfinished = int64(lost), int64(unfinished)
	return nil
}
