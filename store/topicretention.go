package store

import (
	"errors"
	"fmt"
	"time"

	"quorumhub/hub"
)

// TopicTrims returns what the limits of individual topics drop at now, one Trim per topic. The age limit is exact to the
// message. The size limit uses the average message size in a segment, and always keeps the newest message. Disk space is
// freed once no topic retains messages in a segment.
func (s *Store) TopicTrims(limits []hub.TopicLimit, now time.Time) ([]hub.Trim, error) {
	var out []hub.Trim
	for _, l := range limits {
		var through uint64
		if l.MaxAge != nil && *l.MaxAge > 0 {
			offset, err := s.OffsetAt(l.Topic, now.Add(-*l.MaxAge))
			if err != nil && !errors.Is(err, hub.ErrUnknownTopic) {
				return nil, fmt.Errorf("retention of topic %d: %w", l.Topic, err)
			}
			if err == nil {
				through = offset - 1
			}
		}
		if l.MaxBytes != nil && *l.MaxBytes > 0 {
			through = max(through, s.log.beyond(l.Topic, *l.MaxBytes))
		}
		if through > 0 && s.log.holds(l.Topic, through) {
			out = append(out, hub.Trim{Topic: l.Topic, Through: through})
		}
	}
	return out, nil
}

// holds reports whether any message up to through is retained.
func (l *messageLog) holds(topic hub.TopicID, through uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t := l.topics[topic]
	return t != nil && t.first <= through && t.first <= t.head
}

// beyond returns the last offset that is not within the newest limit bytes of a topic, 0 if all messages are.
func (l *messageLog) beyond(topic hub.TopicID, limit int64) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t := l.topics[topic]
	if t == nil || t.first >= t.head {
		return 0
	}
	left, next := limit, t.head // next is the newest message not yet accounted for
	var flushed uint64
	if n := len(t.spans); n > 0 {
		flushed = t.spans[n-1].hi
	}
	for i := len(t.tail) - 1; i >= 0 && t.tail[i].Offset > flushed; i-- {
		m := &t.tail[i]
		if left -= messageSize(m) - messageOverhead + m.PartsSize; left < 0 {
			return min(m.Offset, t.head-1)
		}
		next = m.Offset - 1
	}
	for i := len(t.spans) - 1; i >= 0 && t.spans[i].hi >= t.first; i-- {
		ref := t.spans[i]
		r := ref.segment.ranges[topic]
		average := max(r.bytes/int64(r.hi-r.lo+1), 1)
		lo, hi := max(ref.lo, t.first), min(ref.hi, next)
		if hi < lo {
			continue
		}
		if fit := uint64(left / average); fit < hi-lo+1 {
			return min(hi-fit, t.head-1)
		}
		left -= average * int64(hi-lo+1)
	}
	return 0
}
