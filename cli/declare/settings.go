package declare

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"quorumhub/auth"
	"quorumhub/cli/client"
	"quorumhub/cli/terminal"
	"quorumhub/configs"
)

// Settings holds what operators have set on a running hub.
type Settings struct {
	topics        []setTopic
	rules         []setRule
	subscriptions []setSubscription
}

type setTopic struct {
	name          string
	limits        topicLimits
	lifecycle     *topicLifecycle // nil: active
	subscriptions int
}

type setRule struct {
	auth.Rule
	fromFile bool // defined in auth.file
}

type setSubscription struct{ id, topic, callback, state string }

// ReadSettings reads the settings from a hub, consistently: they include everything acknowledged by any node before the call.
func ReadSettings(ctx context.Context, c *client.Client, rules, subscriptions bool) (*Settings, error) {
	out := &Settings{}
	var err error
	if out.topics, err = listOf(ctx, c, "/v1/topics", parseTopicItem); err != nil {
		return nil, err
	}
	if rules {
		if out.rules, err = listOf(ctx, c, "/v1/auth/rules", parseRuleItem); err != nil {
			return nil, err
		}
	}
	if subscriptions {
		if out.subscriptions, err = listOf(ctx, c, "/v1/subscriptions", parseSubscriptionItem); err != nil {
			return nil, err
		}
	}
	out.sort()
	return out, nil
}

func listOf[T any](ctx context.Context, c *client.Client, path string, parse func(json.RawMessage) (T, error)) ([]T, error) {
	items, err := c.List(ctx, path, url.Values{"consistent": {"true"}})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	out := make([]T, len(items))
	for i, raw := range items {
		if out[i], err = parse(raw); err != nil {
			return nil, c.Unexpected(path, err)
		}
	}
	return out, nil
}

// YAML encodes the settings in the format that Parse reads.
func (h *Settings) YAML(subscriptions bool) []byte {
	q := configs.QuoteYAML
	var b strings.Builder
	b.WriteString("# Operators' settings of a quorumhub: written by `quorumhub dump`, restored by `quorumhub apply FILE`.\n" +
		"# API keys, secrets, messages and the rules of auth.file are not included.\n\n")
	list := func(name string, n int) {
		b.WriteString(name + ":")
		if n == 0 {
			b.WriteString(" []")
		}
		b.WriteByte('\n')
	}
	b.WriteString("# Topics. Where a limit is missing, the hub's applies.\n")
	list(KeyTopics, len(h.topics))
	for _, t := range h.topics {
		b.WriteString("  - name: " + q(t.name) + "\n")
		if t.lifecycle != nil {
			b.WriteString("    lifecycle: " + t.lifecycle.yaml() + "\n")
		}
		if t.limits == (topicLimits{}) {
			continue
		}
		b.WriteString("    retention:\n")
		if t.limits.maxAge != nil {
			b.WriteString("      max_age: " + q(t.limits.age()) + "\n")
		}
		if t.limits.maxBytes != nil {
			b.WriteString("      max_bytes: " + q(t.limits.size()) + "\n")
		}
	}
	var rules []*setRule
	for i := range h.rules {
		if !h.rules[i].fromFile {
			rules = append(rules, &h.rules[i])
		}
	}
	b.WriteString("\n# Access rules set on the running hub.\n")
	list(KeyRules, len(rules))
	for _, r := range rules {
		r.yaml(&b)
	}
	if !subscriptions {
		return []byte(b.String())
	}
	b.WriteString("\n# Subscribers create and end subscriptions; operators pause and resume them.\n")
	var live []setSubscription
	for _, s := range h.subscriptions {
		if s.state == "active" || s.state == "paused" {
			live = append(live, s)
		}
	}
	list(KeySubscriptions, len(live))
	for _, s := range live {
		fmt.Fprintf(&b, "  - topic: %s # %s\n    callback: %s\n    paused: %t\n", q(s.topic), terminal.OneLine(s.id), q(s.callback), s.state == "paused")
	}
	return []byte(b.String())
}

func (r *setRule) yaml(b *strings.Builder) {
	flow := func(texts []string) string {
		out := make([]string, len(texts))
		for i, t := range texts {
			out[i] = configs.QuoteYAML(t)
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	fmt.Fprintf(b, "  - name: %s\n    may: %s\n", configs.QuoteYAML(r.Name), flow(r.May))
	if len(r.Topics) > 0 {
		fmt.Fprintf(b, "    topics: %s\n", flow(r.Topics))
	}
	if len(r.Resources) > 0 {
		fmt.Fprintf(b, "    resources: %s\n", flow(r.Resources))
	}
	b.WriteString("    who:\n")
	for _, w := range r.Who {
		lead := "      - "
		for _, part := range [][2]string{{"method", string(w.Method)}, {"issuer", w.Issuer}, {"subject", w.Subject}, {"client", w.Client}, {"user", w.User},
			{"scope", w.Scope}, {"role", w.Role}} {
			if part[1] != "" {
				b.WriteString(lead + part[0] + ": " + configs.QuoteYAML(part[1]) + "\n")
				lead = "        "
			}
		}
		if w.Anonymous {
			b.WriteString(lead + "anonymous: true\n")
		}
	}
}

// The parse functions read items of the admin API.

func parseTopicItem(raw json.RawMessage) (setTopic, error) {
	var item client.Topic
	if err := json.Unmarshal(raw, &item); err != nil {
		return setTopic{}, err
	}
	t := setTopic{name: item.Name, subscriptions: item.Subscriptions}
	if l := item.Lifecycle; l != nil {
		t.lifecycle = &topicLifecycle{status: l.Status, successor: l.Successor, sunset: l.SunsetAt, since: l.DeprecatedAt}
	}
	if r := item.Retention; r != nil {
		if r.MaxAge != "" {
			d, err := configs.ParseDuration(r.MaxAge)
			if err != nil {
				return t, err
			}
			t.limits.maxAge = &d
		}
		if r.MaxBytes != nil {
			n := configs.Bytes(*r.MaxBytes)
			t.limits.maxBytes = &n
		}
	}
	return t, nil
}

func parseRuleItem(raw json.RawMessage) (setRule, error) {
	var item struct {
		auth.Rule
		Source string `json:"source"`
	}
	err := json.Unmarshal(raw, &item)
	return setRule{Rule: item.Rule, fromFile: item.Source != "api"}, err
}

func parseSubscriptionItem(raw json.RawMessage) (setSubscription, error) {
	var item client.Subscription
	err := json.Unmarshal(raw, &item)
	return setSubscription{item.ID, item.Topic, item.Callback, item.State}, err
}

// sort orders everything by name.
func (h *Settings) sort() {
	slices.SortFunc(h.topics, func(a, b setTopic) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(h.rules, func(a, b setRule) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(h.subscriptions, func(a, b setSubscription) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.callback, b.callback))
	})
}
