package raftlog

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

// clockTolerance is how far a node's clock may deviate from the cluster's time before it is reported, and before the node
// uses the others' clocks instead. A slow response makes a measurement wrong by half its duration.
const clockTolerance = 2 * time.Second

// compareTimeout is how long a node that knows a leader waits to compare its clock with a majority's before it uses its own.
const compareTimeout = 5 * time.Second

// clusterClock is the time by which the nodes of a cluster act: this machine's time, unless it deviates from the voters'
// clocks. Of those it takes the median, of an even number the earlier of the middle two, so that one skewed clock never
// expires leases, whichever node it is on and whoever leads. Measurements are kept as distances from the machine's
// monotonic clock, so that setting a clock while the node runs changes nothing before the next measurement. clusterClock
// is safe for concurrent use.
type clusterClock struct {
	local hub.Clock
	start time.Time

	// settled: a majority of the voters has been measured, or cannot be reached.
	settled atomic.Bool
	// alone is the monotonic time since when a leader is known but the clock is not settled; 0: no leader is known.
	alone atomic.Int64
	// distance is added to the monotonic time, in nanoseconds; nil: the local clock applies.
	distance atomic.Pointer[int64]

	mu     sync.Mutex
	median *int64           // of the voters' clocks, as a distance
	others map[string]int64 // of each measured node: its clock minus this machine's monotonic time
	off    map[string]bool  // as last logged
}

func newClusterClock(local hub.Clock) *clusterClock {
	return &clusterClock{local: local, start: time.Now(), others: map[string]int64{}, off: map[string]bool{}}
}

// Now implements hub.Clock.
func (c *clusterClock) Now() time.Time {
	d := c.distance.Load()
	if d == nil {
		return c.local.Now()
	}
	return time.Unix(0, c.monotonic()+*d)
}

func (c *clusterClock) monotonic() int64 { return int64(time.Since(c.start)) }

// localOffset returns the local clock minus the monotonic time.
func (c *clusterClock) localOffset() int64 { return c.local.Now().UnixNano() - c.monotonic() }

// measured records another node's clock, read at some moment between asked and answered (monotonic time).
func (c *clusterClock) measured(id string, clock, asked, answered int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others[id] = clock - (asked + (answered-asked)/2)
}

// known reports whether a majority of the voters, this node included, has been measured.
func (c *clusterClock) known(self string, voters []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, v := range voters {
		if _, ok := c.others[v]; ok || v == self {
			n++
		}
	}
	return n > len(voters)/2
}

// set recomputes the time. The result is never before reached, the newest time in the log.
func (c *clusterClock) set(self string, voters []string, reached time.Time) {
	own := c.localOffset()
	c.mu.Lock()
	defer c.mu.Unlock()
	var clocks []int64
	for _, v := range voters {
		if v == self {
			clocks = append(clocks, own)
		} else if d, ok := c.others[v]; ok {
			clocks = append(clocks, d)
		}
	}
	if len(clocks) == 0 || len(voters) == 1 && voters[0] == self {
		c.distance.Store(nil)
		c.median = nil
		return
	}
	slices.Sort(clocks)
	d := clocks[(len(clocks)-1)/2]
	if off := own - d; -int64(clockTolerance) <= off && off <= int64(clockTolerance) {
		d = own
	}
	c.median = &d
	acting := max(d, reached.UnixNano()-c.monotonic())
	c.distance.Store(&acting)
}

// offsets returns how far each known clock is ahead of the voters' median.
func (c *clusterClock) offsets(self string) map[string]time.Duration {
	own := c.localOffset()
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.median
	if d == nil {
		d = &own
	}
	out := map[string]time.Duration{self: time.Duration(own - *d)}
	for id, other := range c.others {
		out[id] = time.Duration(other - *d)
	}
	return out
}

// forget drops nodes that are not members.
func (c *clusterClock) forget(member func(id string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.others, func(id string, _ int64) bool { return !member(id) })
	maps.DeleteFunc(c.off, func(id string, _ bool) bool { return !member(id) })
}

// changed returns the nodes whose clocks became skewed, or correct again, since the last call.
func (c *clusterClock) changed(self string) (changed map[string]time.Duration) {
	changed = map[string]time.Duration{}
	for id, offset := range c.offsets(self) {
		off := isOff(offset)
		c.mu.Lock()
		if c.off[id] != off {
			c.off[id] = off
			changed[id] = offset
		}
		c.mu.Unlock()
	}
	return changed
}

func isOff(offset time.Duration) bool { return offset.Abs() > clockTolerance }

