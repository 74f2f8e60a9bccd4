package auth

import (
	"context"
	"errors"
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

// Strategies of a Step.
const (
	StrategySingle   = "single"   // the only one of the list
	StrategyMulti    = "multi"    // the first of the list whose credentials the request carries
	StrategyParallel = "parallel" // several of the list at once, see Step.Require
	StrategyFailover = "failover" // the next of the list if credentials cannot be checked now, but never if they are refused
)

// Step is one step of a sequence: which authenticators it takes, by the names that Gate.Way knows.
type Step struct {
	Strategy string
	Of       []string
	Require  string // of StrategyParallel: all (or empty) or any; not with Min
	Min      int    // of StrategyParallel: at least so many
}

// Way is how callers must prove who they are: a sequence of steps, all of which must succeed. The first step's principal is the
// caller. Safe for concurrent use.
type Way struct{ steps []wayStep }

type wayStep struct {
	strategy string
	of       []*Gate
	min      int // of StrategyParallel
}

// parallelTime bounds a step with StrategyParallel.
const parallelTime = 10 * time.Second

// Way returns the way that one authenticator is, by name: default, token, key, certificate, signature, geo, or the name of an issuer
// or token service. The error says which names there are.
func (g *Gate) Way(name string) (*Way, error) {
	only, err := g.named(name)
	if err != nil {
		return nil, err
	}
	return &Way{steps: []wayStep{{StrategySingle, []*Gate{only}, 0}}}, nil
}

// Sequence returns the way that a sequence of steps is.
func (g *Gate) Sequence(steps []Step) (*Way, error) {
	if len(steps) == 0 {
		return nil, fmt.Errorf("has no steps")
	}
	w := &Way{}
	for i, s := range steps {
		step := wayStep{strategy: s.Strategy, min: s.Min}
		for _, name := range s.Of {
			only, err := g.named(name)
			if err != nil {
				return nil, fmt.Errorf("step %d: %w", i+1, err)
			}
			step.of = append(step.of, only)
		}
		if err := step.check(s.Require); err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		w.steps = append(w.steps, step)
	}
	return w, nil
}

func (s *wayStep) check(require string) error {
	n := len(s.of)
	switch s.strategy {
	case StrategySingle:
		if n != 1 {
			return fmt.Errorf("%s takes exactly one authenticator, got %d", s.strategy, n)
		}
	case StrategyMulti, StrategyFailover:
		if n < 2 {
			return fmt.Errorf("%s takes at least two authenticators, got %d", s.strategy, n)
		}
	case StrategyParallel:
		switch {
		case n < 2:
			return fmt.Errorf("%s takes at least two authenticators, got %d", s.strategy, n)
		case require != "" && s.min != 0:
			return fmt.Errorf("require and min are both given; expected one of them")
		case s.min < 0 || s.min > n:
			return fmt.Errorf("min: %d; expected 1 to %d", s.min, n)
		case s.min == 0 && (require == "" || require == "all"):
			s.min = n
		case require == "any":
			s.min = 1
		case s.min == 0:
			return fmt.Errorf("require: %q; expected all or any", require)
		}
	default:
		return fmt.Errorf("strategy: %q; expected %s, %s, %s or %s", s.strategy, StrategySingle, StrategyMulti, StrategyParallel, StrategyFailover)
	}
	return nil
}

// named returns a gate of the authenticators with a name.
func (g *Gate) named(name string) (*Gate, error) {
	if name == WayDefault {
		return g, nil
	}
	out := &Gate{links: g.links}
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
	if len(out.authenticators) == 0 {
		slices.Sort(known)
		return nil, fmt.Errorf("there is no authenticator %q; auth.file sets up %s", name, strings.Join(slices.DeleteFunc(slices.Compact(known), func(n string) bool { return n == "" }), ", "))
	}
	return out, nil
}

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

// Authenticate returns who sent the request, or Anonymous if it lacks the credentials of a step. Errors are as those of
// Gate.Authenticate. It sets r.Settle if any credentials are for one use.
func (w *Way) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	r = r.once()
	var first *Principal
	for i := range w.steps {
		p, err := w.steps[i].authenticate(ctx, r)
		if err != nil {
			return nil, err
		}
		if p.Method == MethodAnonymous {
			return p, nil
		}
		if first == nil {
			first = p
		}
	}
	return first, nil
}

