package web

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"

	"quorumhub/auth"
	"quorumhub/web/login"
)

// loginPaths are those on which a hub without logins says what it lacks.
func loginPaths() []string {
	return []string{"/login", "/login/*", "/auth/forward", "/auth/login", "/.quorumhub/session", "/oidc/*"}
}

// loginRoutes are the routes on which people log in. Their handlers decide who may do what.
func (s *Server) loginRoutes() []*route {
	if s.Login == nil || s.Guard == nil {
		open := access{public: true, limited: true}
		return []*route{{name: "login", paths: loginPaths(), methods: map[string]http.HandlerFunc{}, every: login.NotConfigured, access: open},
			{name: "login", paths: []string{"/v1/auth/device"}, methods: map[string]http.HandlerFunc{http.MethodPost: login.NotConfigured}, access: open}}
	}
	var out []*route
	for _, rt := range s.Login.Routes() {
		serve := func(w http.ResponseWriter, r *http.Request) {
			x, _ := w.(*exchange)
			if !rt.Frequent {
				if err := s.spend(x, classRead); err != nil {
					login.Fail(w, r, err)
					return
				}
			}
			s.Login.Serve(&rt, w, r.WithContext(login.WithPeer(r.Context(), s.peerOf(x, r))))
		}
		methods := map[string]http.HandlerFunc{}
		for _, m := range rt.Methods {
			methods[m] = serve
			if m == http.MethodGet {
				methods[http.MethodHead] = serve
			}
		}
		out = append(out, &route{name: "login", paths: []string{rt.Path}, methods: methods, access: access{itself: true}})
	}
	return out
}

// peerOf describes the sender of a request to those who log people in.
func (s *Server) peerOf(x *exchange, r *http.Request) *login.Peer {
	caller := auth.Caller{Principal: auth.Anonymous(), CorrelationID: idOf(x), Address: s.addressOf(x, r), Client: x.client}
	credentials, reserved := s.credentialsOf(x, r, maxShortJSONBytes)
	return &login.Peer{Credentials: credentials, Client: x.client.String(), CorrelationID: caller.CorrelationID, Trusted: s.trustsPeer(r),
		Reserve: credentials.Afford, Return: func() {
			if *reserved {
				s.returnRefusal(x)
				*reserved = false
			}
		},
		Refused: func(ctx context.Context, err error) { s.Guard.Refused(ctx, caller, err) },
		Audit: func(ctx context.Context, p *auth.Principal, action string, notes ...string) {
			who := caller
			who.Principal = p
			s.Guard.Entered(ctx, &who, action, notes...)
		}}
}

// trustsPeer reports whether a request comes from a proxy whose X-Forwarded headers are believed.
func (s *Server) trustsPeer(r *http.Request) bool {
	if r.RemoteAddr == "" || r.RemoteAddr == "@" {
		return true // a unix socket, see clientOf
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.trusts(peer.Addr().Unmap())
}

// consoleProvider is the service provider that says how people prove who they are at the pages of the console. Without one in auth.file
// they do as callers of the API.
const consoleProvider = "console"

// identify finds out who sent a request to a route.
func (s *Server) identify(x *exchange, r *http.Request, rt *route, caller *auth.Caller) error {
	if rt.access.page && s.consoleCallers.InForce() {
		return s.authenticateBy(x, r, caller, s.consoleCallers, s.Service.Policy().MaxMessageBytes)
	}
	return s.authenticate(x, r, caller)
}

// sendToLogin sends a browser on its way to a page of the console to log in first, and to come back. It reports false if that is no use.
func (s *Server) sendToLogin(w http.ResponseWriter, r *http.Request) bool {
	if s.Guard == nil || s.Login == nil || !s.Login.Ready() || !login.Navigates(r) {
		return false
	}
	provider := ""
	if s.consoleCallers.InForce() {
		provider = consoleProvider
	}
	login.Redirect(w, r, s.Login.Start(provider, askedOf(w, r).RequestURI()))
	return true
}

// askedOf returns the URL as in the request line.
func askedOf(w http.ResponseWriter, r *http.Request) *url.URL {
	if x, ok := w.(*exchange); ok && x.asked != nil {
		return x.asked
	}
	return r.URL
}
