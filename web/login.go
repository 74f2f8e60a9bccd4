package web

import (
	"context"
	"net/http"
	"net/netip"

	"quorumhub/auth"
	"quorumhub/web/login"
)

// loginPaths are those on which a hub without logins says what it lacks.
func loginPaths() []string {
	return []string{"/login", "/login/*", "/auth/forward", "/auth/login", "/.quorumhub/session", "/oidc/*", "/v1/auth/device"}
}

// loginRoutes are the routes on which people log in. Their handlers decide who may do what.
func (s *Server) loginRoutes() []*route {
	if s.Login == nil || s.Guard == nil {
		return []*route{{name: "login", paths: loginPaths(), methods: map[string]http.HandlerFunc{}, every: login.NotConfigured, access: access{public: true, limited: true}}}
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
