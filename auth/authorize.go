package auth

import (
	"slices"
	"strings"
)

// Decision is the outcome of the rules for one action of one principal, and why.
type Decision struct {
	Allowed bool
	// Rule names the rule that allows it.
	Rule string
	// Missing lists what the caller lacks for each rule on the action and topic; empty if there is no such rule.
	Missing []string

	own, foreign bool // not by a rule: what is asked for is the caller's own, or somebody else's
	ticket       bool // nor by this: the caller has a reference to it
}

// Reason puts the decision in words without revealing which topics exist.
func (d Decision) Reason() string {
	switch {
	case d.own:
		return "its own"
	case d.ticket:
		return "by reference"
	case d.foreign:
		return "not_owner"
	case d.Allowed:
		return "allowed by rule " + d.Rule
	case len(d.Missing) == 0:
		return "no rule allows it"
	}
	return "needs " + strings.Join(d.Missing, ", or ")
}

// Decide returns whether the rules allow a principal an action on a topic, or on the hub if topic is empty. For ActionCall, topic is the
// resource. The first rule that grants it decides.
func Decide(rules []Rule, p *Principal, a Action, topic string) Decision {
	var d Decision
	for i := range rules {
		r := &rules[i]
		if !r.covers(a) {
			continue
		}
		for _, bound := range r.matches(a, topic, p.ID) {
			if len(r.Who) == 0 {
				return Decision{Allowed: true, Rule: r.Name}
			}
			for j := range r.Who {
				missing := r.Who[j].missing(p, bound)
				if len(missing) == 0 {
					return Decision{Allowed: true, Rule: r.Name}
				}
				if need := strings.Join(missing, " and "); !slices.Contains(d.Missing, need) {
					d.Missing = append(d.Missing, need)
				}
			}
		}
	}
	return d
}

// matches returns the bindings of the patterns that match the topic. An operator's action needs no topic; it then matches with
// an empty binding.
func (r *Rule) matches(a Action, topic, owner string) []map[string]string {
	if topic == "" {
		if strings.HasPrefix(string(a), "admin.") {
			return []map[string]string{nil}
		}
		return nil
	}
	var out []map[string]string
	if a == ActionCall {
		for _, pattern := range r.Resources {
			if bound, ok := match(resourcePath(pattern), resourcePath(topic), ""); ok {
				out = append(out, bound)
			}
		}
		return out
	}
	for _, pattern := range r.Topics {
		if bound, ok := match(pattern, topic, owner); ok {
			out = append(out, bound)
		}
	}
	return out
}
