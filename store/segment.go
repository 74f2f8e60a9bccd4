package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"quorumhub/hub"
)

const (
	logDir = "log"
	// fillPercent leaves little room in pages: records arrive nearly in key order.
	fillPercent = 0.9
	// commitBytes bounds one transaction of a segment. Several transactions do no harm: records beyond the position in state.db
	// are written again after a crash.
	commitBytes = 16 << 20
	// readBytes bounds what one read transaction copies.
	readBytes = 1 << 20
)

// segment is one file of the message log. Only the flusher writes to it, and never after the segment is sealed. Fields from
// ranges on are guarded by messageLog.mu. After a crash ranges may extend beyond the position in state.db; those records
// are not served and are written again.
type segment struct {
	number  uint64
	file    *boltFile
	created time.Time

	ranges map[hub.TopicID]span
	size   int64 // bytes in use
	sealed bool
}

func segmentName(number uint64) string {
	return filepath.Join(logDir, strconv.FormatUint(number, 10)+".db")
}

// parseSegmentName is the inverse of segmentName without the directory.
func parseSegmentName(base string) (uint64, bool) {
	s, ok := strings.CutSuffix(base, ".db")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == s && n > 0
}

func (o *Options) segmentBolt(readOnly bool) boltOptions {
	opts := boltOptions{readOnly: readOnly, lockTimeout: o.LockTimeout}
	if !readOnly {
		// A flush can exceed SegmentBytes. If the map were too small, the flusher would wait for readers.
		opts.mmapBytes = 2*o.SegmentBytes + 2*o.MaxUnflushedBytes
		opts.allocBytes = int(min(o.SegmentBytes/4, 16<<20)) // 16 MiB is the default of bbolt
	}
	return opts
}

func (o *Options) createSegment(dir string, number uint64) (*segment, error) {
	path := filepath.Join(dir, segmentName(number))
	err := createBolt(path, o.segmentBolt(false), func(tx *bbolt.Tx) error {
		meta, err := putFormat(tx)
		if err != nil {
			return err
		}
		created := binary.BigEndian.AppendUint64(nil, uint64(o.Now().UnixNano()))
		if err := meta.Put([]byte(createdKey), seal([]byte(createdKey), created)); err != nil {
			return err
		}
		for _, name := range []string{bucketRecords, bucketRanges} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return o.openSegment(dir, number, false)
}

// openSegment opens a segment and reads its ranges, but not its records.
func (o *Options) openSegment(dir string, number uint64, readOnly bool) (*segment, error) {
	path := filepath.Join(dir, segmentName(number))
	file, err := openBolt(path, o.segmentBolt(readOnly))
	if err != nil {
		return nil, err
	}
	seg := &segment{number: number, file: file, ranges: map[hub.TopicID]span{}, sealed: readOnly}
	err = file.view(func(tx *bbolt.Tx) error {
		meta, err := checkFormat(path, tx)
		if err != nil {
			return err
		}
		created, ok := unseal([]byte(createdKey), meta.Get([]byte(createdKey)))
		if !ok || len(created) != 8 {
			return corrupt(path, "the creation time is missing or damaged")
		}
		seg.created = time.Unix(0, int64(binary.BigEndian.Uint64(created)))
		seg.size = tx.Size()
		ranges, err := bucket(path, tx, bucketRanges)
		if err != nil {
			return err
		}
		return ranges.ForEach(func(k, stored []byte) error {
			v, ok := unseal(k, stored)
			if !ok || len(k) != 8 {
				return corrupt(path, "the range of topic %x does not match its checksum", k)
			}
			s, err := decodeSpan(v)
			if err != nil {
				return corrupt(path, "the range of topic %x is damaged (%v)", k, err)
			}
			seg.ranges[hub.TopicID(binary.BigEndian.Uint64(k))] = s
			return nil
		})
	})
	if err != nil {
		return nil, errors.Join(err, file.release())
	}
	return seg, nil
}

// write sorts and commits messages, and returns the segment's ranges and size afterwards. Only the flusher calls it.
func (seg *segment) write(d disk, msgs []hub.Message) (map[hub.TopicID]span, int64, error) {
	ranges := maps.Clone(seg.ranges)
	slices.SortFunc(msgs, func(a, b hub.Message) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Offset, b.Offset))
	})
	for len(msgs) > 0 {
		n, total := 0, 0
		for n < len(msgs) && (n == 0 || total < commitBytes) {
			total += sumSize + recordKeySize + hub.RecordSize(&msgs[n])
			n++
		}
		err := d.update(seg.file, func(tx *bbolt.Tx) error {
			return putRecords(tx, seg.file.path, msgs[:n], total, ranges)
		})
		if err != nil {
			return nil, 0, fmt.Errorf("write %s: %w", seg.file.path, err)
		}
		msgs = msgs[n:]
	}
	var size int64
	err := seg.file.view(func(tx *bbolt.Tx) error { size = tx.Size(); return nil })
	return ranges, size, err
}

