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

// removeUnused removes a topic, unless it has got a subscription since the plan was made.
func removeUnused(ctx context.Context, c *client.Client, name string) error {
	raw, err := c.Call(ctx, http.MethodGet, topicPath(name)+"?consistent=true", nil)
	if err != nil {
		return err
	}
	t, err := parseTopicItem(raw)
	if err != nil {
		return c.Unexpected("", err)
	}
	if t.subscriptions > 0 {
		return exit.With(exit.Refused, errors.New("it has a subscription now"))
	}
	target, err := c.TopicURL(name)
	if err != nil {
		return err
	}
	return c.Deregister(ctx, target)
}

// ResolveTopics looks up topics that the hub does not list under the name in the files: a URL may be one of the hub's own. It also
// makes sure that what would be registered below --hub is a topic that the hub hosts, and not one elsewhere.
func ResolveTopics(ctx context.Context, c *client.Client, have *Settings, want *Desired) error {
	known := map[string]bool{}
	for _, t := range have.topics {
		known[t.name] = true
	}
	named := map[string]string{}
	asked := false // what holds for one hosted topic holds for all
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
			case name == "": // the hub does not say
			case hosted && name != t.name:
				return exit.Usagef("--hub: %s is not an address under which the hub knows its own topics; expected its http.public_url or one of http.alias_urls", c.Base())
			case !hosted:
				t.name = name
			}
		}
		if first, ok := named[t.name]; ok {
			return exit.Usagef("%s: topics: topic %q is given twice, first at %s", t.origin, t.name, first)
		}
		named[t.name] = t.origin
	}
	return nil
}

// nameOf asks under which name the hub knows a topic's URL; empty when the caller may not ask that.
func nameOf(ctx context.Context, c *client.Client, target string) (string, error) {
	raw, err := c.Call(ctx, http.MethodPost, "/v1/auth/explain", map[string]string{"action": "topic.register", "topic": target})
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
