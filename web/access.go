package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/web/problem"
)

// access says who may call a route. By default it is the operator's: GET and HEAD require auth.ActionView, other methods the
// action in changes.
type access struct {
	public  bool        // open to everybody, even if credentials are required elsewhere
	byTopic bool        // the handler authorizes each topic
	reads   auth.Action // instead of auth.ActionView
	changes auth.Action
}

// check refuses a route that changes the hub without naming an action, which would be open to nobody or, worse, to everybody.
func (rt *route) check() error {
	for m := range rt.methods {
		if m != http.MethodGet && m != http.MethodHead && !rt.access.public && !rt.access.byTopic && rt.access.changes == "" {
			return fmt.Errorf("web: %s %s requires no action", m, rt.paths[0])
		}
	}
	return nil
}

// admit authenticates the caller and checks that it may call the route. The request it returns carries the caller.
func (s *Server) admit(x *exchange, r *http.Request, rt *route) (*http.Request, error) {
	if err := s.crossOrigin.Check(r); err != nil {
		// A web page must not act on a hub that its browser can reach.
		return r, &problem.Details{Status: http.StatusForbidden, Code: "cross_origin", Param: "Origin",
			Detail: "is a different site; browsers may change this hub only from its own pages"}
	}
	if rt.access.public {
		return r, nil
	}
	if s.Guard == nil {
		return r, s.spend(x, r, rt.classOf(r))
	}
	caller := auth.Caller{CorrelationID: idOf(x), Address: s.addressOf(x, r), Client: x.client}
	read := &auth.Request{HTTP: r, Host: r.Host, Scheme: "http", Body: func() ([]byte, error) { return s.bodyForSignature(x, r) }}
	if r.TLS != nil {
		read.Scheme = "https"
	}
	p, err := s.Guard.Authenticate(r.Context(), read)
	if err != nil {
		var refusal *auth.RefusalError
		if errors.As(err, &refusal) || errors.Is(err, auth.ErrUnavailable) {
			if limited := s.spend(x, r, classRefused); limited != nil {
				return r, limited
			}
			s.Guard.Refused(r.Context(), caller, err)
		}
		return r, err
	}
	caller.Principal = p
	r = r.WithContext(auth.WithCaller(r.Context(), caller))
	if err := s.spend(x, r, rt.classOf(r)); err != nil || rt.access.byTopic {
		return r, err
	}
	action := rt.access.changes
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		action = auth.ActionView
		if rt.access.reads != "" {
			action = rt.access.reads
		}
	}
	return r, s.Guard.Allow(r.Context(), action, "")
}

// turnAway answers a caller that was not admitted. Clients of the ballerina profile expect a form from the hub endpoint; MOSIP's
// clients fetch a fresh token on 401, and only then.
func (s *Server) turnAway(rt *route, w http.ResponseWriter, r *http.Request, err error) {
	if rt.name == "hub" && s.Profile == ProfileBallerina {
		if q, qerr := s.readCompat(w, r); qerr == nil {
			_ = s.failCompat(w, r, q, err)
			return
		}
	}
	s.fail(w, r, err)
}

// bodyForSignature reads the whole body to verify its signature, and puts it back.
func (s *Server) bodyForSignature(x *exchange, r *http.Request) ([]byte, error) {
	c, err := s.readBody(x, r, s.Service.Policy().MaxMessageBytes, s.tooLarge)
	if err != nil {
		c.release()
		return nil, err
	}
	x.signed = c
	r.Body = io.NopCloser(bytes.NewReader(c.bytes))
	r.ContentLength = int64(len(c.bytes))
	return c.bytes, nil
}

// accessProblem describes an error of authentication or authorization, or returns nil for other errors. All invalid credentials
// get the same answer.
func (s *Server) accessProblem(err error) *problem.Details {
	if s.Guard == nil {
		return nil
	}
	var refusal *auth.RefusalError
	var denied *auth.DeniedError
	switch {
	case errors.As(err, &refusal):
		return &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "invalid credentials", Challenges: s.Guard.ChallengesFor(err)}
	case errors.As(err, &denied) && denied.Principal.Method == auth.MethodAnonymous:
		return &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: denied.Error(), Challenges: s.Guard.ChallengesFor(err)}
	case errors.As(err, &denied):
		return &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Detail: denied.Error(), Challenges: s.Guard.ChallengesFor(err)}
	case errors.Is(err, auth.ErrUnavailable):
		return &problem.Details{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: "credentials cannot be checked now; try again shortly", RetryAfter: 5 * time.Second}
	}
	return nil
}

// principalName names the author of a change.
func principalName(r *http.Request) string {
	return strings.ToValidUTF8(auth.CallerOf(r.Context()).Principal.String(), "?")
}
