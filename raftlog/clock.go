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

// clockTolerance is how far a node's clock may be from the cluster's time before it is reported, and before the node
// goes by the others' clocks. An answer that takes long makes a measurement wrong by half of that.
const clockTolerance = 2 * time.Second

// compareTimeout is how long a node that knows of a leader waits to compare its clock with a majority's before it goes by
// its own.
const compareTimeout = 5 * time.Second

// clusterClock is the time by which the nodes of a cluster act: the machine's, unless it is off from what the voters'
// clocks say. Of those it takes the median, of an even number the earlier of the two, so that one clock that is
// hours ahead ends no lease, on whichever node it is and whoever leads. What was measured is kept as a distance
// from the machine's monotonic clock, so that a clock that is set while the node runs changes nothing before the
// next measurement. Safe for concurrent use.
type clusterClock struct {
	local hub.Clock
	start time.Time

	// settled: a majority of the voters was measured at some time, or cannot be reached.
	settled atomic.Bool
	// alone is the monotonic time since when a leader is known and not settled; 0: there is none.
	alone atomic.Int64
	// distance is added to the monotonic time, in nanoseconds; nil: the local clock holds.
	distance atomic.Pointer[int64]

	mu     sync.Mutex
	median *int64           // of the voters' clocks, as distance
	others map[string]int64 // of each node that was ever asked: its clock minus this machine's monotonic time
	off    map[string]bool  // as logged last
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

// localOffset is the local clock minus the monotonic time.
func (c *clusterClock) localOffset() int64 { return c.local.Now().UnixNano() - c.monotonic() }

// measured notes what another node's clock said, to a question asked between two moments of the monotonic time.
func (c *clusterClock) measured(id string, clock, asked, answered int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.others[id] = clock - (asked + (answered-asked)/2)
}

// known tells whether a majority of the voters was measured at some time, this node included.
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

// set works out the time anew. It is never before reached, the time that the log has come to.
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

// offsets is how far each known clock is ahead of the voters'.
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

// forget drops nodes that are no members.
func (c *clusterClock) forget(member func(id string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.others, func(id string, _ int64) bool { return !member(id) })
	maps.DeleteFunc(c.off, func(id string, _ bool) bool { return !member(id) })
}

// changed are the nodes whose clocks went wrong, or right again, since the last call.
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

// Clock is the time by which the cluster acts: see ClockOffset.
func (n *Node) Clock() hub.Clock { return n.clock }

// ClockOffset is how far this machine's clock is ahead of the cluster's time, which is the median of the voters' clocks.
func (n *Node) ClockOffset() time.Duration { return n.clock.offsets(n.opts.ID)[n.opts.ID] }

// Warnings says in words what an operator should look after although the node works.
func (n *Node) Warnings() []string {
	var out []string
	offsets := n.clock.offsets(n.opts.ID)
	for _, id := range slices.Sorted(maps.Keys(offsets)) {
		if isOff(offsets[id]) {
			out = append(out, fmt.Sprintf("the clock of %s is %s; the cluster goes by the other nodes' clocks, so set it right (NTP)", id, offWords(offsets[id])))
		}
	}
	return out
}

func offWords(offset time.Duration) string {
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

// setClock works out the cluster's time from what was measured, and says when a clock is off.
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
			n.opts.Logger.Warn("most other nodes do not tell the time; this node goes by its own clock")
			n.clock.settled.Store(true)
		}
	}
	for id, offset := range n.clock.changed(n.opts.ID) {
		if isOff(offset) {
			n.opts.Logger.Warn("the clock of a node is off; the cluster goes by the other nodes' clocks, so set it right (NTP)", "node", id, "offset", offset.Round(time.Millisecond).String())
		} else {
			n.opts.Logger.Info("the clock of a node is right again", "node", id)
		}
	}
}

// clockSettled tells whether this node may act by its time: it knows how its clock compares with those of a majority. Without
// calls between nodes there is nothing to compare.
func (n *Node) clockSettled() bool { return n.caller == nil || n.clock.settled.Load() }

// compareClocks asks until the node knows how its clock compares with a majority's, or it does not lead any more. A node
// that has just started may be elected before it has asked anybody.
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
				asking.Go(func() { _, _ = n.requestStatus(ctx, string(s.ID), string(s.Address)) }) // asked again below
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

// requestStatus asks another node for its status, and measures its clock by the way.
func (n *Node) requestStatus(ctx context.Context, id, address string) (a statusResponse, err error) {
	asked := n.clock.monotonic()
	status, body, err := n.caller.call(ctx, address, 0, methodStatus, nil)
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
