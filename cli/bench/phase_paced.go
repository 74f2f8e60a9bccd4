package bench

import (
	"context"
	"fmt"
	"time"
)

// pacedPublishers is enough publishers to always have a free one at the paced rates, unless the hub stalls.
const pacedPublishers = 64

const pacedRate = 200 // messages per second

// pacedPhase measures the time from a message's scheduled time to its arrival at a single subscriber.
func pacedPhase() phase {
	p := phase{name: "paced", group: "paced"}
	p.expected = func(d time.Duration) time.Duration { return d + d/3 + time.Second }
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		raw, err := b.pacedRaw(ctx, max(b.Duration/4, 500*time.Millisecond))
		if err != nil {
			return nil, fmt.Errorf("raw measurement: %w", err)
		}
		res := Result{Phase: p.name, Title: fmt.Sprintf("end to end, %d/s", pacedRate), Unit: "ms p50", RawLatency: raw, Aim: atMost(10, ofP99, " ms")}
		second := Result{Phase: p.name + "-p50", Title: fmt.Sprintf("end to end, %d/s, median", pacedRate), Unit: "ms", Aim: atMost(3, ofValue, " ms")}
		err = b.withHub(ctx, func(c *child) error {
			return b.pacedRun(ctx, c, &res, pacedOptions{callbacks: 1, rate: pacedRate, duration: max(b.Duration, 1500*time.Millisecond)})
		})
		if err != nil {
			return nil, err
		}
		second.Value = res.Latency.P50
		res.Value, res.Unit = res.Latency.P99, "ms p99"
		return []Result{second.judge(), res.judge()}, nil
	}
	return p
}

// pacedRaw runs the same schedule without a hub, to measure the latency of timers, client and sink alone.
func (b *bench) pacedRaw(ctx context.Context, d time.Duration) (*Quantiles, error) {
	messages := int(d.Seconds() * pacedRate)
	t := newTally(1, messages)
	t.latency = newLatencies(nil)
	b.sink.set(&stage{tally: t})
	to, err := newTarget(b.sink.callback(0))
	if err != nil {
		return nil, err
	}
	p := newPool(pacedPublishers, b.clock)
	defer p.close()
	l := newLoad(messages)
	p.paced(ctx, to, l, messages, pacedRate)
	if err := l.firstProblem(); err != nil {
		return nil, err
	}
	return t.latency.quantiles(), ctx.Err()
}

type pacedOptions struct {
	callbacks int
	topics    int     // message n and callback n belong to topic n%topics; 0 means one topic
	rate      float64 // messages per second, over all topics
	duration  time.Duration
	sick      func(callback int) bool // callbacks neither measured nor waited for; may be nil
	hold      func(ctx context.Context, callback int)
	url       func(callback int) string // as in stage
	ready     func()                    // called once all subscriptions are active; may be nil
}

// topicOf returns the name of topic n.
func topicOf(n int) string { return fmt.Sprintf("bench-%d", n) }

// every returns the mask (see tally.owed) of the numbers congruent to n modulo k. k must divide 64.
func every(k, n int) uint64 {
	var mask uint64
	for bit := n % k; bit < 64; bit += k {
		mask |= 1 << bit
	}
	return mask
}

func (b *bench) pacedRun(ctx context.Context, c *child, res *Result, o pacedOptions) (err error) {
	topics := max(o.topics, 1)
	messages := int(o.duration.Seconds()*o.rate) + topics
	st := &stage{tally: newTally(o.callbacks, messages), secret: []byte(benchSecret), hold: o.hold, url: o.url}
	st.tally.latency = newLatencies(o.sick)
	st.tally.owed = func(callback int) uint64 { return every(topics, callback) }
	st.topic = func(callback int) string { return topicOf(callback % topics) }
	b.sink.set(st)
	if err := b.subscribe(ctx, c, "", st, o.callbacks); err != nil {
		return err
	}
	if o.ready != nil {
		o.ready()
	}
	of := make([][]target, topics)
	for n := range topics {
		if of[n], err = c.targets(topicOf(n)); err != nil {
			return err
		}
	}
	var to target
	for node := range len(of[0]) { // keep message n in topic n%topics
		for n := range topics {
			to.rotate = append(to.rotate, of[n][node])
		}
	}
	p := newPool(pacedPublishers, b.clock)
	defer p.close()
	l := newLoad(messages)
	for range topics {
		if err := b.warmUp(ctx, c, p, to, l, st.tally, o.sick); err != nil {
			return err
		}
	}
	st.tally.latency.since.Store(int64(b.clock.now()))
	written := b.profile(ctx, c, res.Phase, o.duration)
	p.paced(ctx, to, l, messages-topics, o.rate)
	lost, unfinished, err := drain(ctx, c, l, st.tally, o.duration+stallAfter, o.sick)
	if err := written(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	res.Latency = st.tally.latency.quantiles()
	res.book(l, st.tally)
	res.Lost, res.Unfinished = int64(lost), int64(unfinished)
	return nil
}
