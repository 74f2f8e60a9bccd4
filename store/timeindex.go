package store

import (
	"errors"
	"sort"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"quorumhub/hub"
)

var _ hub.TimeIndex = (*Store)(nil)

// OffsetAt implements hub.TimeIndex. The times of a topic's messages never decrease, so it is a binary search over the tail in
// memory, or over one segment in one short read transaction. Errors are hub.ErrUnknownTopic, ErrClosed or a *CorruptError.
func (s *Store) OffsetAt(topic hub.TopicID, at time.Time) (uint64, error) {
	if s.closed.Load() {
		return 0, ErrClosed
	}
	for from := uint64(0); ; {
		offset, seg, hi, err := s.log.findTime(topic, from, at.UnixNano())
		switch {
		case errors.Is(err, hub.ErrUnknownTopic):
			return 1, s.withoutMessages(topic)
		case err != nil || seg == nil:
			return offset, err
		}
		found, err := seg.findTime(topic, offset, hi, at.UnixNano())
		if err := errors.Join(err, seg.file.release()); err != nil || found <= hi {
			return found, err
		}
		from = found // the segment's newest message is beyond what is served from it
	}
}

// findTime returns the first retained message from offset from on whose time is at least ns, or else the segment to search
// from offset to hi, with a reference to its file that the caller must release.
func (l *messageLog) findTime(topic hub.TopicID, from uint64, ns int64) (offset uint64, seg *segment, hi uint64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t := l.topics[topic]
	if t == nil {
		return 0, nil, 0, hub.ErrUnknownTopic
	}
	from = max(from, t.first)
	tailFirst := t.head - uint64(len(t.tail)) + 1
	for _, ref := range t.spans {
		hi := min(ref.hi, tailFirst-1)
		if hi < max(ref.lo, from) {
			continue
		}
		if r, ok := ref.segment.ranges[topic]; ok && r.newest >= ns {
			ref.segment.file.acquire()
			return max(ref.lo, from), ref.segment, hi, nil
		}
	}
	i := sort.Search(len(t.tail), func(i int) bool { return t.tail[i].Time >= ns })
	return max(tailFirst+uint64(i), from), nil, 0, nil
}

// findTime returns the first of the topic's records from lo to hi whose time is at least ns, hi+1 if there is none.
func (seg *segment) findTime(topic hub.TopicID, lo, hi uint64, ns int64) (found uint64, err error) {
	err = seg.file.view(func(tx *bbolt.Tx) error {
		records, err := bucket(seg.file.path, tx, bucketRecords)
		if err != nil {
			return err
		}
		var failed error
		n := sort.Search(int(hi-lo+1), func(i int) bool {
			if failed != nil {
				return true
			}
			var at int64
			at, failed = seg.timeOf(records, topic, lo+uint64(i))
			return failed != nil || at >= ns
		})
		found = lo + uint64(n)
		return failed
	})
	return found, err
}

// timeOf reads the time of one record, which is its first field.
func (seg *segment) timeOf(records *bbolt.Bucket, topic hub.TopicID, offset uint64) (int64, error) {
	key := appendRecordKey(nil, topic, offset)
	stored := records.Get(key)
	if stored == nil {
		return 0, corrupt(seg.file.path, "record %d-%d is missing", topic, offset)
	}
	v, ok := unseal(key, stored)
	if !ok {
		return 0, corrupt(seg.file.path, "record %d-%d does not match its checksum", topic, offset)
	}
	num, typ, n := protowire.ConsumeTag(v)
	if n < 0 || num != 1 || typ != protowire.Fixed64Type {
		return 0, corrupt(seg.file.path, "record %d-%d has no time", topic, offset)
	}
	ns, n := protowire.ConsumeFixed64(v[n:])
	if n < 0 {
		return 0, corrupt(seg.file.path, "record %d-%d has no time", topic, offset)
	}
	return int64(ns), nil
}
