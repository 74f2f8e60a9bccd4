package store

import (
	"sync"
	"time"
)

// Stats holds a Store's figures.
type Stats struct {
	Applied, Durable uint64 // indexes

	UnflushedBytes int64 // of entries applied but not durable
	TailBytes      int64 // of messages in memory
	TailMessages   int

	Generation   uint64
	Segments     int
	SegmentBytes int64 // in use in segment files
	StateBytes   int64 // in use in the state file

	Flushes         uint64
	FlushedRows     uint64
	FlushedMessages uint64
	FlushedBytes    uint64 // of entries
	FlushTime       time.Duration
	LastFlush       time.Duration

	OpenSnapshots  int
	OldestSnapshot time.Duration // how long the oldest has been open; it pins pages and files
	Failed         bool
}

// figures accumulates statistics of flushes.
type figures struct {
	mu    sync.Mutex
	stats Stats
}

func (f *figures) flushed(took time.Duration, b *batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Flushes++
	f.stats.FlushedRows += uint64(len(b.rows))
	f.stats.FlushedMessages += uint64(len(b.messages))
	f.stats.FlushedBytes += uint64(b.bytes)
	f.stats.FlushTime += took
	f.stats.LastFlush = took
}

// Stats returns the current figures. It is cheap.
func (s *Store) Stats() Stats {
	s.figures.mu.Lock()
	st := s.figures.stats
	s.figures.mu.Unlock()
	s.mu.RLock()
	st.Applied, st.Durable = s.applied.Index, s.durable.Index
	st.Generation, st.Failed = s.gen.number, s.failure != nil
	st.StateBytes = s.gen.stateBytes.Load()
	s.mu.RUnlock()
	st.UnflushedBytes = s.unflushed.Load()
	s.log.mu.RLock()
	st.TailBytes, st.TailMessages = s.log.bytes, len(s.log.order)-s.log.stale
	st.Segments = len(s.log.segments)
	st.SegmentBytes = s.log.segmentBytesLocked()
	s.log.mu.RUnlock()
	st.OpenSnapshots, st.OldestSnapshot = s.snapshots.figures()
	return st
}
