package hub

import (
	"slices"
	"sort"

	"quorumhub/hub/hubpb"
)

const (
	// maxMarks bounds the marks of a topic. Like minStride it is part of the fold.
	maxMarks = 32
	// minStride is the least number of bytes between two marks.
	minStride = 4 << 10
)

// storedBytes counts the bytes of a topic's retained messages, without knowing the size of each: marks remember, for
// some messages, the sum up to there. What a trim drops counts from the mark before its end. So a count is never too
// low, and too high by less than the bytes between two marks: 4 KiB, or about a sixteenth of what is retained.
type storedBytes struct {
	total  uint64 // of all messages that were counted
	freed  uint64 // of these, in messages that are known to be dropped
	stride uint64 // 0: minStride
	marks  []storedMark
}

type storedMark struct {
	offset uint64
	sum    uint64 // of the messages up to and including this one
}

func (b *storedBytes) used() uint64 { return b.total - b.freed }

// add counts the topic's newest message.
func (b *storedBytes) add(offset, size uint64) {
	b.total += size
	last := b.freed
	if n := len(b.marks); n > 0 {
		last = b.marks[n-1].sum
	}
	if b.total-last < max(b.stride, minStride) {
		return
	}
	if len(b.marks) >= maxMarks {
		half := make([]storedMark, 0, maxMarks)
		for i := 1; i < len(b.marks); i += 2 {
			half = append(half, b.marks[i])
		}
		b.marks, b.stride = half, 2*max(b.stride, minStride)
	}
	b.marks = append(b.marks, storedMark{offset, b.total})
}

// drop counts the messages up to through as dropped; head is the newest.
func (b *storedBytes) drop(through, head uint64) {
	if through >= head {
		*b = storedBytes{total: b.total, freed: b.total}
		return
	}
	n := sort.Search(len(b.marks), func(i int) bool { return b.marks[i].offset > through })
	if n == 0 {
		return
	}
	b.freed = b.marks[n-1].sum
	b.marks = slices.Clone(b.marks[n:])
	if len(b.marks) < maxMarks/4 {
		b.stride /= 2
	}
}

func (b *storedBytes) row() *hubpb.StoredBytes {
	if b.total == 0 {
		return nil
	}
	r := &hubpb.StoredBytes{Total: b.total, Freed: b.freed, Stride: b.stride}
	for _, m := range b.marks {
		r.MarkOffsets, r.MarkSums = append(r.MarkOffsets, m.offset), append(r.MarkSums, m.sum)
	}
	return r
}

func storedFromRow(r *hubpb.StoredBytes) storedBytes {
	b := storedBytes{total: r.GetTotal(), freed: r.GetFreed(), stride: r.GetStride()}
	for i, offset := range r.GetMarkOffsets()[:min(len(r.GetMarkOffsets()), len(r.GetMarkSums()))] {
		b.marks = append(b.marks, storedMark{offset, r.MarkSums[i]})
	}
	return b
}

// storedSize returns the bytes of a message as the log stores it, with the parts of a blob.
func storedSize(m *Message) uint64 { return uint64(RecordSize(m)) + uint64(m.PartsSize) }

// countStored counts a message that was appended to a topic. Messages from before the cluster knew levelQuotas are not
// counted.
func (s *State) countStored(t *Topic, m *Message) {
	if t.holder == nil || !s.hasQuotas() {
		return
	}
	size := storedSize(m)
	t.stored.add(m.Offset, size)
	t.holder.stored += size
}

// freeStored counts messages that were dropped from a topic.
func (s *State) freeStored(t *Topic, through uint64) {
	before := t.stored.used()
	t.stored.drop(through, t.Head)
	if t.holder != nil {
		t.holder.stored -= before - t.stored.used()
	}
}

// byteLimits are the quotas that the fold applies while others act: 0 is no limit.
type byteLimits struct{ stored, letters uint64 }

func limitsOf(c *hubpb.Caller) byteLimits {
	return byteLimits{c.GetMaxStoredBytes(), c.GetMaxDeadLetterBytes()}
}

// sizer returns a number of bytes. It is called only if there is a limit.
type sizer func() uint64

// oneByte is the least that anything needs.
func oneByte() uint64 { return 1 }

// fits returns the result that refuses a message of that size in a topic of somebody who has used bytes, or OutcomeOK.
func (l byteLimits) fits(used uint64, size sizer) Result {
	if l.stored == 0 || used+size() <= l.stored {
		return Result{}
	}
	return bytesReached(QuotaStoredBytes, used, l.stored)
}

// roomFor is fits for a topic that has an owner.
func (t *Topic) roomFor(size sizer) Result {
	if t.holder == nil {
		return Result{}
	}
	return t.holder.limits.fits(t.holder.stored, size)
}

// roomFor is the topic's roomFor with the limits of its owner as they are now, if it is the owner who acts.
func (s *State) roomFor(t *Topic, size sizer, c *hubpb.Caller) Result {
	if c != nil && c.Principal == t.Owner {
		s.recordLimits(c)
	}
	return t.roomFor(size)
}

// recordLimits keeps the limits in bytes of a principal that owns something: they apply to what others publish to its
// topics, and to what cannot be delivered to it.
func (s *State) recordLimits(c *hubpb.Caller) {
	if s.hasQuotas() {
		s.limitBytes(c.GetPrincipal(), limitsOf(c))
	}
}

func (s *State) limitBytes(owner string, l byteLimits) {
	h := s.holdings[owner]
	if h == nil || h.limits == l {
		return
	}
	h.limits = l
	s.touchName(TablePrincipal, owner)
}

func (h *holding) row(owner string) *hubpb.PrincipalRow {
	if h == nil || !h.recorded() {
		return nil
	}
	return &hubpb.PrincipalRow{Owner: owner, MaxStoredBytes: h.limits.stored, MaxDeadLetterBytes: h.limits.letters, DroppedLetters: h.lettersDropped}
}

// recorded reports whether the holding has a row.
func (h *holding) recorded() bool { return h.limits != byteLimits{} || h.lettersDropped > 0 }

func (h *holding) load(r *hubpb.PrincipalRow) {
	h.limits = byteLimits{r.MaxStoredBytes, r.MaxDeadLetterBytes}
	h.lettersDropped = r.DroppedLetters
}

// boundLetters drops the oldest dead letters of a principal that has more than its quota of bytes, but never its newest.
func (s *State) boundLetters(owner string, fx *Effects) {
	h := s.holdings[owner]
	if h == nil || h.limits.letters == 0 {
		return
	}
	for h.letterBytes > h.limits.letters && len(h.letters) > 1 {
		d := s.letters.byID[h.letters[0]]
		s.removeLetter(d, fx)
		s.touch(TableDeadLetter, d.ID)
		h.lettersDropped++
		s.touchName(TablePrincipal, owner)
	}
}
