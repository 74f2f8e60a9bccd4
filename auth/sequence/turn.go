package sequence

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/session"
)

// readyTime bounds the question whether an identity provider is there.
const readyTime = 5 * time.Second

// begun is what Begin adds to an outcome.
type begun struct {
	next    *Interaction
	private []byte
	state   string
}

// said is what an authenticator said when its turn was.
type said struct {
	name   string
	status Status
	reason string
	// session: it was passed before.
	session bool
}

// decide asks the authenticators of a step, by its strategy.
func (t *run) decide(ctx context.Context, i int) auth.Outcome {
	step := &t.steps[i]
	var mu sync.Mutex
	words := make([]*said, len(step.Of)) // in the order of the list, whoever answers first
	note := func(j int, s Status, reason string, bySession bool) {
		mu.Lock()
		defer mu.Unlock()
		words[j] = &said{step.Of[j], s, reason, bySession}
	}
	turn := &auth.Turn{Chosen: t.chosen(i)}
	turn.Ask = func(ctx context.Context, j int) auth.Outcome {
		out, bySession := t.ask(ctx, i, j)
		var reason string
		switch {
		case out.Err != nil:
			reason = out.Err.Error()
		case out.Status == Initial:
			reason = t.lacks(step.Of[j])
		case bySession:
			reason = out.Principal.String() + ", by the session"
		default:
			reason = out.Principal.String()
		}
		note(j, out.Status, reason, bySession)
		return out
	}
	if t.r.Interactive || t.r.Callback {
		turn.Acts = func(j int) bool {
			return t.p.o.Interactive[step.Of[j]] != nil && !(i == t.at.Step && slices.Contains(t.at.Down, step.Of[j]))
		}
		turn.Begin = func(ctx context.Context, j int) auth.Outcome {
			out := t.begin(ctx, i, j)
			if out.Err != nil {
				note(j, out.Status, out.Err.Error(), false)
			} else {
				note(j, out.Status, "waits for somebody to act", false)
			}
			return out
		}
	}
	if err := t.checkHint(i, turn); err != nil {
		return auth.Failure(0, err)
	}
	out := t.p.o.Settings.Decide(ctx, step, turn)
	for _, w := range words {
		if w != nil {
			t.trace(i, w.name, w.status, w.reason)
		}
	}
	if out.Status == Authenticated {
		t.pass(i, &out, words)
	}
	return out
}

// lacks says why an authenticator has found nothing.
func (t *run) lacks(name string) string {
	switch {
	case t.p.gate(name) != nil:
		return "no credentials of this kind"
	case t.p.o.Interactive[name] != nil:
		return "needs somebody to act"
	}
	return "is not switched on"
}

// carried is a step that was passed by what the request carried.
type carried struct {
	principal *auth.Principal
	passed    []session.Passed // the one that decided first
}

// pass notes that a step was passed without anybody acting: what the request carried is new to its session.
func (t *run) pass(i int, out *auth.Outcome, words []*said) {
	if out.Settle != nil {
		t.settle = append(t.settle, out.Settle)
	}
	c := &carried{principal: out.Principal}
	for _, w := range append([]*said{words[out.By]}, slices.Delete(slices.Clone(words), out.By, out.By+1)...) {
		switch {
		case w == nil || w.status != Authenticated:
		case w.session:
			t.bySession = true
		default:
			c.passed = append(c.passed, session.Passed{Authenticator: w.name, At: t.now})
		}
	}
	if len(c.passed) > 0 {
		t.carried[i] = c
		t.asked = append(t.asked, c.passed...)
	}
	if t.bySession && i == 0 {
		t.name, t.idToken = t.r.Session.Name, t.r.Session.IDToken
	}
}

