package delivery

import (
	"math"
	"time"
)

const forever = time.Duration(math.MaxInt64)

// now returns the time on the dispatcher's own clock. It is never 0.
func (d *Dispatcher) now() time.Duration { return time.Since(d.base) + 1 }

// wakeTimekeeperLocked makes the timekeeper look no later than due.
func (d *Dispatcher) wakeTimekeeperLocked(due time.Duration) {
	if due >= d.wakeAt {
		return
	}
	d.wakeAt = due
	select {
	case d.tick <- struct{}{}:
	default:
	}
}

// period is how often attempts in flight are examined.
func (d *Dispatcher) period() time.Duration {
	return min(max(min(d.o.SlowAfter, d.o.Timeout)/4, time.Millisecond), 25*time.Millisecond)
}
