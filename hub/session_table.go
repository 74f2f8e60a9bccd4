package hub

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"slices"
	"unique"

	"quorumhub/hub/hubpb"
)

// sessions holds the sessions, of which there may be many: what one costs is a promise (docs/adr). They are kept in a
// sorted list because it is smaller than a map, and pages of it can be read without visiting all.
type sessions struct {
	byID   []*session            // sorted
	of     map[string]*session   // by principal: the first of a list by next
	keyed  [2]map[uint64]*passed // by each half of a step's key, if it is not 0: the first of a list by next
	sealed map[uint32]int        // sessions by sealing key
	expiry sessionHeap
}

func newSessions() sessions {
	return sessions{of: map[string]*session{}, keyed: [2]map[uint64]*passed{{}, {}}, sealed: map[uint32]int{}}
}

// session is a Session in as little memory as possible.
type session struct {
	id            SessionID
	text          string    // principal, name and client
	lens          [2]uint16 // of principal and name
	started, ends int64     // Unix nanoseconds
	key           uint32    // sealing key, 0: not known
	at            int32     // index in sessions.expiry, or removed
	steps         *passed
	next          *session // of the same principal
}

const (
	removed     = -1
	fewSessions = 16 // are removed one by one
)

// passed is a PassedStep.
type passed struct {
	authenticator unique.Handle[string]
	at            int64 // Unix nanoseconds
	key           stepKey
	of            *session
	next          [2]*passed // with the same half of the key
	also          *passed    // the session's next step
}

// stepKey is PassedStep.Key: the subject's half, and the session's. A half of 0 is not known.
type stepKey [2]uint64

func keyOf(b []byte) stepKey {
	var k [16]byte
	copy(k[:], b)
	return stepKey{binary.BigEndian.Uint64(k[:]), binary.BigEndian.Uint64(k[8:])}
}

func (k stepKey) bytes() (out [16]byte) {
	binary.BigEndian.PutUint64(out[:], k[0])
	binary.BigEndian.PutUint64(out[8:], k[1])
	return out
}

// includes reports whether k has the halves of want that are not 0.
func (k stepKey) includes(want stepKey) bool {
	for i, half := range want {
		if half != 0 && half != k[i] {
			return false
		}
	}
	return true
}

func newSession(id SessionID, principal, name, client string, steps []*hubpb.PassedStep) *session {
	o := &session{id: id, text: principal + name + client, lens: [2]uint16{uint16(len(principal)), uint16(len(name))}}
	last := &o.steps
	for _, p := range steps {
		one := &passed{authenticator: unique.Make(p.GetAuthenticator()), at: p.GetAt(), key: keyOf(p.GetKey()), of: o}
		*last, last = one, &one.also
	}
	return o
}

func (o *session) principal() string { return o.text[:o.lens[0]] }
func (o *session) name() string      { return o.text[o.lens[0] : int(o.lens[0])+int(o.lens[1])] }
func (o *session) client() string    { return o.text[int(o.lens[0])+int(o.lens[1]):] }

func (o *session) view() Session {
	v := Session{ID: o.id, Principal: o.principal(), Name: o.name(), Client: o.client(), Started: timeOf(o.started), Ends: timeOf(o.ends), SealedWith: keyText(o.key)}
	for p := o.steps; p != nil; p = p.also {
		v.Passed = append(v.Passed, PassedStep{p.authenticator.Value(), timeOf(p.at), p.key.bytes()})
	}
	return v
}

func (o *session) matches(f *SessionFilter) bool {
	return (f.Principal == "" || f.Principal == o.principal()) && (f.Authenticator == "" || o.has(f.Authenticator, keyOf(f.Key[:])))
}

// has reports whether the session has passed an authenticator by a step whose key includes the given one.
func (o *session) has(authenticator string, key stepKey) bool {
	for p := o.steps; p != nil; p = p.also {
		if p.authenticator.Value() == authenticator && p.key.includes(key) {
			return true
		}
	}
	return false
}

func (p *passed) pb() *hubpb.PassedStep {
	out := &hubpb.PassedStep{Authenticator: p.authenticator.Value(), At: p.at}
	if p.key != (stepKey{}) {
		key := p.key.bytes()
		out.Key = key[:]
	}
	return out
}

func search(list []*session, id SessionID) (at int, found bool) {
	return slices.BinarySearchFunc(list, id, func(o *session, id SessionID) int { return bytes.Compare(o.id[:], id[:]) })
}

func (s *sessions) find(id SessionID) *session {
	if at, found := search(s.byID, id); found {
		return s.byID[at]
	}
	return nil
}

