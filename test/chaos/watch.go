package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// watchEvery is how often the cluster and the machine are looked at.
const watchEvery = 100 * time.Millisecond

// standstill is how late the watch may be until it counts as a trouble of the machine: the nodes' own timers are of
// this size.
const standstill = 400 * time.Millisecond

// Watch looks at a cluster from outside while a scenario runs, for two things: troubles that nobody made, such as an
// election on a busy machine, and how busy the machine was.
type Watch struct {
	mu      sync.Mutex
	samples []pressure
}

type pressure struct {
	at      time.Time
	waiting time.Duration // of all time so far, some process waited for a core
}

// Run looks until ctx ends.
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
			l.Noticed(fmt.Sprintf("the machine stood still for %v", late), last, before)
		}
		seen, err := c.View(n % len(c.Nodes))
		down := ""
		for _, node := range seen.Nodes {
			if node.Role == "down" {
				down = node.ID
			}
		}
		now := time.Now()
		if !l.troubled(now) {
			switch {
			case err != nil:
				l.Noticed(fmt.Sprintf("node-%d did not answer: %v", n%len(c.Nodes)+1, err), last, now)
			case seen.Leader == "" || leader != "" && seen.Leader != leader:
				l.Noticed(fmt.Sprintf("the leader was %q and is %q", leader, seen.Leader), last.Add(-time.Second), now)
			case down != "":
				l.Noticed(down+" counted as down", last.Add(-time.Second), now)
			}
		}
		if err == nil && seen.Leader != "" {
			leader = seen.Leader
		}
		last = time.Now()
	}
}

// troubled tells whether something is wrong already, or was a moment ago.
func (l *Ledger) troubled(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.troubles {
		if t.Ended.IsZero() || now.Sub(t.Ended) < quietBefore {
			return true
		}
	}
	return false
}

func (w *Watch) sample() {
	b, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return // a kernel without it
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

// Load is 1 plus the part of the time between two moments in which some process waited for a core: from 1 to 2. Where
// the kernel does not tell it is 2.
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
