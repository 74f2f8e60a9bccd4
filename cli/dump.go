package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"quorumhub/configs"
)

type dumpCmd struct {
	hubFlags
	Output        string `short:"o" help:"Write to this file instead of standard output." placeholder:"FILE"`
	Subscriptions bool   `help:"Also which subscriptions are paused and which are not."`
}

// Help is shown by --help below the flags.
func (c *dumpCmd) Help() string {
	return `What is written is for version control, and for quorumhub apply: topics with limits of their own and without, rules that were set while
the hub runs (not those of auth.file). It holds no messages, no API keys and no secrets; see quorumhub backup for all of it.

    quorumhub dump -o hub.yaml`
}

func (c *dumpCmd) Run(ctx context.Context, s Streams) error {
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.close()
	have, err := hub.settings(ctx, true, c.Subscriptions)
	if err != nil {
		return err
	}
	text := have.yaml(c.Subscriptions)
	if c.Output == "" {
		_, err = s.Out.Write(text)
		return err
	}
	if err := renameio.WriteFile(c.Output, text, 0o600, renameio.WithTempDir(filepath.Dir(c.Output))); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	return nil
}

// settings asks the hub for what operators have set, as of everything that is acknowledged anywhere.
func (c *hubClient) settings(ctx context.Context, rules, subscriptions bool) (*hubSettings, error) {
	out := &hubSettings{}
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

func listOf[T any](ctx context.Context, c *hubClient, path string, parse func(json.RawMessage) (T, error)) ([]T, error) {
	items, err := c.list(ctx, path, url.Values{"consistent": {"true"}})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	out := make([]T, len(items))
	for i, raw := range items {
		if out[i], err = parse(raw); err != nil {
			return nil, fmt.Errorf("an item of %s%s is not what a hub says: %w", c.base, path, err)
		}
	}
	return out, nil
}

// yaml writes the settings as apply reads them.
func (h *hubSettings) yaml(subscriptions bool) []byte {
	q := configs.QuoteYAML
	var b strings.Builder
	b.WriteString("# What operators have set on a quorumhub: written by `quorumhub dump`, brought back by `quorumhub apply FILE`.\n" +
		"# No API keys, no secrets, no messages, and none of the rules of auth.file.\n\n")
	list := func(name string, n int) {
		b.WriteString(name + ":")
		if n == 0 {
			b.WriteString(" []")
		}
		b.WriteByte('\n')
	}
	b.WriteString("# Topics; a limit that is not here is the hub's.\n")
	list(keyTopics, len(h.topics))
	for _, t := range h.topics {
		b.WriteString("  - name: " + q(t.name) + "\n")
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
	b.WriteString("\n# Rules that were set while the hub runs.\n")
	list(keyRules, len(rules))
	for _, r := range rules {
		r.yaml(&b)
	}
	if !subscriptions {
		return []byte(b.String())
	}
	b.WriteString("\n# Subscriptions are their subscribers' to make and to end; whether one is paused is the operator's.\n")
	var live []setSubscription
	for _, s := range h.subscriptions {
		if s.state == "active" || s.state == "paused" {
			live = append(live, s)
		}
	}
	list(keySubscriptions, len(live))
	for _, s := range live {
		fmt.Fprintf(&b, "  - topic: %s # %s\n    callback: %s\n    paused: %t\n", q(s.topic), oneLine(s.id), q(s.callback), s.state == "paused")
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
