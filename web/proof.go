package web

import (
	"context"
	"net/http"

	"quorumhub/auth"
)

// proof returns what makes a caller prove itself once more, in the way that a topic demands. It must be the same caller. Credentials for
// one use are settled once, with those by which the caller was recognised.
func (s *Server) proof(x *exchange, r *http.Request, caller auth.Caller) func(context.Context, *auth.Demand) error {
	return func(ctx context.Context, d *auth.Demand) error {
		again := caller
		if err := s.authenticateBy(x, r, &again, d, s.Service.Policy().MaxMessageBytes); err != nil {
			return err
		}
		if again.Principal.Method == auth.MethodAnonymous || !again.Principal.Is(caller.Principal.ID) {
			return &auth.UnprovenError{Demand: d}
		}
		return nil
	}
}
