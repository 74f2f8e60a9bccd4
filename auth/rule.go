package auth

import (
	"fmt"
	"slices"
	"strings"

	"quorumhub/hub"
)

// Action is what a caller wants to do. Those that begin with "admin." are the operator's; their topic may be empty.
type Action string

// Actions: those on topics, and the operator's.
const (
	ActionRegister      = Action(hub.ActionRegister)
	ActionDeregister    = Action(hub.ActionDeregister)
	ActionPublish       = Action(hub.ActionPublish)
	ActionSubscribe     = Action(hub.ActionSubscribe)
	ActionUnsubscribe   = Action(hub.ActionUnsubscribe)
	ActionRead          = Action(hub.ActionRead)
	ActionView          = Action("admin.view")          // lists, cluster, metrics
	ActionSubscriptions = Action("admin.subscriptions") // pause, resume, end, rewind
	ActionDeadLetters   = Action("admin.dead-letters")  // show contents, replay, drop
	ActionTopics        = Action("admin.topics")        // retention of a topic
	ActionCluster       = Action("admin.cluster")       // members, leadership
	ActionBackup        = Action("admin.backup")
	ActionImport        = Action("admin.import") // topics and subscriptions of another hub, without asking callbacks
	ActionAuth          = Action("admin.auth")   // rules and API keys
	ActionKeys          = Action("admin.keys")   // the keys that seal secrets at rest
)

// actions is a constant that Go has no word for.
var actions = [...]Action{ActionRegister, ActionDeregister, ActionPublish, ActionSubscribe, ActionUnsubscribe, ActionRead,
	ActionView, ActionSubscriptions, ActionDeadLetters, ActionTopics, ActionCluster, ActionBackup, ActionImport, ActionAuth, ActionKeys}

// Rule allows some callers some actions on some topics. Nothing is allowed without a rule, and no rule takes back
// what another one gives.
type Rule struct {
	Name string `yaml:"name" json:"name"`
	// May lists actions; "admin.*" stands for all of the operator's, "*" for everything.
	May []string `yaml:"may" json:"may"`
	// Topics are patterns for topic names. A segment (between slashes) may be *, which is any one; the last may be **, which is
	// one or more. {name} matches like *, {name...} like **, and stands for what it matched in Who. Empty: no topic;
	// fine for admin.* only.
	Topics []string `yaml:"topics" json:"topics,omitempty"`
	// Who lists callers; one that fits is enough.
	Who []Who `yaml:"who" json:"who"`
}

// Who describes callers: all of its parts that are set must be the same as the principal's. {name} stands for what the topic
// pattern matched.
type Who struct {
	Anonymous bool   `yaml:"anonymous" json:"anonymous,omitempty"` // everybody, with or without credentials
	Method    Method `yaml:"method" json:"method,omitempty"`
	Issuer    string `yaml:"issuer" json:"issuer,omitempty"`
	Subject   string `yaml:"subject" json:"subject,omitempty"`
	Client    string `yaml:"client" json:"client,omitempty"`
	User      string `yaml:"user" json:"user,omitempty"`
	Scope     string `yaml:"scope" json:"scope,omitempty"`
	Role      string `yaml:"role" json:"role,omitempty"`
}

