package bench

import (
	"context"
	"fmt"
	"time"
)

// A day compressed: with messages kept for a few seconds instead of days, every byte of the message log is written and
// dropped many times, while subscriptions move their cursors all the time.
const (
	churnCallbacks = 10
	churnKeep      = 4 * time.Second // retention.max_age
	churnFlush     = 5 * time.Millisecond
	churnAges      = 10  // how many times everything kept is replaced
	churnRate      = 300 // messages a second
)

// churnPhase measures whether the files stay bounded, and whether their space comes back.
func churnPhase() phase {
	p := phase{name: "churn", group: "churn", slow: true}
	p.expected = func(time.Duration) time.Duration { return (churnAges+2)*churnKeep + time.Second }
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		grown := Result{
			Phase: p.name + "-growth", Unit: "× the peak of its first half", Aim: atMost(1.25, ofValue, " ×"),
			Title: fmt.Sprintf("size of message log and state, everything replaced %d times", churnAges),
		}
		left := Result{
			Phase: p.name + "-returned", Unit: "of what was published", Aim: atMost(0.25, ofValue, ""),
			Title: "size of the message log when all of it was dropped",
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
	to, err := newTarget(c.publishURL("bench"), 200)
	if err != nil {
		return err
	}
	p := newPool(pacedPublishers, b.clock)
	defer p.close()
	l := newLoad(messages)
	if err := b.warmUp(ctx, c, p, to, l, st.tally, nil); err != nil {
		return err
	}

	done := make(chan struct{})
	go func() {
		defer close(done)
		p.paced(ctx, to, l, messages-1, churnRate)
	}()
	began := time.Now()
	var first, second int64 // peaks
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
			return err
		}
		if time.Since(began) < duration/2 {
			first = max(first, size)
		} else {
			second = max(second, size)
		}
	}
	lost, unfinished, err := drain(ctx, c, l, st.tally, stallAfter+duration, nil)
	if err != nil {
		return err
	}
	// What is dropped leaves with its whole segment; the last one stays open.
	published := l.accepted.Load() * messageSize
	var last int64
	for within := time.Now().Add(3 * churnKeep); time.Now().Before(within) && ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		if last, err = c.files("fsm"); err != nil {
			return err
		}
		if left.Aim.Met(float64(last) / float64(published)) {
			break
		}
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
	grown.Note = join(grown.Note, fmt.Sprintf("%.1f MiB, later %.1f MiB; %.1f MiB were published; raft's log has %.1f MiB (it is cut at 64 MiB and keeps as much)",
		mebibytes(first), mebibytes(second), mebibytes(published), mebibytes(all-last)))
	left.Value = float64(last) / float64(published)
	left.Note = fmt.Sprintf("%.1f MiB with the state", mebibytes(last))
	return ctx.Err()
}
