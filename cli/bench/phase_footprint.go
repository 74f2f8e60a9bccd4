package bench

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	footprintSubscriptions = 10
	footprintRate          = 800 // messages per second of Options.Duration
)

// footprintPhase measures binary size, startup time and memory.
func footprintPhase() phase {
	p := phase{name: "footprint", group: "footprint"}
	p.expected = func(d time.Duration) time.Duration { return 2*settle(d) + d/2 + time.Second }
	p.run = func(ctx context.Context, b *bench) ([]Result, error) {
		info, err := os.Stat(b.Binary)
		if err != nil {
			return nil, err
		}
		idle := Result{Phase: p.name + "-idle", Title: "resident memory, idle", Unit: "MiB", Aim: atMost(40, ofValue, " MiB")}
		loaded := Result{Phase: p.name + "-loaded", Unit: "MiB"}
		err = b.withHub(ctx, func(c *child) error {
			pause(ctx, settle(b.Duration))
			now, _, err := c.memory()
			if err != nil {
				return err
			}
			idle.Value = mebibytes(now)
			messages := int(footprintRate * b.Duration.Seconds())
			if err := b.fanout(ctx, c, &loaded, footprintSubscriptions, messages, b.part(0.6)); err != nil {
				return err
			}
			pause(ctx, settle(b.Duration))
			now, peak, err := c.memory()
			if err != nil {
				return err
			}
			loaded.Title = fmt.Sprintf("resident memory after %s deliveries", thousands(loaded.Delivered))
			loaded.Value, loaded.Unit, loaded.CPU = mebibytes(now), "MiB", 0
			loaded.Note = join(loaded.Note, fmt.Sprintf("at most %.0f MiB", mebibytes(peak)))
			return nil
		})
		if err != nil {
			return nil, err
		}
		var seconds []float64
		for _, d := range b.starts {
			seconds = append(seconds, d.Seconds())
		}
		starts := spreadOf(seconds)
		return []Result{
			idle.judge(), loaded.judge(),
			Result{
				Phase: p.name + "-binary", Title: "binary", Value: mebibytes(info.Size()), Unit: "MiB", Aim: atMost(30, ofValue, " MiB"),
			}.judge(),
			Result{
				Phase: p.name + "-start", Title: "exec to ready, empty data directory", Value: starts.Median, Unit: "s", Aim: atMost(1, ofValue, " s"),
				Note: fmt.Sprintf("%.2f to %.2f s in %d starts", starts.Min, starts.Max, starts.Samples),
			}.judge(),
		}, nil
	}
	return p
}

// settle returns how long a hub is left idle before its memory is read.
func settle(d time.Duration) time.Duration { return max(2*d/5, 500*time.Millisecond) }

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
