package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// Caller is who sent a request and how to find it in the log.
type Caller struct {
	Principal     *Principal
	CorrelationID string
	Address       string // of the client, if known
	// Client identifies unauthenticated callers: an IPv4 address, or the network of an IPv6 address.
	Client netip.Addr
	// Settle uses up credentials that are for one use, see Request.Settle; nil for others.
	Settle func(context.Context) error
	// Prove returns an error unless the request proves in the way of a Demand, too, that it is from this caller. nil: the request is not
	// at hand.
	Prove func(context.Context, *Demand) error
	// Operator: the caller may act on what others own, because a rule grants what the route asks for.
	Operator bool
	// Trail collects what the request does for Guard.Report; nil: audit lines are written at once.
	Trail *Trail
}

// Name identifies the caller: the principal, or the client's address if it is anonymous.
func (c *Caller) Name() string {
	if c.Principal.Method == MethodAnonymous && c.Client.IsValid() {
		return c.Client.String()
	}
	return c.Principal.String()
}

type callerKey struct{}

// WithCaller attaches the caller to the context of a request.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns the caller attached to ctx, or an anonymous one.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Caller{Principal: Anonymous()}
}

// DeniedError is the error for an action the caller may not perform.
type DeniedError struct {
	Principal *Principal
	Action    Action
	Decision  Decision
}

func (d *DeniedError) Error() string {
	if d.Principal.Method == MethodAnonymous {
		return string(d.Action) + " requires credentials"
	}
	return fmt.Sprintf("%s is not allowed: %s", d.Action, d.Decision.Reason())
}

// Brief is Error for callers who may not read the rules: it does not say what would suffice.
func (d *DeniedError) Brief() string {
	if d.Principal.Method == MethodAnonymous {
		return d.Error()
	}
	return string(d.Action) + " is not allowed; an operator finds the reason with quorumhub auth explain and in the audit log"
}

// Guard authenticates and authorizes every request, and writes the audit log. Safe for concurrent use.
type Guard struct {
	// Whole are the hub's limits, of which quotas may be a share. Set it before the guard is used.
	Whole HubLimits

	force atomic.Pointer[inForce]
	node  string
	log   *slog.Logger
}

// inForce is what a Guard decides by.
type inForce struct {
	*Gate
	rules  *RuleSet
	audit  Audit
	api    *Way  // of the service provider with ProtocolAPI; nil: whatever credentials the hub accepts
	broken error // why there is no such way, though there should be
}

// NewGuard makes a Guard. node is the ID of the node that audit lines name.
func NewGuard(g *Gate, rules *RuleSet, audit Audit, node string, log *slog.Logger) *Guard {
	out := &Guard{node: node, log: log}
	out.Replace(g, rules, audit)
	return out
}

// Replace puts other authenticators and rules in force. A request under way may have been authenticated by the former ones; what it
// may do is decided by these.
func (g *Guard) Replace(gate *Gate, rules *RuleSet, audit Audit) {
	next := &inForce{Gate: gate, rules: rules, audit: audit}
	if i := slices.IndexFunc(gate.settings.ServiceProviders, func(p ServiceProvider) bool { return p.Protocol == ProtocolAPI }); i >= 0 {
		next.api, next.broken = gate.For(&gate.settings.ServiceProviders[i])
	}
	g.force.Store(next)
}

func (g *Guard) gate() *Gate { return g.force.Load().Gate }

func (g *Guard) rules() *RuleSet { return g.force.Load().rules }

// Authenticate is Gate.Authenticate or, if auth.file has a service provider for the API, Way.Authenticate.
func (g *Guard) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	switch f := g.force.Load(); {
	case f.broken != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, f.broken)
	case f.api != nil:
		return f.api.Authenticate(ctx, r)
	default:
		return f.Gate.Authenticate(ctx, r)
	}
}

// Challenges is Gate.Challenges, or Way.Challenges.
func (g *Guard) Challenges() []string {
	if f := g.force.Load(); f.api != nil {
		return f.api.Challenges()
	}
	return g.gate().Challenges()
}

