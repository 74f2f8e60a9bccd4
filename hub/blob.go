package hub

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"quorumhub/hub/hubpb"
)

// A body too large for one log entry is a blob: each of its parts is an event, and a final event turns them into a
// message. Parts are numbered across all topics and stored like messages, in order. A part is kept as long as a pending
// blob, a retained message, a dead letter or the gateway's registry needs it; of those in between the store may drop what it likes (PartsInUse).

// pendingBlob is a blob whose message has not been published yet.
type pendingBlob struct {
	parts []uint64
	size  uint64
	at    int64 // when the last part was added
	owner string
}

// blobRef is a retained message whose body is a blob.
type blobRef struct {
	offset, part uint64   // part: the first one
	parts        []uint64 // all of them, in order; nil: not recorded
}

func (b *pendingBlob) row() *hubpb.PendingBlobRow {
	return &hubpb.PendingBlobRow{Parts: b.parts, Size: b.size, At: b.at, Owner: b.owner}
}

func messageBlobKey(topic TopicID, offset uint64) RowKey {
	return RowKey{Table: TableMessageBlob, ID: uint64(topic), Name: string(binary.BigEndian.AppendUint64(nil, offset))}
}

func (s *State) messageBlobRow(k RowKey) *hubpb.MessageBlobRow {
	t := s.topics[TopicID(k.ID)]
	if t == nil || len(k.Name) != 8 {
		return nil
	}
	offset := binary.BigEndian.Uint64([]byte(k.Name))
	r := t.blob(offset)
	if r.part == 0 {
		return nil
	}
	return &hubpb.MessageBlobRow{Topic: k.ID, Offset: offset, FirstPart: r.part, Parts: r.parts}
}

// blob returns a retained message's blob; it has no first part if the body is inline.
func (t *Topic) blob(offset uint64) blobRef {
	i, ok := slices.BinarySearchFunc(t.blobs, offset, func(r blobRef, offset uint64) int { return cmp.Compare(r.offset, offset) })
	if !ok {
		return blobRef{}
	}
	return t.blobs[i]
}

func (s *State) blobKeys(keys []RowKey) []RowKey {
	for name := range s.pendingBlobs {
		keys = append(keys, RowKey{Table: TablePendingBlob, Name: name})
	}
	for id, t := range s.topics {
		for _, r := range t.blobs {
			keys = append(keys, messageBlobKey(id, r.offset))
		}
	}
	return keys
}

