package web

import (
	"bytes"
	"cmp"
	"context"
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
	public  bool // open to everybody, even if credentials are required elsewhere
	anyHost bool // under any name, as balancers ask for a node's health
	details bool // public, but shows more to callers with valid credentials
	// Principals need no permission for what they own, or for reading that; the handler looks at whose it is.
	own, ownReads bool
	ownTopic      bool        // likewise of a topic below /v1/topics/, and nobody else learns whether there is one
	limited       bool        // public, and takes from the client's budget for reads
	byTopic       bool        // the handler authorizes each topic
	reads         auth.Action // instead of auth.ActionView
	changes       auth.Action
	// itself: the handler identifies callers and decides what they may do. Of the checks only those of host and origin are made.
	itself bool
	// page: for people, who get a page instead of a problem, and whose acts come from pages of this hub only.
	page bool
	// byCredentials refuses changes on a hub that asks for no credentials.
	byCredentials bool
}

// check refuses a route that changes the hub without naming an action, which would be open to nobody or, worse, to everybody.
func (rt *route) check() error {
	for m := range rt.methods {
		if m != http.MethodGet && m != http.MethodHead && !rt.access.public && !rt.access.byTopic && !rt.access.itself && rt.access.changes == "" {
			return fmt.Errorf("web: %s %s requires no action", m, rt.paths[0])
		}
	}
	return nil
}

// admit authenticates the caller and checks that it may call the route. The request it returns carries the caller.
func (s *Server) admit(x *exchange, r *http.Request, rt *route) (*http.Request, error) {
	if !rt.access.anyHost {
		if err := s.checkHost(r); err != nil {
			return r, err
		}
	}
	origins := s.crossOrigin
	if rt.access.page {
		origins = s.sameOrigin
	}
	if err := origins.Check(r); err != nil {
		// A web page must not act on a hub that its browser can reach.
		return r, &problem.Details{Status: http.StatusForbidden, Code: "cross_origin", Param: "Origin",
			Detail: "is a different site; browsers may change this hub only from its own pages"}
	}
	if rt.access.itself {
		return r, nil
	}
	if rt.access.public {
		return s.admitAnybody(x, r, rt)
	}
	r, err := s.redeem(x, r, rt)
	if err != nil {
		return r, err
	}
	if s.Guard == nil && rt.access.byCredentials && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return r, &problem.Details{Status: http.StatusForbidden, Code: "forbidden",
			Detail: "this hub asks for no credentials, so anybody could make rules and keys for the day it does; change them with auth.mode: required"}
	}
	if s.Guard == nil {
		return r, s.spend(x, rt.classOf(r))
	}
	caller := auth.Caller{CorrelationID: idOf(x), Address: s.addressOf(x, r), Client: x.client}
	if err := s.identify(x, r, rt, &caller); err != nil {
		return r, err
	}
	caller.Trail = &x.trail
	x.audited = caller
	if rt.access.byTopic {
		caller.Prove = s.proof(x, r, caller)
	}
	x.caller = callerOf(caller.Principal, x.client)
	r = r.WithContext(auth.WithCaller(r.Context(), caller))
	if err := s.spend(x, rt.classOf(r)); err != nil || rt.access.byTopic {
		return r, err
	}
	action, own := rt.access.needs(r.Method)
	if action != auth.ActionView {
		auth.Note(r.Context(), "request", r.Method+" "+r.URL.Path)
	}
	if rt.access.ownTopic && !own {
		own = s.ownsTopicInPath(r)
	}
	if own && !s.Guard.May(caller.Principal, action) {
		return r, s.Guard.AllowOwn(r.Context(), action)
	}
	if err := s.Guard.Allow(r.Context(), action, ""); err != nil {
		return r, err
	}
	caller.Operator = true
	return r.WithContext(auth.WithCaller(r.Context(), caller)), nil
}

// needs returns the action that a request with a method requires on everything, and whether principals need no permission for what is
// their own.
func (a *access) needs(method string) (_ auth.Action, own bool) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return cmp.Or(a.reads, auth.ActionView), a.own || a.ownReads
	}
	return a.changes, a.own
}

// ownsTopicInPath reports whether the path names a topic that belongs to the caller.
func (s *Server) ownsTopicInPath(r *http.Request) bool {
	prefix := "/v1/topics/"
	if strings.HasPrefix(r.URL.Path, "/console/") {
		prefix = "/console/topics/"
	}
	name, err := s.topicBelow(prefix, r)
	return err == nil && s.Service.OwnsTopic(r.Context(), name)
}

// owns reports whether the caller may see what belongs to owner: it is its own, or the caller is an operator.
func (s *Server) owns(ctx context.Context, owner string) bool {
	c := auth.CallerOf(ctx)
	return s.Guard == nil || c.Operator || c.Principal.Is(owner)
}

// onlyOwner returns whose things alone the caller may see; all means everybody's.
func (s *Server) onlyOwner(ctx context.Context) (owner string, all bool) {
	c := auth.CallerOf(ctx)
	return c.Principal.ID, s.Guard == nil || c.Operator
}

// admitAnybody admits the caller of a public route. Invalid credentials make nobody less than anonymous: a health check must not fail
// because of them.
func (s *Server) admitAnybody(x *exchange, r *http.Request, rt *route) (*http.Request, error) {
	if rt.access.limited {
		return r, s.spend(x, classRead)
	}
	if s.Guard == nil || !rt.access.details {
		return r, nil
	}
	caller := auth.Caller{CorrelationID: idOf(x), Address: s.addressOf(x, r), Client: x.client}
	if err := s.authenticate(x, r, &caller); err != nil {
		return r, nil //nolint:nilerr // the caller stays anonymous
	}
	return r.WithContext(auth.WithCaller(r.Context(), caller)), nil
}

