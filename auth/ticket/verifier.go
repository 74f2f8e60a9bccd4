package ticket

import (
	"context"
	"fmt"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

// Reads awaits this node's progress in the cluster's log. Safe for concurrent use.
type Reads interface {
	// Written returns an index at or after every acknowledged write through this node.
	Written() uint64
	// AwaitIndex returns when this node has applied the entry at index.
	AwaitIndex(ctx context.Context, index uint64) error
}

// Verifier tells which access tokens are good. Safe for concurrent use.
type Verifier struct {
	Sealer
	State hub.StateReader
	Reads Reads
	// Alive reports whether a session that the log knows goes on. It is a session.Manager's.
	Alive func(id [32]byte) (ends time.Time, ok bool)
}

// lag bounds how long an access token waits for a node that is behind the one that issued it.
const lag = 2 * time.Second

// Access returns what an access token says, if its grant has not ended. The error wraps ErrInvalid.
func (v *Verifier) Access(ctx context.Context, text string) (*Ticket, error) {
	t, err := v.Open(Access, text)
	if err != nil {
		return nil, err
	}
	if v.Lives(t) {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lag)
	defer cancel()
	if err := v.Reads.AwaitIndex(ctx, t.Written); err != nil {
		return nil, fmt.Errorf("%w: this node is behind: %w", ErrInvalid, err)
	}
	if !v.Lives(t) {
		return nil, fmt.Errorf("%w: its session has ended, or it was revoked", ErrInvalid)
	}
	return t, nil
}

// Lives reports whether the grant of a ticket has not ended, nor its session.
func (v *Verifier) Lives(t *Ticket) bool {
	g, ok := v.grant(t)
	if !ok || g.Client != t.Client || !v.Now().Before(g.Until) {
		return false
	}
	_, ok = v.Alive(g.Session)
	return ok
}

func (v *Verifier) grant(t *Ticket) (g hub.Grant, ok bool) {
	v.State.View(func(s *hub.State) { g, ok = s.Grant(t.Grant) })
	return g, ok
}

// Renewable reports whether a refresh token may be used: nothing is known here that ends it. The log has the last word.
func (v *Verifier) Renewable(t *Ticket) bool {
	g, ok := v.grant(t)
	if !ok {
		return true // this node may be behind
	}
	_, ok = v.Alive(g.Session)
	return ok
}

// Principal implements auth.TicketLookup for the tokens of quorumhub login, which are for the hub's own API. Those of applications are
// not. A request that goes on outlives its token, but not the session.
func (v *Verifier) Principal(ctx context.Context, text string) (*auth.Principal, func() bool, error) {
	t, err := v.Access(ctx, text)
	switch {
	case err != nil:
		return nil, nil, err
	case t.Client != Terminal:
		return nil, nil, fmt.Errorf("%w: is for the application %q, not for the hub's API", ErrInvalid, t.Client)
	case t.Holder.Subject == "":
		return nil, nil, fmt.Errorf("%w: names nobody", ErrInvalid)
	}
	h := &t.Holder
	p := &auth.Principal{Method: auth.MethodSession, ID: h.ID, Authority: h.Authority, Subject: h.Subject, User: h.User, Client: h.Client,
		Scopes: h.Scopes, Roles: h.Roles, Until: t.Ends}
	v.State.View(func(s *hub.State) {
		g, _ := s.Grant(t.Grant)
		of, _ := s.Session(g.Session)
		for i := range of.Passed {
			p.Passed = append(p.Passed, auth.PassedStep{Authenticator: of.Passed[i].Authenticator, At: of.Passed[i].At})
		}
	})
	return p, func() bool { return v.Lives(t) }, nil
}

// HolderOf returns a principal as a ticket names it.
func HolderOf(p *auth.Principal, name string) Holder {
	return Holder{ID: p.ID, Name: name, Authority: p.Authority, Subject: p.Subject, User: p.User, Client: p.Client, Scopes: p.Scopes, Roles: p.Roles}
}
