package hub

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub/hubpb"
)

// Limits of grants. They are part of the fold.
const (
	// MaxGrants bounds the grants of all sessions together.
	MaxGrants = 200_000
	// MaxSessionGrants bounds those of one session: past it the oldest ends.
	MaxSessionGrants = 32
)

// GrantID identifies a grant.
type GrantID [16]byte

// Grant is what a session lets an application or a program have: a code, and then the tokens that follow from it. It ends with the
// session at the latest.
type Grant struct {
	ID      GrantID
	Session SessionID
	Client  string // who has it
	// Generation is that of the newest token that renews the grant. Only this one may be used.
	Generation uint32
	Until      time.Time
}

// grant is a Grant in the state.
type grant struct {
	id         GrantID
	session    SessionID
	client     string
	generation uint32
	ended      bool // kept so that no token begins it again
	until, at  int64
	key        uint32 // ID of the sealing key of the newest token
	position   int    // in the heap
}

// grants holds the grants, by ID and by session.
type grants struct {
	byID   map[GrantID]*grant
	of     map[SessionID][]*grant // in order of time and ID, so that every node drops the same ones
	expiry grantHeap
	sealed map[uint32]int // grants by sealing key
}

func newGrants() grants {
	return grants{byID: map[GrantID]*grant{}, of: map[SessionID][]*grant{}, sealed: map[uint32]int{}}
}

func (a *grants) insert(g *grant) {
	a.byID[g.id] = g
	a.list(g)
	heap.Push(&a.expiry, g)
	if g.key != 0 {
		a.sealed[g.key]++
	}
}

// list adds a grant to those of its session.
func (a *grants) list(g *grant) {
	of := a.of[g.session]
	i, _ := slices.BinarySearchFunc(of, g, func(a, b *grant) int { return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(a.id[:], b.id[:])) })
	a.of[g.session] = slices.Insert(of, i, g)
}

func (a *grants) remove(g *grant) {
	delete(a.byID, g.id)
	if a.of[g.session] = slices.DeleteFunc(a.of[g.session], func(o *grant) bool { return o == g }); len(a.of[g.session]) == 0 {
		delete(a.of, g.session)
	}
	heap.Remove(&a.expiry, g.position)
	a.seal(g, 0)
}

// seal notes that the newest token of a grant is sealed with another key; 0: there is none any more.
func (a *grants) seal(g *grant, key uint32) {
	if g.key != 0 {
		if a.sealed[g.key]--; a.sealed[g.key] == 0 {
			delete(a.sealed, g.key)
		}
	}
	if g.key = key; key != 0 {
		a.sealed[key]++
	}
}

// advanceGrant uses a token up. Only the newest of a grant may be used; an older one was copied by somebody, so it ends the grant
// (RFC 6749, section 4.1.2; RFC 9700, section 4.14.2).
func (s *State) advanceGrant(e *hubpb.GrantAdvanced) Result {
	s.expireGrants()
	id, ok := grantID(e.Grant)
	switch {
	case !ok:
		return Result{Outcome: OutcomeNotFound}
	case e.SealedWith != 0 && slices.Contains(s.meta.RetiredKeys, keyText(e.SealedWith)):
		return Result{Outcome: OutcomeKeyRetired}
	}
	g := s.grants.byID[id]
	switch {
	case g == nil && e.Generation == 0:
		return s.makeGrant(id, e)
	case g == nil || g.ended:
		return Result{Outcome: OutcomeNotFound}
	case g.generation != e.Generation:
		g.ended = true
		s.touchName(TableGrant, string(id[:]))
		return Result{Outcome: OutcomeStale}
	}
	g.generation++
	s.grants.seal(g, e.SealedWith)
	s.touchName(TableGrant, string(id[:]))
	return Result{}
}

// makeGrant makes a grant when its code is used.
func (s *State) makeGrant(id GrantID, e *hubpb.GrantAdvanced) Result {
	session, ok := sessionID(e.Session)
	switch {
	case !ok || e.Until <= s.meta.Now || len(e.Client) > maxDeviceText || s.sessions.find(session) == nil:
		return Result{Outcome: OutcomeNotFound}
	case len(s.grants.byID) >= MaxGrants:
		return Result{Outcome: OutcomeFull}
	}
	if have := s.grants.of[session]; len(have) >= MaxSessionGrants {
		s.dropGrant(have[0])
	}
	s.grants.insert(&grant{id: id, session: session, client: shared(e.Client), generation: 1, until: e.Until, at: s.meta.Now, key: e.SealedWith})
	s.touchName(TableGrant, string(id[:]))
	return Result{}
}

