package hub

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"quorumhub/hub/hubpb"
)

// Bodies that are too large for one entry come as parts, an event each, and a last event makes a message of them. Parts
// are numbered over all topics, and kept like messages are: in the order of their numbers, dropped from the front. A part
// is kept while a body on its way, a retained message, or a dead letter has it or one before it.

// blob is a body on its way.
type blob struct {
	parts []uint64
	size  uint64
	at    int64 // of the last part
}

// largeRef is a retained message whose body is in parts.
type largeRef struct {
	offset, part uint64 // the first part
}

func (b *blob) row() *hubpb.BlobRow { return &hubpb.BlobRow{Parts: b.parts, Size: b.size, At: b.at} }

func largeRow(topic TopicID, offset uint64) RowKey {
	return RowKey{Table: TableLarge, ID: uint64(topic), Name: string(binary.BigEndian.AppendUint64(nil, offset))}
}

func (s *State) largeRow(k RowKey) *hubpb.LargeRow {
	t := s.topics[TopicID(k.ID)]
	if t == nil || len(k.Name) != 8 {
		return nil
	}
	offset := binary.BigEndian.Uint64([]byte(k.Name))
	part := t.firstPart(offset)
	if part == 0 {
		return nil
	}
	return &hubpb.LargeRow{Topic: k.ID, Offset: offset, FirstPart: part}
}

// firstPart is the first part of a retained message, 0 when it has none.
func (t *Topic) firstPart(offset uint64) uint64 {
	i, ok := slices.BinarySearchFunc(t.large, offset, func(r largeRef, offset uint64) int { return cmp.Compare(r.offset, offset) })
	if !ok {
		return 0
	}
	return t.large[i].part
}

func (s *State) largeKeys(keys []RowKey) []RowKey {
	for name := range s.blobs {
		keys = append(keys, RowKey{Table: TableBlob, Name: name})
	}
	for id, t := range s.topics {
		for _, r := range t.large {
			keys = append(keys, largeRow(id, r.offset))
		}
	}
	return keys
}

// addLarge gives the topics their large messages.
func (l *Loader) addLarge() error {
	slices.SortFunc(l.large, func(a, b *hubpb.LargeRow) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, r := range l.large {
		t := l.s.topics[TopicID(r.Topic)]
		if t == nil {
			return fmt.Errorf("large message %d-%d lacks its topic's row: %w", r.Topic, r.Offset, ErrCorrupt)
		}
		t.large = append(t.large, largeRef{r.Offset, r.FirstPart})
	}
	return nil
}

// Parts is the range of the parts that are kept; first is last+1 when there are none.
func (s *State) Parts() (first, last uint64) { return s.meta.DroppedParts + 1, s.meta.LastPart }

// BlobsIdle is the number of bodies on their way whose last part came before the time given, in Unix nanoseconds.
func (s *State) BlobsIdle(before int64) (n int) {
	for _, b := range s.blobs {
		if b.at < before {
			n++
		}
	}
	return n
}

func (s *State) addPart(e *hubpb.BlobPart, fx *Effects) Result {
	b := s.blobs[string(e.Blob)]
	switch {
	case b == nil && e.Index == 0:
		b = &blob{}
		s.blobs[string(e.Blob)] = b
	case b == nil || int(e.Index) > len(b.parts):
		return Result{Outcome: OutcomeStale} // those before it were dropped
	case int(e.Index) < len(b.parts):
		return Result{Outcome: OutcomeDuplicate}
	}
	s.meta.LastPart++
	fx.Parts = append(fx.Parts, Message{Offset: s.meta.LastPart, Time: s.meta.Now, Body: e.Data})
	// A message shares the list once it is published.
	b.parts = append(b.parts, s.meta.LastPart)
	b.size += uint64(len(e.Data))
	b.at = s.meta.Now
	s.touchName(TableBlob, string(e.Blob))
	return Result{}
}

// takeBlob makes a finished body the message's, and reports false when it is not all there.
func (s *State) takeBlob(id []byte, parts uint32, size uint64, m *Message) bool {
	b := s.blobs[string(id)]
	if b == nil || len(b.parts) == 0 || len(b.parts) != int(parts) || b.size != size {
		return false
	}
	m.Body, m.Parts, m.PartsSize = nil, b.parts, int64(size)
	delete(s.blobs, string(id))
	s.touchName(TableBlob, string(id))
	return true
}

// dropBlob forgets a body that no message took.
func (s *State) dropBlob(id []byte, fx *Effects) {
	if s.blobs[string(id)] == nil {
		return
	}
	delete(s.blobs, string(id))
	s.touchName(TableBlob, string(id))
	s.releaseParts(fx)
}

func (s *State) publishLarge(e *hubpb.LargePublished, fx *Effects) Result {
	defer s.dropBlob(e.Blob, fx)
	t := s.findTopic(e.Topic, e.AutoRegister)
	if t == nil {
		return Result{Outcome: OutcomeNoTopic}
	}
	if len(e.IdempotencyKey) > 0 {
		if r, known := s.idempotency.seen(s, t.ID, e.IdempotencyKey, e.ContentHash); known {
			return r
		}
	}
	m := Message{ContentType: e.ContentType, Headers: headersFrom(e.Headers)}
	if !s.takeBlob(e.Blob, e.Parts, e.Size, &m) {
		return Result{Outcome: OutcomeStale, Topic: t.ID}
	}
	offset := s.append(t, m, fx)
	if len(e.IdempotencyKey) > 0 {
		s.idempotency.add(s, t.ID, e.IdempotencyKey, e.ContentHash, offset)
	}
	return Result{Topic: t.ID, Offset: offset}
}

func (s *State) dropBlobs(e *hubpb.BlobsDropped, fx *Effects) Result {
	for id, b := range s.blobs {
		if b.at < e.Before {
			delete(s.blobs, id)
			s.touchName(TableBlob, id)
		}
	}
	s.releaseParts(fx)
	return Result{}
}

// forgetLarge takes the large messages up to through out of the topic's list.
func (s *State) forgetLarge(t *Topic, through uint64) {
	n := 0
	for n < len(t.large) && t.large[n].offset <= through {
		s.dirty[largeRow(t.ID, t.large[n].offset)] = struct{}{}
		n++
	}
	if t.large = slices.Clone(t.large[n:]); len(t.large) == 0 {
		t.large = nil
	}
}

// releaseParts drops the parts before the first one that is needed.
func (s *State) releaseParts(fx *Effects) {
	if s.meta.LastPart == s.meta.DroppedParts {
		return
	}
	first := s.meta.LastPart + 1
	for _, b := range s.blobs {
		first = min(first, b.parts[0])
	}
	for _, t := range s.topics {
		for _, r := range t.large {
			first = min(first, r.part)
		}
	}
	for _, d := range s.letters.byID {
		if d.FirstPart > 0 {
			first = min(first, d.FirstPart)
		}
	}
	if first-1 > s.meta.DroppedParts {
		s.meta.DroppedParts = first - 1
		fx.DroppedParts = s.meta.DroppedParts
	}
}
