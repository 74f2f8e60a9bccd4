package auth

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"quorumhub/configs/syntax"
	"quorumhub/hub"
)

// Action is a permission that rules grant. Actions that begin with "admin." are the operator's; their topic may be empty.
type Action string

// Actions on topics, and the operator's.
const (
	ActionRegister      = Action(hub.ActionRegister)
	ActionDeregister    = Action(hub.ActionDeregister)
	ActionPublish       = Action(hub.ActionPublish)
	ActionSubscribe     = Action(hub.ActionSubscribe)
	ActionUnsubscribe   = Action(hub.ActionUnsubscribe)
	ActionRead          = Action(hub.ActionRead)
	ActionGroupJoin     = Action(hub.ActionJoinGroup)   // add members to another principal's consumer group
	ActionCall          = Action("call")                // call a service behind the gateway; on resources, not on topics
	ActionView          = Action("admin.view")          // lists, cluster, metrics
	ActionSubscriptions = Action("admin.subscriptions") // pause, resume, end, rewind
	ActionDeadLetters   = Action("admin.dead-letters")  // read, replay, drop
	ActionTopics        = Action("admin.topics")        // retention of a topic
	ActionCluster       = Action("admin.cluster")       // members, leadership
	ActionBackup        = Action("admin.backup")
	ActionImport        = Action("admin.import")  // topics and subscriptions of another hub, without verifying intent
	ActionAuth          = Action("admin.auth")    // rules and API keys
	ActionKeys          = Action("admin.keys")    // sealing keys
	ActionGateway       = Action("admin.gateway") // the gateway's registry

	// ActionFetch is in the audit log only: content is fetched by a reference, which is the permission.
	ActionFetch = Action("fetch")
)

// actions lists all actions. It is never changed.
var actions = [...]Action{ActionRegister, ActionDeregister, ActionPublish, ActionSubscribe, ActionUnsubscribe, ActionRead, ActionGroupJoin, ActionCall,
	ActionView, ActionSubscriptions, ActionDeadLetters, ActionTopics, ActionCluster, ActionBackup, ActionImport, ActionAuth, ActionKeys,
	ActionGateway}

// Rule grants callers actions on topics. Without a rule nothing is allowed, and no rule revokes what another one grants.
type Rule struct {
	Name string `yaml:"name" json:"name"`
	// May lists actions; "admin.*" means all of the operator's, "*" means all actions.
	May []string `yaml:"may" json:"may"`
	// Topics are patterns for topic names. A segment (between slashes) may be *, which matches any one segment; the last may be
	// **, which matches one or more. {name} matches like *, {name...} like **, and Who may refer to what they matched. {owner}
	// stands for the caller's own ID, such as issuer:idp/123. Only rules on admin.* may leave it empty.
	Topics []string `yaml:"topics" json:"topics,omitempty"`
	// Resources are patterns for what ActionCall is about: names such as hr.address, which a registry's permissions give. They are
	// as Topics are, except that segments stand between dots and {owner} is none of them.
	Resources []string `yaml:"resources" json:"resources,omitempty"`
	// Who lists callers; one match is enough. If every pattern has {owner} it may be empty, which means every principal.
	Who []Who `yaml:"who" json:"who"`
}

// Who describes callers: every field that is set must equal the principal's. {name} is replaced by what the topic pattern
// matched.
type Who struct {
	Anonymous bool   `yaml:"anonymous" json:"anonymous,omitempty"` // everybody, with or without credentials
	Method    Method `yaml:"method" json:"method,omitempty"`
	Principal string `yaml:"principal" json:"principal,omitempty"` // <authority>/<subject>
	Issuer    string `yaml:"issuer" json:"issuer,omitempty"`
	Subject   string `yaml:"subject" json:"subject,omitempty"`
	Client    string `yaml:"client" json:"client,omitempty"`
	User      string `yaml:"user" json:"user,omitempty"`
	Scope     string `yaml:"scope" json:"scope,omitempty"`
	Role      string `yaml:"role" json:"role,omitempty"`

	source source // set by Settings.pin: who vouches for the names above
}

