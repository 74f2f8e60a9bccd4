package auth

import (
	"context"

	"quorumhub/hub"
)

// Apply makes the domain ask the guard: who calls, what the caller may do, what it may have, and whether it may act on what others own.
func (g *Guard) Apply(p *hub.Policy) {
	p.Authorize = g.authorize
	p.Own = func(ctx context.Context, a hub.Action, topic string) error { return g.allowOwn(ctx, Action(a), topic) }
	p.Principal = func(ctx context.Context) string { return CallerOf(ctx).Principal.ID }
	p.Operator = func(ctx context.Context) bool {
		c := CallerOf(ctx)
		return c.Operator || g.May(c.Principal, ActionSubscriptions)
	}
	p.Quotas = func(ctx context.Context, principal string) hub.Quotas { return g.Quotas(ctx, principal).Quotas }
	p.ByteQuotas = func() bool { return g.rules().quotas.limitsBytes() }
	p.Refused = func(ctx context.Context, f *hub.FailedRequest) {
		g.notOwner(ctx, Action(f.ModeName()), f.TopicName, f.ID.String())
	}
}

// authorize decides on an action on a topic.
func (g *Guard) authorize(ctx context.Context, a hub.Action, topic string) error {
	if a == hub.ActionJoinGroup {
		// Asked of everybody who names a group, whoever's it is; a no is no refusal.
		p := CallerOf(ctx).Principal
		if d := Decide(g.rules().Rules(), p, ActionGroupJoin, topic); !d.Allowed {
			return &DeniedError{Principal: p, Action: ActionGroupJoin, Decision: d}
		}
		return nil
	}
	if a == hub.ActionDeregister {
		// Operators may do with a topic what its owner may.
		p := CallerOf(ctx).Principal
		if !Decide(g.rules().Rules(), p, ActionDeregister, topic).Allowed && g.May(p, ActionTopics) {
			Note(ctx, "deregistered", topic)
			return g.Allow(ctx, ActionTopics, "")
		}
	}
	if topic == hub.EventsTopic && (a == hub.ActionSubscribe || a == hub.ActionRead) {
		// The events name all topics and callbacks, so they need the permission for the API's lists, too.
		if err := g.Allow(ctx, ActionView, ""); err != nil {
			return err
		}
	}
	return g.Allow(ctx, Action(a), topic)
}