// recogniser finds out who sent a request: an auth.Gate or an auth.Way.
type recogniser interface {
	Authenticate(ctx context.Context, r *auth.Request) (*auth.Principal, error)
}

// authenticate finds out who sent the request. What is refused is taken from the client's budget: before it has cost more than a look
// at the request, and given back if the credentials are good. So a flood of invalid ones from one address costs little, and neither
// API keys nor callers known lately suffer from it.
func (s *Server) authenticate(x *exchange, r *http.Request, caller *auth.Caller) error {
	return s.authenticateBy(x, r, caller, s.Guard, s.Service.Policy().MaxMessageBytes)
}

// authenticateBy is authenticate by some of the authenticators only. Signed bodies have at most maxBody bytes.
func (s *Server) authenticateBy(x *exchange, r *http.Request, caller *auth.Caller, by recogniser, maxBody int64) error {
	read, reserved := s.credentialsOf(x, r, maxBody)
	p, err := by.Authenticate(r.Context(), read)
	switch {
	case err == nil && *reserved:
		s.returnRefusal(x)
	case err != nil && refusedCredentials(err):
		if !*reserved {
			if limited := s.reserveRefusal(x); limited != nil {
				return limited
			}
		}
		s.Guard.Refused(r.Context(), *caller, err)
	case err != nil && *reserved:
		s.returnRefusal(x) // the body could not be read
	}
	if err != nil {
		return err
	}
	caller.Principal = p
	if read.Settle != nil {
		told := *caller
		caller.Settle = func(ctx context.Context) error { return s.settle(x, ctx, read.Settle, told) }
	}
	return nil
}

// credentialsOf returns what authenticators see of a request, and whether a refusal has been taken from the client's budget for it.
func (s *Server) credentialsOf(x *exchange, r *http.Request, maxBody int64) (read *auth.Request, reserved *bool) {
	reserved = new(bool)
	read = &auth.Request{HTTP: r, Host: r.Host, Scheme: "http", Client: x.client,
		Body: func() ([]byte, error) { return s.bodyForSignature(x, r, maxBody) },
		Afford: func() (err error) {
			if !*reserved {
				err = s.reserveRefusal(x)
				*reserved = err == nil
			}
			return err
		}}
	if x.asked != nil {
		asked := *r
		asked.URL = x.asked
		read.HTTP = &asked
	}
	if r.TLS != nil {
		read.Scheme = "https"
	}
	if x.status == 0 && r.Header["Cookie"] != nil {
		read.SetCookie = x.setCookie
	}
	return read, reserved
}

// settle uses up credentials for one use. Used ones count as refused.
func (s *Server) settle(x *exchange, ctx context.Context, settle func(context.Context) error, caller auth.Caller) error {
	err := settle(ctx)
	if err == nil || !refusedCredentials(err) {
		return err
	}
	if limited := s.reserveRefusal(x); limited != nil {
		return limited
	}
	s.Guard.Refused(ctx, caller, err)
	return err
}

// refusedCredentials reports whether an error is about credentials that are invalid or cannot be checked.
func refusedCredentials(err error) bool {
	var refusal *auth.RefusalError
	return errors.As(err, &refusal) || errors.Is(err, auth.ErrUnavailable)
}

// turnAway answers a caller that was not admitted. Clients of the ballerina profile expect a form from the hub endpoint; MOSIP's
// clients fetch a fresh token on 401, and only then.
func (s *Server) turnAway(rt *route, w http.ResponseWriter, r *http.Request, err error) {
	if rt.name == "hub" && s.Profile == ProfileBallerina {
		_ = s.turnAwayCompat(w, r, err) // only metrics want what was answered
		return
	}
	if rt.access.page {
		p := s.describe(w, r, err)
		if p.Status == http.StatusUnauthorized && s.sendToLogin(w, r) {
			return
		}
		s.console.Refuse(w, r, p)
		return
	}
	s.fail(w, r, err)
}

// bodyForSignature reads the whole body to verify its signature, and puts it back.
func (s *Server) bodyForSignature(x *exchange, r *http.Request, most int64) ([]byte, error) {
	if x.signed.bytes != nil {
		return x.signed.bytes, nil // it was read for the same purpose before
	}
	c, err := s.readBody(x, r, most, s.tooLarge)
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
	var unproven *auth.UnprovenError
	switch {
	case errors.As(err, &unproven):
		return &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: unproven.Error(), Challenges: unproven.Demand.Challenges()}
	case errors.As(err, &refusal):
		return &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "invalid credentials", Challenges: s.Guard.ChallengesFor(err)}
	case errors.As(err, &denied) && denied.Principal.Method == auth.MethodAnonymous:
		return &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: denied.Error(), Challenges: s.Guard.ChallengesFor(err)}
	case errors.As(err, &denied):
		detail := denied.Brief()
		if s.Guard.May(denied.Principal, auth.ActionAuth) {
			detail = denied.Error()
		}
		return &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Detail: detail, Challenges: s.Guard.ChallengesFor(err)}
	case errors.Is(err, auth.ErrUnavailable):
		return &problem.Details{Status: http.StatusServiceUnavailable, Code: "unavailable", Detail: "credentials cannot be checked now; try again shortly", RetryAfter: 5 * time.Second}
	}
	return nil
}

// principalName names the author of a change.
func principalName(r *http.Request) string {
	return callerName(r.Context())
}

func callerName(ctx context.Context) string {
	return strings.ToValidUTF8(auth.CallerOf(ctx).Principal.String(), "?")
}
