package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"quorumhub/hub"
)

// formatVersion is the file format version, recorded in every file. Files of another version are refused.
const formatVersion = 1

// Buckets and keys of state.db and of the segments.
const (
	bucketMeta    = "meta"    // formatKey; state.db: positionKey; segments: createdKey
	bucketRows    = "rows"    // hub.RowKey -> row
	bucketRecords = "records" // topic id, offset (big endian) -> hub record
	bucketLetters = "letters" // state.db, created when needed: dead letter id -> topic id, offset, hub record
	bucketParts   = "parts"   // state.db, created when needed: number of a part of a blob -> hub record
	bucketRanges  = "ranges"  // topic id -> span of the topic's offsets in this segment

	formatKey   = "format"
	positionKey = "position"
	createdKey  = "created"
)

const sumSize = 4

// checksum covers key and value, so that it detects a value under the wrong key.
func checksum(key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // cached by the standard library
	return crc32.Update(crc32.Checksum(key, table), table, value)
}

// seal returns the stored form of a value: CRC32C (big endian), value.
func seal(key, value []byte) []byte {
	out := make([]byte, sumSize, sumSize+len(value))
	binary.BigEndian.PutUint32(out, checksum(key, value))
	return append(out, value...)
}

// unseal is the inverse of seal. The result aliases stored.
func unseal(key, stored []byte) ([]byte, bool) {
	if len(stored) < sumSize || binary.BigEndian.Uint32(stored) != checksum(key, stored[sumSize:]) {
		return nil, false
	}
	return stored[sumSize:], true
}

const recordKeySize = 16

func appendRecordKey(dst []byte, topic hub.TopicID, offset uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(topic))
	return binary.BigEndian.AppendUint64(dst, offset)
}

func parseRecordKey(k []byte) (hub.TopicID, uint64, bool) {
	if len(k) != recordKeySize {
		return 0, 0, false
	}
	return hub.TopicID(binary.BigEndian.Uint64(k)), binary.BigEndian.Uint64(k[8:]), true
}

// stateMeta describes the content of state.db. It is written in the same transaction as the rows.
type stateMeta struct {
	position Position
	rows     uint64 // number of rows
	digest   uint64 // sum of the rows' checksums; detects missing rows
}

func (m *stateMeta) encode() []byte {
	var b []byte
	for i, v := range []uint64{m.position.Index, m.position.Term, m.position.ConfigurationIndex, m.rows, m.digest} {
		b = protowire.AppendTag(b, protowire.Number(i+1), protowire.VarintType)
		b = protowire.AppendVarint(b, v)
	}
	b = protowire.AppendTag(b, 6, protowire.BytesType)
	return protowire.AppendBytes(b, m.position.Configuration)
}

func decodeStateMeta(b []byte) (stateMeta, error) {
	var m stateMeta
	fields := []*uint64{&m.position.Index, &m.position.Term, &m.position.ConfigurationIndex, &m.rows, &m.digest}
	err := eachField(b, func(num protowire.Number, v uint64, raw []byte) {
		switch {
		case num >= 1 && int(num) <= len(fields):
			*fields[num-1] = v
		case num == 6 && len(raw) > 0:
			m.position.Configuration = append([]byte(nil), raw...)
		}
	})
	return m, err
}

// span is a topic's part of a segment: offsets lo to hi without gaps.
type span struct {
	lo, hi uint64
	bytes  int64 // of records and of the parts that belong to them
	newest int64 // time of the newest message, Unix nanoseconds
}

func (s span) encode() []byte {
	var b []byte
	for i, v := range []uint64{s.lo, s.hi, uint64(s.bytes), uint64(s.newest)} {
		b = protowire.AppendTag(b, protowire.Number(i+1), protowire.VarintType)
		b = protowire.AppendVarint(b, v)
	}
	return b
}

func decodeSpan(b []byte) (span, error) {
	var v [4]uint64
	err := eachField(b, func(num protowire.Number, n uint64, _ []byte) {
		if num >= 1 && int(num) <= len(v) {
			v[num-1] = n
		}
	})
	s := span{lo: v[0], hi: v[1], bytes: int64(v[2]), newest: int64(v[3])}
	if err == nil && (s.lo < 1 || s.hi < s.lo) {
		err = fmt.Errorf("range %d-%d", s.lo, s.hi)
	}
	return s, err
}

// add extends s by a message. Messages are added in order of their offsets.
func (s *span) add(m *hub.Message, size int) {
	if s.lo == 0 || m.Offset < s.lo {
		s.lo = m.Offset
	}
	s.hi = max(s.hi, m.Offset)
	s.bytes += int64(size) + m.PartsSize
	s.newest = max(s.newest, m.Time)
}

// eachField calls f for each field of a message of varint and bytes fields.
func eachField(b []byte, f func(num protowire.Number, v uint64, raw []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				f(num, v, nil)
			}
		case protowire.BytesType:
			var raw []byte
			if raw, n = protowire.ConsumeBytes(b); n >= 0 {
				f(num, 0, raw)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

// putFormat writes the format version to a file; checkFormat verifies it.
func putFormat(tx *bbolt.Tx) (*bbolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketMeta))
	if err != nil {
		return nil, err
	}
	return b, b.Put([]byte(formatKey), seal([]byte(formatKey), []byte{formatVersion}))
}

func checkFormat(path string, tx *bbolt.Tx) (*bbolt.Bucket, error) {
	b, err := bucket(path, tx, bucketMeta)
	if err != nil {
		return nil, err
	}
	v, ok := unseal([]byte(formatKey), b.Get([]byte(formatKey)))
	if !ok || len(v) != 1 {
		return nil, corrupt(path, "the format version is missing or damaged")
	}
	if v[0] != formatVersion {
		return nil, fmt.Errorf("%s has format version %d, but this program supports version %d; run the version of quorumhub that wrote it", path, v[0], formatVersion)
	}
	return b, nil
}
