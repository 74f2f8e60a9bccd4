package declare

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"quorumhub/auth"
	"quorumhub/cli/terminal"
	"quorumhub/configs"
	"quorumhub/hub"
)

// Change is one step of a plan.
type Change struct {
	Op     string `json:"op"`   // + creates, ~ changes, - removes
	Kind   string `json:"kind"` // topic, rule or subscription
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"`
	Done   bool   `json:"done"`

	method, path string
	body         any
	register     bool // register the topic Name, instead of an API request
	unused       bool // remove the topic Name if it has no subscriptions
}

func (c *Change) String() string {
	return terminal.OneLine(strings.TrimRight(fmt.Sprintf("%s %s %s %s", c.Op, c.Kind, c.Name, c.Detail), " "))
}

// Prune says what may be removed because the files do not name it.
type Prune struct{ Rules, Topics bool }

// Plan returns the changes that make a hub match want, in the order to apply them, removals last. notes lists what the files want
// and no change can achieve. An error means that the files contradict the hub.
func Plan(have *Settings, want *Desired, prune Prune) (changes []Change, notes []string, err error) {
	p := planner{have: have, want: want}
	p.topics()
	if err := p.rules(); err != nil {
		return nil, nil, err
	}
	p.subscriptions()
	if prune.Rules && want.Rules != nil {
		p.pruneRules()
	}
	if prune.Topics && want.Topics != nil {
		p.pruneTopics()
	}
	return p.changes, p.notes, nil
}

type planner struct {
	have    *Settings
	want    *Desired
	changes []Change
	notes   []string
}

func (p *planner) add(c Change) { p.changes = append(p.changes, c) }

func (p *planner) topics() {
	known := map[string]*setTopic{}
	for i := range p.have.topics {
		known[p.have.topics[i].name] = &p.have.topics[i]
	}
	for _, t := range p.want.Topics {
		has, ok := known[t.name]
		if !ok {
			p.add(Change{Op: "+", Kind: "topic", Name: t.name, register: true})
			has = &setTopic{}
		}
		var differs []string
		if a, b := has.limits.age(), t.limits.age(); a != b {
			differs = append(differs, fmt.Sprintf("max_age %s -> %s", a, b))
		}
		if a, b := has.limits.size(), t.limits.size(); a != b {
			differs = append(differs, fmt.Sprintf("max_bytes %s -> %s", a, b))
		}
		if len(differs) == 0 {
			continue
		}
		limits := map[string]any{}
		if t.limits.maxAge != nil {
			limits["max_age"] = t.limits.maxAge.String()
		}
		if t.limits.maxBytes != nil {
			limits["max_bytes"] = int64(*t.limits.maxBytes)
		}
		p.add(Change{Op: "~", Kind: "topic", Name: t.name, Detail: "retention " + strings.Join(differs, ", "),
			method: http.MethodPut, path: topicPath(t.name), body: map[string]any{"retention": limits}})
	}
	for i := range p.want.Topics { // after all topics are registered: some are successors
		if t := &p.want.Topics[i]; t.lifecycle != nil {
			p.lifecycle(t, known[t.name])
		}
	}
}

func topicPath(name string) string { return "/v1/topics/" + url.PathEscape(name) }
func rulePath(name string) string  { return "/v1/auth/rules/" + url.PathEscape(name) }

func (p *planner) rules() error {
	known := map[string]*setRule{}
	for i := range p.have.rules {
		known[p.have.rules[i].Name] = &p.have.rules[i]
	}
	for _, r := range p.want.Rules {
		c := Change{Op: "+", Kind: "rule", Name: r.Name, method: http.MethodPut, path: rulePath(r.Name), body: r.Rule}
		if has, ok := known[r.Name]; ok {
			parts := ruleDifference(&has.Rule, &r.Rule)
			if len(parts) == 0 {
				continue
			}
			if has.fromFile {
				return &configs.InvalidError{Problems: []configs.Problem{{Origin: r.origin, Key: KeyRules,
					Message: fmt.Sprintf("rule %q is defined differently in the hub's auth.file; expected another name", r.Name)}}}
			}
			c.Op, c.Detail = "~", strings.Join(parts, ", ")
		}
		p.add(c)
	}
	return nil
}

// ruleDifference describes the fields in which two rules differ.
func ruleDifference(a, b *auth.Rule) (parts []string) {
	same := func(a, b []string) bool { return slices.Equal(a, b) }
	if !same(a.May, b.May) {
		parts = append(parts, fmt.Sprintf("may %s -> %s", strings.Join(a.May, " "), strings.Join(b.May, " ")))
	}
	if !same(a.Topics, b.Topics) {
		parts = append(parts, fmt.Sprintf("topics %s -> %s", terminal.OrDash(strings.Join(a.Topics, " ")), terminal.OrDash(strings.Join(b.Topics, " "))))
	}
	if !same(a.Resources, b.Resources) {
		parts = append(parts, fmt.Sprintf("resources %s -> %s", terminal.OrDash(strings.Join(a.Resources, " ")), terminal.OrDash(strings.Join(b.Resources, " "))))
	}
	if !reflect.DeepEqual(a.Who, b.Who) {
		parts = append(parts, fmt.Sprintf("who %s -> %s", whoText(a.Who), whoText(b.Who)))
	}
	return parts
}

func whoText(list []auth.Who) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = w.String()
	}
	return strings.Join(out, " | ")
}

func (p *planner) subscriptions() {
	known := map[string]*setSubscription{}
	for i := range p.have.subscriptions {
		s := &p.have.subscriptions[i]
		if s.state == "active" || s.state == "paused" {
			known[s.topic+" "+hub.NormalizeURL(s.callback)] = s
		}
	}
	for _, w := range p.want.Subscriptions {
		s, ok := known[w.topic+" "+w.callback]
		switch {
		case !ok:
			p.notes = append(p.notes, terminal.OneLine(fmt.Sprintf("%s: %s has no subscription to %s; only the subscriber can create one", w.origin, w.callback, w.topic)))
		case w.paused != (s.state == "paused"):
			c := Change{Op: "~", Kind: "subscription", Name: s.id, Detail: "of " + s.callback + " to " + s.topic + " paused -> active", method: http.MethodPost,
				path: "/v1/subscriptions/" + url.PathEscape(s.id) + "/resume"}
			if w.paused {
				c.Detail = "of " + s.callback + " to " + s.topic + " active -> paused"
				c.path = "/v1/subscriptions/" + url.PathEscape(s.id) + "/pause"
			}
			p.add(c)
		}
	}
}

func (p *planner) pruneRules() {
	for _, r := range p.have.rules {
		named := slices.ContainsFunc(p.want.Rules, func(w desiredRule) bool { return w.Name == r.Name })
		if !named && !r.fromFile {
			p.add(Change{Op: "-", Kind: "rule", Name: r.Name, method: http.MethodDelete, path: rulePath(r.Name)})
		}
	}
}

func (p *planner) pruneTopics() {
	named := map[string]bool{}
	for _, t := range p.want.Topics {
		named[t.name] = true
	}
	for _, t := range p.have.topics {
		// The hub's own topics are not the operator's to remove.
		if !named[t.name] && t.subscriptions == 0 && !strings.HasPrefix(t.name, "hub.") {
			p.add(Change{Op: "-", Kind: "topic", Name: t.name, unused: true})
		}
	}
}
