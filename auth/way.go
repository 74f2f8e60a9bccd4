package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names of ways that are no issuer's.
const (
	WayDefault     = "default" // whatever credentials the hub accepts
	WayToken       = "token"
	WayKey         = "key"
	WayCertificate = "certificate"
	WaySignature   = "signature"
	WayGEO         = "geo"
)

// wayKinds are the names above, which nothing in auth.file may have.
var wayKinds = [...]string{WayDefault, WayToken, WayKey, WayCertificate, WaySignature, WayGEO}

// Step is one step of a sequence: which authenticators it takes, by the names that Gate.Way knows.
type Step struct {
	Strategy string   `yaml:"strategy"`
	Of       []string `yaml:"of"`
	Require  string   `yaml:"require"` // of StrategyParallel: all (or empty) or any; not with Min
	Min      int      `yaml:"min"`     // of StrategyParallel: at least so many
	// Retries is how often somebody may try again after a refusal; nil: DefaultRetries.
	Retries *int `yaml:"retries"`
	// Principal is PrincipalSame or PrincipalAny, of steps after the first. Empty: PrincipalSame in auth.file, PrincipalAny in a registry.
	Principal string `yaml:"principal"`
}

// Whom a step after the first must name.
const (
	PrincipalSame = "same" // the first step's principal, or one that links in auth.file say is the same
	PrincipalAny  = "any"  // anybody, such as the device that somebody uses
)

// Way is how callers must prove who they are: a sequence of steps, all of which must succeed. The first step's principal is the
// caller. Nobody is asked to act: what somebody has done before counts if a session says so. Safe for concurrent use.
type Way struct {
	settings *Settings
	steps    []wayStep
	maxAge   time.Duration // of what a session says; 0: as long as it lives
}

type wayStep struct {
	Step
	of []*Gate
}

// Way returns the way that one authenticator is, by name: default, token, key, certificate, signature, geo, or the name of an issuer,
// a token service or an identity provider; or the way that a sequence of auth.file is. The error says which names there are.
func (g *Gate) Way(name string) (*Way, error) {
	if q, ok := g.settings.Sequences[name]; ok {
		return g.way(q.Steps, PrincipalSame)
	}
	only, err := g.named(name)
	if err != nil {
		return nil, err
	}
	return &Way{settings: g.settings, steps: []wayStep{{Step{Strategy: StrategySingle, Of: []string{name}}, []*Gate{only}}}}, nil
}

// Sequence returns the way that a sequence of steps is. Whom later steps name does not matter unless they say so.
func (g *Gate) Sequence(steps []Step) (*Way, error) { return g.way(steps, PrincipalAny) }

// For returns the way of a service provider in auth.file.
func (g *Gate) For(p *ServiceProvider) (*Way, error) {
	w, err := g.Way(p.Sequence)
	if err != nil {
		return nil, fmt.Errorf("service provider %s: %w", p.Name, err)
	}
	w.maxAge = p.MaxAge
	return w, nil
}

func (g *Gate) forProvider(name string) (*Way, error) {
	p, ok := g.settings.ServiceProvider(name)
	if !ok {
		return nil, fmt.Errorf("there is no service provider %q", name)
	}
	return g.For(p)
}

func (g *Gate) way(steps []Step, principal string) (*Way, error) {
	if len(steps) == 0 {
		return nil, fmt.Errorf("has no steps")
	}
	w := &Way{settings: g.settings}
	for i, s := range steps {
		step, err := g.step(s, principal)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		w.steps = append(w.steps, step)
	}
	return w, nil
}

// step finds the authenticators of a step.
func (g *Gate) step(s Step, principal string) (wayStep, error) {
	step := wayStep{Step: s}
	if step.Principal == "" {
		step.Principal = principal
	}
	for _, name := range s.Of {
		only, err := g.named(name)
		if err != nil {
			return step, err
		}
		if s.Strategy == StrategyParallel && g.settings.authenticators()[name] {
			return step, fmt.Errorf("%s needs somebody to act, so it cannot be asked in parallel; expected authenticators of programs, such as certificate", name)
		}
		step.of = append(step.of, only)
	}
	return step, step.check(g.settings.strategies)
}

// named returns a gate of the authenticators with a name, and of sessions that passed one.
func (g *Gate) named(name string) (*Gate, error) {
	if name == WayDefault {
		return g, nil
	}
	out := &Gate{links: g.links, settings: g.settings, passed: name}
	known := []string{WayDefault}
	for _, a := range g.authenticators {
		kind, authorities := namesOf(a)
		known = append(append(known, kind), authorities...)
		switch {
		case kind == name:
			out.authenticators = append(out.authenticators, a)
		case slices.Contains(authorities, name):
			out.authenticators = append(out.authenticators, a)
			out.authority = name
		}
	}
	for i := range g.settings.IdentityProviders {
		known = append(known, g.settings.IdentityProviders[i].Name)
	}
	if len(out.authenticators) == 0 && !g.settings.authenticators()[name] {
		slices.Sort(known)
		return nil, fmt.Errorf("there is no authenticator %q; auth.file sets up %s", name, strings.Join(slices.DeleteFunc(slices.Compact(known), func(n string) bool { return n == "" }), ", "))
	}
	for _, a := range g.authenticators {
		if _, ok := a.(sessions); ok {
			out.authenticators = append(out.authenticators, a)
		}
	}
	return out, nil
}

// Named returns a gate of the authenticators with a name, as Way has it, that takes no sessions; nil: only somebody who acts can be
// authenticated by that name. The error says which names there are.
func (g *Gate) Named(name string) (*Gate, error) {
	only, err := g.named(name)
	if err != nil {
		return nil, err
	}
	one := *only
	one.authenticators = slices.DeleteFunc(slices.Clone(only.authenticators), func(a Authenticator) bool {
		_, ok := a.(sessions)
		return ok
	})
	if len(one.authenticators) == 0 {
		return nil, nil
	}
	return &one, nil
}

