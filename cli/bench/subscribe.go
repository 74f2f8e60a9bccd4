package bench

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// setupWithin is how long subscribing, or the first message, may take.
const setupWithin = 15 * time.Second

// subscribe subscribes each callback and waits until all intents are verified.
func (b *bench) subscribe(ctx context.Context, c *child, topic string, st *stage, callbacks int) error {
	within := setupWithin + time.Duration(callbacks)*3*time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	form := url.Values{"hub.mode": {"subscribe"}}
	if st.secret != nil {
		form.Set("hub.secret", string(st.secret))
	}
	work := make(chan int)
	var (
		wg      sync.WaitGroup
		once    sync.Once
		problem error // the first
	)
	asking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	for range min(callbacks, 32) {
		wg.Go(func() {
			for n := range work {
				of, at := topic, b.sink.callback(n)
				if st.topic != nil {
					of = st.topic(n)
				}
				if st.url != nil {
					at = st.url(n)
				}
				var more map[string]string
				if st.more != nil {
					more = st.more(n)
				}
				if err := subscribeOne(asking, c, form, c.topicURL(of), at, more); err != nil {
					once.Do(func() {
						problem = err
						giveUp()
					})
				}
			}
		})
	}
	for n := 0; n < callbacks && asking.Err() == nil; n++ {
		work <- n
	}
	close(work)
	wg.Wait()
	if problem != nil {
		return problem
	}
	return await(ctx, c, func() error {
		if n := st.intent.Load(); n < int64(callbacks) {
			return fmt.Errorf("%d of %d subscriptions were verified within %v", n, callbacks, within)
		}
		return nil
	})
}

func subscribeOne(ctx context.Context, c *child, common url.Values, topic, callback string, more map[string]string) error {
	form := url.Values{"hub.callback": {callback}, "hub.topic": {topic}}
	for k, v := range common {
		form[k] = v
	}
	for k, v := range more {
		form.Set(k, v)
	}
	got, err := c.form(ctx, form)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if got.status != 202 {
		return fmt.Errorf("subscribe: got status %d %q, expected 202", got.status, got.body)
	}
	return nil
}

// warmUp sends a message and waits until it has arrived everywhere, so that connections are open and subscriptions active before the
// measurement starts.
func (b *bench) warmUp(ctx context.Context, c *child, p *pool, to target, l *load, t *tally, skip func(int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, setupWithin)
	defer cancel()
	p.publish(ctx, to, l, int(l.next.Add(1)-1), p.clock.now())
	if err := l.firstProblem(); err != nil {
		return err
	}
	return await(ctx, c, func() error {
		if n := t.missing(l.acked, skip); n > 0 {
			return fmt.Errorf("the first message did not reach %d callbacks within %v", n, setupWithin)
		}
		return nil
	})
}

// await calls check until it returns nil. It returns check's last error if ctx ends first, or why the hub exited.
func await(ctx context.Context, c *child, check func() error) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.ended:
			return c.alive()
		case <-ctx.Done():
			return err
		}
	}
}

// stallAfter is how long nothing may arrive before missing deliveries count as lost.
const stallAfter = 5 * time.Second

// drain waits until everything owed has arrived. It returns the number of missing deliveries: lost if nothing arrived for stallAfter,
// unfinished if the time was up while deliveries still arrived.
func drain(ctx context.Context, c *child, l *load, t *tally, within time.Duration, skip func(int) bool) (lost, unfinished int, err error) {
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	arrived, since := t.first.Load(), time.Now()
	for {
		missing := t.missing(l.acked, skip)
		if missing == 0 {
			return 0, 0, nil
		}
		if n := t.first.Load(); n != arrived {
			arrived, since = n, time.Now()
		}
		if time.Since(since) > stallAfter {
			return missing, 0, nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return 0, missing, nil
		case <-c.ended:
			return 0, missing, c.alive()
		case <-ctx.Done():
			return 0, missing, ctx.Err()
		}
	}
}
