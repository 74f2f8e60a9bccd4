package delivery

import (
	"container/heap"
	"context"
	"time"
)

// keepTime runs in one goroutine and watches the clock for all lanes: it makes waiting lanes ready when they are due,
// moves slow attempts to the slow class, and cuts off those that time out. A single timer for all costs the many
// quick attempts nothing.
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
