package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
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

// phases returns all phases in order.
func phases() []phase {
	return []phase{
		publishPhase(128, 1, false, atLeast(0.45, ofRatio, "")),
		publishPhase(16, 0.6, true, nil),
		publishPhase(1, 0.4, false, nil),
		fanoutPhase(100, 1, 0.8, false, atLeast(0.75, ofRatio, "")),
		fanoutPhase(10, 0.6, 0.6, true, nil),
		fanoutPhase(1, 0.6, 0.3, false, nil),
		pacedPhase(),
		mosipPhase(),
		noisyPhase(),
		sickPhase(),
		catchupPhase(),
		footprintPhase(),
		idlePhase(),
		churnPhase(),
	}
}

// bench is one run.
type bench struct {
	Options
	clock  stopwatch
	sink   *sink
	starts []time.Duration // startup times of all hubs
}

// benchGC is the measuring process's GOGC. Publishers and sink use little memory, so the default would collect garbage constantly. Hub
// and raw measurements have the same clients either way.
const benchGC = 400

// Run measures and returns the report. An error means that nothing could be measured; failed phases are in the report (see
// Report.Broken). When Run returns, all processes it started have exited.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if o.Quick {
		o.Duration = min(o.Duration, quickDuration)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.ProfileDir != "" {
		if err := os.MkdirAll(o.ProfileDir, 0o755); err != nil {
			return nil, err
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(benchGC))

	b := &bench{Options: o, clock: newStopwatch()}
	if b.sink, err = newSink(b.clock); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	defer func() { err = errors.Join(err, b.sink.Close()) }()

	report, err := newReport(o)
	if err != nil {
		return nil, err
	}
	chosen := o.selected()
	bar := newProgress(o.Progress, chosen, o.Duration)
	defer bar.close()
	deadline := time.Now().Add(o.limit())
	for _, p := range chosen {
		if time.Now().After(deadline) {
			report.NotMeasured = append(report.NotMeasured, p.label())
			continue
		}
		bar.begin(p.label())
		b.Nodes = p.nodes
		results, err := p.run(ctx, b)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			results = append(results, Result{Phase: p.name, Title: p.name, Problem: err.Error()})
		}
		if p.nodes > 1 {
			for i, r := range results {
				results[i] = r.onNodes(p.nodes)
			}
		}
		report.Results = append(report.Results, results...)
		bar.end(p.expected(o.Duration))
	}
	report.Took = time.Since(b.clock.start).Seconds()
	return report, nil
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
