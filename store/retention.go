package store

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"quorumhub/durable"
	"quorumhub/hub"
)

func (o *Options) sealDue(seg *segment, now time.Time) bool {
	return len(seg.ranges) > 0 && (seg.size >= o.SegmentBytes || now.Sub(seg.created) >= o.SegmentAge)
}

// sealActive seals the active segment if it is large or old enough. A flush already writing to it finishes.
func (s *Store) sealActive(now time.Time) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	seg := s.log.active
	if seg == nil || !s.opts.sealDue(seg, now) {
		return
	}
	seg.sealed = true
	s.log.active = nil
	s.trimmed.Store(true)
}

// Grown receives a value after a flush that left more than RetainBytes in segments: TrimCandidates may have something to
// offer.
func (s *Store) Grown() <-chan struct{} { return s.grown }

// notifyGrown is called after each flush.
func (s *Store) notifyGrown() {
	if s.opts.RetainBytes <= 0 {
		return
	}
	s.log.mu.RLock()
	total := s.log.segmentBytesLocked()
	s.log.mu.RUnlock()
	if total > s.opts.RetainBytes {
		signal(s.grown)
	}
}

func (l *messageLog) segmentBytesLocked() (total int64) {
	for _, seg := range l.segments {
		total += seg.size
	}
	return total
}

// fit returns how many of the messages go to a segment that uses size bytes already, at least one.
func (o *Options) fit(msgs []hub.Message, size int64) int {
	if o.RetainBytes <= 0 {
		return len(msgs)
	}
	left := o.segmentShare() - size
	for i := range msgs {
		if left -= int64(sumSize + recordKeySize + hub.RecordSize(&msgs[i])); left < 0 {
			return max(i, 1)
		}
	}
	return len(msgs)
}

// TrimCandidates returns which messages retention may drop at now: those in segments whose newest message is older than
// maxAge, and those in the oldest segments while all segments together use more than maxBytes of disk. A limit of 0 does
// not apply. The active segment is never offered; TrimCandidates first seals it if its size or age requires. The result
// has one Trim per topic, ordered by topic. It may take several rounds of dropping and flushing until nothing is offered.
func (s *Store) TrimCandidates(maxAge time.Duration, maxBytes int64, now time.Time) []hub.Trim {
	s.sealActive(now)
	going := map[*segment]bool{} // with the next flush
	s.mu.RLock()
	for _, d := range s.deadSegments() {
		going[d.segment] = true
	}
	s.mu.RUnlock()
	s.log.mu.RLock()
	defer s.log.mu.RUnlock()
	total := s.log.segmentBytesLocked()
	for seg := range going {
		total -= seg.size
	}
	var parts int64 // in segments before this one that hold parts only
	through := map[hub.TopicID]uint64{}
	for _, seg := range s.log.segments {
		if going[seg] {
			continue
		}
		old := maxAge > 0 && seg.newest() < now.Add(-maxAge).UnixNano()
		large := maxBytes > 0 && total > maxBytes
		if !seg.sealed || !(old || large) {
			break // offsets increase with the segments: later ones must not be dropped first
		}
		// Parts that are in use belong to messages in later segments, and go when these go.
		parts += seg.size
		if !s.log.retainedExceptParts(seg) {
			continue
		}
		total, parts = total-parts, 0
		for id, r := range seg.ranges {
			if t := s.log.topics[id]; id != partsTopic && t != nil && r.hi >= t.first {
				through[id] = max(through[id], min(r.hi, t.head))
			}
		}
	}
	out := make([]hub.Trim, 0, len(through))
	for id, offset := range through {
		out = append(out, hub.Trim{Topic: id, Through: offset})
	}
	slices.SortFunc(out, func(a, b hub.Trim) int { return cmp.Compare(a.Topic, b.Topic) })
	return out
}

// newest returns the time of the newest message in Unix nanoseconds.
func (seg *segment) newest() int64 {
	var t int64
	for _, r := range seg.ranges {
		t = max(t, r.newest)
	}
	return t
}

// sealUnretained seals the active segment if none of its messages is retained and it is worth its removal.
func (s *Store) sealUnretained() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	seg := s.log.active
	if seg == nil || len(seg.ranges) == 0 || seg.size < min(s.opts.SegmentBytes/2, 1<<20) || s.log.retained(seg) {
		return
	}
	seg.sealed = true
	s.log.active = nil
}

func (l *messageLog) retained(seg *segment) bool {
	for id, r := range seg.ranges {
		if t := l.topics[id]; t != nil && r.hi >= t.first {
			return true
		}
	}
	return false
}

// unlinkDead durably removes the files of segments whose messages were all trimmed. Disk space is freed when the last reader
// releases the file.
func (s *Store) unlinkDead(g *generation, dead []deadSegment) error {
	if len(dead) == 0 {
		return nil
	}
	if err := s.keepLetters(g, dead); err != nil {
		return err
	}
	if err := s.keepParts(g, dead); err != nil {
		return err
	}
	s.log.mu.Lock()
	for _, d := range dead {
		if i := slices.Index(s.log.segments, d.segment); i >= 0 {
			s.log.segments = slices.Delete(s.log.segments, i, i+1)
		}
		for _, n := range d.keep {
			s.log.kept[n] = struct{}{}
		}
		for id := range d.ranges {
			if t := s.log.topics[id]; t != nil {
				t.spans = slices.DeleteFunc(t.spans, func(r spanRef) bool { return r.segment == d.segment })
			}
		}
	}
	s.log.mu.Unlock()
	var freed int64
	for _, seg := range dead {
		if err := os.Remove(seg.file.path); err != nil {
			return fmt.Errorf("unlink segment: %w", err)
		}
		if err := seg.file.release(); err != nil {
			return err
		}
		freed += seg.size
	}
	s.opts.Logger.Info("retention dropped log segments", "segments", len(dead), "last", s.relative(dead[len(dead)-1].file.path), "bytes", freed)
	return durable.SyncDir(filepath.Join(g.dir, logDir))
}
