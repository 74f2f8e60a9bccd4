package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Request is what authenticators may look at. HTTP must not be changed. Body gives the whole body, read once and
// bounded by the server; only what signs bodies asks for it.
type Request struct {
	HTTP *http.Request
	// Host and Scheme are those the client addressed, as far as they are known for certain: the connection's, or
	// those of a trusted proxy.
	Host, Scheme string
	Body         func() ([]byte, error)
}

// Authenticator recognises one kind of credentials. Safe for concurrent use.
//
// Authenticate answers with the principal; with ErrNotMine when the request carries no credentials of its kind; with
// a *Refusal when it carries some that do not hold; with ErrUnavailable (wrapped) when that cannot be found out at
// present, for instance because an issuer's keys were never read.
type Authenticator interface {
	// Challenge is the value of WWW-Authenticate that tells clients about this kind, empty: none.
	Challenge() string
	Authenticate(ctx context.Context, r *Request) (*Principal, error)
}

// ErrNotMine means that a request holds no credentials of an authenticator's kind.
var ErrNotMine = errors.New("no credentials of this kind")

// ErrUnavailable means that credentials cannot be checked at present.
var ErrUnavailable = errors.New("credentials cannot be checked at present")

// Refusal says why credentials do not hold. The reason is for the hub's log: a client is told only that it was
// refused, the same for every reason.
type Refusal struct {
	Method Method
	Reason string
}

func (r *Refusal) Error() string { return string(r.Method) + ": " + r.Reason }

func refuse(m Method, format string, args ...any) error {
	return &Refusal{Method: m, Reason: fmt.Sprintf(format, args...)}
}

// Gate asks authenticators in turn. The first that finds credentials of its kind decides: credentials that do not
// hold are never made up for by others.
type Gate struct {
	authenticators []Authenticator
}

// NewGate makes a gate. Credentials that belong to one request come before those of a whole connection.
func NewGate(a ...Authenticator) *Gate { return &Gate{authenticators: a} }

// Authenticate tells who sent the request: Anonymous when it carries no credentials at all.
func (g *Gate) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	for _, a := range g.authenticators {
		p, err := a.Authenticate(ctx, r)
		switch {
		case errors.Is(err, ErrNotMine):
			continue
		case err != nil:
			return nil, err
		}
		return p, nil
	}
	return Anonymous(), nil
}

// Challenges are the WWW-Authenticate values of a 401.
func (g *Gate) Challenges() []string {
	var out []string
	for _, a := range g.authenticators {
		if c := a.Challenge(); c != "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
