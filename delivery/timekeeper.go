package delivery

import (
	"container/heap"
	"context"
	"math"
	"time"
)

const forever = time.Duration(math.MaxInt64)

// period is how often attempts under way are looked at.
func (d *Dispatcher) period() time.Duration {
	return min(max(min(d.o.SlowAfter, d.o.Timeout)/4, time.Millisecond), 25*time.Millisecond)
}

// wakeTimekeeperLocked sees to it that the timekeeper looks at the latest at due. Callers hold mu.
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

// keepTime is the one goroutine that watches the clock for all lanes: it makes waiting ones ready when they
// are due, moves attempts that take long to the slow class, and cuts off those that take too long. One timer
// for all costs the many quick attempts nothing.
func (d *Dispatcher) keepTime() {
	defer d.loops.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-d.tick:
		case <-d.stop:
			return
		}
		d.mu.Lock()
		now := d.now()
		for len(d.retries) > 0 && d.retries[0].due <= now {
			if l := heap.Pop(&d.retries).(*lane); l.isTimer {
				d.wakeFlowLocked(l.flow)
			} else {
				d.readyLocked(l)
			}
		}
		for _, w := range d.running {
			switch age := now - w.started; {
			case w.started == 0:
			case age >= d.o.Timeout+w.extra:
				w.cancel(context.DeadlineExceeded)
			case age >= d.o.SlowAfter && w.class == classFast:
				d.demoteLocked(w)
			}
		}
		d.scheduleLocked()
		d.wakeAt = forever
		if len(d.running) > 0 {
			d.wakeAt = now + d.period()
		}
		if len(d.retries) > 0 {
			d.wakeAt = min(d.wakeAt, d.retries[0].due)
		}
		wait := d.wakeAt - now
		d.mu.Unlock()
		timer.Reset(wait)
	}
}

// now is the dispatcher's own clock; never 0.
func (d *Dispatcher) now() time.Duration { return time.Since(d.base) + 1 }
