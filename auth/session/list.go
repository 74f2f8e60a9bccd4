package session

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"quorumhub/hub"
)

// Login is a session as everybody sees it who may list it.
type Login struct {
	ID              [32]byte
	Principal, Name string
	Client          string // a short description of the browser or program
	Passed          []Passed
	Started, Ends   time.Time
}

// Find returns a session that has not ended, without what only its cookie holds: of the principal there is the ID, and the zero time
// stands for the last use. It does not wait for other nodes.
func (m *Manager) Find(_ context.Context, id [32]byte) (*Session, bool) {
	var r hub.Session
	var ok bool
	m.o.State.View(func(st *hub.State) { r, ok = st.Session(id) })
	if !ok {
		return nil, false
	}
	s := sessionOf(&r, nil)
	return s, m.check(s, m.o.Now()) == nil
}

// Alive returns when a session ends in any case; false: it has ended, or this node does not know it.
func (m *Manager) Alive(id [32]byte) (ends time.Time, ok bool) {
	s, ok := m.Find(context.Background(), id)
	if !ok {
		return time.Time{}, false
	}
	return s.Ends, true
}

// Of returns the sessions of a principal, the newest first.
func (m *Manager) Of(_ context.Context, principal string) (out []Login, err error) {
	var after hub.SessionID
	for more := true; more; {
		var page []hub.Session
		m.o.State.View(func(st *hub.State) {
			page, after, more = st.Sessions(hub.SessionFilter{Principal: principal}, after, 0)
		})
		for i := range page {
			out = append(out, loginOf(&page[i]))
		}
	}
	slices.SortFunc(out, func(a, b Login) int {
		if c := b.Started.Compare(a.Started); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	return out, nil
}

func loginOf(r *hub.Session) Login {
	s := sessionOf(r, nil)
	return Login{ID: s.ID, Principal: r.Principal, Name: r.Name, Client: r.Client, Passed: s.Passed, Started: s.Started, Ends: s.Ends}
}

// End ends one of a principal's own sessions: a logout. That it has ended already is no error; that it is somebody else's has no effect.
func (m *Manager) End(ctx context.Context, principal string, id [32]byte) error {
	_, err := m.end(ctx, &hub.EndingSessions{IDs: []hub.SessionID{id}, Owner: principal, Reason: hub.SessionLogout, By: principal})
	return err
}

// EndPassed ends the sessions that have passed an identity provider as what key names, because the provider says so: see Key and
// KeyMatches. It returns their number. A zero key ends none.
func (m *Manager) EndPassed(ctx context.Context, authenticator string, key [16]byte) (ended int, err error) {
	if key == [16]byte{} {
		return 0, nil
	}
	return m.end(ctx, &hub.EndingSessions{Filter: hub.SessionFilter{Authenticator: authenticator, Key: key}, Reason: hub.SessionProvider, By: "issuer:" + authenticator})
}

func (m *Manager) end(ctx context.Context, e *hub.EndingSessions) (ended int, err error) {
	n, err := m.o.Sessions().EndSessions(ctx, e)
	if err != nil && hub.CodeOf(err) != hub.CodeNotFound {
		return 0, fmt.Errorf("end the session: %w", err)
	}
	return n, nil
}