func putRecords(tx *bbolt.Tx, path string, msgs []hub.Message, total int, ranges map[hub.TopicID]span) error {
	records, err := bucket(path, tx, bucketRecords)
	if err != nil {
		return err
	}
	spans, err := bucket(path, tx, bucketRanges)
	if err != nil {
		return err
	}
	records.FillPercent, spans.FillPercent = fillPercent, fillPercent
	buf := make([]byte, 0, total) // bbolt references values until the commit
	var key [recordKeySize]byte
	put := func(topic hub.TopicID, s span) error {
		k := binary.BigEndian.AppendUint64(nil, uint64(topic))
		return spans.Put(k, seal(k, s.encode()))
	}
	for i := range msgs {
		m := &msgs[i]
		k := appendRecordKey(key[:0], m.Topic, m.Offset)
		start := len(buf)
		buf = append(buf, 0, 0, 0, 0)
		buf = hub.AppendRecord(buf, m)
		v := buf[start:len(buf):len(buf)]
		binary.BigEndian.PutUint32(v, checksum(k, v[sumSize:]))
		if err := records.Put(k, v); err != nil {
			return err
		}
		s := ranges[m.Topic]
		s.add(m, len(k)+len(v))
		ranges[m.Topic] = s
		if i+1 == len(msgs) || msgs[i+1].Topic != m.Topic {
			if err := put(m.Topic, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// read appends copies of a topic's records to dst, from offset from to at most through: at most max records and maxBytes of
// bodies, but at least one to an empty dst. It stops early when it has copied enough for one transaction. Every offset up
// to through must exist; a missing or damaged record is a CorruptError. Records before it are returned without the error,
// which the next call returns.
func (seg *segment) read(dst []hub.Message, topic hub.TopicID, from, through uint64, max, maxBytes int) ([]hub.Message, error) {
	had := len(dst)
	err := seg.file.view(func(tx *bbolt.Tx) error {
		records, err := bucket(seg.file.path, tx, bucketRecords)
		if err != nil {
			return err
		}
		c := records.Cursor()
		var key [recordKeySize]byte
		copied, bodies, next := 0, 0, from
		for k, v := c.Seek(appendRecordKey(key[:0], topic, from)); next <= through && len(dst)-had < max; k, v = c.Next() {
			if k == nil {
				return corrupt(seg.file.path, "record %d-%d is missing", topic, next)
			}
			if t, o, ok := parseRecordKey(k); !ok || t != topic || o != next {
				return corrupt(seg.file.path, "record %d-%d is missing", topic, next)
			}
			if len(dst) > had && copied+len(v) > readBytes {
				return nil
			}
			m, err := seg.parse(topic, next, k, v)
			if err != nil {
				return err
			}
			if len(dst) > 0 && bodies+len(m.Body) > maxBytes {
				return nil
			}
			dst = append(dst, m)
			copied, bodies, next = copied+len(v), bodies+len(m.Body), next+1
		}
		return nil
	})
	if len(dst) > had {
		return dst, nil
	}
	return dst, err
}

func (seg *segment) parse(topic hub.TopicID, offset uint64, k, stored []byte) (hub.Message, error) {
	v, ok := unseal(k, stored)
	if !ok {
		return hub.Message{}, corrupt(seg.file.path, "record %d-%d does not match its checksum", topic, offset)
	}
	m, err := hub.ParseRecord(topic, offset, v)
	if err != nil {
		return hub.Message{}, corrupt(seg.file.path, "%v", err)
	}
	return m, nil
}
