package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Settings are chosen by the seed: most faults show under some settings only, so each run takes others (swarm testing).
type Settings struct {
	Seed              uint64
	Flush             time.Duration // storage.flush_interval
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	TrailingBytes     int64
	MinTrailing       int
}

// NewSettings are the settings of a seed.
func NewSettings(seed uint64) Settings {
	rng := rand.New(rand.NewPCG(seed, 2))
	return Settings{Seed: seed,
		Flush:             pick(rng, 50*time.Millisecond, time.Second, 20*time.Second),
		SnapshotInterval:  pick(rng, 300*time.Millisecond, time.Second, 5*time.Second),
		SnapshotThreshold: pick[uint64](rng, 16, 64, 1024),
		TrailingBytes:     pick[int64](rng, -1, 1, 64<<10),
		MinTrailing:       8,
	}
}

// String implements fmt.Stringer.
func (s Settings) String() string {
	return fmt.Sprintf("seed %d, flush %v, snapshots after %d entries every %v, trailing %d bytes", s.Seed, s.Flush, s.SnapshotThreshold, s.SnapshotInterval, s.TrailingBytes)
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// Round is one round of the plan: load, one or two faults in it, and everything right again.
func (w *World) Round(number int) {
	rng := rand.New(rand.NewPCG(w.settings.Seed, 1000+uint64(number)))
	work := w.load(number, 10, 4*time.Second)
	time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
	var mend []func()
	mendAll := func() {
		for _, f := range mend {
			f()
		}
		mend = nil
	}
	for range 1 + rng.IntN(2) {
		if w.anyDown() {
			mendAll() // one node down at a time, but for the fault that is about all of them
		}
		f := faults[rng.IntN(len(faults))]
		w.ledger.note("round %d: %s", number, f.name)
		mend = append(mend, f.cause(w, rng))
	}
	mendAll()
	w.net.Mend()
	w.ledger.note("round %d: nothing is wrong any more", number)
	work.Wait()
	if err := w.Settle(); err != nil {
		w.ledger.fault("stuck", "round %d: %v", number, err)
	}
}

func (w *World) anyDown() bool {
	for _, n := range w.nodes {
		if n.current.Load() == nil {
			return true
		}
	}
	return false
}
