package sim

import (
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	flagSeed   = flag.Uint64("seed", 0, "the first seed; 0: the fixed ones, then fresh ones")
	flagSeeds  = flag.Int("seeds", 0, "how many seeds; 0: as many as fit into -for, or for a scenario into its share of an ordinary test")
	flagRounds = flag.Int("rounds", 20, "rounds of faults for each seed")
	flagFor    = flag.Duration("for", 15*time.Second, "no further seed after this long")
	flagTrace  = flag.String("trace", "", "directory for traces and the nodes' logs")
)

// fixedSeeds have found something once.
var fixedSeeds = []uint64{1, 2, 218151977658114}

// seeds yields the seeds of a run.
func seeds(yield func(uint64) bool) {
	begin := time.Now()
	fresh := rand.Uint64() >> 16
	for i := 0; ; i++ {
		switch {
		case *flagSeeds > 0 && i >= *flagSeeds, *flagSeeds == 0 && i > 0 && time.Since(begin) >= *flagFor:
			return
		case *flagSeed > 0:
			if !yield(*flagSeed + uint64(i)) {
				return
			}
		case i < len(fixedSeeds):
			if !yield(fixedSeeds[i]) {
				return
			}
		default:
			if !yield(fresh + uint64(i)) {
				return
			}
		}
	}
}

// TestI1I2I3I4I6Simulation: whatever goes wrong, nothing acknowledged is lost, order is kept, nothing settled is repeated,
// nobody has two owners, all nodes come to the same state, and reads are linearizable.
func TestI1I2I3I4I6Simulation(t *testing.T) {
	begin, total := time.Now(), 0
	var sum Counts
	for seed := range seeds {
		var w *World
		Bubble(t, func(t *testing.T, dir string) {
			logs, done := logsOf(t, seed)
			defer done()
			w = NewWorld(NewSettings(seed), dir, logs)
			defer w.End()
			if err := w.Found(); err != nil {
				w.ledger.fault("stuck", "%v", err)
				return
			}
			for round := 0; round < *flagRounds && len(w.ledger.Faults()) == 0; round++ {
				w.Round(round)
				total++
			}
		})
		report(t, w)
		sum.add(w.ledger.counts)
		if t.Failed() {
			break
		}
	}
	took := time.Since(begin)
	t.Logf("%d rounds in %v, %.0f a minute: %+v", total, took.Round(time.Millisecond), float64(total)/took.Minutes(), sum)
}

func (c *Counts) add(o Counts) {
	c.Published += o.Published
	c.Unknown += o.Unknown
	c.Delivered += o.Delivered
	c.Repeated += o.Repeated
	c.Reads += o.Reads
	c.RefusedReads += o.RefusedReads
}

// logsOf is where the nodes' logs of a run go.
func logsOf(t *testing.T, seed uint64) (logs io.Writer, done func()) {
	if *flagTrace == "" {
		return nil, func() {}
	}
	f, err := os.Create(tracePath(seed, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return f, func() { f.Close() }
}

func tracePath(seed uint64, kind string) string {
	return filepath.Join(*flagTrace, "seed-"+seedText(seed)+"."+kind)
}

// report fails the test with what went wrong in a world, and keeps its trace where that is wanted.
func report(t *testing.T, w *World) {
	t.Helper()
	if *flagTrace != "" {
		if err := os.WriteFile(tracePath(w.settings.Seed, "trace"), []byte(strings.Join(w.ledger.trace, "\n")+"\n"), 0o644); err != nil {
			t.Error(err)
		}
	}
	faults := w.ledger.Faults()
	for _, f := range faults[:min(len(faults), 5)] {
		t.Errorf("%v: %s; repeat with -seed %d -seeds 1 -trace DIR", w.settings, f, w.settings.Seed)
	}
}
