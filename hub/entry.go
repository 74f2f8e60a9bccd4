package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"quorumhub/hub/hubpb"
)

// An entry in the replicated log is 1 byte format version, 4 bytes CRC32C (big endian) of the rest, and a
// hubpb.Entry.
const (
	entryVersion = 1
	entryHeader  = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt marks data that differs from what was written: its checksum or encoding is wrong.
var ErrCorrupt = errors.New("corrupt data")

// EncodeProposal encodes the events of one proposal for EntryBuilder.AddBatch.
func EncodeProposal(events []*hubpb.Event) ([]byte, error) {
	return proto.MarshalOptions{}.Marshal(&hubpb.Proposal{Events: events})
}

// EntryBuilder joins encoded proposals into one log entry without decoding them. The zero value is ready to use. Not
// safe for concurrent use.
type EntryBuilder struct {
	batches []byte
}

// AddBatch appends one origin's batch. seq counts from 1 and rises with every batch of that origin; proposals come
// from EncodeProposal.
func (b *EntryBuilder) AddBatch(origin string, seq uint64, proposals [][]byte) {
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(origin)) + protowire.SizeTag(2) + protowire.SizeVarint(seq)
	for _, p := range proposals {
		size += protowire.SizeTag(3) + protowire.SizeBytes(len(p))
	}
	out := b.batches
	out = protowire.AppendTag(out, 2, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(size))
	out = protowire.AppendTag(out, 1, protowire.BytesType)
	out = protowire.AppendString(out, origin)
	out = protowire.AppendTag(out, 2, protowire.VarintType)
	out = protowire.AppendVarint(out, seq)
	for _, p := range proposals {
		out = protowire.AppendTag(out, 3, protowire.BytesType)
		out = protowire.AppendBytes(out, p)
	}
	b.batches = out
}

// Len returns the size in bytes so far.
func (b *EntryBuilder) Len() int { return len(b.batches) }

// Encode finishes the entry with the leader's time (Unix nanoseconds) and resets the builder.
func (b *EntryBuilder) Encode(now int64) []byte {
	out := make([]byte, entryHeader, entryHeader+12+len(b.batches))
	out[0] = entryVersion
	out = protowire.AppendTag(out, 1, protowire.VarintType)
	out = protowire.AppendVarint(out, uint64(now))
	out = append(out, b.batches...)
	binary.BigEndian.PutUint32(out[1:], crc32.Checksum(out[entryHeader:], castagnoli))
	b.batches = b.batches[:0]
	return out
}

// DecodeEntry is the inverse of EntryBuilder. The result shares no memory with data. Errors wrap ErrCorrupt, except
// for an unknown format version, which a newer program wrote.
func DecodeEntry(data []byte) (*hubpb.Entry, error) {
	if len(data) < entryHeader {
		return nil, fmt.Errorf("log entry of %d bytes: %w", len(data), ErrCorrupt)
	}
	if data[0] != entryVersion {
		return nil, fmt.Errorf("log entry has format version %d, this program knows version %d", data[0], entryVersion)
	}
	if crc32.Checksum(data[entryHeader:], castagnoli) != binary.BigEndian.Uint32(data[1:]) {
		return nil, fmt.Errorf("log entry: checksum does not match: %w", ErrCorrupt)
	}
	e := new(hubpb.Entry)
	if err := proto.Unmarshal(data[entryHeader:], e); err != nil {
		return nil, fmt.Errorf("log entry: %w: %w", ErrCorrupt, err)
	}
	return e, nil
}
