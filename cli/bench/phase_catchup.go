package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// catchupRate is a subscriber's initial lag in messages per second of Options.Duration: 200,000 in all by default.
	catchupRate      = 40_000
	catchupQuickRate = 4000
	catchupWindow    = 64
)

// catchupPhase measures how fast subscribers receive what was published while their first request hung: one subscriber in ordered mode,
// and one with a window of 64.
func catchupPhase() phase {
	p := phase{name: "catchup", group: "catchup"}
	p.expected = func(d time.Duration) time.Duration { return 8*d + 3*time.Second }
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		messages := int(catchupRate * b.Duration.Seconds())
		if b.Quick {
			messages = int(catchupQuickRate * b.Duration.Seconds())
		}
		window := Result{Phase: fmt.Sprintf("%s-%d", p.name, catchupWindow), Unit: "deliveries/s", Aim: atLeast(0.5)}
		ordered := Result{Phase: p.name, Unit: "deliveries/s", Aim: atLeast(0.1)}
		err := b.besideRaw(ctx, fanoutPublishers, func(Spread) error {
			// The hub must not time the hanging requests out.
			return b.withHub(ctx, func(c *child) error { return b.catchup(ctx, c, &ordered, &window, messages) }, "timeout: 5m")
		}, &ordered, &window)
		if err != nil {
			return nil, err
		}
		behind := thousands(ordered.Published)
		window.Title = fmt.Sprintf("catch-up, %s messages behind, window %d", behind, catchupWindow)
		ordered.Title = fmt.Sprintf("catch-up, %s messages behind, in order", behind)
		if window.Unit == "" {
			return []Result{ordered.judge()}, nil
		}
		return []Result{ordered.judge(), window.judge()}, nil
	}
	return p
}

// gate makes the requests of one callback hang until it is opened.
type gate struct {
	shut, opened chan struct{}
	open         func()
}

func newGate() *gate {
	g := &gate{shut: make(chan struct{}), opened: make(chan struct{})}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	return g
}

func (g *gate) pass(ctx context.Context) {
	select {
	case <-g.shut:
	default:
		return
	}
	select {
	case <-g.opened:
	case <-ctx.Done():
	}
}

// The callbacks of the phase.
const (
	catchupOrdered = iota
	catchupParallel
	catchupCallbacks
)

func (b *bench) catchup(ctx context.Context, c *child, ordered, window *Result, messages int) error {
	messages++
	gates := [catchupCallbacks]*gate{newGate(), newGate()}
	for _, g := range gates {
		defer g.open()
	}
	st := &stage{
		tally: newTally(catchupCallbacks, messages), secret: []byte(benchSecret),
		hold: func(ctx context.Context, callback int) { gates[callback].pass(ctx) },
		more: func(callback int) map[string]string {
			if callback == catchupParallel {
				return map[string]string{"hub.delivery_mode": "parallel", "hub.delivery_window": fmt.Sprint(catchupWindow)}
			}
			return nil
		},
	}
	b.sink.set(st)
	if err := b.subscribe(ctx, c, "bench", st, catchupCallbacks); err != nil {
		return err
	}
	to, err := newTarget(c.publishURL("bench"))
	if err != nil {
		return err
	}
	p := newPool(fanoutPublishers, b.clock)
	defer p.close()
	l := newLoad(messages)
	if err := b.warmUp(ctx, c, p, to, l, st.tally, nil); err != nil {
		return err
	}
	// A hub that does not support the parameters ignores them, which would distort the result.
	got, err := c.get(ctx, "/v1/subscriptions")
	if err != nil {
		return err
	}
	windowed := bytes.Contains(got.body, []byte(`"mode":"parallel"`))
	if !windowed {
		window.Unit = ""
		ordered.Note = "the measured hub does not support delivery windows"
	}
	for _, g := range gates {
		close(g.shut)
	}
	within, cancel := context.WithTimeout(ctx, 10*b.Duration+stallAfter)
	defer cancel()
	p.closedLoop(within, to, l, messages)

	limits := [catchupCallbacks]time.Duration{catchupOrdered: 2 * b.Duration, catchupParallel: 3 * b.Duration}
	for _, callback := range []int{catchupParallel, catchupOrdered} {
		res := window
		if callback == catchupParallel && !windowed {
			continue
		}
		if callback == catchupOrdered {
			res = ordered
		}
		if err := b.catchUpOne(ctx, c, res, l, st.tally, callback, gates[callback].open, limits[callback]); err != nil {
			return err
		}
	}
	return nil
}

// catchUpOne opens the gate of one callback and measures what arrives.
func (b *bench) catchUpOne(ctx context.Context, c *child, res *Result, l *load, t *tally, callback int, open func(), limit time.Duration) error {
	others := func(n int) bool { return n != callback }
	written := b.profile(ctx, c, res.Phase, limit/2)
	owed := t.missing(l.acked, others)
	usedBefore, cpuErr := c.cpu()
	began := b.clock.now()
	open()
	lost, unfinished, err := drain(ctx, c, l, t, limit, others)
	used, usedErr := c.cpu()
	if err := written(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	left := lost + unfinished
	end := time.Duration(t.last.Load())
	if left > 0 {
		end = b.clock.now()
	}
	delivered := int64(owed - left)
	res.Value = perSecond(delivered, end-began)
	if delivered > 0 && cpuErr == nil && usedErr == nil {
		res.CPU = float64((used - usedBefore).Microseconds()) / float64(delivered)
	}
	res.book(l, t)
	res.Delivered = delivered
	res.Lost, res.Unfinished = int64(lost), int64(unfinished)
	return nil
}
