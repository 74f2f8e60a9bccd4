package store

import (
	"slices"
	"sort"
	"sync"

	"quorumhub/hub"
)

// messageLog is the index of the message log: for each topic, which messages are retained, which of these are in memory and
// which segment holds the rest. It always agrees with the state, because Apply changes both under Store.mu.
type messageLog struct {
	mu       sync.RWMutex
	limit    int64 // bytes of durable messages kept in memory
	topics   map[hub.TopicID]*topicLog
	segments []*segment          // of the current generation, in order
	kept     map[uint64]struct{} // parts of blobs that are in state.db, not in a segment
	active   *segment            // the one flushes write to; nil: the next flush with messages creates one

	// order lists the messages in topicLog.tail in log order. The first durable entries may be evicted.
	order   []tailEntry
	durable int
	stale   int // entries in order whose messages were trimmed
	bytes   int64
}

type topicLog struct {
	first, head uint64        // retained offsets; first == head+1 if there are none
	tail        []hub.Message // the newest messages, without gaps up to head
	spans       []spanRef     // messages in segments, ordered by offset, not overlapping
}

type spanRef struct {
	lo, hi  uint64
	segment *segment
}

type tailEntry struct {
	topic  hub.TopicID
	offset uint64
	size   int64
}

// messageOverhead is roughly what a message costs in memory besides its bytes.
const messageOverhead = 160

func messageSize(m *hub.Message) int64 {
	return int64(len(m.Body)+len(m.ContentType)+len(m.LinkSelf)+8*len(m.Parts)) + messageOverhead
}

// append adds new messages, in log order.
func (l *messageLog) append(msgs []hub.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range msgs {
		m := &msgs[i]
		t := l.topics[m.Topic]
		if t == nil {
			t = &topicLog{first: m.Offset}
			l.topics[m.Topic] = t
		}
		t.head = m.Offset
		t.tail = append(t.tail, *m)
		size := messageSize(m)
		l.order = append(l.order, tailEntry{m.Topic, m.Offset, size})
		l.bytes += size
	}
	l.evictLocked()
}

// trim drops messages up to and including through.
func (l *messageLog) trim(topic hub.TopicID, through uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[topic]
	if t == nil || through < t.first {
		return
	}
	t.first = through + 1
	for len(t.tail) > 0 && t.tail[0].Offset <= through {
		l.dropFirstLocked(t)
		l.stale++
	}
	l.compactLocked()
}

// remove removes a topic.
func (l *messageLog) remove(topic hub.TopicID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[topic]; t != nil {
		for len(t.tail) > 0 {
			l.dropFirstLocked(t)
			l.stale++
		}
		delete(l.topics, topic)
		l.compactLocked()
	}
}

func (l *messageLog) dropFirstLocked(t *topicLog) {
	l.bytes -= messageSize(&t.tail[0])
	t.tail[0] = hub.Message{} // releases the body although the array remains
	if t.tail = t.tail[1:]; len(t.tail) == 0 {
		t.tail = nil
	}
}

// flushed records that the next n messages in order are durable, and what was written to segments.
func (l *messageLog) flushed(n int, done []written) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range done {
		for id, s := range w.ranges {
			if s != w.segment.ranges[id] {
				l.topics[id].addSpan(spanRef{s.lo, s.hi, w.segment})
			}
		}
		w.segment.ranges, w.segment.size = w.ranges, w.size
		w.segment.sealed = w.segment.sealed || w.full
	}
	l.durable += n
	l.evictLocked()
}

// addSpan records which messages a segment holds. The newest segment wins: messages that a crash left in an older one beyond
// the durable position were written again.
func (t *topicLog) addSpan(ref spanRef) {
	if t == nil {
		return // the topic has been removed
	}
	for len(t.spans) > 0 {
		last := &t.spans[len(t.spans)-1]
		if last.segment == ref.segment {
			last.lo, last.hi = ref.lo, ref.hi
			return
		}
		if last.hi < ref.lo {
			break
		}
		if last.hi = ref.lo - 1; last.hi >= last.lo {
			break
		}
		t.spans = t.spans[:len(t.spans)-1]
	}
	t.spans = append(t.spans, ref)
}

// evictLocked drops durable messages from memory, oldest first, until the rest is within the limit.
func (l *messageLog) evictLocked() {
	for l.bytes > l.limit && l.durable > 0 {
		e := l.order[0]
		l.order = l.order[1:]
		l.durable--
		if l.goneLocked(e) {
			l.stale--
		} else {
			l.dropFirstLocked(l.topics[e.topic])
		}
	}
	if len(l.order) == 0 {
		l.order = nil
	}
}

func (l *messageLog) goneLocked(e tailEntry) bool {
	t := l.topics[e.topic]
	return t == nil || len(t.tail) == 0 || e.offset < t.tail[0].Offset
}

// compactLocked drops entries of trimmed messages from the durable part of order when there are many. The other part is counted by
// a flush in progress and stays.
func (l *messageLog) compactLocked() {
	if l.stale < 1024 || l.stale < len(l.order)/2 {
		return
	}
	kept := make([]tailEntry, 0, len(l.order)-l.stale)
	for i, e := range l.order {
		if i < l.durable && l.goneLocked(e) {
			l.stale--
			continue
		}
		kept = append(kept, e)
	}
	l.durable -= len(l.order) - len(kept)
	l.order = kept
}

// find looks up a topic's messages from offset from on. It returns messages from memory, or else the segment to read, up to
// offset through, with a reference to its file that the caller must release. Neither: there are no messages.
func (l *messageLog) find(dst []hub.Message, topic hub.TopicID, from uint64, max, maxBytes int) (msgs []hub.Message, seg *segment, through uint64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.findLocked(dst, topic, from, max, maxBytes)
}

func (l *messageLog) findLocked(dst []hub.Message, topic hub.TopicID, from uint64, max, maxBytes int) (msgs []hub.Message, seg *segment, through uint64, err error) {
	t := l.topics[topic]
	switch {
	case t == nil:
		return dst, nil, 0, hub.ErrUnknownTopic
	case from < t.first:
		return dst, nil, 0, hub.ErrTrimmed
	case from > t.head:
		return dst, nil, 0, nil
	}
	tailFirst := t.head - uint64(len(t.tail)) + 1
	if from >= tailFirst {
		return takeTail(dst, t.tail[from-tailFirst:], max, maxBytes), nil, 0, nil
	}
	i := sort.Search(len(t.spans), func(i int) bool { return t.spans[i].hi >= from })
	if i == len(t.spans) || t.spans[i].lo > from {
		return dst, nil, 0, corrupt(logDir, "message %d-%d is in no segment", topic, from)
	}
	seg = t.spans[i].segment
	seg.file.acquire()
	return dst, seg, min(t.spans[i].hi, tailFirst-1), nil
}

func takeTail(dst, tail []hub.Message, max, maxBytes int) []hub.Message {
	n, bodies := 0, 0
	for n < len(tail) && n < max {
		bodies += len(tail[n].Body)
		if bodies > maxBytes && (n > 0 || len(dst) > 0) {
			break
		}
		n++
	}
	if dst == nil {
		return slices.Clone(tail[:n])
	}
	return append(dst, tail[:n]...)
}

// load replaces the whole index with the topics and segments of an opened generation.
func (l *messageLog) load(c *content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics, l.segments, l.active, l.kept = c.topics, c.segments, c.active, c.kept
	l.order, l.durable, l.stale, l.bytes = nil, 0, 0, 0
}
