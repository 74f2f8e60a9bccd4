// Package login lets people log in, and lets services and applications ask who somebody is, over HTTP.
//
// A request goes through one chain, whatever the protocol: the protocol makes a request of the sequences' from it and names the
// service provider; the processor takes it through the steps of the provider's sequence; and the protocol answers. What happens in
// between in a browser is the same for all protocols and is done by the Handler: it chooses, fills in forms, is sent to identity
// providers and comes back, on any node, because the context of the login is sealed in a cookie.
package login

import (
	"context"
	"net/http"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
)

// Protocol is one of the ways in which somebody asks who a person or a program is. Each is a package below web/login. Methods are safe
// for concurrent use.
type Protocol interface {
	// Name is how service_providers in auth.file call the protocol.
	Name() string
	// Routes are the protocol's own paths. They are asked for once.
	Routes() []Route
	// Request makes a request of the sequences' from the first one, to a route that Begins. The Handler adds Provider, Credentials,
	// Session and Client. Errors are for the client, best a *problem.Details; one that is an Answer answers by itself.
	Request(r *http.Request) (*sequence.Request, error)
	// Provider validates a first request, and names the service provider that it is for. Errors are as those of Request.
	Provider(r *http.Request, q *sequence.Request) (string, error)
	// Respond answers with what came of it, at the end of a sequence or if nobody can act: any result but one with an Interaction. r is
	// the first request or the last callback, and Result.Return what Request.Return was. The session's cookie is already set.
	Respond(w http.ResponseWriter, r *http.Request, res *sequence.Result)
}

// Answer is an error of Request or Provider that answers by itself, because an application elsewhere is to be told about it.
type Answer interface {
	error
	Answer(w http.ResponseWriter, r *http.Request)
}

// Route is a path of a protocol's.
type Route struct {
	// Path is as in "/oidc/authorize"; one that ends in "/*" has everything below.
	Path    string
	Methods []string
	// Begins: a request begins a sequence. Otherwise Serve answers it.
	Begins bool
	// Frequent: programs ask here about each of many requests, so that no rate limit applies.
	Frequent bool
	Serve    http.HandlerFunc
}

// Peer is who sent a request, as far as the connection and its headers tell.
type Peer struct {
	// Credentials are what authenticators see of the request.
	Credentials *auth.Request
	// Session is the one whose cookie came with the request; nil: none, or one that is over.
	Session *session.Session
	// Client identifies where the request comes from, for shares and limits.
	Client string
	// CorrelationID is the one of the request.
	CorrelationID string
	// Trusted: the request comes from a proxy whose X-Forwarded headers are believed.
	Trusted bool
	// Reserve takes a refusal from the client's budget, once a request, before anything is looked at that costs; its error is for the
	// client. Credentials.Afford is the same. Return gives it back once the request has turned out to be good.
	Reserve func() error
	Return  func()
	// Refused writes to the log why somebody was refused, which the client does not learn.
	Refused func(ctx context.Context, err error)
	// Audit writes an audit line about somebody who has logged in or out, with names and values about it.
	Audit func(ctx context.Context, p *auth.Principal, action string, notes ...string)
}

type peerKey struct{}

// WithPeer attaches the sender to a request's context.
func WithPeer(ctx context.Context, p *Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerOf returns the sender of the request with this context. It is never nil.
func PeerOf(ctx context.Context) *Peer {
	if p, ok := ctx.Value(peerKey{}).(*Peer); ok {
		return p
	}
	return &Peer{Reserve: func() error { return nil }, Return: func() {}, Refused: func(context.Context, error) {},
		Audit: func(context.Context, *auth.Principal, string, ...string) {}}
}
