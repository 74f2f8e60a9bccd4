package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
)

// Request is what authenticators see of a request. They must not change HTTP. Body returns the whole body, which the server
// reads once and bounds; only schemes that sign the body call it.
type Request struct {
	HTTP *http.Request
	// Host and Scheme are those the client addressed, from the connection or a trusted proxy.
	Host, Scheme string
	Body         func() ([]byte, error)
	// Client is the address the sender is counted under, for its share of what all callers use.
	Client netip.Addr
	// Afford is called once before credentials cost anything: a body, a signature, a question to somebody else. Its error, for a
	// client of which too much was refused lately, is passed on as it is. nil: everything is affordable.
	Afford func() error
	// Settle is set by an authenticator whose credentials are for one use. Call it when the caller is known to be allowed what it
	// asks and before doing it; a *RefusalError means that they were used before.
	Settle func(context.Context) error
	// SetCookie is called by an authenticator whose credentials are to be replaced in the client's hands. nil: that cannot be done now.
	SetCookie func(*http.Cookie)

	original *Request // see Request.Shared
}

func (r *Request) afford() error {
	if r.Afford == nil {
		return nil
	}
	return r.Afford()
}

// Authenticator recognises one kind of credential. Safe for concurrent use.
//
// Authenticate returns the principal, or ErrNotMine if the request carries no credentials of its kind, a *RefusalError if they are
// invalid, or ErrUnavailable (wrapped) if they cannot be checked now, for instance because an issuer's keys were never read.
type Authenticator interface {
	// Challenge is the WWW-Authenticate value that advertises this kind; empty if it has none.
	Challenge() string
	Authenticate(ctx context.Context, r *Request) (*Principal, error)
}

// ErrNotMine means that a request carries no credentials of an authenticator's kind.
var ErrNotMine = errors.New("no credentials of this kind")

// ErrUnavailable means that credentials cannot be checked now.
var ErrUnavailable = errors.New("credentials cannot be checked now")

// RefusalError reports invalid credentials. The reason goes to the log only; clients get the same answer for every reason.
type RefusalError struct {
	Method Method
	Reason string
}

func (r *RefusalError) Error() string { return string(r.Method) + ": " + r.Reason }

func refuse(m Method, format string, args ...any) error {
	return &RefusalError{Method: m, Reason: fmt.Sprintf(format, args...)}
}

// Gate tries authenticators in order. The first to find credentials of its kind decides: other valid credentials never make up
// for invalid ones.
type Gate struct {
	authenticators []Authenticator
	links          links
	settings       *Settings
	authority      string // who alone may vouch for its principals; empty: anybody
	passed         string // what principals with a session must have passed; empty: nothing in particular
}

// NewGate makes a Gate. List authenticators of a single request before those of a whole connection. The settings' links apply to
// the principals.
func NewGate(s *Settings, a ...Authenticator) *Gate {
	return &Gate{authenticators: a, links: s.links(), settings: s}
}

// Authenticate returns who sent the request, or Anonymous if it carries no credentials.
func (g *Gate) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	for _, a := range g.authenticators {
		p, err := a.Authenticate(ctx, r)
		switch {
		case errors.Is(err, ErrNotMine):
			continue
		case err != nil:
			return nil, err
		}
		if err := p.checkID(); err != nil {
			return nil, err
		}
		return g.links.apply(p), nil
	}
	return Anonymous(), nil
}

// Challenges returns the WWW-Authenticate values of a 401.
func (g *Gate) Challenges() []string {
	var out []string
	for _, a := range g.authenticators {
		if c := a.Challenge(); c != "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
