package hub

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"slices"

	"quorumhub/hub/hubpb"
)

// sessions holds the sessions, of which there may be many: what one costs is a promise (docs/adr). They are kept in a
// sorted list because it is smaller than a map, and pages of it can be read without visiting all.
type sessions struct {
	byID   []*session          // sorted
	of     map[string]*session // by principal: the first of a list by next
	keyed  map[uint64]*passed  // by the start of a step's key: the first of a list by next
	sealed map[uint32]int      // sessions by sealing key
	expiry sessionHeap
}

func newSessions() sessions {
	return sessions{of: map[string]*session{}, keyed: map[uint64]*passed{}, sealed: map[uint32]int{}}
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
	authenticator string
	at            int64 // Unix nanoseconds
	key           [16]byte
	of            *session
	next          *passed // whose key begins alike
	also          *passed // the session's next step
}

func newSession(id SessionID, principal, name, client string, steps []*hubpb.PassedStep) *session {
	o := &session{id: id, text: principal + name + client, lens: [2]uint16{uint16(len(principal)), uint16(len(name))}}
	last := &o.steps
	for _, p := range steps {
		one := &passed{authenticator: shared(p.GetAuthenticator()), at: p.GetAt(), key: [16]byte(padded(p.GetKey())), of: o}
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
		v.Passed = append(v.Passed, PassedStep{p.authenticator, timeOf(p.at), p.key})
	}
	return v
}

func (o *session) matches(f *SessionFilter) bool {
	return (f.Principal == "" || f.Principal == o.principal()) && (f.Authenticator == "" || o.has(f.Authenticator, f.Key, f.Key != [16]byte{}))
}

// has reports whether the session has passed an authenticator; with keyed, by a step with that key.
func (o *session) has(authenticator string, key [16]byte, keyed bool) bool {
	for p := o.steps; p != nil; p = p.also {
		if p.authenticator == authenticator && (!keyed || p.key == key) {
			return true
		}
	}
	return false
}

func (p *passed) pb() *hubpb.PassedStep {
	out := &hubpb.PassedStep{Authenticator: p.authenticator, At: p.at}
	if p.key != [16]byte{} {
		out.Key = bytes.Clone(p.key[:])
	}
	return out
}

func (p *passed) slot() uint64 { return binary.BigEndian.Uint64(p.key[:]) }

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
		if p.key != [16]byte{} {
			p.next = s.keyed[p.slot()]
			s.keyed[p.slot()] = p
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
		if p.key != [16]byte{} {
			s.unlinkStep(p)
		}
	}
}

func (s *sessions) unlinkStep(p *passed) {
	switch first := s.keyed[p.slot()]; {
	case first == p && p.next == nil:
		delete(s.keyed, p.slot())
	case first == p:
		s.keyed[p.slot()] = p.next
	default:
		for first.next != p {
			first = first.next
		}
		first.next = p.next
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

// passed returns the sessions that have passed an authenticator; with keyed, by a step with that key.
func (s *sessions) passed(authenticator string, key [16]byte, keyed bool) (list []*session) {
	if !keyed {
		for _, o := range s.byID {
			if o.has(authenticator, key, false) {
				list = append(list, o)
			}
		}
		return list
	}
	for p := s.keyed[binary.BigEndian.Uint64(key[:])]; p != nil; p = p.next {
		if p.key == key && p.authenticator == authenticator && !slices.Contains(list, p.of) {
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
