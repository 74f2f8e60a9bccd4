package declare

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
)

// Apply makes the change.
func (ch *Change) Apply(ctx context.Context, c *client.Client) error {
	switch {
	case ch.register:
		target, err := c.TopicURL(ch.Name)
		if err != nil {
			return err
		}
		return c.Register(ctx, target)
	case ch.unused:
		return removeUnused(ctx, c, ch.Name)
	default:
		_, err := c.Call(ctx, ch.method, ch.path, ch.body)
		return err
	}
}

// removeUnused removes a topic, unless it has gained a subscription since the plan was made.
func removeUnused(ctx context.Context, c *client.Client, name string) error {
	raw, err := c.Call(ctx, http.MethodGet, topicPath(name)+"?consistent=true", nil, "name")
	if err != nil {
		return err
	}
	t, err := parseTopicItem(raw)
	if err != nil {
		return c.Unexpected("", err)
	}
	if t.subscriptions > 0 {
		return exit.With(exit.Refused, errors.New("the topic has a subscription now"))
	}
	target, err := c.TopicURL(name)
	if err != nil {
		return err
	}
	return c.Deregister(ctx, target)
}

// ResolveTopics replaces URLs of hosted topics by the topics' names, which the hub knows. It also verifies that the hub recognises
// --hub as its own address: otherwise it would register names below --hub as foreign topics.
func ResolveTopics(ctx context.Context, c *client.Client, have *Settings, want *Desired) error {
	known := map[string]bool{}
	for _, t := range have.topics {
		known[t.name] = true
	}
	named := map[string]string{}
	asked := false // one hosted topic stands for all
	for i := range want.Topics {
		t := &want.Topics[i]
		hosted := !strings.Contains(t.name, "://")
		if !known[t.name] && !(hosted && asked) {
			asked = asked || hosted
			target, err := c.TopicURL(t.name)
			if err != nil {
				return err
			}
			name, err := nameOf(ctx, c, target)
			if err != nil {
				return err
			}
			switch {
			case name == "": // the hub does not tell this caller
			case hosted && name != t.name:
				return exit.Usagef("--hub: the hub does not recognise %s as its own address; expected its http.public_url or one of its http.alias_urls", c.Base())
			case !hosted:
				t.name = name
			}
		}
		if first, ok := named[t.name]; ok {
			return exit.Usagef("%s: topics: topic %q is listed twice, first at %s", t.origin, t.name, first)
		}
		named[t.name] = t.origin
	}
	return nil
}

// nameOf returns the name under which the hub knows a topic's URL, or "" if the caller may not ask.
func nameOf(ctx context.Context, c *client.Client, target string) (string, error) {
	raw, err := c.Call(ctx, http.MethodPost, "/v1/auth/explain", map[string]string{"action": "topic.register", "topic": target}, "allowed")
	if exit.CodeOf(err) == exit.Refused {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var out struct{ Topic string }
	if err := json.Unmarshal(raw, &out); err != nil {
		return "", c.Unexpected("", err)
	}
	return out.Topic, nil
}
