package figures

import (
	"math"
	"time"
)

const (
	// Step is the time between two samples.
	Step = 10 * time.Second
	// Kept is how many samples are kept: those of an hour.
	Kept = 360
)

// Totals are a node's counters since it started.
type Totals struct {
	Published      uint64 // messages accepted from publishers
	PublishedBytes uint64
	Delivered      uint64 // deliveries acknowledged
	Failed         uint64 // delivery attempts that failed
	DeadLettered   uint64 // messages given up for a subscription
	// PublishTimes and DeliveryTimes count by how long it took: from the request to the durable message, and from the start of an
	// attempt to the end of its response. They have one place for each of Bounds, and one for what took longer.
	PublishTimes, DeliveryTimes []uint64
}

// Bounds are the upper bounds of the places in Totals, in seconds, ascending.
type Bounds struct {
	Publish  []float64 `json:"publish"`
	Delivery []float64 `json:"delivery"`
}

// Levels are a node's gauges.
type Levels struct {
	Lag     uint64        `json:"lag"`     // messages it has yet to deliver
	Behind  int           `json:"behind"`  // subscriptions with such messages
	Failing int           `json:"failing"` // subscriptions whose last attempt failed
	Oldest  time.Duration `json:"oldest"`  // age of the oldest message it has yet to deliver; 0: none
	Streams int           `json:"streams"` // open event streams
	// Worst are the subscriptions that have been failing for longest, a few of them.
	Worst []Failing `json:"worst,omitempty"`
}

// Failing is a subscription whose last attempt failed.
type Failing struct {
	Subscription string    `json:"subscription"` // ID
	Topic        string    `json:"topic"`
	Node         string    `json:"node"`
	Since        time.Time `json:"since"`    // of the first failure in a row
	Failures     uint64    `json:"failures"` // in a row
	Status       int       `json:"status"`   // HTTP status of the last attempt; 0: none
	Reason       string    `json:"reason"`   // class of the last failure
	Lag          uint64    `json:"lag"`
}

// Sample is what happened on a node within a time, and its gauges at the end.
type Sample struct {
	// Slot times Step since 1970 is the end of the sample.
	Slot           int64    `json:"t"`
	Seconds        float64  `json:"s"` // length
	Published      uint64   `json:"p,omitempty"`
	PublishedBytes uint64   `json:"b,omitempty"`
	Delivered      uint64   `json:"d,omitempty"`
	Failed         uint64   `json:"f,omitempty"`
	DeadLettered   uint64   `json:"x,omitempty"`
	PublishTimes   []uint32 `json:"pt,omitempty"` // nil: none
	DeliveryTimes  []uint32 `json:"dt,omitempty"`
	Lag            uint64   `json:"l,omitempty"`
	Behind         int      `json:"n,omitempty"`
	Failing        int      `json:"e,omitempty"`
}

// between returns what happened from one reading of the counters to a later one.
func between(from, to *Totals) Sample {
	return Sample{Published: to.Published - from.Published, PublishedBytes: to.PublishedBytes - from.PublishedBytes,
		Delivered: to.Delivered - from.Delivered, Failed: to.Failed - from.Failed, DeadLettered: to.DeadLettered - from.DeadLettered,
		PublishTimes: difference(from.PublishTimes, to.PublishTimes), DeliveryTimes: difference(from.DeliveryTimes, to.DeliveryTimes)}
}

// difference returns to - from, or nil if nothing was counted.
func difference(from, to []uint64) []uint32 {
	out := make([]uint32, len(to))
	some := false
	for i, n := range to {
		if i < len(from) {
			n -= from[i]
		}
		out[i] = uint32(min(n, math.MaxUint32))
		some = some || n > 0
	}
	if !some {
		return nil
	}
	return out
}

// Value is a figure that may be unknown: NaN, which is null in JSON.
type Value float64

// Unknown is a figure that nobody knows.
func Unknown() Value { return Value(math.NaN()) }

// Known reports whether the figure is known.
func (v Value) Known() bool { return !math.IsNaN(float64(v)) }

// Quantile estimates the value below which a share of what was counted lies, evenly spread within each place. It is unknown if nothing
// was counted, and the highest bound if it lies beyond.
func Quantile(share float64, bounds []float64, counts []uint64) Value {
	total := uint64(0)
	for _, n := range counts {
		total += n
	}
	if total == 0 || len(bounds) == 0 {
		return Unknown()
	}
	rank, seen, low := share*float64(total), 0.0, 0.0
	for i, n := range counts {
		if i == len(bounds) {
			break
		}
		if n > 0 && seen+float64(n) >= rank {
			return Value(low + (bounds[i]-low)*max(rank-seen, 0)/float64(n))
		}
		seen += float64(n)
		low = bounds[i]
	}
	return Value(bounds[len(bounds)-1])
}
