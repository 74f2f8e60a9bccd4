package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

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
		if err := os.MkdirAll(o.ProfileDir, 0o750); err != nil {
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

func (o Options) check() error {
	if o.Duration < MinDuration {
		return fmt.Errorf("a duration of %v is too short, expected at least %v", o.Duration, MinDuration)
	}
	if o.Nodes > maxNodes {
		return fmt.Errorf("%d nodes are too many, expected at most %d", o.Nodes, maxNodes)
	}
	return CheckPhases(o.Phases)
}
