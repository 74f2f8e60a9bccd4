package hub

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

// Limits of sessions. They are part of the fold.
const (
	// MaxSessions bounds the sessions of all principals together.
	MaxSessions = 200_000
	// MaxPassedSteps bounds the steps that a session records.
	MaxPassedSteps = 8
	// MaxSessionText bounds the name and the client of a session, in bytes.
	MaxSessionText = 128
)

// SessionID identifies a session: the SHA-256 of the secret in its cookie.
type SessionID [32]byte

// sessionDigits is the length of a session's ID as people see it.
const sessionDigits = 12

// String returns the ID as lists show it: its first 12 hexadecimal digits.
func (id SessionID) String() string { return hex.EncodeToString(id[:sessionDigits/2]) }

// Session is what the cluster knows of a login.
type Session struct {
	ID        SessionID
	Principal string
	Name      string       // for people, empty: none
	Client    string       // short description of the browser, for people; empty: none
	Passed    []PassedStep // in order of time
	// Started is the login, and Ends the moment after which the session is over in any case.
	Started, Ends time.Time
	SealedWith    string // ID of the sealing key of the cookie when the session got its ID; empty: not known
}

// PassedStep is a step of a login that succeeded.
type PassedStep struct {
	Authenticator string
	At            time.Time
	// Key names the login at the identity provider: the first half is a hash of the subject, the second of the session there.
	// A half of zeros is not known.
	Key [16]byte
}

// SessionFilter selects sessions. The zero value selects all.
type SessionFilter struct {
	Principal     string   // empty: everybody's
	Authenticator string   // that they have passed; empty: any
	Key           [16]byte // with Authenticator: of the step; a half of zeros: any
}

func (s *State) startSession(e *hubpb.SessionStarted, fx *Effects) Result {
	all := &s.sessions
	id, ok := sessionID(e.Id)
	switch {
	case !ok, e.Principal == "", len(e.Principal) > MaxPrincipalBytes, len(e.Name) > MaxSessionText, len(e.Client) > MaxSessionText,
		len(e.Passed) > MaxPassedSteps, e.Ends <= s.meta.Now, all.find(id) != nil:
		return Result{Outcome: OutcomeStale}
	case e.SealedWith != 0 && slices.Contains(s.meta.RetiredKeys, keyText(e.SealedWith)):
		return Result{Outcome: OutcomeKeyRetired}
	}
	var former *session
	if replaces, ok := sessionID(e.Replaces); ok {
		former = all.find(replaces)
	}
	started, ends := s.meta.Now, e.Ends
	if e.Continues {
		if former == nil || former.principal() != e.Principal {
			return Result{Outcome: OutcomeNotFound}
		}
		started, ends = former.started, min(ends, former.ends)
	}
	if len(all.byID) >= MaxSessions && former == nil {
		return Result{Outcome: OutcomeFull}
	}
	if former != nil {
		if e.Continues {
			s.moveGrants(former.id, id)
		}
		s.removeSessions(former)
		if !e.Continues {
			s.announceSessions(LifecycleSessionEnded, former, 1, "replaced", fx)
		}
	}
	dropped := uint64(0)
	for e.MaxSessions > 0 && all.count(e.Principal) >= int(e.MaxSessions) {
		oldest := all.oldest(e.Principal)
		s.removeSessions(oldest)
		s.announceSessions(LifecycleSessionEnded, oldest, 1, "limit", fx)
		dropped++
	}
	one := newSession(id, e.Principal, e.Name, e.Client, e.Passed)
	one.started, one.ends, one.key = started, ends, e.SealedWith
	all.insert(one)
	s.touchName(TableSession, string(id[:]))
	if !e.Continues {
		s.announceSessions(LifecycleSessionStarted, one, 1, "", fx)
	}
	return Result{ID: dropped}
}

func (s *State) endSessions(e *hubpb.SessionsEnded, fx *Effects) Result {
	all := &s.sessions
	var list []*session
	switch {
	case len(e.Ids) > 0:
		for _, raw := range e.Ids {
			if id, ok := sessionID(raw); ok {
				if one := all.find(id); one != nil && !slices.Contains(list, one) {
					list = append(list, one)
				}
			}
		}
	case e.Principal != "":
		list = all.ofPrincipal(e.Principal)
	case e.Authenticator != "":
		list = all.passed(e.Authenticator, keyOf(e.Key))
	case e.All:
		list = slices.Clone(all.byID)
	}
	if e.Owner != "" {
		list = slices.DeleteFunc(list, func(one *session) bool { return one.principal() != e.Owner })
	}
	if len(list) == 0 {
		return Result{Outcome: OutcomeNotFound}
	}
	reason := strings.ToLower(strings.TrimPrefix(e.Reason.String(), "SESSION_END_"))
	s.dropSessions(list, reason, fx)
	return Result{ID: uint64(len(list))}
}

