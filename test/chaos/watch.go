package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// watchEvery is how often the cluster and the machine are observed.
const watchEvery = 100 * time.Millisecond

// standstill is how late the watch may be before it counts as a disruption of the machine: the nodes' own
// timers are of this order.
const standstill = 400 * time.Millisecond

// Watch observes a cluster from outside while a scenario runs. It looks for disruptions that the test did not
// cause, such as an election on a busy machine, and measures how busy the machine was.
type Watch struct {
	mu      sync.Mutex
	samples []pressure
}

type pressure struct {
	at      time.Time
	waiting time.Duration // total time in which some process waited for a core
}

// Run observes until ctx ends.
func (w *Watch) Run(ctx context.Context, c *Cluster, l *Ledger) {
	leader, last := "", time.Now()
	for n := 0; ; n++ {
		wait(ctx, watchEvery)
		if ctx.Err() != nil {
			return
		}
		before := time.Now()
		w.sample()
		if late := before.Sub(last) - watchEvery; late > standstill {
			l.Observed(fmt.Sprintf("the machine stood still for %v", late), last, before)
		}
		seen, err := c.View(n % len(c.Nodes))
		down := ""
		for _, node := range seen.Nodes {
			if node.Role == "down" {
				down = node.ID
			}
		}
		now := time.Now()
		if !l.disrupted(now) {
			switch {
			case err != nil:
				l.Observed(fmt.Sprintf("node-%d did not answer: %v", n%len(c.Nodes)+1, err), last, now)
			case seen.Leader == "" || leader != "" && seen.Leader != leader:
				l.Observed(fmt.Sprintf("the leader was %q and is %q", leader, seen.Leader), last.Add(-time.Second), now)
			case down != "":
				l.Observed(down+" counted as down", last.Add(-time.Second), now)
			}
		}
		if err == nil && seen.Leader != "" {
			leader = seen.Leader
		}
		last = time.Now()
	}
}

// disrupted reports whether a disruption is in progress or has just ended.
func (l *Ledger) disrupted(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.disruptions {
		if t.Ended.IsZero() || now.Sub(t.Ended) < quietBefore {
			return true
		}
	}
	return false
}

func (w *Watch) sample() {
	b, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return // the kernel does not report it
	}
	_, total, _ := strings.Cut(string(b), "total=")
	var us int64
	if _, err := fmt.Sscan(total, &us); err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples = append(w.samples, pressure{time.Now(), time.Duration(us) * time.Microsecond})
}

// Load returns 1 plus the fraction of the time between two moments in which some process waited for a core.
// It returns 2 where the kernel does not report that.
func (w *Watch) Load(from, to time.Time) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var first, last *pressure
	for i := range w.samples {
		s := &w.samples[i]
		if first == nil || !s.at.After(from) {
			first = s
		}
		if last == nil || last.at.Before(to) {
			last = s
		}
	}
	if first == nil || !last.at.After(first.at) {
		return 2
	}
	return 1 + min(1, float64(last.waiting-first.waiting)/float64(last.at.Sub(first.at)))
}