// Demand returns how callers must prove who they are: by the authenticator of a name or, with steps, by a sequence, as Gate.Way and
// Gate.Sequence have it. It follows Replace. The error says what the authenticators in force now lack.
func (g *Guard) Demand(name string, steps []Step) (*Demand, error) {
	d := &Demand{guard: g, name: name, steps: steps}
	_, err := d.now()
	return d, err
}

// DemandFor returns how callers must prove who they are to a service provider of auth.file. There may be none of that name at times,
// see InForce.
func (g *Guard) DemandFor(provider string) *Demand {
	return &Demand{guard: g, name: provider, provider: true}
}

// CheckStep reports why there can be no sequence with this step by the authenticators in force.
func (g *Guard) CheckStep(s Step) error {
	_, err := g.gate().step(s, PrincipalAny)
	return err
}

// Demand is a Way by the authenticators in force. Safe for concurrent use.
type Demand struct {
	guard    *Guard
	name     string
	provider bool // name is a service provider's
	steps    []Step
	known    atomic.Pointer[wayAt]
}

type wayAt struct {
	gate *Gate
	way  *Way
	err  error
}

func (d *Demand) now() (*Way, error) {
	gate := d.guard.gate()
	at := d.known.Load()
	if at == nil || at.gate != gate {
		at = &wayAt{gate: gate}
		switch {
		case d.provider:
			at.way, at.err = gate.forProvider(d.name)
		case d.steps == nil:
			at.way, at.err = gate.Way(d.name)
		default:
			at.way, at.err = gate.Sequence(d.steps)
		}
		d.known.Store(at)
	}
	return at.way, at.err
}

// Authenticate is Way.Authenticate, or ErrUnavailable (wrapped) while an authenticator is missing.
func (d *Demand) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	way, err := d.now()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return way.Authenticate(ctx, r)
}

// StepsOf is Settings.StepsOf of the settings in force.
func (g *Guard) StepsOf(name string) ([]Step, bool) { return g.gate().settings.StepsOf(name) }

// InForce reports whether the authenticators in force have all that the demand names.
func (d *Demand) InForce() bool {
	_, err := d.now()
	return err == nil
}

// Acts reports whether some step can be passed by somebody who acts, see Way.Acts.
func (d *Demand) Acts() bool {
	way, err := d.now()
	return err == nil && way.Acts()
}

// UnprovenError is the error for a caller who has not proven itself as a Demand asks, though it may be somebody the hub knows.
type UnprovenError struct{ Demand *Demand }

func (e *UnprovenError) Error() string {
	return "the topic asks callers to prove themselves otherwise (" + e.Demand.name + ")"
}

// Challenges is Way.Challenges.
func (d *Demand) Challenges() []string {
	way, err := d.now()
	if err != nil {
		return nil
	}
	return way.Challenges()
}

// Rules returns the rules in force. The slice must not be changed.
func (g *Guard) Rules() []Rule { return g.rules().Rules() }

// Revision returns what stands for the rules in force.
func (g *Guard) Revision() *Revision {
	set := g.rules()
	set.Rules()
	return set.cache.Load().revision
}

// CheckRule reports the first mistake in a rule, and whether auth.file leaves it open whom it names.
func (g *Guard) CheckRule(r *Rule) error { return g.rules().settings.CheckRule(r) }

// Linked returns all IDs of the principal with an ID, which is among them: links in auth.file may say that several are one.
func (g *Guard) Linked(id string) []string {
	if ids := g.gate().links[id]; ids != nil {
		return slices.Clone(ids)
	}
	return []string{id}
}

// FromFile reports whether auth.file defines a rule of this name.
func (g *Guard) FromFile(name string) bool { return g.rules().fromFile(name) }

// May reports whether the rules allow a principal an action on the hub. It audits nothing.
func (g *Guard) May(p *Principal, a Action) bool {
	return Decide(g.rules().Rules(), p, a, "").Allowed
}