// Clock returns the cluster's time; see ClockOffset.
func (n *Node) Clock() hub.Clock { return n.clock }

// ClockOffset returns how far this machine's clock is ahead of the cluster's time, the median of the voters' clocks.
func (n *Node) ClockOffset() time.Duration { return n.clock.offsets(n.opts.ID)[n.opts.ID] }

// Warnings returns what an operator should look into although the node works, one line each.
func (n *Node) Warnings() []string {
	var out []string
	offsets := n.clock.offsets(n.opts.ID)
	for _, id := range slices.Sorted(maps.Keys(offsets)) {
		if isOff(offsets[id]) {
			out = append(out, fmt.Sprintf("the clock of %s is %s; the cluster uses the other nodes' clocks; check NTP on %s", id, offsetText(offsets[id]), id))
		}
	}
	if n.port != nil {
		var ids []string
		for _, s := range n.servers() {
			ids = append(ids, string(s.ID))
		}
		out = append(out, n.port.agreement.warnings(ids)...)
	}
	return out
}

func offsetText(offset time.Duration) string {
	if offset < 0 {
		return offset.Abs().Round(time.Second).String() + " behind"
	}
	return offset.Round(time.Second).String() + " ahead"
}

func (n *Node) voters() (ids []string) {
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	return ids
}

// setClock recomputes the cluster's time from the measurements, and logs skewed clocks.
func (n *Node) setClock() {
	members := map[string]bool{}
	for _, s := range n.servers() {
		members[string(s.ID)] = true
	}
	n.clock.forget(func(id string) bool { return members[id] })
	var reached time.Time
	n.store.View(func(s *hub.State) { reached = s.Now() })
	n.clock.set(n.opts.ID, n.voters(), reached)
	switch {
	case n.clock.settled.Load():
	case n.clock.known(n.opts.ID, n.voters()):
		n.clock.settled.Store(true)
	case n.LeaderID() == "":
		n.clock.alone.Store(0)
	default:
		since := n.clock.alone.Load()
		if since == 0 {
			n.clock.alone.Store(n.clock.monotonic())
		} else if n.clock.monotonic()-since > int64(compareTimeout) {
			n.opts.Logger.Warn("a majority of the voters cannot be asked for the time; using this machine's clock")
			n.clock.settled.Store(true)
		}
	}
	for id, offset := range n.clock.changed(n.opts.ID) {
		if isOff(offset) {
			n.opts.Logger.Warn("a node's clock is skewed; the cluster uses the other nodes' clocks; check NTP on that node", "node", id, "offset", offset.Round(time.Millisecond).String())
		} else {
			n.opts.Logger.Info("a node's clock is correct again", "node", id)
		}
	}
}

// clockSettled reports whether this node may act on its time: it has compared its clock with a majority's. Without calls
// between nodes there is nothing to compare.
func (n *Node) clockSettled() bool { return n.caller == nil || n.clock.settled.Load() }

// compareClocks polls until the node has compared its clock with a majority's or no longer leads. A node that has just
// started may be elected before it has asked any other.
func (n *Node) compareClocks() bool {
	pause := time.NewTicker(readPause)
	defer pause.Stop()
	for !n.clockSettled() {
		if n.raft.State() != raft.Leader {
			return false
		}
		var asking sync.WaitGroup
		ctx, cancel := context.WithTimeout(n.ctx, statusTimeout/4)
		for _, s := range n.servers() {
			if string(s.ID) != n.opts.ID {
				asking.Go(func() { _, _ = n.requestStatus(ctx, string(s.ID), string(s.Address)) }) // the loop retries
			}
		}
		asking.Wait()
		cancel()
		n.setClock()
		select {
		case <-n.ctx.Done():
			return false
		case <-pause.C:
		}
	}
	return true
}

// requestStatus requests another node's status, and measures its clock at the same time.
func (n *Node) requestStatus(ctx context.Context, id, address string) (a statusResponse, err error) {
	asked := n.clock.monotonic()
	status, body, err := n.caller.call(ctx, Peer{id, address}, 0, methodStatus, nil)
	if err == nil && status == statusRemoved {
		n.handleRefusal(&refusedError{what: refusedRemoved, text: oneLine(string(body)), theirs: true})
	}
	if err == nil && status != statusOK {
		err = fmt.Errorf("status %d: %s", status, oneLine(string(body)))
	}
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	if err == nil && a.Clock != 0 {
		n.clock.measured(id, a.Clock, asked, n.clock.monotonic())
	}
	return a, err
}