// Check reports the first mistake in a rule.
func (r *Rule) Check() error {
	if !validName(r.Name) {
		return fmt.Errorf("name: %q; expected at most 64 letters, digits, dots, dashes and underscores", r.Name)
	}
	if len(r.May) == 0 {
		return fmt.Errorf("%s: may: is empty; expected at least one action", r.Name)
	}
	onTopics, onResources := false, false
	for _, m := range r.May {
		if m != "*" && m != "admin.*" && !slices.Contains(actions[:], Action(m)) {
			return fmt.Errorf("%s: may: %q; expected *, admin.*, %s", r.Name, m, ActionNames())
		}
		onTopics = onTopics || !strings.HasPrefix(m, "admin.") && Action(m) != ActionCall
		onResources = onResources || m == "*" || Action(m) == ActionCall
	}
	switch {
	case onTopics && len(r.Topics) == 0:
		return fmt.Errorf("%s: topics: is empty; ** matches all topics", r.Name)
	case len(r.Resources) == 0 && slices.Contains(r.May, string(ActionCall)):
		return fmt.Errorf("%s: resources: is empty; ** matches all resources", r.Name)
	case len(r.Resources) > 0 && !onResources:
		return fmt.Errorf("%s: resources: only the action %s is about them", r.Name, ActionCall)
	}
	if len(r.Who) == 0 && !r.ofOwners() {
		return fmt.Errorf("%s: who: is empty, which needs {owner} in every pattern of topics; anonymous: true matches everybody", r.Name)
	}
	var common map[string]bool // names that every pattern binds
	for i, t := range slices.Concat(r.Topics, r.Resources) {
		check, key := checkPattern, "topics"
		if i >= len(r.Topics) {
			check, key = checkResourcePattern, "resources"
		}
		bound, err := check(t)
		if err != nil {
			return fmt.Errorf("%s: %s: %q: %w", r.Name, key, t, err)
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
		return fmt.Errorf("is empty; anonymous: true matches everybody")
	}
	if w.Anonymous && *w != (Who{Anonymous: true}) {
		return fmt.Errorf("anonymous excludes all other fields")
	}
	switch w.Method {
	case "", MethodToken, MethodAPIKey, MethodCertificate, MethodSignature, MethodGEO:
	default:
		return fmt.Errorf("method: %q; expected %s, %s, %s, %s or %s", w.Method, MethodToken, MethodAPIKey, MethodCertificate, MethodSignature, MethodGEO)
	}
	if w.Principal != "" && len(placeholders(w.Principal)) == 0 {
		if err := (*Settings)(nil).checkPrincipal(w.Principal); err != nil {
			return err
		}
	}
	for _, part := range w.parts() {
		for _, name := range placeholders(part.want) {
			if name == ownerName {
				return fmt.Errorf("%s: {owner} is the caller; expected it in topics only", part.name)
			}
			if !bound[name] {
				return fmt.Errorf("%s: {%s} is not bound by every pattern of topics", part.name, name)
			}
		}
	}
	return nil
}

// ofOwners reports whether the rule is about topics that contain their owner's ID.
func (r *Rule) ofOwners() bool {
	return len(r.Topics) > 0 && len(r.Resources) == 0 && !slices.ContainsFunc(r.Topics, func(t string) bool {
		return !slices.Contains(strings.Split(t, "/"), ownerSegment)
	})
}

type whoPart struct {
	name, want string
	has        func(*Principal, string) bool
}

// method returns the method that a Who asks for; empty: any. Whoever an issuer vouches for may have a token of its or have logged in there.
func (w *Who) method() Method {
	if w.source.authority != "" {
		return w.Method
	}
	return cmp.Or(w.Method, w.source.method)
}

// parts returns the comparisons a Who asks for.
func (w *Who) parts() []whoPart {
	all := [...]whoPart{
		{"method", string(w.method()), func(p *Principal, s string) bool { return string(p.Method) == s }},
		{"principal", w.Principal, (*Principal).Is},
		{"issuer", cmp.Or(w.Issuer, w.source.authority), func(p *Principal, s string) bool { return p.Authority == s }},
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

// missing returns what the principal lacks, in words.
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

// covers reports whether the rule is about an action.
func (r *Rule) covers(a Action) bool {
	return slices.ContainsFunc(r.May, func(m string) bool {
		return m == "*" || m == string(a) || m == "admin.*" && strings.HasPrefix(string(a), "admin.")
	})
}

// Known reports whether the action exists.
func (a Action) Known() bool { return slices.Contains(actions[:], a) }

// ActionNames lists all actions, for messages.
func ActionNames() string {
	names := make([]string, len(actions))
	for i, a := range actions {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// String describes the callers in words, for lists.
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

// ParseRule decodes one rule in YAML or JSON. Unknown keys are errors. It does not check what the rule says.
func ParseRule(text []byte) (r Rule, err error) {
	if err := yaml.UnmarshalWithOptions(text, &r, yaml.Strict()); err != nil {
		return Rule{}, syntax.Explain(text, err)
	}
	return r, nil
}
