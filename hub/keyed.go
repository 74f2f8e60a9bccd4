package hub

import (
	"context"
	"time"
)

// Keyed is a publication whose idempotency key is remembered.
type Keyed struct {
	Owner  string // who published under the key, empty: nobody known
	Topic  TopicID
	Offset uint64 // of the message, or of the first one of a batch
	At     time.Time
}

// MessageID returns the ID that every delivery of the message carries.
func (k *Keyed) MessageID() string {
	m := Message{Topic: k.Topic, Offset: k.Offset}
	return m.ID()
}

// maxKeysAtOnce bounds the keys looked up under one hold of the state's lock.
const maxKeysAtOnce = 1000

// ByKey finds what was published to a topic under an idempotency key that is still remembered: by the caller of ctx, or, if it is
// an operator, by anybody. Each publisher has keys of its own, so an operator may get several. Without any, the result is
// empty. A key that no publication can have is CodeInvalid.
func (s *Service) ByKey(ctx context.Context, topic, key string) ([]Keyed, error) {
	hash, err := hashKey(key)
	if err != nil {
		return nil, err
	}
	if hash == nil {
		return nil, ParamErrorf("idempotency_key", "is empty; expected the Idempotency-Key of a publication")
	}
	owners := []string{s.principal(ctx)}
	if s.policy.Operator == nil || s.policy.Operator(ctx) {
		s.state.View(func(st *State) { owners = append([]string{""}, st.idempotency.principals()...) })
	}
	keys := make([]string, len(owners))
	for i, owner := range owners {
		keys[i] = ownersKey(owner, hash)
	}
	var out []Keyed
	for len(keys) > 0 {
		n := min(len(keys), maxKeysAtOnce)
		s.state.View(func(st *State) {
			id, ok := st.topicByName[topic]
			if !ok {
				return
			}
			for _, k := range keys[:n] {
				if e := st.idempotency.byKey[idempotencyKey{id, k}]; e != nil {
					out = append(out, Keyed{Owner: e.owner, Topic: id, Offset: e.offset, At: timeOf(e.at)})
				}
			}
		})
		keys = keys[n:]
	}
	return out, nil
}