// dropSessions ends sessions and announces it.
func (s *State) dropSessions(list []*session, reason string, fx *Effects) {
	if len(list) == 0 {
		return
	}
	s.removeSessions(list...)
	s.announceSessions(LifecycleSessionEnded, list[0], len(list), reason, fx)
}

// endSessionsOf ends the sessions of a principal whose access has ended.
func (s *State) endSessionsOf(principal, reason string, fx *Effects) {
	s.dropSessions(s.sessions.ofPrincipal(principal), reason, fx)
}

func (s *State) removeSessions(list ...*session) {
	s.sessions.remove(list...)
	for _, one := range list {
		s.touchName(TableSession, string(one.id[:]))
		s.endGrantsOf(one.id)
	}
}

// expireSessions removes the sessions whose time is over by the log's clock.
func (s *State) expireSessions() {
	if all := &s.sessions; len(all.expiry) > 0 && all.expiry[0].ends <= s.meta.Now {
		s.removeSessions(all.expiry.ended(s.meta.Now, 0, nil)...)
	}
}

// Session returns a session that has not ended.
func (s *State) Session(id SessionID) (Session, bool) {
	one := s.sessions.find(id)
	if one == nil {
		return Session{}, false
	}
	return one.view(), true
}

// sessionsAtOnce bounds how many sessions one call of Sessions looks at.
const sessionsAtOnce = 4096

// Sessions returns at most max sessions that match, with an ID greater than after, in order of ID; max 0: as many as one
// look finds. It looks at a bounded number of sessions: more is the ID after which to look again, if there is more to look
// at.
func (s *State) Sessions(f SessionFilter, after SessionID, max int) (out []Session, next SessionID, more bool) {
	list := s.sessions.byID
	if f.Principal != "" {
		list = s.sessions.ofPrincipal(f.Principal)
		slices.SortFunc(list, func(a, b *session) int { return bytes.Compare(a.id[:], b.id[:]) })
	}
	at, found := search(list, after)
	if found {
		at++
	}
	for i, one := range list[at:] {
		if i == sessionsAtOnce || max > 0 && len(out) == max {
			return out, list[at+i-1].id, true
		}
		if one.matches(&f) {
			out = append(out, one.view())
		}
	}
	return out, SessionID{}, false
}

// SessionsOf returns how many sessions a principal has.
func (s *State) SessionsOf(principal string) int { return s.sessions.count(principal) }

// SessionsByPrefix returns at most two of the sessions whose ID begins with the given bytes.
func (s *State) SessionsByPrefix(prefix []byte) (out []Session) {
	var first SessionID
	if len(prefix) == 0 || len(prefix) > len(first) {
		return nil
	}
	copy(first[:], prefix)
	at, _ := search(s.sessions.byID, first)
	for _, one := range s.sessions.byID[at:] {
		if !bytes.HasPrefix(one.id[:], prefix) || len(out) == 2 {
			break
		}
		out = append(out, one.view())
	}
	return out
}

// announceSessions publishes to EventsTopic, if it exists, that sessions have started or ended: one, or several of which
// one is given.
func (s *State) announceSessions(kind string, one *session, n int, reason string, fx *Effects) {
	t := s.topics[s.topicByName[EventsTopic]]
	if t == nil {
		return
	}
	m := Message{Topic: t.ID, Offset: t.Head + 1}
	e := Lifecycle{ID: m.ID(), Type: kind, Time: stamp(s.meta.Now), Sessions: uint64(n), Reason: reason}
	if n == 1 {
		e.Session, e.Owner = one.id.String(), one.principal()
	}
	s.append(t, Message{ContentType: "application/json", Body: e.json()}, fx)
}

func sessionID(b []byte) (id SessionID, ok bool) {
	if len(b) != len(id) {
		return id, false
	}
	return SessionID(b), true
}

// keyText returns the ID of a sealing key as text, empty for none, and keyNumber is its inverse.
func keyText(n uint32) string {
	if n == 0 {
		return ""
	}
	return hex.EncodeToString([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func keyNumber(id string) uint32 {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != SealKeyIDBytes {
		return 0
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func (o *session) row() *hubpb.SessionRow {
	r := &hubpb.SessionRow{Principal: o.principal(), Name: o.name(), Client: o.client(), Started: o.started, Ends: o.ends, SealedWith: o.key}
	for p := o.steps; p != nil; p = p.also {
		r.Passed = append(r.Passed, p.pb())
	}
	return r
}

func (s *State) loadSession(id SessionID, r *hubpb.SessionRow) {
	one := newSession(id, r.Principal, r.Name, r.Client, r.Passed)
	one.started, one.ends, one.key = r.Started, r.Ends, r.SealedWith
	s.sessions.add(one)
}
