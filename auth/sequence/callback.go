package sequence

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"quorumhub/auth"
)

// callback goes on with what a context says.
func (t *run) callback(ctx context.Context) *Result {
	if err := t.open(); err != nil {
		return t.fail(fmt.Errorf("%w: %w", ErrContext, err))
	}
	step := &t.steps[t.at.Step]
	if t.at.Asked == "" {
		return t.choose(ctx, step)
	}
	if t.r.Hint != "" && t.r.Hint != t.at.Asked {
		return t.fail(fmt.Errorf("%w: the answer came for %q, but %q was asked", ErrContext, t.r.Hint, t.at.Asked))
	}
	it := t.p.o.Interactive[t.at.Asked]
	if it == nil {
		return t.fail(fmt.Errorf("%w: %q is no longer there", ErrContext, t.at.Asked))
	}
	// From here on the state is used up, whatever comes of it: nothing that an authenticator said can be tried a second time.
	fresh, err := t.p.o.Claims.ClaimLogin(ctx, sha256.Sum256([]byte(t.at.State)), t.r.Client, time.Unix(t.at.Until, 0))
	switch {
	case err != nil:
		return t.fail(fmt.Errorf("%w: claim the login: %w", auth.ErrUnavailable, err))
	case !fresh:
		return t.fail(fmt.Errorf("%w: its state was used before", ErrContext))
	}
	id, err := t.finishAsked(ctx, it)
	if err != nil {
		return t.refused(ctx, step, err)
	}
	t.trace(t.at.Step, t.at.Asked, Authenticated, id.Principal.String())
	id.Passed.Authenticator = t.at.Asked
	if id.Passed.At.IsZero() || id.Passed.At.After(t.now) {
		id.Passed.At = t.now
	}
	k := t.keep(t.at.Step, id.Principal, id.Passed)
	k.Name, k.IDToken = id.Name, id.IDToken
	t.at.Private = nil
	return t.advance(ctx)
}

// open reads the context and compares it with what came back.
func (t *run) open() error {
	if t.r.Context == "" {
		return errors.New("there is no context")
	}
	sealed, err := base64.RawURLEncoding.DecodeString(t.r.Context)
	if err != nil || len(t.r.Context) > maxContext || t.p.o.Box == nil {
		return errors.New("the context is damaged")
	}
	plain, err := t.p.o.Box.Open(sealed, contextBinding)
	if err != nil {
		return errors.New("the context was not sealed here, or too long ago")
	}
	if err := json.Unmarshal(plain, &t.at); err != nil {
		return errors.New("the context is damaged")
	}
	t.res.Provider, t.res.Return = t.at.Provider, t.at.Return
	states := t.r.Form[FieldState]
	switch {
	case len(states) != 1 || t.at.State == "" || subtle.ConstantTimeCompare([]byte(states[0]), []byte(t.at.State)) != 1:
		return errors.New("the state is not the context's")
	case !t.now.Before(time.Unix(t.at.Until, 0)):
		return fmt.Errorf("the context has expired at %s", time.Unix(t.at.Until, 0).UTC().Format(time.RFC3339))
	case t.r.Provider != "" && t.r.Provider != t.at.Provider:
		return fmt.Errorf("the context is for %q, not for %q", t.at.Provider, t.r.Provider)
	}
	var ok bool
	if t.steps, _, ok = t.p.steps(t.at.Provider); !ok {
		return fmt.Errorf("service provider %q is no longer there", t.at.Provider)
	}
	if t.at.Step < 0 || t.at.Step >= len(t.steps) || t.at.Asked != "" && !slices.Contains(t.steps[t.at.Step].Of, t.at.Asked) {
		return errors.New("the sequence has changed")
	}
	t.at.Passed = slices.DeleteFunc(t.at.Passed, func(k kept) bool {
		return k.Step < 0 || k.Step >= len(t.steps) || !slices.Contains(t.steps[k.Step].Of, k.Authenticator)
	})
	return nil
}

// choose begins the authenticator that somebody has chosen.
func (t *run) choose(ctx context.Context, step *auth.Step) *Result {
	choice := ""
	if given := t.r.Form[FieldChoice]; len(given) == 1 {
		choice = given[0]
	}
	if !slices.Contains(step.Of, choice) || t.p.o.Interactive[choice] == nil {
		return t.fail(fmt.Errorf("%w: %q is none of step %d", ErrHint, choice, t.at.Step+1))
	}
	t.at.Choice = choice
	return t.advance(ctx)
}

// finishAsked asks the authenticator who it is.
func (t *run) finishAsked(ctx context.Context, it Interactive) (id *Identity, err error) {
	defer func() {
		if v := recover(); v != nil {
			t.p.o.Log.Error("an authenticator panicked", "authenticator", it.Name(), "panic", v, "stack", string(debug.Stack()))
			id, err = nil, fmt.Errorf("%w: %s: panic: %v", auth.ErrUnavailable, it.Name(), v)
		}
	}()
	got, err := it.Finish(ctx, &Finish{Form: t.r.Form, Private: t.at.Private, Callback: t.p.o.Callback(t.at.Asked), MaxAge: time.Duration(t.at.MaxAge) * time.Second,
		Anew: t.at.Anew, Client: t.r.Client})
	switch {
	case err != nil:
		return nil, known(err)
	case got == nil || got.Principal == nil:
		return nil, fmt.Errorf("%w: %s does not say who it is", auth.ErrUnavailable, t.at.Asked)
	}
	if err := got.Principal.Check(); err != nil {
		return nil, err
	}
	one := *got
	return &one, nil
}

// refused goes on after an authenticator that was begun has failed. Only what cannot be checked now may lead to another authenticator,
// and only with failover; a refusal leads to the same ones again, as often as the step says.
func (t *run) refused(ctx context.Context, step *auth.Step, err error) *Result {
	t.trace(t.at.Step, t.at.Asked, Failed, err.Error())
	if errors.Is(err, auth.ErrUnavailable) {
		if step.Strategy != auth.StrategyFailover {
			return t.fail(err)
		}
		t.at.Down = append(t.at.Down, t.at.Asked)
		if !slices.ContainsFunc(step.Of, func(name string) bool { return t.p.o.Interactive[name] != nil && !slices.Contains(t.at.Down, name) }) {
			return t.fail(err)
		}
		res := t.advance(ctx)
		if res.Status == Incomplete {
			res.Err = err
		}
		return res
	}
	t.at.Tries++
	if t.at.Tries >= step.TriesOf() {
		return t.fail(err)
	}
	again := slices.Index(step.Of, t.at.Asked)
	out := auth.Outcome{Status: Incomplete, By: again, Choose: []int{again}}
	if t.at.Form {
		begin := t.begin(ctx, t.at.Step, again)
		b, ok := begin.Next.(*begun)
		switch {
		case begin.Status == Failed:
			return t.fail(begin.Err)
		case ok && b.next.Form != nil:
			b.next.Form.Wrong = true
			out = begin
		}
	} else if step.Strategy == auth.StrategyMulti {
		out.Choose = nil
		for j := range step.Of {
			if t.p.o.Interactive[step.Of[j]] != nil {
				out.Choose = append(out.Choose, j)
			}
		}
	}
	res := t.wait(ctx, t.at.Step, &out)
	if res.Status == Incomplete {
		res.Err = err
	}
	return res
}
