package hub

import (
	"bytes"
	"crypto/sha256"
	"time"
)

// IdempotencyWindow is how long an Idempotency-Key is remembered, in the log's time.
const IdempotencyWindow = 24 * time.Hour

// maxIdempotencyKeyBytes is the longest Idempotency-Key.
const maxIdempotencyKeyBytes = 255

// idempotency remembers the keys of publications for a day, per topic.
type idempotency struct {
	byKey map[idempotencyKey]*idempotent
	order []*idempotent // oldest first; removed ones stay until they reach the front
}

type idempotencyKey struct {
	topic TopicID
	key   string // SHA-256
}

type idempotent struct {
	idempotencyKey
	contentHash []byte
	offset      uint64
	at          int64
	removed     bool
}

func newIdempotency() idempotency {
	return idempotency{byKey: map[idempotencyKey]*idempotent{}}
}

func (k idempotencyKey) row() RowKey {
	return RowKey{Table: TableIdempotency, ID: uint64(k.topic), Name: k.key}
}

// seen returns the result for a publication whose key is known: the first one's offset for the same content, a
// conflict for other content.
func (m *idempotency) seen(s *State, topic TopicID, key, contentHash []byte) (Result, bool) {
	m.forget(s)
	e := m.byKey[idempotencyKey{topic, string(key)}]
	switch {
	case e == nil:
		return Result{}, false
	case !bytes.Equal(e.contentHash, contentHash):
		return Result{Outcome: OutcomeKeyConflict, Topic: topic}, true
	}
	return Result{Outcome: OutcomeDuplicate, Topic: topic, Offset: e.offset}, true
}

func (m *idempotency) add(s *State, topic TopicID, key, contentHash []byte, offset uint64) {
	m.insert(&idempotent{idempotencyKey: idempotencyKey{topic, string(key)}, contentHash: contentHash, offset: offset, at: s.meta.Now})
	s.dirty[idempotencyKey{topic, string(key)}.row()] = struct{}{}
}

func (m *idempotency) insert(e *idempotent) {
	m.byKey[e.idempotencyKey] = e
	m.order = append(m.order, e)
}

// forget drops keys older than the window.
func (m *idempotency) forget(s *State) {
	for len(m.order) > 0 && (m.order[0].removed || s.meta.Now-m.order[0].at >= int64(IdempotencyWindow)) {
		if e := m.order[0]; !e.removed {
			m.remove(s, e)
		}
		m.order[0] = nil
		m.order = m.order[1:]
	}
}

func (m *idempotency) remove(s *State, e *idempotent) {
	e.removed = true
	delete(m.byKey, e.idempotencyKey)
	s.dirty[e.row()] = struct{}{}
}

func (m *idempotency) removeTopic(s *State, topic TopicID) {
	for _, e := range m.order {
		if e.topic == topic && !e.removed {
			m.remove(s, e)
		}
	}
}

// hashKey checks an Idempotency-Key and returns its SHA-256, or nil for an empty key.
func hashKey(key string) ([]byte, error) {
	if key == "" {
		return nil, nil
	}
	if len(key) > maxIdempotencyKeyBytes {
		return nil, ParamErrorf("Idempotency-Key", "is %d bytes long; at most %d are accepted", len(key), maxIdempotencyKeyBytes)
	}
	sum := sha256.Sum256([]byte(key))
	return sum[:], nil
}
