package hub

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"time"
)

// Windows in which an Idempotency-Key is remembered, in the log's time.
const (
	// DefaultIdempotencyWindow is the window unless Policy.IdempotencyWindow says otherwise.
	DefaultIdempotencyWindow = time.Hour
	// levelOneWindow is the window until every member of the cluster knows levelOwners.
	levelOneWindow = 24 * time.Hour
)

const (
	// maxIdempotencyKeyBytes is the longest Idempotency-Key.
	maxIdempotencyKeyBytes = 255
	// MaxIdempotencyKeys bounds the keys that are remembered; beyond it the oldest are forgotten, first those of a
	// publisher that has more than its share. It is part of the fold.
	MaxIdempotencyKeys = 1_000_000
	// maxForgotten bounds the keys that one publication forgets because their window is over. It is part of the fold.
	maxForgotten = 256
)

// idempotency remembers the keys of publications for a while. A key belongs to its topic and publisher.
type idempotency struct {
	byKey  map[idempotencyKey]*idempotent
	all    keyList
	owners map[string]*keyList
	topics map[TopicID]*keyList
}

type idempotencyKey struct {
	topic TopicID
	key   string // SHA-256, see ownersKey
}

type idempotent struct {
	idempotencyKey
	owner       string
	contentHash []byte
	offset      uint64
	at          int64
	number      uint64 // in order of publication, 0: of level 1
	links       [keyLists]keyLink
}

// Each key is in three lists, all of them oldest first.
const (
	inAll = iota
	inOwner
	inTopic
	keyLists
)

type keyLink struct{ before, after *idempotent }

type keyList struct {
	first, last *idempotent
	n           int
}

func (l *keyList) push(of int, e *idempotent) {
	e.links[of] = keyLink{before: l.last}
	if l.last != nil {
		l.last.links[of].after = e
	} else {
		l.first = e
	}
	l.last = e
	l.n++
}

func (l *keyList) remove(of int, e *idempotent) {
	k := e.links[of]
	if k.before != nil {
		k.before.links[of].after = k.after
	} else {
		l.first = k.after
	}
	if k.after != nil {
		k.after.links[of].before = k.before
	} else {
		l.last = k.before
	}
	e.links[of] = keyLink{}
	l.n--
}

func newIdempotency() idempotency {
	return idempotency{byKey: map[idempotencyKey]*idempotent{}, owners: map[string]*keyList{}, topics: map[TopicID]*keyList{}}
}

func (k idempotencyKey) row() RowKey {
	return RowKey{Table: TableIdempotency, ID: uint64(k.topic), Name: k.key}
}

// ownersKey returns what identifies a principal's key among those of others.
func ownersKey(owner string, key []byte) string {
	if owner == "" {
		return string(key)
	}
	h := sha256.New()
	h.Write([]byte(owner))
	h.Write([]byte{0})
	h.Write(key)
	return string(h.Sum(nil))
}

// seen returns the result for a publication whose key is known: the first one's offset for the same content, a
// conflict for other content.
func (m *idempotency) seen(s *State, topic TopicID, p publication) (Result, bool) {
	window := keyWindow(p)
	m.forget(s, window)
	e := m.byKey[idempotencyKey{topic, ownersKey(p.GetCaller().GetPrincipal(), p.GetIdempotencyKey())}]
	if e == nil && p.GetCaller().GetPrincipal() != "" {
		// Published before the cluster knew owners, and sent again.
		if e = m.byKey[idempotencyKey{topic, string(p.GetIdempotencyKey())}]; e != nil && e.number != 0 {
			e = nil
		}
	}
	switch {
	case e == nil:
		return Result{}, false
	case s.meta.Now-e.at >= int64(window):
		m.remove(s, e)
		return Result{}, false
	case !bytes.Equal(e.contentHash, p.GetContentHash()):
		return Result{Outcome: OutcomeKeyConflict, Topic: topic}, true
	}
	return Result{Outcome: OutcomeDuplicate, Topic: topic, Offset: e.offset}, true
}