// once makes the parts of a request that authenticators share safe for several of them, and keeps all they want to settle.
func (r *Request) once() *Request {
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

// adds makes the original request settle what a successful authenticator found.
func (r *Request) adds(settle func(context.Context) error) {
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

// outcome is what one authenticator of a step said.
type outcome struct {
	principal *Principal
	settle    func(context.Context) error
	err       error
}

func ask(ctx context.Context, g *Gate, r *Request) (o outcome) {
	defer func() {
		if v := recover(); v != nil {
			o = outcome{err: fmt.Errorf("%w: panic: %v", ErrUnavailable, v)}
		}
	}()
	one := *r
	one.Settle = nil
	p, err := g.Authenticate(ctx, &one)
	if err == nil && p.Method != MethodAnonymous && g.authority != "" && p.Authority != g.authority {
		err = &otherAuthorityError{RefusalError{p.Method, fmt.Sprintf("from %q, but %q is required here", p.Authority, g.authority)}}
	}
	return outcome{p, one.Settle, err}
}

// otherAuthorityError reports valid credentials of an authority that is not the one asked for.
type otherAuthorityError struct{ refusal RefusalError }

func (e *otherAuthorityError) Error() string { return e.refusal.Error() }
func (e *otherAuthorityError) Unwrap() error { return &e.refusal }

func (s *wayStep) authenticate(ctx context.Context, r *Request) (*Principal, error) {
	if s.strategy == StrategyParallel {
		return s.parallel(ctx, r)
	}
	var last error
	var other *otherAuthorityError
	for _, g := range s.of {
		o := ask(ctx, g, r)
		switch {
		case o.err == nil && o.principal.Method != MethodAnonymous:
			r.adds(o.settle)
			return o.principal, nil
		case o.err == nil:
			continue // it carries no such credentials
		case s.strategy == StrategyFailover && errors.Is(o.err, ErrUnavailable):
			last = o.err
			continue
		case errors.As(o.err, &other):
			if last == nil {
				last = o.err // the list may have that authority, too
			}
			continue
		}
		return nil, o.err
	}
	if last != nil {
		return nil, last
	}
	return Anonymous(), nil
}

// parallel asks all at once. The principal is that of the first in the list that succeeded; the others must be the same caller.
func (s *wayStep) parallel(ctx context.Context, r *Request) (*Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, parallelTime)
	defer cancel()
	said := make([]outcome, len(s.of))
	var running sync.WaitGroup
	for i, g := range s.of {
		running.Go(func() { said[i] = ask(ctx, g, r) })
	}
	running.Wait()
	var first *Principal
	var failed error
	n := 0
	for _, o := range said {
		switch {
		case o.err != nil:
			failed = cmpError(failed, o.err)
		case o.principal.Method == MethodAnonymous:
		case first == nil:
			first, n = o.principal, 1
		case s.min > 1 && !first.Is(o.principal.ID):
			return nil, refuse(o.principal.Method, "%s and %s are two callers; links in auth.file may say that they are one", first.ID, o.principal.ID)
		default:
			n++
		}
	}
	switch {
	case n >= s.min:
		for _, o := range said {
			if o.err == nil {
				r.adds(o.settle)
			}
		}
		return first, nil
	case failed != nil:
		return nil, failed
	}
	return Anonymous(), nil
}

// cmpError prefers a refusal to what may pass.
func cmpError(a, b error) error {
	if a == nil || errors.Is(a, ErrUnavailable) && !errors.Is(b, ErrUnavailable) {
		return b
	}
	return a
}