// Check says what is wrong with a rule.
func (r *Rule) Check() error {
	if !validName(r.Name) {
		return fmt.Errorf("name: %q; expected at most 64 letters, digits, dots, dashes and underscores", r.Name)
	}
	if len(r.May) == 0 {
		return fmt.Errorf("%s: may: lists no action", r.Name)
	}
	onTopics := false
	for _, m := range r.May {
		if m != "*" && m != "admin.*" && !slices.Contains(actions[:], Action(m)) {
			return fmt.Errorf("%s: may: %q; expected *, admin.*, %s", r.Name, m, ActionNames())
		}
		onTopics = onTopics || !strings.HasPrefix(m, "admin.")
	}
	if onTopics && len(r.Topics) == 0 {
		return fmt.Errorf("%s: topics: lists no pattern; ** stands for all topics", r.Name)
	}
	if len(r.Who) == 0 {
		return fmt.Errorf("%s: who: lists nobody; anonymous: true stands for everybody", r.Name)
	}
	var common map[string]bool // names that every pattern binds
	for i, t := range r.Topics {
		bound, err := checkPattern(t)
		if err != nil {
			return fmt.Errorf("%s: topics: %q: %w", r.Name, t, err)
		}
		if i == 0 {
			common = bound
		}
		for n := range common {
			if !bound[n] {
				delete(common, n)
			}
		}
	}
	for i, w := range r.Who {
		if err := w.check(common); err != nil {
			return fmt.Errorf("%s: who[%d]: %w", r.Name, i, err)
		}
	}
	return nil
}

func (w *Who) check(bound map[string]bool) error {
	if *w == (Who{}) {
		return fmt.Errorf("says nothing, which would be everybody; anonymous: true says so")
	}
	if w.Anonymous && *w != (Who{Anonymous: true}) {
		return fmt.Errorf("anonymous stands alone")
	}
	switch w.Method {
	case "", MethodToken, MethodKey, MethodCertificate, MethodSignature, MethodGEO:
	default:
		return fmt.Errorf("method: %q; expected %s, %s, %s, %s or %s", w.Method, MethodToken, MethodKey, MethodCertificate, MethodSignature, MethodGEO)
	}
	for _, part := range w.parts() {
		for _, name := range placeholders(part.want) {
			if !bound[name] {
				return fmt.Errorf("%s: {%s} is not bound by every pattern of topics", part.name, name)
			}
		}
	}
	return nil
}

type whoPart struct {
	name, want string
	has        func(*Principal, string) bool
}

// parts are the comparisons a Who asks for.
func (w *Who) parts() []whoPart {
	all := [...]whoPart{
		{"method", string(w.Method), func(p *Principal, s string) bool { return string(p.Method) == s }},
		{"issuer", w.Issuer, func(p *Principal, s string) bool { return p.Authority == s }},
		{"subject", w.Subject, func(p *Principal, s string) bool { return p.Subject == s }},
		{"client", w.Client, func(p *Principal, s string) bool { return p.Client == s }},
		{"user", w.User, func(p *Principal, s string) bool { return p.User == s }},
		{"scope", w.Scope, (*Principal).HasScope},
		{"role", w.Role, (*Principal).HasRole},
	}
	var out []whoPart
	for _, p := range all {
		if p.want != "" {
			out = append(out, p)
		}
	}
	return out
}

// missing is what the principal lacks, in words; empty: nothing.
func (w *Who) missing(p *Principal, bound map[string]string) []string {
	if w.Anonymous {
		return nil
	}
	if p.Method == MethodAnonymous {
		return []string{"credentials"}
	}
	var out []string
	for _, part := range w.parts() {
		want, whole := expand(part.want, bound)
		if !whole || !part.has(p, want) {
			out = append(out, part.name+" "+want)
		}
	}
	return out
}

// allows tells whether the rule is about an action.
func (r *Rule) allows(a Action) bool {
	for _, m := range r.May {
		if m == "*" || m == string(a) || m == "admin.*" && strings.HasPrefix(string(a), "admin.") {
			return true
		}
	}
	return false
}

// Known tells whether there is such an action.
func (a Action) Known() bool { return slices.Contains(actions[:], a) }

// ActionNames are all actions, for messages.
func ActionNames() string {
	names := make([]string, len(actions))
	for i, a := range actions {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// String is the description in words, for lists.
func (w Who) String() string {
	if w.Anonymous {
		return "everybody"
	}
	var out []string
	for _, p := range w.parts() {
		out = append(out, p.name+" "+p.want)
	}
	return strings.Join(out, " and ")
}
