package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

// One part of a blob that is still needed, of a dead letter for example, must not keep a whole segment. When little of a
// segment is needed, and all of it parts, they are copied to state.db and the segment goes. They stay there as long as they
// are in use.

// keepFraction is the part of a segment's size up to which its parts in use are copied: at least three quarters are freed.
const keepFraction = 4

// deadSegment is a segment to be removed.
type deadSegment struct {
	*segment
	keep []uint64 // parts to be copied first, in order
}

func partKey(part uint64) []byte { return binary.BigEndian.AppendUint64(nil, part) }

// deadSegments returns the sealed segments without retained messages, in order. The caller holds mu for reading, or has the
// store for itself.
func (s *Store) deadSegments() []deadSegment {
	s.log.mu.RLock()
	defer s.log.mu.RUnlock()
	var dead []deadSegment
	var parts []*segment // in which parts alone may be retained
	for _, seg := range s.log.segments {
		switch {
		case !seg.sealed:
		case !s.log.retained(seg):
			dead = append(dead, deadSegment{segment: seg})
		case s.state.KeepsPartsByUse() && !s.log.retainedExceptParts(seg):
			parts = append(parts, seg)
		}
	}
	if len(parts) == 0 {
		return dead
	}
	first, last := parts[0].ranges[partsTopic].lo, uint64(0)
	for _, seg := range parts {
		first, last = min(first, seg.ranges[partsTopic].lo), max(last, seg.ranges[partsTopic].hi)
	}
	inUse := s.state.PartsInUse(first, last)
	for _, seg := range parts {
		r := seg.ranges[partsTopic]
		from, _ := slices.BinarySearch(inUse, r.lo)
		through, _ := slices.BinarySearch(inUse, r.hi+1)
		var keep []uint64
		for _, n := range inUse[from:through] {
			if s.log.holderLocked(n) == seg {
				keep = append(keep, n)
			}
		}
		if each := r.bytes / int64(r.hi-r.lo+1); int64(len(keep))*each <= seg.size/keepFraction {
			dead = append(dead, deadSegment{seg, keep})
		}
	}
	slices.SortFunc(dead, func(a, b deadSegment) int { return int(int64(a.number) - int64(b.number)) })
	return dead
}

// retainedExceptParts reports whether a segment has retained messages, whatever its parts.
func (l *messageLog) retainedExceptParts(seg *segment) bool {
	for id, r := range seg.ranges {
		if t := l.topics[id]; id != partsTopic && t != nil && r.hi >= t.first {
			return true
		}
	}
	return false
}

// holderLocked returns the segment from which a part is read, nil if it is not in a segment or is kept in state.db.
func (l *messageLog) holderLocked(part uint64) *segment {
	t := l.topics[partsTopic]
	if _, kept := l.kept[part]; kept || t == nil {
		return nil
	}
	for _, ref := range t.spans {
		if part >= ref.lo && part <= ref.hi {
			return ref.segment
		}
	}
	return nil
}

