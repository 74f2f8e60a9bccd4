package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

// batch is what one flush writes: state changes and messages up to one position.
type batch struct {
	gen      *generation
	version  uint64
	position Position
	rows     []row
	messages []hub.Message
	bytes    int64
	dead     []deadSegment // without messages retained at this position
	useless  []uint64      // kept parts that are not in use at this position
}

type row struct {
	key   hub.RowKey
	value []byte // nil: the row is deleted
}

// flush makes everything applied so far durable. After an error nothing more may be written; the failure is recorded and
// passed to Options.Fatal.
func (s *Store) flush() error {
	err := s.flushOnce()
	if err != nil {
		s.reportFailure()
	}
	return err
}

func (s *Store) flushOnce() error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.mu.RLock()
	failure := s.failure
	s.mu.RUnlock()
	if failure != nil {
		return failure
	}
	start := time.Now()
	b, err := s.takeBatch()
	if err == nil && b != nil {
		err = s.write(b)
		err = errors.Join(err, b.gen.state.release())
	}
	if err != nil {
		return s.recordFailure(err)
	}
	if b == nil {
		return nil
	}
	s.figures.flushed(time.Since(start), b)
	s.notifyGrown()
	s.mu.Lock()
	s.advanceLocked()
	s.mu.Unlock()
	return nil
}

// takeBatch encodes what changed. Meanwhile the state does not change but can be read.
func (s *Store) takeBatch() (*batch, error) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	s.mu.Lock()
	b := &batch{gen: s.gen, version: s.version, position: s.applied, messages: s.pending, bytes: s.unflushed.Load()}
	if b.version == s.flushed {
		s.mu.Unlock()
		return nil, nil
	}
	dirty := s.state.TakeDirty()
	s.mu.Unlock()

	s.mu.RLock()
	defer s.mu.RUnlock()
	b.rows = make([]row, 0, len(dirty))
	for key := range dirty {
		value, ok, err := s.state.Row(key)
		if err != nil {
			return nil, err
		}
		if ok && value == nil {
			value = []byte{}
		}
		b.rows = append(b.rows, row{key, value})
	}
	b.gen.state.acquire() // keeps the files open until they are written, even if another generation becomes current
	s.pending = nil
	s.sealActive(s.opts.Now())
	if s.trimmed.Swap(false) {
		s.sealUnretained()
		b.dead, b.useless = s.deadSegments(), s.uselessParts()
	}
	return b, nil
}

// write commits a batch, and counts it as durable unless an Install came in between: then the batch's files are no
// longer in use.
func (s *Store) write(b *batch) error {
	log, err := s.commit(b)
	if err != nil {
		return err
	}
	s.mu.Lock()
	current := s.gen == b.gen
	if current {
		s.countLocked(b, log)
	}
	s.mu.Unlock()
	if !current {
		return nil
	}
	return s.unlinkDead(b.gen, b.dead)
}

// countLocked counts a committed batch as durable. The caller holds mu.
func (s *Store) countLocked(b *batch, log func()) {
	log()
	s.log.forgetKept(b.useless)
	s.flushed, s.durable = b.version, b.position
	s.unflushed.Add(-b.bytes)
}

// commit commits messages first, then rows and position in one transaction. A crash in between leaves messages beyond
// the position; replaying raft's log writes them again. log records the commit in the message log.
func (s *Store) commit(b *batch) (log func(), err error) {
	var done []written
	for rest := b.messages; len(rest) > 0; {
		seg, err := s.activeSegment(b.gen)
		if err != nil {
			return nil, err
		}
		n := s.opts.fit(rest, seg.size)
		w := written{segment: seg, full: n < len(rest)}
		if w.ranges, w.size, err = seg.write(s.disk, rest[:n]); err != nil {
			return nil, err
		}
		done, rest = append(done, w), rest[n:]
		if w.full {
			s.log.mu.Lock()
			s.log.active = nil
			s.log.mu.Unlock()
		}
	}
	if err := s.writeState(b); err != nil {
		return nil, err
	}
	return func() { s.log.flushed(len(b.messages), done) }, nil
}

// written is what a flush has done to one segment.
type written struct {
	segment *segment
	ranges  map[hub.TopicID]span // afterwards
	size    int64
	full    bool // the rest of the flush went to the next segment
}

func (s *Store) relative(path string) string {
	if rel, err := filepath.Rel(s.opts.Dir, path); err == nil {
		return rel
	}
	return path
}

// writeState commits the rows and the position.
func (s *Store) writeState(b *batch) error {
	// bbolt appends sorted keys; in random order each new key would shift a long list.
	slices.SortFunc(b.rows, func(x, y row) int {
		return cmp.Or(cmp.Compare(x.key.Table, y.key.Table), cmp.Compare(x.key.ID, y.key.ID), cmp.Compare(x.key.Name, y.key.Name))
	})
	file := b.gen.state
	meta := b.gen.meta
	meta.position = b.position
	err := s.disk.update(file, func(tx *bbolt.Tx) error {
		rows, err := bucket(file.path, tx, bucketRows)
		if err != nil {
			return err
		}
		letters := tx.Bucket([]byte(bucketLetters))
		for i := range b.rows {
			if err := putRow(rows, &b.rows[i], &meta); err != nil {
				return err
			}
			if r := &b.rows[i]; letters != nil && r.value == nil && r.key.Table == hub.TableDeadLetter {
				if err := letters.Delete(letterKey(r.key.ID)); err != nil {
					return err
				}
			}
		}
		if err := dropKept(tx, b.useless); err != nil {
			return err
		}
		head, err := bucket(file.path, tx, bucketMeta)
		if err != nil {
			return err
		}
		key := []byte(positionKey)
		return head.Put(key, seal(key, meta.encode()))
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", file.path, err)
	}
	b.gen.meta = meta
	b.gen.stateBytes.Store(file.used())
	return nil
}

func putRow(rows *bbolt.Bucket, r *row, meta *stateMeta) error {
	key := r.key.Append(nil)
	if old := rows.Get(key); len(old) >= sumSize {
		meta.rows--
		meta.digest -= uint64(binary.BigEndian.Uint32(old))
	}
	if r.value == nil {
		return rows.Delete(key)
	}
	stored := seal(key, r.value)
	meta.rows++
	meta.digest += uint64(binary.BigEndian.Uint32(stored))
	return rows.Put(key, stored)
}

// activeSegment returns the segment that takes new messages, creating it if there is none.
func (s *Store) activeSegment(g *generation) (*segment, error) {
	s.log.mu.RLock()
	active := s.log.active
	s.log.mu.RUnlock()
	if active != nil {
		return active, nil
	}
	seg, err := s.opts.createSegment(g.dir, g.nextSegment)
	if err != nil {
		return nil, err
	}
	g.own(seg.file)
	g.nextSegment++
	s.log.mu.Lock()
	s.log.segments = append(s.log.segments, seg)
	s.log.active = seg
	s.log.mu.Unlock()
	return seg, nil
}