// Allow returns nil if the caller of ctx may perform an action on a topic, or on the hub if topic is empty, and else a *DeniedError.
// It audits refusals and decisions about changes. Credentials for one use are used up by the first action that is allowed; the error
// is a *RefusalError if they were used before.
func (g *Guard) Allow(ctx context.Context, a Action, topic string) error {
	c := CallerOf(ctx)
	d := Decide(g.rules().Rules(), c.Principal, a, topic)
	reading := a == ActionRead || a == ActionView
	frequent := a == ActionPublish || a == ActionCall // and written in logs of their own
	if !d.Allowed || !reading && (!frequent || g.force.Load().audit == AuditAll) {
		g.decided(ctx, &c, a, topic, d)
	}
	if !d.Allowed {
		return &DeniedError{Principal: c.Principal, Action: a, Decision: d}
	}
	return c.settle(ctx)
}

// Settle uses up credentials for one use, for what needs no permission.
func (g *Guard) Settle(ctx context.Context) error {
	c := CallerOf(ctx)
	return c.settle(ctx)
}

// Holds reports whether the rules allow the caller of ctx an action on a topic or resource. It audits nothing and settles nothing.
func (g *Guard) Holds(ctx context.Context, a Action, topic string) bool {
	return Decide(g.rules().Rules(), CallerOf(ctx).Principal, a, topic).Allowed
}

// AllowOwn admits a principal to an action on what it owns, for which it needs no rule. It is a *DeniedError for anonymous callers.
func (g *Guard) AllowOwn(ctx context.Context, a Action) error { return g.allowOwn(ctx, a, "") }

func (g *Guard) allowOwn(ctx context.Context, a Action, topic string) error {
	c := CallerOf(ctx)
	d := Decision{Allowed: c.Principal.ID != "", own: true}
	if !d.Allowed {
		d = Decide(g.rules().Rules(), c.Principal, a, topic)
	}
	if !d.Allowed || a != ActionView {
		g.decided(ctx, &c, a, topic, d)
	}
	if !d.Allowed {
		return &DeniedError{Principal: c.Principal, Action: a, Decision: d}
	}
	return c.settle(ctx)
}

// Proven returns an error unless the caller of ctx has proven who it is, and uses up a credential for one use. Nothing is audited.
func (g *Guard) Proven(ctx context.Context) error {
	c := CallerOf(ctx)
	if c.Principal.ID == "" {
		return &DeniedError{Principal: c.Principal, Action: ActionFetch}
	}
	return c.settle(ctx)
}

// Fetched audits that content of a topic was fetched with a reference.
func (g *Guard) Fetched(ctx context.Context, topic string) {
	c := CallerOf(ctx)
	g.decided(ctx, &c, ActionFetch, topic, Decision{Allowed: true, ticket: true})
}

// notOwner audits that a request was accepted and came to nothing because of whose the subscription is.
func (g *Guard) notOwner(ctx context.Context, a Action, topic, request string) {
	c := CallerOf(ctx)
	Note(ctx, "request", request)
	g.decided(ctx, &c, a, topic, Decision{foreign: true})
}

// decided audits a decision.
func (g *Guard) decided(ctx context.Context, c *Caller, a Action, topic string, d Decision) {
	if done := (act{a, topic, d}); !c.Trail.add(done) {
		g.line(ctx, c, &done, nil, outcomeAllowed, 0)
	}
}

func (c *Caller) settle(ctx context.Context) error {
	if c.Settle == nil {
		return nil
	}
	return c.Settle(ctx)
}

// Refused logs why credentials were refused, which clients never learn.
func (g *Guard) Refused(ctx context.Context, c Caller, err error) {
	g.log.LogAttrs(ctx, slog.LevelWarn, "credentials refused", slog.String("reason", err.Error()),
		slog.String("correlation_id", c.CorrelationID), slog.String("address", c.Address), slog.String("node", g.node))
}

// ChallengesFor returns the WWW-Authenticate values for an error (RFC 9110 section 11.6.1, RFC 6750 section 3).
func (g *Guard) ChallengesFor(err error) []string {
	out := g.Challenges()
	var refusal *RefusalError
	var denied *DeniedError
	detail := ""
	switch {
	case errors.As(err, &refusal) && refusal.Method == MethodToken:
		detail = `, error="invalid_token"`
	case errors.As(err, &denied) && denied.Principal.Method == MethodToken:
		detail = `, error="insufficient_scope"`
	}
	for i, c := range out {
		if strings.HasPrefix(c, "Bearer ") {
			out[i] = c + detail
		}
	}
	return out
}
