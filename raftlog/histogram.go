package raftlog

import (
	"sync/atomic"
	"time"
)

// histogramBounds returns the upper bounds of a Histogram's buckets.
func histogramBounds() [histogramBuckets]time.Duration {
	const ms = time.Millisecond
	return [histogramBuckets]time.Duration{ms / 2, ms, 2 * ms, 5 * ms, 10 * ms, 20 * ms, 50 * ms, 100 * ms, 200 * ms, 500 * ms, time.Second, 5 * time.Second}
}

const histogramBuckets = 12

// Histogram counts durations.
type Histogram struct {
	Count   uint64
	Sum     time.Duration
	Buckets []Bucket // cumulative, ascending; anything longer than the last counts only in Count
}

// Bucket counts durations less than or equal to Le.
type Bucket struct {
	Le    time.Duration
	Count uint64
}

type histogram struct {
	sum     atomic.Int64
	buckets [histogramBuckets + 1]atomic.Uint64
}

func (h *histogram) observe(d time.Duration) {
	h.sum.Add(int64(d))
	i := 0
	for _, le := range histogramBounds() {
		if d <= le {
			break
		}
		i++
	}
	h.buckets[i].Add(1)
}

func (h *histogram) read() Histogram {
	out := Histogram{Sum: time.Duration(h.sum.Load()), Buckets: make([]Bucket, histogramBuckets)}
	for i, le := range histogramBounds() {
		out.Count += h.buckets[i].Load()
		out.Buckets[i] = Bucket{Le: le, Count: out.Count}
	}
	out.Count += h.buckets[histogramBuckets].Load()
	return out
}