func (s *sessions) insert(o *session) {
	at, _ := search(s.byID, o.id)
	s.byID = slices.Insert(s.byID, at, o)
	s.link(o)
}

// add is insert without keeping the order, for many. Call sort afterwards.
func (s *sessions) add(o *session) {
	s.byID = append(s.byID, o)
	s.link(o)
}

func (s *sessions) sort() {
	slices.SortFunc(s.byID, func(a, b *session) int { return bytes.Compare(a.id[:], b.id[:]) })
}

func (s *sessions) link(o *session) {
	heap.Push(&s.expiry, o)
	o.next = s.of[o.principal()]
	s.of[o.principal()] = o
	s.sealed[o.key]++
	for p := o.steps; p != nil; p = p.also {
		for i, half := range p.key {
			if half != 0 {
				p.next[i] = s.keyed[i][half]
				s.keyed[i][half] = p
			}
		}
	}
}

// remove removes sessions that are there, each given once.
func (s *sessions) remove(list ...*session) {
	for _, o := range list {
		s.unlink(o)
	}
	if len(list) > fewSessions {
		s.byID = slices.DeleteFunc(s.byID, func(o *session) bool { return o.at == removed })
		return
	}
	for _, o := range list {
		at, _ := search(s.byID, o.id)
		s.byID = slices.Delete(s.byID, at, at+1)
	}
}

func (s *sessions) unlink(o *session) {
	heap.Remove(&s.expiry, int(o.at))
	o.at = removed
	if s.sealed[o.key]--; s.sealed[o.key] == 0 {
		delete(s.sealed, o.key)
	}
	principal := o.principal()
	switch first := s.of[principal]; {
	case first == o && o.next == nil:
		delete(s.of, principal)
	case first == o:
		delete(s.of, principal) // the key is a part of o
		s.of[o.next.principal()] = o.next
	default:
		for first.next != o {
			first = first.next
		}
		first.next = o.next
	}
	for p := o.steps; p != nil; p = p.also {
		for i, half := range p.key {
			if half != 0 {
				p.unlink(s.keyed[i], i)
			}
		}
	}
}

// unlink removes the step from the lists by the half i of the key.
func (p *passed) unlink(keyed map[uint64]*passed, i int) {
	switch first := keyed[p.key[i]]; {
	case first == p && p.next[i] == nil:
		delete(keyed, p.key[i])
	case first == p:
		keyed[p.key[i]] = p.next[i]
	default:
		for first.next[i] != p {
			first = first.next[i]
		}
		first.next[i] = p.next[i]
	}
}

func (s *sessions) ofPrincipal(principal string) (list []*session) {
	for o := s.of[principal]; o != nil; o = o.next {
		list = append(list, o)
	}
	return list
}

func (s *sessions) count(principal string) (n int) {
	for o := s.of[principal]; o != nil; o = o.next {
		n++
	}
	return n
}

// oldest returns the principal's session that started first. There must be one.
func (s *sessions) oldest(principal string) *session {
	first := s.of[principal]
	for o := first.next; o != nil; o = o.next {
		if o.started < first.started || o.started == first.started && bytes.Compare(o.id[:], first.id[:]) < 0 {
			first = o
		}
	}
	return first
}

// passed returns the sessions that have passed an authenticator by a step whose key includes the given one.
func (s *sessions) passed(authenticator string, key stepKey) (list []*session) {
	i := 1 // a session is closer than its subject
	if key[i] == 0 {
		i = 0
	}
	if key[i] == 0 {
		for _, o := range s.byID {
			if o.has(authenticator, key) {
				list = append(list, o)
			}
		}
		return list
	}
	for p := s.keyed[i][key[i]]; p != nil; p = p.next[i] {
		if p.key.includes(key) && p.authenticator.Value() == authenticator && !slices.Contains(list, p.of) {
			list = append(list, p.of)
		}
	}
	return list
}

// ended appends the sessions whose time is over, of those in the heap below index at.
func (h sessionHeap) ended(now int64, at int, list []*session) []*session {
	if at >= len(h) || h[at].ends > now {
		return list
	}
	list = h.ended(now, 2*at+1, append(list, h[at]))
	return h.ended(now, 2*at+2, list)
}

// sessionHeap is a min-heap by end.
type sessionHeap []*session

func (h sessionHeap) Len() int           { return len(h) }
func (h sessionHeap) Less(i, j int) bool { return h[i].ends < h[j].ends }
func (h sessionHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = int32(i), int32(j)
}

func (h *sessionHeap) Push(x any) {
	o := x.(*session)
	o.at = int32(len(*h))
	*h = append(*h, o)
}

func (h *sessionHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
