package bench

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const (
	// idleRate is the number of subscriptions per second of Options.Duration: 100,000 in all by default.
	idleRate   = 20_000
	idleTopics = 64
)

// idlePhase measures the cost of many idle subscriptions: memory, and the startup time of a node that has them.
func idlePhase() phase {
	p := phase{name: "idle", group: "idle", slow: true}
	p.expected = expected(12, 4)
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		n := int(idleRate * b.Duration.Seconds())
		memory := Result{
			Phase: p.name + "-memory", Unit: "bytes each", Aim: atMost(1024, ofValue, " bytes"),
			Title: fmt.Sprintf("memory of %s idle subscriptions", thousands(int64(n))),
		}
		start := Result{
			Phase: p.name + "-start", Unit: "s", Aim: atMost(5, ofValue, " s"),
			Title: fmt.Sprintf("exec to ready with %s subscriptions, after a kill", thousands(int64(n))),
		}
		err := b.idle(ctx, &memory, &start, n)
		if err != nil {
			return nil, err
		}
		return []Result{memory.judge(), start.judge()}, nil
	}
	return p
}

func (b *bench) idle(ctx context.Context, memory, start *Result, n int) (err error) {
	env := profileEnv(true) // makes it possible to trigger a garbage collection
	c, err := startHub(ctx, b.Binary, b.Dir, env)
	if err != nil {
		return err
	}
	defer func() {
		if e := c.Close(); err == nil {
			err = e
		}
	}()
	heapBefore, residentBefore, _, err := c.settled(ctx)
	if err != nil {
		return err
	}
	st := &stage{
		tally: newTally(1, 64), secret: []byte(benchSecret),
		topic: func(callback int) string { return topicOf(callback % idleTopics) },
	}
	b.sink.set(st)
	began := time.Now()
	if err := b.subscribe(ctx, c, "", st, n); err != nil {
		return err
	}
	if err := c.awaitSubscriptions(ctx, n); err != nil {
		return err
	}
	took := time.Since(began)

	next, err := c.restart(ctx, b.Binary, env)
	if err != nil {
		return err
	}
	c = next
	if err := c.awaitSubscriptions(ctx, n); err != nil {
		return err
	}
	start.Value = c.StartUp.Seconds()
	heap, resident, profile, err := c.settled(ctx)
	if err == nil && b.ProfileDir != "" {
		err = os.WriteFile(filepath.Join(b.ProfileDir, memory.Phase+".pprof"), profile, 0o600)
	}
	if err != nil {
		return err
	}
	// The size of a heap, other than its live part, depends on GOGC and on what happened before. Report both.
	memory.Value = (heap - heapBefore) / float64(n)
	memory.Note = fmt.Sprintf("live heap; %.0f bytes each resident, including garbage from startup (%.0f MiB in total); created at %s per second",
		float64(resident-residentBefore)/float64(n), mebibytes(resident), plain(perSecond(int64(n), took)))
	return nil
}

// awaitSubscriptions waits until the hub has n subscriptions.
func (c *child) awaitSubscriptions(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, setupWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := c.metric(ctx, "quorumhub_subscriptions")
		if err == nil && int(have) == n {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.ended:
			return c.alive()
		case <-ctx.Done():
			return fmt.Errorf("the hub has %.0f subscriptions, expected %d (%w)", have, n, ctx.Err())
		}
	}
}

// settled triggers a garbage collection and returns the live heap and the resident memory in bytes, and the heap profile. The hub must
// have profiling enabled.
func (c *child) settled(ctx context.Context) (heap float64, resident int64, profile []byte, err error) {
	pause(ctx, time.Second)
	got, err := c.get(ctx, "/debug/pprof/heap?gc=1")
	if err != nil {
		return 0, 0, nil, err
	}
	if got.status != http.StatusOK {
		return 0, 0, nil, fmt.Errorf("/debug/pprof/heap: got status %d, expected 200", got.status)
	}
	if heap, err = c.metric(ctx, "go_memstats_heap_alloc_bytes"); err != nil {
		return 0, 0, nil, err
	}
	resident, _, err = c.memory()
	return heap, resident, got.body, err
}
