package auth

import (
	"slices"
	"strings"
)

// Decision is what the rules say about one wish, and why.
type Decision struct {
	Allowed bool
	// Rule is the name of the rule that allows it.
	Rule string
	// Missing lists, for each rule that is about the action and the topic, what the caller lacks; empty
	// when no rule is.
	Missing []string
}

// Reason is the decision in words, without a hint at what exists.
func (d Decision) Reason() string {
	switch {
	case d.Allowed:
		return "allowed by rule " + d.Rule
	case len(d.Missing) == 0:
		return "no rule allows it to anybody"
	}
	return "needs " + strings.Join(d.Missing, ", or ")
}

// Decide asks the rules in turn.
func Decide(rules []Rule, p *Principal, a Action, topic string) Decision {
	var d Decision
	for i := range rules {
		r := &rules[i]
		if !r.allows(a) {
			continue
		}
		for _, bound := range r.matches(a, topic) {
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

// matches are the bindings of the patterns that fit the topic. An operator's wish need not be about a topic: then
// there is one binding, of nothing.
func (r *Rule) matches(a Action, topic string) []map[string]string {
	if topic == "" {
		if strings.HasPrefix(string(a), "admin.") {
			return []map[string]string{nil}
		}
		return nil
	}
	var out []map[string]string
	for _, pattern := range r.Topics {
		if bound, ok := match(pattern, topic); ok {
			out = append(out, bound)
		}
	}
	return out
}