// endGrants ends grants. They stay known until they expire, so that their codes do not make them again.
func (s *State) endGrants(e *hubpb.GrantsEnded) Result {
	n := uint64(0)
	for _, raw := range e.Grants {
		if id, ok := grantID(raw); ok {
			if g := s.grants.byID[id]; g != nil && !g.ended {
				g.ended = true
				s.touchName(TableGrant, string(raw))
				n++
			}
		}
	}
	return Result{ID: n}
}

func (s *State) dropGrant(g *grant) {
	s.grants.remove(g)
	s.touchName(TableGrant, string(g.id[:]))
}

// endGrantsOf ends the grants of a session that ends. Their codes cannot make them again without the session.
func (s *State) endGrantsOf(session SessionID) {
	for _, g := range slices.Clone(s.grants.of[session]) {
		s.dropGrant(g)
	}
}

// moveGrants gives the grants of a session that goes on under another ID to that one.
func (s *State) moveGrants(from, to SessionID) {
	for _, g := range s.grants.of[from] {
		g.session = to
		s.grants.list(g)
		s.touchName(TableGrant, string(g.id[:]))
	}
	delete(s.grants.of, from)
}

// expireGrants removes the grants whose time is over by the log's clock.
func (s *State) expireGrants() {
	for h := &s.grants.expiry; len(*h) > 0 && (*h)[0].until <= s.meta.Now; {
		s.dropGrant((*h)[0])
	}
}

// Grant returns a grant that has not ended.
func (s *State) Grant(id GrantID) (Grant, bool) {
	g := s.grants.byID[id]
	if g == nil || g.ended {
		return Grant{}, false
	}
	return Grant{ID: g.id, Session: g.session, Client: g.client, Generation: g.generation, Until: timeOf(g.until)}, true
}

func grantID(b []byte) (id GrantID, ok bool) {
	if len(b) != len(id) {
		return id, false
	}
	return GrantID(b), true
}

func (g *grant) row() *hubpb.GrantRow {
	return &hubpb.GrantRow{Session: g.session[:], Client: g.client, Generation: g.generation, Until: g.until, Ended: g.ended, SealedWith: g.key, At: g.at}
}

func (s *State) loadGrant(name string, r *hubpb.GrantRow) error {
	id, ok := grantID([]byte(name))
	session, also := sessionID(r.Session)
	if !ok || !also {
		return errors.New("its name is no grant's ID, or it has no session")
	}
	s.grants.insert(&grant{id: id, session: session, client: shared(r.Client), generation: r.Generation, ended: r.Ended, until: r.Until, at: r.At, key: r.SealedWith})
	return nil
}

// grantHeap is a min-heap by expiry. Grants that expire at the same time are removed together, so their relative order does not matter.
type grantHeap []*grant

func (h grantHeap) Len() int           { return len(h) }
func (h grantHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h grantHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].position, h[j].position = i, j
}

func (h *grantHeap) Push(x any) {
	g := x.(*grant)
	g.position = len(*h)
	*h = append(*h, g)
}

func (h *grantHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// loginRow returns a row of the tables about sessions and grants.
func (s *State) loginRow(k RowKey) proto.Message {
	if id, ok := sessionID([]byte(k.Name)); ok && k.Table == TableSession {
		if one := s.sessions.find(id); one != nil {
			return one.row()
		}
	}
	if id, ok := grantID([]byte(k.Name)); ok && k.Table == TableGrant {
		if g := s.grants.byID[id]; g != nil {
			return g.row()
		}
	}
	if id, ok := deviceID([]byte(k.Name)); ok && k.Table == TableDevice {
		if d := s.devices.byID[id]; d != nil {
			return d.row
		}
	}
	return nil
}

// grantKeys appends the keys of the rows about grants.
func (s *State) grantKeys(keys []RowKey) []RowKey {
	for id := range s.grants.byID {
		keys = append(keys, RowKey{Table: TableGrant, Name: string(id[:])})
	}
	for id := range s.devices.byID {
		keys = append(keys, RowKey{Table: TableDevice, Name: string(id[:])})
	}
	return keys
}

// loadGrantRow loads a row of the tables about grants.
func (s *State) loadGrantRow(k RowKey, value []byte) (err error) {
	var wrong error
	if k.Table == TableGrant {
		err = decodeRow(value, func(r *hubpb.GrantRow) { wrong = s.loadGrant(k.Name, r) })
	} else {
		err = decodeRow(value, func(r *hubpb.DeviceRow) { wrong = s.loadDevice(k.Name, r) })
	}
	return cmp.Or(err, wrong)
}
