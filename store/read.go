package store

import (
	"errors"

	"quorumhub/hub"
)

var _ hub.MessageReader = (*Store)(nil)

// Read implements hub.MessageReader. Recent messages come from memory; their bodies are shared and must not be changed. Older
// ones are copied from the segments in read transactions of at most 1 MiB each. Every record's checksum is verified: a
// damaged record is a *CorruptError and never served. Errors are hub.ErrUnknownTopic, hub.ErrTrimmed, ErrClosed or a
// *CorruptError.
func (s *Store) Read(topic hub.TopicID, from uint64, limit, maxBytes int) ([]hub.Message, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	var out []hub.Message
	from = max(from, 1)
	left := maxBytes
	for len(out) < limit {
		had := len(out)
		msgs, seg, through, err := s.log.find(out, topic, from, limit-had, left)
		if err == nil && seg != nil {
			msgs, err = seg.read(out, topic, from, through, limit-had, left)
			err = errors.Join(err, seg.file.release())
		}
		switch {
		case errors.Is(err, hub.ErrUnknownTopic) && had == 0:
			return nil, s.withoutMessages(topic)
		case err != nil && had > 0:
			return out, nil // what was read is good; the next call returns the error
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

// withoutMessages returns nil for a topic that never had a message, hub.ErrUnknownTopic for one that does not exist.
func (s *Store) withoutMessages(topic hub.TopicID) (err error) {
	s.View(func(st *hub.State) {
		if _, ok := st.TopicByID(topic); !ok {
			err = hub.ErrUnknownTopic
		}
	})
	return err
}