// sessions is an authenticator whose principals have a session (Principal.Passed).
type sessions interface{ OfSessions() }

// namesOf returns the names by which ways refer to an authenticator: its kind, and those who vouch for its principals.
func namesOf(a Authenticator) (kind string, authorities []string) {
	switch a := a.(type) {
	case *Tokens:
		for _, is := range a.issuers {
			authorities = append(authorities, is.Name)
		}
		return WayToken, authorities
	case *RemoteTokens:
		return WayToken, []string{a.service.Name}
	case *APIKeys:
		return WayKey, nil
	case *Certificates:
		return WayCertificate, nil
	case *Signatures:
		return WaySignature, nil
	case *GEO:
		return WayGEO, nil
	}
	return "", nil
}

// Challenges returns the WWW-Authenticate values of a 401 for this way.
func (w *Way) Challenges() []string {
	var out []string
	for _, s := range w.steps {
		for _, g := range s.of {
			for _, c := range g.Challenges() {
				if !slices.Contains(out, c) {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// Acts reports whether some step has an authenticator that needs somebody to act.
func (w *Way) Acts() bool {
	return slices.ContainsFunc(w.steps, func(s wayStep) bool {
		for i, g := range s.of {
			if _, ok := g.settings.IdentityProvider(s.Of[i]); ok {
				return true
			}
		}
		return false
	})
}

// Authenticate returns who sent the request, or Anonymous if it lacks the credentials of a step. Errors are as those of
// Gate.Authenticate. It sets r.Settle if any credentials are for one use.
func (w *Way) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	r = r.Shared()
	var first *Principal
	for i := range w.steps {
		s := &w.steps[i]
		out := w.settings.Decide(ctx, &s.Step, &Turn{Chosen: -1, Ask: func(ctx context.Context, i int) Outcome { return s.of[i].ask(ctx, r, i, w.maxAge) }})
		switch {
		case out.Status == StatusFailed:
			return nil, out.Err
		case out.Status != StatusAuthenticated:
			return Anonymous(), nil
		case first == nil:
			first = out.Principal
		case s.Principal == PrincipalSame && !first.Is(out.Principal.ID):
			return nil, TwoPrincipals(first, out.Principal)
		}
		r.Settles(out.Settle)
	}
	return first, nil
}

// TwoPrincipals is the error for a later step of a sequence that names somebody else than the first.
func TwoPrincipals(first, other *Principal) error {
	return refuse(other.Method, "%s is not %s, whom the first step named; links in auth.file may say that they are one", other.ID, first.ID)
}

// Shared makes the parts of a request that authenticators share safe for several of them. What those settle that succeed is the original
// request's to settle.
func (r *Request) Shared() *Request {
	var mu sync.Mutex
	var body func() ([]byte, error)
	out := *r
	out.original, out.Settle = r, nil
	if r.Body != nil {
		body = sync.OnceValues(r.Body)
		out.Body = body
	}
	if r.Afford != nil {
		out.Afford = func() error {
			mu.Lock()
			defer mu.Unlock()
			return r.Afford()
		}
	}
	return &out
}

// Settles makes the original request of a shared one settle what a successful authenticator found.
func (r *Request) Settles(settle func(context.Context) error) {
	if settle == nil || r.original == nil {
		return
	}
	before := r.original.Settle
	if before == nil {
		r.original.Settle = settle
		return
	}
	r.original.Settle = func(ctx context.Context) error {
		if err := before(ctx); err != nil {
			return err
		}
		return settle(ctx)
	}
}

// Ask asks the gate's authenticators about a request, as the authenticator by of a step.
func (g *Gate) Ask(ctx context.Context, r *Request, by int) Outcome { return g.ask(ctx, r, by, 0) }

// Linked returns the principal that links in auth.file say p is.
func (g *Gate) Linked(p *Principal) *Principal { return g.links.apply(p) }

// ask asks the gate's authenticators about a request, as the authenticator by of a step. A panic of theirs is a failure. What a session
// has passed counts for maxAge; 0: as long as the session lives.
func (g *Gate) ask(ctx context.Context, r *Request, by int, maxAge time.Duration) (o Outcome) {
	defer func() {
		if v := recover(); v != nil {
			o = Failure(by, fmt.Errorf("%w: panic: %v", ErrUnavailable, v))
		}
	}()
	one := *r
	one.Settle = nil
	p, err := g.Authenticate(ctx, &one)
	switch {
	case err != nil:
		return Failure(by, err)
	case p.Method == MethodAnonymous:
		return Outcome{Status: StatusInitial, By: by}
	case p.Method == MethodSession:
		if (g.passed != "" || maxAge > 0) && !slices.ContainsFunc(p.Passed, func(s PassedStep) bool {
			return (g.passed == "" || s.Authenticator == g.passed) && (maxAge == 0 || time.Since(s.At) <= maxAge)
		}) {
			return Outcome{Status: StatusInitial, By: by}
		}
	case g.authority != "" && p.Authority != g.authority:
		return Failure(by, &otherAuthorityError{RefusalError{p.Method, fmt.Sprintf("from %q, but %q is required here", p.Authority, g.authority)}})
	}
	return Outcome{Status: StatusAuthenticated, By: by, Principal: p, Settle: one.Settle}
}

// otherAuthorityError reports valid credentials of an authority that is not the one asked for.
type otherAuthorityError struct{ refusal RefusalError }

func (e *otherAuthorityError) Error() string { return e.refusal.Error() }
func (e *otherAuthorityError) Unwrap() error { return &e.refusal }
