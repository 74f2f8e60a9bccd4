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

// Strategies of a Step.
const (
	StrategySingle   = "single"   // the only one of the list
	StrategyMulti    = "multi"    // the first of the list whose credentials the request carries, or the one that somebody chooses
	StrategyParallel = "parallel" // several of the list at once, see Step.Require
	StrategyFailover = "failover" // the next of the list if credentials cannot be checked now, but never if they are refused
)

// Status is how far a step, or a whole sequence, has come.
type Status string

// Statuses.
const (
	StatusInitial       Status = "initial"       // nobody has asked for anything: the request carries no credentials of the kind
	StatusIncomplete    Status = "incomplete"    // somebody has to act first
	StatusAuthenticated Status = "authenticated" // it is known who it is
	StatusFailed        Status = "failed"        // credentials were refused, or cannot be checked
)

// Strategy decides a step over its authenticators. Safe for concurrent use.
type Strategy interface {
	Decide(ctx context.Context, t *Turn) Outcome
}

// Turn is a step whose turn it is. Authenticators are named by their index in the step's list.
type Turn struct {
	// N is the number of authenticators, and Min how many must succeed with StrategyParallel.
	N, Min int
	// Chosen is the authenticator that somebody has chosen or the request asks for; negative: none.
	Chosen int
	// Ask asks for whatever a request without a person can answer. Safe for concurrent use.
	Ask func(ctx context.Context, i int) Outcome
	// Acts reports whether an authenticator can be begun, and Begin begins it: the outcome is StatusIncomplete or StatusFailed. Acts is
	// nil if nobody is there who could act.
	Acts  func(i int) bool
	Begin func(ctx context.Context, i int) Outcome
}

// Outcome is what came of asking an authenticator, or of a step.
type Outcome struct {
	Status Status
	// By is the index of the authenticator that decided.
	By int
	// Principal is who it is, if Status is StatusAuthenticated, and Settle uses up its credentials if they are for one use.
	Principal *Principal
	Settle    func(context.Context) error
	// Next is what Begin returned, or Choose what is to be chosen from, if Status is StatusIncomplete.
	Next   any
	Choose []int
	// Err says why Status is StatusFailed: a *RefusalError or ErrUnavailable (wrapped), or what Request.Afford returned.
	Err error
}

// Failure is the outcome of an error.
func Failure(by int, err error) Outcome { return Outcome{Status: StatusFailed, By: by, Err: err} }

// strategyNamed returns a strategy of the hub's own or of those given; nil: there is none of this name.
func strategyNamed(name string, more map[string]Strategy) Strategy {
	switch name {
	case StrategySingle:
		return inOrder{}
	case StrategyMulti:
		return inOrder{choose: true}
	case StrategyFailover:
		return inOrder{failover: true}
	case StrategyParallel:
		return parallel{}
	}
	return more[name]
}

// Decide decides a step of a sequence, by its strategy. It sets t.N and t.Min.
func (s *Settings) Decide(ctx context.Context, step *Step, t *Turn) Outcome {
	t.N, t.Min = len(step.Of), step.needed()
	return strategyNamed(step.Strategy, s.strategies).Decide(ctx, t)
}

// inOrder is StrategySingle, StrategyMulti and StrategyFailover: the first that finds credentials of its kind decides. If none does,
// somebody may act.
type inOrder struct{ failover, choose bool }

// Decide implements Strategy.
func (o inOrder) Decide(ctx context.Context, t *Turn) Outcome {
	none := Outcome{Status: StatusInitial}
	failed := none
	var other *otherAuthorityError
	for i := range t.N {
		out := t.Ask(ctx, i)
		switch {
		case out.Status == StatusInitial:
			continue
		case out.Status == StatusFailed && o.failover && errors.Is(out.Err, ErrUnavailable):
			failed = out
			continue
		case out.Status == StatusFailed && errors.As(out.Err, &other):
			if failed.Err == nil {
				failed = out // the list may have that authority, too
			}
			continue
		}
		return out
	}
	if t.Acts != nil && (failed.Err == nil || o.failover && errors.Is(failed.Err, ErrUnavailable)) {
		if out := o.act(ctx, t); out.Status != StatusInitial {
			return out
		}
	}
	return failed
}

// act begins what somebody has to do.
func (o inOrder) act(ctx context.Context, t *Turn) Outcome {
	var able []int
	for i := range t.N {
		if t.Acts(i) {
			able = append(able, i)
		}
	}
	switch {
	case len(able) == 0:
		return Outcome{Status: StatusInitial}
	case o.choose && slices.Contains(able, t.Chosen):
		return t.Begin(ctx, t.Chosen)
	case o.choose && len(able) > 1:
		return Outcome{Status: StatusIncomplete, By: able[0], Choose: able}
	}
	out := t.Begin(ctx, able[0])
	for _, i := range able[1:] {
		if !o.failover || out.Status != StatusFailed || !errors.Is(out.Err, ErrUnavailable) {
			break
		}
		out = t.Begin(ctx, i)
	}
	return out
}

// parallelTime bounds a step with StrategyParallel.
const parallelTime = 10 * time.Second

// parallel is StrategyParallel: all are asked at once. The principal is that of the first in the list that succeeded; with two or more
// needed the others must be the same. Only the list's order and what each says decide, never who is faster.
type parallel struct{}