func keyWindow(p publication) time.Duration {
	return cmp.Or(time.Duration(p.GetKeyWindow())*time.Second, levelOneWindow)
}

// add remembers the key of a publication and returns how many others were forgotten for it before their time.
func (m *idempotency) add(s *State, topic TopicID, p publication, offset uint64) (forgotten int) {
	owner := p.GetCaller().GetPrincipal()
	e := &idempotent{idempotencyKey: idempotencyKey{topic, ownersKey(owner, p.GetIdempotencyKey())}, owner: shared(owner),
		contentHash: p.GetContentHash(), offset: offset, at: s.meta.Now}
	if s.hasOwners() {
		forgotten = m.makeRoom(s, owner, int(p.GetCaller().GetMaxKeys()))
		s.meta.NextIdempotency++
		e.number = s.meta.NextIdempotency
	}
	m.insert(e)
	s.dirty[e.row()] = struct{}{}
	return forgotten
}

// makeRoom forgets keys so that owner, who may have most, can have one more; 0 is no limit.
func (m *idempotency) makeRoom(s *State, owner string, most int) (n int) {
	for ; owner != "" && most > 0 && m.count(owner) >= most; n++ {
		m.remove(s, m.owners[owner].first)
	}
	for ; m.all.n >= MaxIdempotencyKeys; n++ {
		e := m.all.first
		if m.count(owner) > MaxIdempotencyKeys/(len(m.owners)+1) {
			e = m.owners[owner].first // it has more than its share
		}
		m.remove(s, e)
	}
	return n
}

// insert adds the newest key.
func (m *idempotency) insert(e *idempotent) {
	m.byKey[e.idempotencyKey] = e
	if m.owners[e.owner] == nil {
		m.owners[e.owner] = &keyList{}
	}
	if m.topics[e.topic] == nil {
		m.topics[e.topic] = &keyList{}
	}
	m.all.push(inAll, e)
	m.owners[e.owner].push(inOwner, e)
	m.topics[e.topic].push(inTopic, e)
}

// forget drops keys older than the window.
func (m *idempotency) forget(s *State, window time.Duration) {
	for n := 0; m.all.first != nil && s.meta.Now-m.all.first.at >= int64(window); n++ {
		if n == maxForgotten && s.hasOwners() {
			return // the next publications forget the rest
		}
		m.remove(s, m.all.first)
	}
}

func (m *idempotency) remove(s *State, e *idempotent) {
	delete(m.byKey, e.idempotencyKey)
	m.all.remove(inAll, e)
	if l := m.owners[e.owner]; l.n > 1 {
		l.remove(inOwner, e)
	} else {
		delete(m.owners, e.owner)
	}
	if l := m.topics[e.topic]; l.n > 1 {
		l.remove(inTopic, e)
	} else {
		delete(m.topics, e.topic)
	}
	s.dirty[e.row()] = struct{}{}
}

func (m *idempotency) removeTopic(s *State, topic TopicID) {
	for m.topics[topic] != nil {
		m.remove(s, m.topics[topic].first)
	}
}

// count returns how many keys of an owner are remembered.
func (m *idempotency) count(owner string) int {
	if l := m.owners[owner]; l != nil {
		return l.n
	}
	return 0
}

func (m *idempotency) principals() (out []string) {
	for p := range m.owners {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

// load adds the keys of a state that was stored, in any order.
func (m *idempotency) load(keys []*idempotent) {
	slices.SortFunc(keys, func(a, b *idempotent) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number), cmp.Compare(a.topic, b.topic), cmp.Compare(a.offset, b.offset))
	})
	for _, e := range keys {
		m.insert(e)
	}
}

// settleOrder puts the keys in the order that a node finds them in when it starts, so that all forget the same ones
// from then on. Keys of level 1 with the same time are in the order of their entry until then.
func (m *idempotency) settleOrder() {
	keys := make([]*idempotent, 0, m.all.n)
	for e := m.all.first; e != nil; e = e.links[inAll].after {
		keys = append(keys, e)
	}
	*m = newIdempotency()
	m.load(keys)
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
