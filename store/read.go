package store

import (
	"errors"

	"quorumhub/hub"
)

var _ hub.MessageReader = (*Store)(nil)

// Read implements hub.MessageReader. Messages come from memory as far as they are there; their bodies are
// shared and must not be changed. Older ones are copied from the segments in read transactions of at most
// 1 MiB each. Every record's checksum is checked: one that does not match is a *CorruptError, and never
// served. Errors are hub.ErrUnknownTopic, hub.ErrTrimmed, ErrClosed or a *CorruptError.
func (s *Store) Read(topic hub.TopicID, from uint64, max, maxBytes int) ([]hub.Message, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	var out []hub.Message
	from = atLeastOne(from)
	left := maxBytes
	for len(out) < max {
		had := len(out)
		msgs, seg, through, err := s.log.find(out, topic, from, max-had, left)
		if err == nil && seg != nil {
			msgs, err = seg.read(out, topic, from, through, max-had, left)
			err = errors.Join(err, seg.file.release())
		}
		switch {
		case errors.Is(err, hub.ErrUnknownTopic) && had == 0:
			return nil, s.withoutMessages(topic)
		case err != nil && had > 0:
			return out, nil // what was read is good; who goes on reading meets the error
		case err != nil:
			s.damage(err)
			return nil, err
		}
		for i := had; i < len(msgs); i++ {
			left -= len(msgs[i].Body)
		}
		if out = msgs; len(out) == had || left <= 0 {
			break
		}
		from = out[len(out)-1].Offset + 1
	}
	return out, nil
}

// withoutMessages tells a topic that never had a message from one that does not exist.
func (s *Store) withoutMessages(topic hub.TopicID) (err error) {
	s.View(func(st *hub.State) {
		if _, ok := st.TopicByID(topic); !ok {
			err = hub.ErrUnknownTopic
		}
	})
	return err
}

func atLeastOne(from uint64) uint64 { return max(from, 1) }
