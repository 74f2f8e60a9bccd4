package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// phase is one measurement of a run, or a few related ones.
type phase struct {
	name, group string
	slow        bool // skipped by a quick run
	expected    func(d time.Duration) time.Duration
	run         func(ctx context.Context, b *bench) ([]Result, error)
}

func (p phase) is(name string) bool { return name == p.name || name == p.group }

// clustered reports whether a phase can run on several nodes.
func (p phase) clustered() bool {
	switch p.group {
	case "publish", "fanout", "paced", "mosip":
		return true
	}
	return false
}

// task is a phase to measure on a number of nodes.
type task struct {
	phase
	nodes int
}

func (t task) label() string {
	if t.nodes > 1 {
		return fmt.Sprintf("%s, %d nodes", t.name, t.nodes)
	}
	return t.name
}

// bench is one run.
type bench struct {
	Options
	clock  stopwatch
	sink   *sink
	starts []time.Duration // startup times of all hubs
}

// hub starts a hub for one phase.
func (b *bench) hub(ctx context.Context, delivery ...string) (*child, error) {
	env := profileEnv(b.ProfileDir != "")
	if b.Nodes > 1 {
		return startCluster(ctx, b.Nodes, b.Binary, b.Dir, env, delivery...)
	}
	c, err := startHub(ctx, b.Binary, b.Dir, env, delivery...)
	if err != nil {
		return nil, err
	}
	b.starts = append(b.starts, c.StartUp)
	return c, nil
}

// rawTime is the length of one raw measurement.
func (b *bench) rawTime() time.Duration {
	return min(max(b.Duration/6, 250*time.Millisecond), time.Second)
}

// besideRaw runs f between two raw measurements with the given number of connections, and adds the raw figures to the results.
func (b *bench) besideRaw(ctx context.Context, connections int, f func(before Spread) error, results ...*Result) error {
	var lean, plain []float64
	measure := func() error {
		for _, m := range []struct {
			samples *[]float64
			client  poster
		}{{&lean, nil}, {&plain, newPlainPoster(connections)}} {
			got, err := measureRaw(ctx, b.sink, connections, b.rawTime(), m.client)
			if err != nil {
				return fmt.Errorf("raw measurement: %w", err)
			}
			*m.samples = append(*m.samples, got...)
		}
		return nil
	}
	if err := measure(); err != nil {
		return err
	}
	if err := f(spreadOf(lean)); err != nil {
		return err
	}
	if err := measure(); err != nil {
		return err
	}
	for _, r := range results {
		raw, plain := spreadOf(lean), spreadOf(plain)
		r.Raw, r.Ratio = &raw, ratio(r.Value, raw)
		r.Plain, r.PlainRatio = &plain, ratio(r.Value, plain)
	}
	return nil
}

// withHub runs f against a fresh hub and then closes the hub.
func (b *bench) withHub(ctx context.Context, f func(*child) error, delivery ...string) (err error) {
	c, err := b.hub(ctx, delivery...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := f(c); err != nil {
		return errors.Join(err, c.alive())
	}
	return c.alive()
}

// part returns a share of the duration.
func (b *bench) part(share float64) time.Duration {
	return time.Duration(share * float64(b.Duration))
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
