package bench

import (
	"context"
	"fmt"
	"time"
)

// The phase compresses days into a minute: with a retention of a few seconds, every byte of the message log is written and dropped many
// times, while cursors move constantly.
const (
	churnCallbacks = 10
	churnKeep      = 4 * time.Second // retention.max_age
	churnFlush     = 5 * time.Millisecond
	churnAges      = 10  // how many times the whole message log is replaced
	churnRate      = 300 // messages a second
)

// churnPhase measures whether the files stay bounded and whether dropped messages free their space.
func churnPhase() phase {
	p := phase{name: "churn", group: "churn", slow: true}
	p.expected = func(time.Duration) time.Duration { return (churnAges+2)*churnKeep + time.Second }
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		grown := Result{
			Phase: p.name + "-growth", Unit: "× the peak of its first half", Aim: atMost(1.25, ofValue, " ×"),
			Title: fmt.Sprintf("size of message log and state, all messages replaced %d times", churnAges),
		}
		left := Result{
			Phase: p.name + "-returned", Unit: "of what was published", Aim: atMost(0.25, ofValue, ""),
			Title: "size of the message log after all messages were dropped",
		}
		if err := b.churn(ctx, &grown, &left); err != nil {
			return nil, err
		}
		return []Result{grown.judge(), left.judge()}, nil
	}
	return p
}

func (b *bench) churn(ctx context.Context, grown, left *Result) (err error) {
	c, err := startHub(ctx, b.Binary, b.Dir, []string{
		"QUORUMHUB_RETENTION_MAX_AGE=" + churnKeep.String(), "QUORUMHUB_STORAGE_SEGMENT_BYTES=1MiB",
	}, "cursor_flush: "+churnFlush.String())
	if err != nil {
		return err
	}
	defer func() {
		if e := c.Close(); err == nil {
			err = e
		}
	}()
	duration := churnAges * churnKeep
	messages := int(churnRate*duration.Seconds()) + 1
	st := &stage{tally: newTally(churnCallbacks, messages), secret: []byte(benchSecret)}
	b.sink.set(st)
	if err := b.subscribe(ctx, c, "bench", st, churnCallbacks); err != nil {
		return err
	}
	to, err := newTarget(c.publishURL("bench"))
	if err != nil {
		return err
	}
	p := newPool(pacedPublishers, b.clock)
	defer p.close()
	l := newLoad(messages)
	if err := b.warmUp(ctx, c, p, to, l, st.tally, nil); err != nil {
		return err
	}

	first, second, err := c.peaks(duration, func() { p.paced(ctx, to, l, messages-1, churnRate) })
	if err != nil {
		return err
	}
	lost, unfinished, err := drain(ctx, c, l, st.tally, stallAfter+duration, nil)
	if err != nil {
		return err
	}
	published := l.accepted.Load() * messageSize
	last, err := c.awaitDropped(ctx, func(size int64) bool { return left.Aim.Met(float64(size) / float64(published)) })
	if err != nil {
		return err
	}
	grown.book(l, st.tally)
	grown.Lost, grown.Unfinished = int64(lost), int64(unfinished)
	if first > 0 {
		grown.Value = float64(second) / float64(first)
	}
	all, err := c.files("")
	if err != nil {
		return err
	}
	grown.Note = join(grown.Note, fmt.Sprintf("%.1f MiB, later %.1f MiB; %.1f MiB were published; raft's log has %.1f MiB (it is compacted at 64 MiB and keeps as much)",
		mebibytes(first), mebibytes(second), mebibytes(published), mebibytes(all-last)))
	left.Value = float64(last) / float64(published)
	left.Note = fmt.Sprintf("%.1f MiB with the state", mebibytes(last))
	return ctx.Err()
}

// peaks runs load and returns the largest size of message log and state in the first half of d and after it.
func (c *child) peaks(d time.Duration, load func()) (first, second int64, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		load()
	}()
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
		}
		size, err := c.files("fsm")
		if err != nil {
			return 0, 0, err
		}
		if time.Since(began) < d/2 {
			first = max(first, size)
		} else {
			second = max(second, size)
		}
	}
	return first, second, nil
}

// awaitDropped waits until retention has dropped enough messages, up to three times churnKeep, and returns the size of message log and state.
// Messages are dropped by the segment, and the last segment stays open.
func (c *child) awaitDropped(ctx context.Context, enough func(size int64) bool) (size int64, err error) {
	for within := time.Now().Add(3 * churnKeep); time.Now().Before(within) && ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		if size, err = c.files("fsm"); err != nil || enough(size) {
			break
		}
	}
	return size, err
}