// Decide implements Strategy.
func (parallel) Decide(ctx context.Context, t *Turn) Outcome {
	ctx, cancel := context.WithTimeout(ctx, parallelTime)
	defer cancel()
	said := make([]Outcome, t.N)
	answered := make(chan int, t.N)
	var running sync.WaitGroup
	for i := range t.N {
		running.Go(func() {
			said[i] = t.Ask(ctx, i)
			answered <- i
		})
	}
	done := make([]bool, t.N)
	for range t.N {
		done[<-answered] = true
		if t.Min == 1 && decided(said, done) {
			cancel() // the rest can change nothing
		}
	}
	running.Wait()
	return agreed(said, t.Min)
}

// decided reports whether an authenticator has succeeded before which all have answered.
func decided(said []Outcome, done []bool) bool {
	for i := range said {
		if !done[i] {
			return false
		}
		if said[i].Status == StatusAuthenticated {
			return true
		}
	}
	return false
}

func agreed(said []Outcome, needed int) Outcome {
	first := Outcome{Status: StatusInitial}
	var failed Outcome
	var settle []func(context.Context) error
	n := 0
	for i, o := range said {
		switch {
		case o.Status == StatusFailed:
			if failed.Err == nil || errors.Is(failed.Err, ErrUnavailable) && !errors.Is(o.Err, ErrUnavailable) {
				failed = o // a refusal rather than what may pass
			}
			continue
		case o.Status != StatusAuthenticated:
			continue
		case n == 0:
			first = o
		case needed == 1:
			continue // who is the first is enough
		case !first.Principal.Is(o.Principal.ID):
			return Failure(i, refuse(o.Principal.Method, "%s and %s are two callers; links in auth.file may say that they are one", first.Principal.ID, o.Principal.ID))
		}
		n++
		if o.Settle != nil {
			settle = append(settle, o.Settle)
		}
	}
	switch {
	case n >= needed:
		first.Settle = inTurn(settle)
		return first
	case failed.Err != nil:
		return failed
	}
	return Outcome{Status: StatusInitial}
}

// inTurn settles one after the other until one fails; nil if there are none.
func inTurn(all []func(context.Context) error) func(context.Context) error {
	if len(all) < 2 {
		return append(all, nil)[0]
	}
	return func(ctx context.Context) error {
		for _, settle := range all {
			if err := settle(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// Limits on sequences.
const (
	maxSteps   = 8
	maxOf      = 16
	maxRetries = 10
)

// DefaultRetries is how often a step may be tried again if Step.Retries is not given.
const DefaultRetries = 2

// TriesOf returns how often somebody may try the step in all.
func (s *Step) TriesOf() int {
	if s.Retries == nil {
		return DefaultRetries + 1
	}
	return *s.Retries + 1
}

// needed is how many must succeed with StrategyParallel.
func (s *Step) needed() int {
	switch {
	case s.Min > 0:
		return s.Min
	case s.Require == "any":
		return 1
	}
	return len(s.Of)
}

func (s *Step) check(more map[string]Strategy) error {
	n := len(s.Of)
	if s.Retries != nil && (*s.Retries < 0 || *s.Retries > maxRetries) {
		return fmt.Errorf("retries: %d; expected 0 to %d", *s.Retries, maxRetries)
	}
	if s.Principal != "" && s.Principal != PrincipalSame && s.Principal != PrincipalAny {
		return fmt.Errorf("principal: %q; expected %s or %s", clip(s.Principal), PrincipalSame, PrincipalAny)
	}
	if n > maxOf {
		return fmt.Errorf("of: has %d authenticators; expected at most %d", n, maxOf)
	}
	if s.Strategy != StrategyParallel && more[s.Strategy] == nil && (s.Require != "" || s.Min != 0) {
		return fmt.Errorf("has require or min, which are for strategy %s only", StrategyParallel)
	}
	switch s.Strategy {
	case StrategySingle:
		if n != 1 {
			return fmt.Errorf("%s takes exactly one authenticator, got %d", s.Strategy, n)
		}
	case StrategyMulti, StrategyFailover:
		if n < 2 {
			return fmt.Errorf("%s takes at least two authenticators, got %d", s.Strategy, n)
		}
	case StrategyParallel:
		switch {
		case n < 2:
			return fmt.Errorf("%s takes at least two authenticators, got %d", s.Strategy, n)
		case s.Require != "" && s.Min != 0:
			return fmt.Errorf("require and min are both given; expected one of them")
		case s.Min < 0 || s.Min > n:
			return fmt.Errorf("min: %d; expected 1 to %d", s.Min, n)
		case s.Require != "" && s.Require != "all" && s.Require != "any":
			return fmt.Errorf("require: %q; expected all or any", clip(s.Require))
		}
	default:
		if more[s.Strategy] == nil {
			return fmt.Errorf("strategy: %q; expected %s", clip(s.Strategy), strings.Join(strategyNames(more), ", "))
		}
		if n == 0 {
			return fmt.Errorf("%s has no authenticators", s.Strategy)
		}
	}
	return nil
}

func strategyNames(more map[string]Strategy) []string {
	out := []string{StrategySingle, StrategyMulti, StrategyParallel, StrategyFailover}
	for name := range more {
		out = append(out, name)
	}
	slices.Sort(out[4:])
	return out
}
