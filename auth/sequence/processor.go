package sequence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/session"
)

// Claims remember the states of logins that came back, on all nodes. Safe for concurrent use.
type Claims interface {
	// ClaimLogin records a state (its SHA-256) until a time after which it is not accepted any more. It is fresh unless it was claimed
	// before; of several claims of one state, anywhere, exactly one is. client is whose share it is.
	ClaimLogin(ctx context.Context, state [32]byte, client string, until time.Time) (fresh bool, err error)
}

// Sessions begin sessions. Safe for concurrent use.
type Sessions interface {
	// Start begins a session, and returns it with the content of its cookie. It is known to the cluster when Start returns.
	Start(ctx context.Context, n *session.New) (s *session.Session, cookie string, err error)
}

// Box seals contexts, as hub.SecretBox does secrets. Every node of a cluster opens what another sealed.
type Box interface {
	Seal(secret []byte, bound string) ([]byte, error)
	Open(sealed []byte, bound string) ([]byte, error)
}

// Options are what a Processor works with.
type Options struct {
	// Settings have the sequences and service providers, and custom strategies (auth.KnownStrategies). Gate has the authenticators that need
	// nobody to act, and Interactive the others, by name; one of the settings that is not there cannot be used at present.
	Settings    *auth.Settings
	Gate        *auth.Gate
	Interactive map[string]Interactive
	// Extra returns the steps of a service provider that Settings do not have; nil: there are none.
	Extra func(provider string) ([]auth.Step, bool)
	// Box and Claims are needed with Interactive only. Without Sessions nothing is remembered of a login.
	Box      Box
	Claims   Claims
	Sessions Sessions
	// Callback returns the absolute URL at which an authenticator's answers are expected; nil: empty ones.
	Callback func(authenticator string) string
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Processor takes requests through sequences. It keeps nothing between requests, so that any node goes on where another began. Safe for
// concurrent use.
type Processor struct {
	o     Options
	gates map[string]*auth.Gate // by the authenticator's name; nil: it needs somebody to act
}

// New makes a Processor. The error names an authenticator of the settings that the gate lacks.
func New(o Options) (*Processor, error) {
	if len(o.Interactive) > 0 && (o.Box == nil || o.Claims == nil) {
		return nil, errors.New("interactive authenticators need a box and claims")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Callback == nil {
		o.Callback = func(string) string { return "" }
	}
	p := &Processor{o: o, gates: map[string]*auth.Gate{}}
	names := map[string]bool{}
	for _, q := range o.Settings.Sequences {
		for i := range q.Steps {
			for _, of := range q.Steps[i].Of {
				names[of] = true
			}
		}
	}
	for i := range o.Settings.ServiceProviders {
		if name := o.Settings.ServiceProviders[i].Sequence; o.Settings.Sequences[name].Steps == nil {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		gate, err := o.Gate.Named(name)
		if err != nil {
			return nil, err
		}
		p.gates[name] = gate
	}
	return p, nil
}

// gate returns the authenticators with a name that need nobody to act; nil: there are none.
func (p *Processor) gate(name string) *auth.Gate {
	if g, known := p.gates[name]; known {
		return g
	}
	g, err := p.o.Gate.Named(name) // of a provider that only Options.Extra knows
	if err != nil {
		return nil
	}
	return g
}

// steps returns the steps that a service provider asks for, and how long ago they may have been passed.
func (p *Processor) steps(provider string) (steps []auth.Step, maxAge time.Duration, ok bool) {
	if sp, known := p.o.Settings.ServiceProvider(provider); known {
		steps, ok = p.o.Settings.StepsOf(sp.Sequence)
		return steps, sp.MaxAge, ok
	}
	if p.o.Extra == nil {
		return nil, 0, false
	}
	steps, ok = p.o.Extra(provider)
	return steps, 0, ok && len(steps) > 0
}

// Process takes a request as far through its service provider's sequence as it goes. It never returns nil. Who it is is decided by
// steps in order: what the request carries decides first, then what its session has passed, and then a person, if one is there, has to
// act. The first step's principal is who it is; every later step must name the same, or one that links in auth.file say is the same,
// unless the step takes any.
//
// Credentials for one use are used up before anything is kept of them. If nothing is kept, because no session begins, the protocol calls
// Settle of the Request's Credentials when it knows that the caller is allowed what it asks for.
func (p *Processor) Process(ctx context.Context, r *Request) *Result {
	t := &run{p: p, r: r, res: &Result{Status: Initial, Provider: r.Provider}, now: p.o.Now()}
	if r.Credentials != nil {
		t.credentials = r.Credentials.Shared()
	}
	if r.Callback {
		return t.callback(ctx)
	}
	maxAge := r.MaxAge
	steps, most, ok := p.steps(r.Provider)
	if !ok {
		return t.fail(fmt.Errorf("%w: %q", ErrProvider, r.Provider))
	}
	if most > 0 && (maxAge == 0 || most < maxAge) {
		maxAge = most
	}
	t.steps = steps
	t.at = progress{Provider: r.Provider, Return: r.Return, MaxAge: int64(maxAge / time.Second), Anew: r.Anew, Hint: r.Hint}
	if len(r.Return) > MaxReturn {
		t.at.Return = ""
	}
	if maxAge > 0 && t.at.MaxAge == 0 {
		t.at.MaxAge = 1 // below a second is no age
	}
	t.res.Return = t.at.Return
	return t.advance(ctx)
}

// run is a request on its way.
type run struct {
	p           *Processor
	r           *Request
	credentials *auth.Request
	steps       []auth.Step
	at          progress
	res         *Result
	now         time.Time
	dry         bool // nothing is begun or kept, see Explain

	who       *auth.Principal // whom the first step named
	name      string
	bySession bool                          // the session has passed a step
	asked     []session.Passed              // what was passed in this login, for the session
	carried   map[int]*carried              // what the request's credentials have passed, by step
	settle    []func(context.Context) error // what credentials of this request want to settle
	idToken   string
}

func (t *run) fail(err error) *Result {
	t.res.Status, t.res.Err, t.res.Next = Failed, err, nil
	return t.res
}

// advance goes on from the first step.
func (t *run) advance(ctx context.Context) *Result {
	t.who, t.asked, t.carried = nil, nil, map[int]*carried{}
	for i := range t.steps {
		if err := t.kept(i); err != nil {
			return t.fail(err)
		}
		if t.at.passed(i) != nil {
			continue
		}
		out := t.decide(ctx, i)
		switch out.Status {
		case Authenticated:
			if err := t.named(i, out.Principal); err != nil {
				return t.fail(err)
			}
			continue
		case Incomplete:
			return t.wait(ctx, i, &out)
		case Failed:
			return t.fail(out.Err)
		case Initial:
		}
		return t.unproven(i)
	}
	return t.finish(ctx)
}

// unproven is the result of a step for which there is nothing that anybody could do.
func (t *run) unproven(i int) *Result {
	t.res.Status = Initial
	for j := range t.steps {
		for _, name := range t.steps[j].Of {
			if g := t.p.gate(name); g != nil {
				for _, c := range g.Challenges() {
					if !slices.Contains(t.res.Challenges, c) {
						t.res.Challenges = append(t.res.Challenges, c)
					}
				}
			}
		}
	}
	if t.r.Interactive && len(t.res.Challenges) == 0 {
		return t.fail(fmt.Errorf("%w: none of %v is switched on", auth.ErrUnavailable, t.steps[i].Of))
	}
	return t.res
}

// kept takes over what was passed in an earlier request of this login.
func (t *run) kept(i int) error {
	k := t.at.passed(i)
	if k == nil {
		return nil
	}
	p := t.p.o.Gate.Linked(k.principal())
	t.trace(i, k.Authenticator, Authenticated, "passed before in this login")
	t.asked = append(t.asked, k.steps()...)
	if i == 0 {
		t.name, t.idToken = k.Name, k.IDToken
	}
	return t.named(i, p)
}

// named checks whom a step named.
func (t *run) named(i int, p *auth.Principal) error {
	switch {
	case t.who == nil:
		t.who = p
	case t.steps[i].Principal != auth.PrincipalAny && !t.who.Is(p.ID):
		return auth.TwoPrincipals(t.who, p)
	}
	return nil
}

// finish is the result of a sequence all of whose steps are passed.
func (t *run) finish(ctx context.Context) *Result {
	t.res.Status, t.res.Principal, t.res.Session = Authenticated, t.who, t.r.Session
	if !t.bySession {
		t.res.Session = nil
	}
	if t.dry {
		return t.res
	}
	if len(t.asked) == 0 || !t.r.Interactive && !t.r.Callback || t.p.o.Sessions == nil {
		if t.credentials != nil {
			for _, settle := range t.settle {
				t.credentials.Settles(settle)
			}
		}
		return t.res
	}
	if err := t.settled(ctx); err != nil {
		return t.fail(err)
	}
	n := &session.New{Principal: t.who, Name: t.name, Passed: t.asked, IDToken: t.idToken, Former: t.r.Session, Client: cmp.Or(t.r.Device, t.r.Client)}
	if !t.bySession {
		n.Ends = t.who.Until // who came with an access token, or typed one in, stays no longer than it
	}
	if f := t.r.Session; f != nil && t.who.Is(f.Principal.ID) {
		n.Passed = merged(f.Passed, t.asked)
		if n.Name == "" {
			n.Name = f.Name
		}
		if n.IDToken == "" {
			n.IDToken = f.IDToken
		}
		if t.bySession {
			n.Ends = f.Ends // a further step makes a session worth more, not longer
		}
	}
	s, cookie, err := t.p.o.Sessions.Start(ctx, n)
	var refused *auth.RefusalError
	switch {
	case errors.As(err, &refused):
		return t.fail(fmt.Errorf("begin the session: %w", err))
	case err != nil:
		return t.fail(fmt.Errorf("%w: begin the session: %w", auth.ErrUnavailable, err))
	}
	t.res.Principal, t.res.Session, t.res.Cookie = s.Principal, s, cookie
	return t.res
}

// settled uses up credentials for one use, before anything is kept of them.
func (t *run) settled(ctx context.Context) error {
	for _, settle := range t.settle {
		if err := settle(ctx); err != nil {
			return err
		}
	}
	t.settle = nil
	return nil
}

// maxPassed bounds what a session remembers of its steps.
const maxPassed = 16

// merged returns what a session has passed, in the order of time; of each authenticator the last time.
func merged(before, now []session.Passed) []session.Passed {
	out := slices.DeleteFunc(slices.Clone(before), func(b session.Passed) bool {
		return slices.ContainsFunc(now, func(n session.Passed) bool { return n.Authenticator == b.Authenticator })
	})
	out = append(out, now...)
	slices.SortStableFunc(out, func(a, b session.Passed) int { return a.At.Compare(b.At) })
	return out[max(0, len(out)-maxPassed):]
}

func (t *run) trace(step int, authenticator string, s Status, reason string) {
	t.res.Trail = append(t.res.Trail, Trace{Step: step + 1, Strategy: t.steps[step].Strategy, Authenticator: authenticator, Status: s, Reason: reason})
}