// uselessParts returns the parts kept in state.db that are no longer in use. The caller holds mu for reading.
func (s *Store) uselessParts() []uint64 {
	s.log.mu.RLock()
	defer s.log.mu.RUnlock()
	if len(s.log.kept) == 0 {
		return nil
	}
	first, last := ^uint64(0), uint64(0)
	for n := range s.log.kept {
		first, last = min(first, n), max(last, n)
	}
	inUse := s.state.PartsInUse(first, last)
	var out []uint64
	for n := range s.log.kept {
		if _, ok := slices.BinarySearch(inUse, n); !ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// keepParts copies the parts that are in use from segments that are about to be removed. After a crash in between the
// segments still exist, and copying again has the same result.
func (s *Store) keepParts(g *generation, dead []deadSegment) error {
	for _, d := range dead {
		err := copyRecords(g.state, d.segment, bucketParts, len(d.keep), func(i int) keptRecord {
			return keptRecord{key: partKey(d.keep[i]), topic: partsTopic, offset: d.keep[i]}
		})
		if err != nil {
			return fmt.Errorf("keep parts in use: %w", err)
		}
	}
	return nil
}

// keptRecord is a message of a segment that goes on in state.db, under a key and after a head.
type keptRecord struct {
	key, head []byte
	topic     hub.TopicID
	offset    uint64
}

// copyRecords copies n messages from a segment to a bucket of state.db, as many at a time as fit one transaction.
func copyRecords(state *boltFile, seg *segment, bucket string, n int, record func(i int) keptRecord) error {
	for i := 0; i < n; {
		err := state.update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			for size := 0; i < n && size < commitBytes; i++ {
				r := record(i)
				msgs, err := seg.read(nil, r.topic, r.offset, r.offset, 1, 1)
				if err != nil {
					return err
				}
				value := hub.AppendRecord(r.head, &msgs[0])
				if err := b.Put(r.key, seal(r.key, value)); err != nil {
					return err
				}
				size += len(value)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readKept is ReadPart for a part kept in state.db; ok is false if it is not there.
func readKept(state *boltFile, part uint64, at int, p []byte) (n int, ok bool, err error) {
	err = state.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketParts))
		if b == nil {
			return nil
		}
		key := partKey(part)
		stored := b.Get(key)
		if stored == nil {
			return nil
		}
		body, err := keptBody(state.path, key, stored)
		if err != nil {
			return err
		}
		n, ok = copy(p, body[min(at, len(body)):]), true
		return nil
	})
	return n, ok, err
}

func keptBody(path string, key, stored []byte) ([]byte, error) {
	v, ok := unseal(key, stored)
	if !ok || len(key) != 8 {
		return nil, corrupt(path, "the kept part %x does not match its checksum", key)
	}
	body, err := hub.RecordBody(v)
	if err != nil {
		return nil, corrupt(path, "the kept part %x: %v", key, err)
	}
	return body, nil
}

// keptParts returns the parts kept in state.db. With check it verifies each, and reports damage to problem.
func keptParts(file *boltFile, problem func(error)) (map[uint64]struct{}, error) {
	kept := map[uint64]struct{}{}
	err := file.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketParts))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if len(k) != 8 {
				return corrupt(file.path, "the key %x of a kept part is damaged", k)
			}
			if problem != nil {
				if _, err := keptBody(file.path, k, v); err != nil {
					problem(err)
				}
			}
			kept[binary.BigEndian.Uint64(k)] = struct{}{}
			return nil
		})
	})
	return kept, err
}

// dropKept removes kept parts from state.db, in the transaction after which nothing needs them.
func dropKept(tx *bbolt.Tx, parts []uint64) error {
	b := tx.Bucket([]byte(bucketParts))
	for _, n := range parts {
		if b == nil {
			break
		}
		if err := b.Delete(partKey(n)); err != nil {
			return err
		}
	}
	return nil
}

// forgetKept is dropKept for the index.
func (l *messageLog) forgetKept(parts []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range parts {
		delete(l.kept, n)
	}
}

// missingPart returns the error for a part that is in no segment.
func (s *Store) missingPart(part uint64, missing error) error {
	inUse := false
	s.View(func(st *hub.State) { inUse = len(st.PartsInUse(part, part)) > 0 })
	if inUse {
		return missing
	}
	return hub.ErrTrimmed
}

// ReadPart implements hub.PartReader. It copies only what goes into p, and verifies the part's checksum each time. Errors are
// hub.ErrTrimmed, ErrClosed or a *CorruptError.
func (s *Store) ReadPart(part uint64, at int, p []byte) (int, error) {
	s.mu.RLock()
	if s.closed.Load() {
		s.mu.RUnlock()
		return 0, ErrClosed
	}
	state := s.gen.state
	state.acquire()
	body, seg, kept, err := s.log.findPart(part)
	s.mu.RUnlock()
	defer func() { _ = state.release() }()
	switch {
	case err != nil && errors.Is(err, hub.ErrCorrupt):
		return 0, s.missingPart(part, err)
	case err != nil:
		return 0, err
	case kept:
		n, ok, err := readKept(state, part, at, p)
		if err == nil && !ok {
			err = hub.ErrTrimmed // nothing needs it any more
		}
		return n, err
	case seg != nil:
		n, err := seg.readPart(part, at, p)
		if errors.Is(err, hub.ErrCorrupt) {
			err = s.missingPart(part, err) // of a segment that became active again, see checkRecords
		}
		return n, errors.Join(err, seg.file.release())
	}
	return copy(p, body[min(at, len(body)):]), nil
}

// findPart looks up a part: it is in memory, or in a segment, whose file the caller must release, or kept in state.db.
func (l *messageLog) findPart(part uint64) (body []byte, seg *segment, kept bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if t := l.topics[partsTopic]; t != nil && part < t.first {
		return nil, nil, false, hub.ErrTrimmed
	}
	if _, kept := l.kept[part]; kept {
		return nil, nil, true, nil
	}
	msgs, seg, _, err := l.findLocked(nil, partsTopic, part, 1, 1)
	switch {
	case errors.Is(err, hub.ErrUnknownTopic):
		return nil, nil, false, hub.ErrTrimmed
	case err != nil || seg != nil:
		return nil, seg, false, err
	case len(msgs) == 0:
		return nil, nil, false, hub.ErrTrimmed // the part belonged to a replaced state
	}
	return msgs[0].Body, nil, false, nil
}
