package auth

import (
	"context"
	"slices"
)

// AllowSome returns nil if the rules may allow the caller of ctx one of some actions on some topic, and else a *DeniedError. It is
// for requests whose topic is not known yet: whoever has no such rule is refused before their body is read. It audits refusals.
func (g *Guard) AllowSome(ctx context.Context, actions ...Action) error {
	p := CallerOf(ctx).Principal
	if reaches(g.rules().Rules(), p, actions) {
		return nil
	}
	return g.Allow(ctx, actions[0], "")
}

// reaches reports whether a rule allows a principal one of the actions on some topic.
func reaches(rules []Rule, p *Principal, actions []Action) bool {
	for i := range rules {
		r := &rules[i]
		if !slices.ContainsFunc(actions, r.covers) {
			continue
		}
		if len(r.Who) == 0 && p.Method != MethodAnonymous {
			return true
		}
		if slices.ContainsFunc(r.Who, func(w Who) bool { return w.mayBe(p) }) {
			return true
		}
	}
	return false
}

// mayBe reports whether a Who describes a principal for some topic: what depends on the topic is left out.
func (w *Who) mayBe(p *Principal) bool {
	if w.Anonymous {
		return true
	}
	if p.Method == MethodAnonymous {
		return false
	}
	return !slices.ContainsFunc(w.parts(), func(part whoPart) bool {
		return len(placeholders(part.want)) == 0 && !part.has(p, part.want)
	})
}