// ask returns what the request's credentials, or else its session, say about authenticator j of a step.
func (t *run) ask(ctx context.Context, i, j int) (out auth.Outcome, bySession bool) {
	name := t.steps[i].Of[j]
	if g := t.p.gate(name); g != nil && t.credentials != nil {
		if out := g.Ask(ctx, t.credentials, j); out.Status != Initial {
			return out, false
		}
	}
	s := t.r.Session
	if s == nil || t.at.Anew {
		return auth.Outcome{Status: Initial, By: j}, false
	}
	since := time.Time{}
	if t.at.MaxAge > 0 {
		since = t.now.Add(-time.Duration(t.at.MaxAge) * time.Second)
	}
	// Somebody else's session is no reason to refuse whoever has just proven something, but it does not count.
	foreign := t.who != nil && t.steps[i].Principal != auth.PrincipalAny && !t.who.Is(s.Principal.ID)
	fresh := slices.ContainsFunc(s.Passed, func(p session.Passed) bool {
		return (p.Authenticator == name || name == auth.WayDefault) && !p.At.Before(since)
	})
	if foreign || !fresh {
		return auth.Outcome{Status: Initial, By: j}, false
	}
	return auth.Outcome{Status: Authenticated, By: j, Principal: s.Principal}, true
}

// chosen returns which authenticator of a step the request asks for; negative: none of them.
func (t *run) chosen(i int) int {
	if t.at.Choice != "" {
		return slices.Index(t.steps[i].Of, t.at.Choice)
	}
	return slices.Index(t.steps[i].Of, t.at.Hint)
}

// checkHint refuses a hint that is none of the step's, if the step leaves a choice. A hint never chooses where there is none.
func (t *run) checkHint(i int, turn *auth.Turn) error {
	if t.steps[i].Strategy != auth.StrategyMulti || t.at.Hint == "" || turn.Acts == nil {
		return nil
	}
	hint := t.at.Hint
	t.at.Hint = ""
	if turn.Chosen < 0 || !turn.Acts(turn.Chosen) {
		return fmt.Errorf("%w: %q is none of step %d", ErrHint, hint, i+1)
	}
	return nil
}

// begin starts authenticator j of a step.
func (t *run) begin(ctx context.Context, i, j int) (out auth.Outcome) {
	step := &t.steps[i]
	name := step.Of[j]
	it := t.p.o.Interactive[name]
	defer func() {
		if v := recover(); v != nil {
			t.p.o.Log.Error("an authenticator panicked", "authenticator", name, "panic", v, "stack", string(debug.Stack()))
			out = auth.Failure(j, fmt.Errorf("%w: %s: panic: %v", auth.ErrUnavailable, name, v))
		}
	}()
	asking, cancel := context.WithTimeout(ctx, readyTime)
	err := it.Ready(asking)
	cancel()
	if err != nil {
		return auth.Failure(j, known(err))
	}
	if t.dry {
		return auth.Outcome{Status: Incomplete, By: j, Next: &begun{next: &Interaction{}}}
	}
	state := newState()
	next, private, err := it.Start(ctx, &Start{State: state, Callback: t.p.o.Callback(name), MaxAge: time.Duration(t.at.MaxAge) * time.Second, Anew: t.at.Anew})
	switch {
	case err != nil:
		return auth.Failure(j, known(err))
	case next == nil || (next.Redirect == "") == (next.Form == nil) || next.Choose != nil:
		return auth.Failure(j, fmt.Errorf("%w: %s does not say what is to be done", auth.ErrUnavailable, name))
	case len(private) > MaxPrivate:
		return auth.Failure(j, fmt.Errorf("%w: %s wants to keep %d bytes; at most %d are possible", auth.ErrUnavailable, name, len(private), MaxPrivate))
	}
	if next.Form != nil {
		form := *next.Form
		if form.Left = step.TriesOf(); i == t.at.Step {
			form.Left -= t.at.Tries
		}
		next = &Interaction{Form: &form}
	}
	return auth.Outcome{Status: Incomplete, By: j, Next: &begun{next, private, state}}
}

// known makes an error one of those that Result.Err may be.
func known(err error) error {
	var refusal *auth.RefusalError
	if errors.As(err, &refusal) || errors.Is(err, auth.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", auth.ErrUnavailable, err)
}

// newState returns 256 random bits in base64url.
func newState() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}
