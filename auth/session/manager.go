package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"quorumhub/auth"
	"quorumhub/hub"
)

const (
	// maxOfPrincipal is how many sessions one principal may have; past it the oldest ends.
	maxOfPrincipal = 50
	// sealAfter is how much of its idle time a session has used when its cookie is made anew, at most.
	sealAfter = time.Minute
	// young is how long after its login a session may be unknown to a node that has not caught up with the log, and patience how long
	// a request waits for that.
	young        = 5 * time.Second
	patience     = time.Second
	patiencePoll = 5 * time.Millisecond
	// sealTries is how often a cookie is sealed whose key is retired in the meantime.
	sealTries = 3
)

// ErrEnded is the error for the cookie of a session that is over, whatever ended it: its holder has to log in again.
var ErrEnded = errors.New("the session has ended")

// Log records sessions for all nodes. It is a *hub.Service. Safe for concurrent use.
type Log interface {
	StartSession(ctx context.Context, n *hub.NewSession) (ended int, err error)
	EndSessions(ctx context.Context, e *hub.EndingSessions) (ended int, err error)
}

// Options configures a Manager. All fields are required.
type Options struct {
	Box   hub.SecretBox
	State hub.StateReader
	// Sessions returns where sessions are recorded.
	Sessions func() Log
	// Limits returns how long sessions last.
	Limits func() auth.SessionSettings
	// Standing returns an error if a session must not go on although the log knows it, because the settings have no such identity
	// provider or account any more, or its API key has ended.
	Standing func(*Session) error
	Now      func() time.Time
	Log      *slog.Logger
}

// Manager begins, opens and ends sessions. Safe for concurrent use.
type Manager struct{ o Options }

// NewManager makes a Manager.
func NewManager(o Options) *Manager { return &Manager{o} }

// Start begins a session by one entry in the log, and returns the content of its cookie. The session has a secret of its own, whatever
// the browser had before, so that nobody can be made to use one that others know. Whoever needs no cookie, such as a program, may
// forget it.
//
// With n.Former, the former session ends at the same moment. If n goes on from what it has passed, the new one lasts no longer than it
// would have, and there is none if it has ended (ErrEnded). A principal of too many roles is a *TooLargeError.
func (m *Manager) Start(ctx context.Context, n *New) (s *Session, cookie string, err error) {
	now, limits := m.o.Now(), m.o.Limits()
	n = n.trimmed()
	s = &Session{Principal: n.Principal, Name: n.Name, Passed: n.Passed, Started: now, Seen: now, Ends: now.Add(limits.Absolute), IDToken: n.IDToken}
	for _, end := range []time.Time{n.Ends, n.Principal.Until} { // a session lasts no longer than the key or token that it began with
		if !end.IsZero() && end.Before(s.Ends) {
			s.Ends = end
		}
	}
	start := &hub.NewSession{MaxOfPrincipal: maxOfPrincipal}
	if f := n.Former; f != nil {
		start.Replaces = f.ID
		if start.Continues = n.continues(f); start.Continues {
			s.Started = f.Started
			if f.Ends.Before(s.Ends) {
				s.Ends = f.Ends
			}
		}
	}
	secret := make([]byte, secretBytes)
	if _, err := rand.Read(secret); err != nil {
		return nil, "", fmt.Errorf("make a session's secret: %w", err)
	}
	c := contentOf(secret, n, now)
	s.ID = c.id()
	start.Session = row(s, n.Client)
	for try := 1; ; try++ {
		if cookie, start.SealedWith, err = c.seal(m.o.Box); err != nil {
			return nil, "", err
		}
		_, err = m.o.Sessions().StartSession(ctx, start)
		switch {
		case err == nil:
			return s, cookie, nil
		case hub.CodeOf(err) == hub.CodeNotFound:
			return nil, "", fmt.Errorf("%w: %w", ErrEnded, err)
		case try == sealTries || !m.retired(start.SealedWith):
			return nil, "", fmt.Errorf("record the session: %w", err)
		}
	}
}

// continues reports whether the login goes on from what a former session has passed.
func (n *New) continues(f *Session) bool {
	return f.Principal.ID == n.Principal.ID && slices.ContainsFunc(n.Passed, func(p Passed) bool {
		return slices.ContainsFunc(f.Passed, func(was Passed) bool { return was.Authenticator == p.Authenticator && was.At.Equal(p.At) })
	})
}

// trimmed returns the login with what the log takes.
func (n *New) trimmed() *New {
	one := *n
	one.Name, one.Client = clip(n.Name), clip(n.Client)
	if over := len(n.Passed) - hub.MaxPassedSteps; over > 0 {
		one.Passed = n.Passed[over:]
	}
	return &one
}