// addMessageBlobs links the loaded blobs to their topics.
func (l *Loader) addMessageBlobs() error {
	slices.SortFunc(l.blobs, func(a, b *hubpb.MessageBlobRow) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, r := range l.blobs {
		t := l.s.topics[TopicID(r.Topic)]
		if t == nil {
			return fmt.Errorf("message blob %d-%d lacks its topic row: %w", r.Topic, r.Offset, ErrCorrupt)
		}
		t.blobs = append(t.blobs, blobRef{r.Offset, r.FirstPart, r.Parts})
	}
	return nil
}

// RetainedParts returns the range of retained parts; first is last+1 if there are none. Not all of the range may be in
// use, see PartsInUse.
func (s *State) RetainedParts() (first, last uint64) { return s.meta.DroppedParts + 1, s.meta.LastPart }

// KeepsPartsByUse reports whether the store may drop parts that are not in use before older ones that are. Programs of
// level 1 cannot read what is then left.
func (s *State) KeepsPartsByUse() bool { return s.hasOwners() }

// PartsInUse returns, in order, the parts from first to last that a pending blob, a retained message, a dead
// letter or the gateway's registry needs. A part that is not in use never is again.
func (s *State) PartsInUse(first, last uint64) []uint64 {
	var out []uint64
	add := func(from uint64, parts []uint64) {
		if parts == nil && from > 0 { // which of the next ones are its own was not recorded
			for n := max(from, first); n <= min(last, cmp.Or(s.meta.UnlistedParts, s.meta.LastPart)); n++ {
				out = append(out, n)
			}
			return
		}
		for _, n := range parts {
			if n >= first && n <= last {
				out = append(out, n)
			}
		}
	}
	for _, b := range s.pendingBlobs {
		add(0, b.parts)
	}
	for _, t := range s.topics {
		for i := range t.blobs {
			add(t.blobs[i].part, t.blobs[i].parts)
		}
	}
	for _, d := range s.letters.byID {
		add(d.FirstPart, d.Parts)
	}
	add(0, s.gateway.GetParts())
	slices.Sort(out)
	return slices.Compact(out)
}

// IdleBlobs returns the number of pending blobs that got their last part before the given Unix time in nanoseconds.
func (s *State) IdleBlobs(before int64) (n int) {
	for _, b := range s.pendingBlobs {
		if b.at < before {
			n++
		}
	}
	return n
}

func (s *State) addPart(e *hubpb.BlobPartAdded, fx *Effects) Result {
	b := s.pendingBlobs[string(e.Blob)]
	switch {
	case b == nil && e.Index == 0:
		var refused Result
		if b, refused = s.beginBlob(string(e.Blob), e.Caller, len(e.Data)); b == nil {
			return refused
		}
	case b == nil || int(e.Index) > len(b.parts):
		return Result{Outcome: OutcomeStale} // the parts before it have been dropped
	case int(e.Index) < len(b.parts):
		return Result{Outcome: OutcomeDuplicate}
	}
	size := func() uint64 { return uint64(len(e.Data)) }
	if h := s.holdings[b.owner]; h != nil && len(b.parts) > 0 {
		if r := h.limits.fits(h.stored, size); r.Outcome != OutcomeOK {
			s.dropBlob(e.Blob, fx)
			return r
		}
	}
	s.hold(b.owner, func(h *holding) { h.stored += size() })
	s.meta.LastPart++
	fx.Parts = append(fx.Parts, Message{Offset: s.meta.LastPart, Time: s.meta.Now, Body: e.Data})
	// The published message will share this list.
	b.parts = append(b.parts, s.meta.LastPart)
	b.size += uint64(len(e.Data))
	b.at = s.meta.Now
	s.touchName(TablePendingBlob, string(e.Blob))
	return Result{}
}

// beginBlob makes the pending blob of a first part, which counts as its principal's until it is published or dropped.
func (s *State) beginBlob(id string, c *hubpb.Caller, size int) (*pendingBlob, Result) {
	b := &pendingBlob{}
	if s.hasQuotas() {
		b.owner = shared(c.GetPrincipal())
	}
	if b.owner != "" {
		if r := limitsOf(c).fits(s.held(b.owner).stored, func() uint64 { return uint64(size) }); r.Outcome != OutcomeOK {
			return nil, r
		}
		s.hold(b.owner, func(h *holding) { h.uploads++ })
		s.recordLimits(c)
	}
	s.pendingBlobs[id] = b
	return b, Result{}
}

// removeBlob forgets a pending blob; what becomes of its parts is up to the caller.
func (s *State) removeBlob(id string) {
	s.disownBlob(s.pendingBlobs[id])
	delete(s.pendingBlobs, id)
	s.touchName(TablePendingBlob, id)
}

// disownBlob gives what a pending blob takes back to its principal.
func (s *State) disownBlob(b *pendingBlob) {
	s.hold(b.owner, func(h *holding) {
		h.uploads--
		h.stored -= b.size
	})
	b.owner = ""
}

// takeBlob makes a complete pending blob the body of m. It reports false if parts are missing.
func (s *State) takeBlob(id []byte, parts uint32, size uint64, m *Message) bool {
	b := s.pendingBlobs[string(id)]
	if b == nil || len(b.parts) == 0 || len(b.parts) != int(parts) || b.size != size {
		return false
	}
	m.Body, m.Parts, m.PartsSize = nil, b.parts, int64(size)
	s.removeBlob(string(id))
	return true
}

// dropBlob removes a pending blob that no message took.
func (s *State) dropBlob(id []byte, fx *Effects) {
	if s.pendingBlobs[string(id)] == nil {
		return
	}
	s.removeBlob(string(id))
	fx.PartsReleased = true
	s.releaseParts(fx)
}

func (s *State) publishBlob(e *hubpb.BlobPublished, fx *Effects) Result {
	defer s.dropBlob(e.Blob, fx)
	if b := s.pendingBlobs[string(e.Blob)]; b != nil {
		s.disownBlob(b) // from now on it counts for the topic's owner, or goes
	}
	m := Message{ContentType: e.ContentType, Headers: headersFrom(e.Headers)}
	return s.publishOnce(e, func() uint64 { return storedSize(&m) + e.Size }, func(t *Topic) (uint64, bool) {
		if !s.takeBlob(e.Blob, e.Parts, e.Size, &m) {
			return 0, false
		}
		return s.append(t, m, fx), true
	})
}

func (s *State) dropBlobs(e *hubpb.BlobsDropped, fx *Effects) Result {
	for id, b := range s.pendingBlobs {
		if b.at < e.Before {
			s.removeBlob(id)
			fx.PartsReleased = true
		}
	}
	s.releaseParts(fx)
	return Result{}
}

// forgetBlobs removes the topic's references to blobs of messages up to through.
func (s *State) forgetBlobs(t *Topic, through uint64, fx *Effects) {
	n := 0
	for n < len(t.blobs) && t.blobs[n].offset <= through {
		s.dirty[messageBlobKey(t.ID, t.blobs[n].offset)] = struct{}{}
		n++
	}
	fx.PartsReleased = fx.PartsReleased || n > 0
	if t.blobs = slices.Clone(t.blobs[n:]); len(t.blobs) == 0 {
		t.blobs = nil
	}
}

// releaseParts drops the parts before the first one still needed.
func (s *State) releaseParts(fx *Effects) {
	if s.meta.LastPart == s.meta.DroppedParts {
		return
	}
	first := s.meta.LastPart + 1
	for _, b := range s.pendingBlobs {
		first = min(first, b.parts[0])
	}
	for _, t := range s.topics {
		for _, r := range t.blobs {
			first = min(first, r.part)
		}
	}
	for _, d := range s.letters.byID {
		if d.FirstPart > 0 {
			first = min(first, d.FirstPart)
		}
	}
	for _, n := range s.gateway.GetParts() {
		first = min(first, n)
	}
	if first-1 > s.meta.DroppedParts {
		s.meta.DroppedParts = first - 1
		fx.DroppedParts = s.meta.DroppedParts
	}
}
