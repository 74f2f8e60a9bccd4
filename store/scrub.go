package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"quorumhub/durable"
	"quorumhub/hub"
)

const (
	// damagedFile exists in a store's directory after MarkDamaged.
	damagedFile = "DAMAGED"
	// scrubBytes is how many bytes per second are read from the message log after a start.
	scrubBytes = 64 << 20
)

// MarkDamaged records in a store's directory that damage was found in it. The next Open then inspects everything and refuses a store
// that is still damaged.
func MarkDamaged(dir string, damage error) error {
	if err := durable.WriteFile(filepath.Join(dir, damagedFile), []byte(damage.Error()+"\n"), 0o600); err != nil {
		return fmt.Errorf("record the damage: %w", err)
	}
	return durable.SyncDir(dir)
}

// checkMark refuses a marked store unless it is intact by now.
func (o *Options) checkMark() error {
	path := filepath.Join(o.Dir, damagedFile)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	r, err := Inspect(o.Dir)
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return r.Problems[0]
	}
	o.Logger.Info("the store was marked as damaged but is intact now", "dir", o.Dir)
	return os.Remove(path)
}

// damage reports damage found while the store runs to Options.Damaged, once per file.
func (s *Store) damage(err error) {
	var c *CorruptError
	if !errors.As(err, &c) || s.closed.Load() {
		return
	}
	if _, reported := s.damaged.LoadOrStore(c.File, true); !reported {
		s.opts.Damaged(err)
	}
}

// toScrub is a segment as it was when the store was opened.
type toScrub struct {
	*segment
	bytes  int64
	sealed bool
}

// scrubbed lists the segments to scrub. Only start calls it.
func (s *Store) scrubbed() []toScrub {
	var all []toScrub
	for _, seg := range s.log.segments {
		all = append(all, toScrub{seg, seg.size, seg.sealed})
	}
	return all
}

// runScrub reads all messages in segments once after the start. Otherwise damage to a record would be noticed only when it
// is needed, when another node's copy may no longer exist.
func (s *Store) runScrub(all []toScrub) {
	defer s.stopped.Done()
	for _, seg := range all {
		s.log.mu.RLock()
		there := slices.Contains(s.log.segments, seg.segment)
		if there {
			seg.file.acquire()
		}
		s.log.mu.RUnlock()
		if !there {
			continue
		}
		err := s.scrub(seg)
		if err := errors.Join(err, seg.file.release()); err != nil {
			s.damage(err)
		}
	}
}

// scrub reads a segment. It returns the first damage found, nil if the store is closed meanwhile.
func (s *Store) scrub(seg toScrub) error {
	if seg.sealed { // the pages of a writable segment were checked when it was opened
		if err := checkPages(seg.file.path, seg.file.raw); err != nil || !s.pause(seg.bytes) {
			return err
		}
	}
	for key := []byte{0}; key != nil; {
		var bytes int64
		err := seg.file.view(func(tx *bbolt.Tx) error {
			records, err := bucket(seg.file.path, tx, bucketRecords)
			if err != nil {
				return err
			}
			c := records.Cursor()
			k, v := c.Seek(key)
			for ; k != nil && bytes < readBytes; k, v = c.Next() {
				topic, offset, ok := parseRecordKey(k)
				if !ok {
					return corrupt(seg.file.path, "record key %x is damaged", k)
				}
				if _, err := seg.parse(topic, offset, k, v); err != nil && s.retained(topic, offset) {
					return err
				}
				bytes += int64(len(k) + len(v))
			}
			key = slices.Clone(k)
			return nil
		})
		if err != nil || !s.pause(bytes) {
			return err
		}
	}
	return nil
}

// retained reports whether a message is retained.
func (s *Store) retained(topic hub.TopicID, offset uint64) bool {
	s.log.mu.RLock()
	defer s.log.mu.RUnlock()
	t := s.log.topics[topic]
	return t != nil && offset >= t.first && offset <= t.head
}

// pause limits the reading rate after reading bytes. It reports false if the store is closed.
func (s *Store) pause(bytes int64) bool {
	timer := time.NewTimer(time.Duration(bytes) * time.Second / scrubBytes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
		return false
	}
}
