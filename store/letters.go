package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

// The content of a dead letter is the message in the log. It is copied to state.db only when retention is about to remove
// the segment that holds it, and stays there as long as the letter's row.

var _ hub.DeadLetterReader = (*Store)(nil)

func letterKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// keptLetter is a message to be copied for a dead letter.
type keptLetter struct {
	id     uint64
	topic  hub.TopicID
	offset uint64
}

// keepLetters copies the content of dead letters from segments that are about to be removed. After a crash in between the
// segments still exist, and copying again has the same result.
func (s *Store) keepLetters(g *generation, dead []deadSegment) error {
	needed := map[*segment][]keptLetter{}
	s.View(func(st *hub.State) {
		st.DeadLetterIDs(func(d *hub.DeadLetter) bool {
			for _, seg := range dead {
				if r, ok := seg.ranges[d.Topic]; ok && d.Offset >= r.lo && d.Offset <= r.hi {
					needed[seg.segment] = append(needed[seg.segment], keptLetter{d.ID, d.Topic, d.Offset})
				}
			}
			return false
		})
	})
	for _, seg := range dead {
		letters := needed[seg.segment]
		slices.SortFunc(letters, func(a, b keptLetter) int { return cmp.Compare(a.id, b.id) })
		err := copyRecords(g.state, seg.segment, bucketLetters, len(letters), func(i int) keptRecord {
			l := &letters[i]
			return keptRecord{letterKey(l.id), appendRecordKey(nil, l.topic, l.offset), l.topic, l.offset}
		})
		if err != nil {
			return fmt.Errorf("keep the content of dead letters: %w", err)
		}
	}
	return nil
}

// ReadLetter implements hub.DeadLetterReader. Errors are hub.ErrTrimmed for a letter that no longer exists, ErrClosed, ctx's error
// or a *CorruptError.
func (s *Store) ReadLetter(ctx context.Context, d *hub.DeadLetter) (hub.Message, error) {
	for try := 0; ; try++ {
		m, ok, err := s.findLetter(d)
		if ok || err != nil {
			return m, err
		}
		there := false
		s.View(func(st *hub.State) { _, there = st.DeadLetter(d.ID) })
		switch {
		case !there:
			return hub.Message{}, hub.ErrTrimmed
		case try > 0:
			return hub.Message{}, corrupt(stateFile, "the content of dead letter %s, message %s, is missing", hub.DeadLetterID(d.ID), d.MessageID())
		}
		// It is no longer in the log and not yet in a file, or has just moved from one to the other.
		if err := s.Flush(ctx); err != nil {
			return hub.Message{}, err
		}
	}
}

// findLetter looks in the log, in state.db, and in segments that still exist although their messages are trimmed.
func (s *Store) findLetter(d *hub.DeadLetter) (m hub.Message, ok bool, err error) {
	msgs, err := s.Read(d.Topic, d.Offset, 1, 1)
	switch {
	case err == nil && len(msgs) == 1 && msgs[0].Offset == d.Offset:
		return msgs[0], true, nil
	case err != nil && !errors.Is(err, hub.ErrTrimmed) && !errors.Is(err, hub.ErrUnknownTopic):
		return m, false, err
	}
	for range 2 { // it may move from a segment to state.db between the two lookups
		if m, ok, err = s.findKept(d); ok || err != nil {
			return m, ok, err
		}
		if m, ok, err = s.findTrimmed(d); ok || err != nil {
			return m, ok, err
		}
	}
	return m, false, nil
}

func (s *Store) findKept(d *hub.DeadLetter) (m hub.Message, ok bool, err error) {
	s.mu.RLock()
	if s.closed.Load() {
		s.mu.RUnlock()
		return m, false, ErrClosed
	}
	state := s.gen.state
	state.acquire()
	s.mu.RUnlock()
	defer func() { err = errors.Join(err, state.release()) }()
	err = state.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketLetters))
		if b == nil {
			return nil
		}
		key := letterKey(d.ID)
		stored := b.Get(key)
		if stored == nil {
			return nil
		}
		m, err = parseLetter(state.path, key, stored)
		ok = err == nil
		return err
	})
	return m, ok, err
}

func parseLetter(path string, key, stored []byte) (hub.Message, error) {
	v, ok := unseal(key, stored)
	if ok && len(v) >= recordKeySize {
		if topic, offset, ok := parseRecordKey(v[:recordKeySize]); ok {
			m, err := hub.ParseRecord(topic, offset, v[recordKeySize:])
			if err != nil {
				return m, corrupt(path, "%v", err)
			}
			return m, nil
		}
	}
	return hub.Message{}, corrupt(path, "the content of dead letter %x does not match its checksum", key)
}

func (s *Store) findTrimmed(d *hub.DeadLetter) (m hub.Message, ok bool, err error) {
	var seg *segment
	s.log.mu.RLock()
	for _, candidate := range slices.Backward(s.log.segments) { // the newest segment wins, see addSpan
		if r, has := candidate.ranges[d.Topic]; has && d.Offset >= r.lo && d.Offset <= r.hi {
			seg = candidate
			seg.file.acquire()
			break
		}
	}
	s.log.mu.RUnlock()
	if seg == nil {
		return m, false, nil
	}
	defer func() { err = errors.Join(err, seg.file.release()) }()
	msgs, err := seg.read(nil, d.Topic, d.Offset, d.Offset, 1, 1)
	if err != nil || len(msgs) == 0 {
		return m, false, err
	}
	return msgs[0], true, nil
}

// checkLetters verifies the kept content of all dead letters and reports damage.
func checkLetters(file *boltFile, problem func(error)) error {
	return file.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketLetters))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if _, err := parseLetter(file.path, k, v); err != nil {
				problem(err)
			}
			return nil
		})
	})
}
