package figures

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Status is what a node says about itself besides its figures. Of it this package knows only that it is sent on.
type Status struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	State   string    `json:"state"` // of raft

	Term         uint64 `json:"term"`
	LastIndex    uint64 `json:"last_index"`
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
	DurableIndex uint64 `json:"durable_index"` // in the state files
	CommitP50    Value  `json:"commit_p50"`    // seconds, since the start
	CommitP99    Value  `json:"commit_p99"`

	LogBytes       int64 `json:"log_bytes"` // of raft.db
	StateBytes     int64 `json:"state_bytes"`
	SegmentBytes   int64 `json:"segment_bytes"`
	UnflushedBytes int64 `json:"unflushed_bytes"`
	TailBytes      int64 `json:"tail_bytes"`
	QueuedBytes    int64 `json:"queued_bytes"`
	FreeDiskBytes  int64 `json:"free_disk_bytes"` // 0: not measured
	// MinFreeBytes is how much must stay free for the node to accept messages.
	MinFreeBytes int64  `json:"min_free_bytes"`
	DiskFull     bool   `json:"disk_full"`
	HeapBytes    uint64 `json:"heap_bytes"`
	Goroutines   int    `json:"goroutines"`

	NotReady []string `json:"not_ready,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Endings  []Ending `json:"endings,omitempty"`
	Hears    []Heard  `json:"hears,omitempty"`
}

// Ending is a certificate or key that ends.
type Ending struct {
	What   string    `json:"what"`
	Begins time.Time `json:"begins"`
	Ends   time.Time `json:"ends"`
}

// Heard is when a node last heard from another one.
type Heard struct {
	Node  string `json:"node"`
	Alive bool   `json:"alive"`
	// Silent is for how long the other has not answered, in milliseconds.
	Silent int64 `json:"silent_ms"`
}

// Report is what a node tells about itself.
type Report struct {
	Node   string `json:"node"`
	Bounds Bounds `json:"bounds"`
	Status Status `json:"status"`
	Levels Levels `json:"levels"`
	// Recent is what happened lately: for 10 to 20 s, or since the node started.
	Recent Sample `json:"recent"`
	// Samples are those after the slot that was asked for, in order.
	Samples []Sample `json:"samples"`
}

// Source is where a Recorder reads. All fields are required. The functions are called by one goroutine at a time.
type Source struct {
	Node   string
	Bounds Bounds
	Totals func() Totals
	Levels func() Levels
	Status func() Status
	Now    func() time.Time
}

// Recorder samples a node's figures. Make it with NewRecorder, Run it, and ask it for reports. Safe for concurrent use.
type Recorder struct {
	source Source

	mu      sync.Mutex
	ring    []Sample // the oldest first, once it is full from next on
	next    int
	begins  [2]reading // of the counters: at the last step but one and at the last
	levels  Levels
	read    time.Time // when levels were
	forward time.Duration
}

// reading is what the counters were at a moment.
type reading struct {
	at     time.Time
	totals Totals
}

// levelsShare is how much of the time may go into reading the gauges, for which all subscriptions are looked at: one part in so many.
const levelsShare = 200

// NewRecorder returns a Recorder that samples once it runs.
func NewRecorder(s Source) *Recorder {
	r := &Recorder{source: s}
	first := reading{s.Now(), s.Totals()}
	r.begins = [2]reading{first, first}
	return r
}

// Run takes samples until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	for {
		now := r.source.Now()
		wait := time.NewTimer(now.Truncate(Step).Add(Step).Sub(now))
		select {
		case <-wait.C:
			r.sample()
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// sample ends a step.
func (r *Recorder) sample() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, totals := r.source.Now(), r.source.Totals()
	r.levelsLocked(now)
	s := between(&r.begins[1].totals, &totals)
	s.Slot, s.Seconds = now.Add(Step/2).UnixNano()/int64(Step), now.Sub(r.begins[1].at).Seconds()
	s.Lag, s.Behind, s.Failing = r.levels.Lag, r.levels.Behind, r.levels.Failing
	r.begins = [2]reading{r.begins[1], {now, totals}}
	if s.Seconds <= 0 { // the clock was set back
		return
	}
	if len(r.ring) < Kept {
		r.ring = append(r.ring, s)
		return
	}
	r.ring[r.next] = s
	r.next = (r.next + 1) % Kept
}

// levelsLocked reads the gauges unless they are so fresh that reading them again would cost too much.
func (r *Recorder) levelsLocked(now time.Time) {
	if age := now.Sub(r.read); age >= 0 && age < r.forward {
		return
	}
	begin := time.Now()
	r.levels, r.read = r.source.Levels(), now
	r.forward = max(time.Second, levelsShare*time.Since(begin))
	for i := range r.levels.Worst {
		r.levels.Worst[i].Node = r.source.Node
	}
}

// Report returns the figures, with the samples after a slot.
func (r *Recorder) Report(after int64) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, totals := r.source.Now(), r.source.Totals()
	r.levelsLocked(now)
	out := Report{Node: r.source.Node, Bounds: r.source.Bounds, Status: r.source.Status(), Levels: r.levels}
	out.Levels.Worst = slices.Clone(r.levels.Worst)
	out.Recent = between(&r.begins[0].totals, &totals)
	out.Recent.Seconds = max(now.Sub(r.begins[0].at).Seconds(), 1)
	for _, s := range slices.Concat(r.ring[r.next:], r.ring[:r.next]) {
		if s.Slot > after {
			out.Samples = append(out.Samples, s)
		}
	}
	return out
}
