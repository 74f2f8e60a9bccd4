package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
)

// Caller is who sent a request and how the log names it.
type Caller struct {
	Principal     *Principal
	CorrelationID string
	Address       string // of the client, as far as it is known
	// Client stands for who is not authenticated: an address, or the network of an IPv6 one.
	Client netip.Addr
}

// Name tells callers apart: the principal or, where nobody is authenticated, the client's address.
func (c *Caller) Name() string {
	if c.Principal.Method == MethodAnonymous && c.Client.IsValid() {
		return c.Client.String()
	}
	return c.Principal.String()
}

type callerKey struct{}

// WithCaller attaches the caller to everything that is done for a request.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is the caller of ctx, the anonymous one when none is attached.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Caller{Principal: Anonymous()}
}

// Denied is the refusal of something that the caller may not do.
type Denied struct {
	Principal *Principal
	Action    Action
	Decision  Decision
}

func (d *Denied) Error() string {
	if d.Principal.Method == MethodAnonymous {
		return "credentials are needed for " + string(d.Action)
	}
	return fmt.Sprintf("%s is not allowed here; it %s", d.Action, d.Decision.Reason())
}

// Audit says which decisions are written to the log.
type Audit string

// What is audited. Refusals are in both.
const (
	AuditAll     Audit = "all"     // every change, publishing included
	AuditControl Audit = "control" // every change but publishing
)

// Guard stands in front of everything a hub does for others. Safe for concurrent use.
type Guard struct {
	*Gate
	rules *RuleSet
	audit Audit
	log   *slog.Logger
}

// NewGuard makes a guard.
func NewGuard(g *Gate, rules *RuleSet, audit Audit, log *slog.Logger) *Guard {
	return &Guard{Gate: g, rules: rules, audit: audit, log: log}
}

// Rules are the rules in force.
func (g *Guard) Rules() []Rule { return g.rules.Rules() }

// FromFile tells whether a rule of this name stands in the settings.
func (g *Guard) FromFile(name string) bool { return g.rules.fromFile(name) }

// Allow decides whether the caller of ctx may do something with a topic, or with the hub when there is none. The error is
// a *Denied. Decisions about changes are audited.
func (g *Guard) Allow(ctx context.Context, a Action, topic string) error {
	c := CallerOf(ctx)
	d := Decide(g.rules.Rules(), c.Principal, a, topic)
	reading := a == ActionRead || a == ActionView
	if !d.Allowed || !reading && (a != ActionPublish || g.audit == AuditAll) {
		g.log.LogAttrs(ctx, slog.LevelInfo, "audit", slog.String("principal", clip(c.Principal.String())), slog.String("action", string(a)),
			slog.String("topic", clip(topic)), slog.Bool("allowed", d.Allowed), slog.String("reason", d.Reason()),
			slog.String("correlation_id", c.CorrelationID), slog.String("address", c.Address))
	}
	if !d.Allowed {
		return &Denied{Principal: c.Principal, Action: a, Decision: d}
	}
	return nil
}

// Refused writes down why credentials did not hold. Clients are not told.
func (g *Guard) Refused(ctx context.Context, c Caller, err error) {
	g.log.LogAttrs(ctx, slog.LevelWarn, "credentials refused", slog.String("reason", err.Error()),
		slog.String("correlation_id", c.CorrelationID), slog.String("address", c.Address))
}

// ChallengesFor are the WWW-Authenticate values that go with an error (RFC 9110 section 11.6.1, RFC 6750 section 3).
func (g *Guard) ChallengesFor(err error) []string {
	out := g.Challenges()
	var refusal *Refusal
	var denied *Denied
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