// clip makes a text for people fit.
func clip(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd"))
	for len(s) > hub.MaxSessionText {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

func row(s *Session, client string) hub.Session {
	r := hub.Session{ID: s.ID, Principal: s.Principal.ID, Name: s.Name, Client: client, Ends: s.Ends}
	for i := range s.Passed {
		p := &s.Passed[i]
		r.Passed = append(r.Passed, hub.PassedStep{Authenticator: p.Authenticator, At: p.At, Key: p.Key})
	}
	return r
}

// Open returns the session of a cookie. fresh is the cookie's new content if the use is to be noted, once a minute at most; empty: it
// stays as it is. The error is an *auth.RefusalError for what the hub has not made, or ErrEnded (wrapped).
//
// A session that began on another node a moment ago may not be known here yet: Open waits for it, a second at most.
func (m *Manager) Open(ctx context.Context, cookie string) (s *Session, fresh string, err error) {
	c, key, err := openContent(m.o.Box, cookie)
	switch {
	case err != nil && m.retired(key):
		return nil, "", fmt.Errorf("%w: its cookie was sealed with a key that is retired", ErrEnded)
	case err != nil:
		return nil, "", &auth.RefusalError{Method: auth.MethodSession, Reason: "the cookie was refused: " + err.Error()}
	}
	now, limits := m.o.Now(), m.o.Limits()
	used := now.Sub(time.Unix(0, c.Seen))
	if used >= limits.Idle {
		return nil, "", fmt.Errorf("%w: it was not used for %s", ErrEnded, used.Round(time.Second))
	}
	r, ok := m.await(ctx, c, now)
	if !ok {
		return nil, "", fmt.Errorf("%w: %s", ErrEnded, c.id())
	}
	s = sessionOf(&r, c)
	if err := m.check(s, now); err != nil {
		return nil, "", err
	}
	if used >= min(sealAfter, limits.Idle/4) {
		c.Seen, s.Seen = now.UnixNano(), now
		if fresh, _, err = c.seal(m.o.Box); err != nil {
			return nil, "", err
		}
	}
	return s, fresh, nil
}

// retired reports whether a sealing key is retired.
func (m *Manager) retired(key string) (yes bool) {
	m.o.State.View(func(st *hub.State) { yes = slices.Contains(st.SealingKeys().Retired, key) })
	return yes
}

// check returns ErrEnded (wrapped) if a session that the log knows is over nevertheless.
func (m *Manager) check(s *Session, now time.Time) error {
	if limit := s.Started.Add(m.o.Limits().Absolute); limit.Before(s.Ends) {
		s.Ends = limit // it was longer when the session began
	}
	if !now.Before(s.Ends) {
		return fmt.Errorf("%w: at %s", ErrEnded, s.Ends.UTC().Format(time.RFC3339))
	}
	if err := m.o.Standing(s); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}

// await returns what the log knows of the session, after a while if it has just begun.
func (m *Manager) await(ctx context.Context, c *content, now time.Time) (r hub.Session, ok bool) {
	id := c.id()
	look := func() { m.o.State.View(func(st *hub.State) { r, ok = st.Session(id) }) }
	if look(); ok || now.Sub(time.Unix(0, c.Issued)) > young {
		return r, ok
	}
	tick := time.NewTicker(patiencePoll)
	defer tick.Stop()
	for end := time.After(patience); !ok; look() {
		select {
		case <-tick.C:
		case <-end:
			return r, false
		case <-ctx.Done():
			return r, false
		}
	}
	return r, true
}

// sessionOf joins what the log knows of a session with what its cookie says. A cookie may be missing.
func sessionOf(r *hub.Session, c *content) *Session {
	s := &Session{ID: r.ID, Name: r.Name, Started: r.Started, Ends: r.Ends}
	for i := range r.Passed {
		p := &r.Passed[i]
		s.Passed = append(s.Passed, Passed{Authenticator: p.Authenticator, At: p.At, Key: p.Key})
	}
	if c == nil {
		s.Principal = &auth.Principal{Method: auth.MethodSession, ID: r.Principal}
	} else {
		s.Principal, s.Seen, s.IDToken = c.principal(), time.Unix(0, c.Seen), c.IDToken
		for i := range min(len(c.Methods), len(s.Passed)) {
			s.Passed[i].Method = c.Methods[i]
		}
	}
	for i := range s.Passed {
		s.Principal.Passed = append(s.Principal.Passed, auth.PassedStep{Authenticator: s.Passed[i].Authenticator, At: s.Passed[i].At})
	}
	return s
}
