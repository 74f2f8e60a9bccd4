package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// topicStatus describes whether a topic is deprecated, for lists.
func topicStatus(t *client.Topic) string {
	l := t.Lifecycle
	if l == nil {
		return "active"
	}
	out := terminal.OneLine(l.Status)
	if l.Status == "deprecated" && l.SunsetAt != "" {
		out += " until " + terminal.OneLine(l.SunsetAt)
	}
	if l.Successor != "" {
		out += ", use " + terminal.OneLine(l.Successor)
	}
	return out
}

// lifecycleFlags are shared by the commands that mark a topic.
type lifecycleFlags struct {
	hubFlags
	Topic string `arg:"" help:"The name of a hosted topic, or the URL of a foreign topic."`
	JSON  bool   `name:"json" help:"Print the topic as JSON."`
}

func (f *lifecycleFlags) set(ctx context.Context, s Streams, mark map[string]any) error {
	return callHub(ctx, s, &f.hubFlags, f.JSON, http.MethodPut, "/v1/topics/"+url.PathEscape(f.Topic), map[string]any{"lifecycle": mark},
		func(raw json.RawMessage) (string, error) {
			var t client.Topic
			err := json.Unmarshal(raw, &t)
			return terminal.OneLine(t.Name) + " is " + topicStatus(&t), err
		}, "name")
}

type deprecateTopicCmd struct {
	lifecycleFlags
	Successor string `help:"The topic to use instead." placeholder:"TOPIC"`
	Sunset    string `help:"When the topic is retired: a date, or a time such as 2027-06-30T12:00:00Z." placeholder:"DATE"`
	Since     string `help:"Since when it is deprecated. Default: now, or as before." placeholder:"DATE"`
}

// Help is shown by --help below the flags.
func (c *deprecateTopicCmd) Help() string {
	return `Everything goes on, but each delivery and each answer about the topic carries Deprecation, Sunset and a Link to the successor, and
hub.events gets a topic.deprecated. When the sunset passes, the topic is retired. The owner of a topic may do this, and operators.

    quorumhub topics deprecate orders --successor orders/v2 --sunset 2027-06-30`
}

func (c *deprecateTopicCmd) Run(ctx context.Context, s Streams) error {
	mark := map[string]any{"status": "deprecated"}
	if c.Successor != "" {
		mark["successor"] = c.Successor
	}
	for _, f := range []struct{ flag, text, member string }{{"--sunset", c.Sunset, "sunset_at"}, {"--since", c.Since, "deprecated_at"}} {
		if f.text == "" {
			continue
		}
		at, err := parseDate(f.text)
		if err != nil {
			return exit.Usagef("%s: got %q, expected a date such as 2027-06-30, or a time such as 2027-06-30T12:00:00Z", f.flag, f.text)
		}
		mark[f.member] = at.UTC().Format(time.RFC3339)
	}
	return c.set(ctx, s, mark)
}

// parseDate parses a time, or a date, which begins at midnight UTC.
func parseDate(text string) (time.Time, error) {
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	return time.Parse(time.RFC3339, text)
}

type retireTopicCmd struct {
	lifecycleFlags
	Successor string `help:"The topic to use instead. Default: as before." placeholder:"TOPIC"`
}

// Help is shown by --help below the flags.
func (c *retireTopicCmd) Help() string {
	return `Publishing and subscribing are answered 410 from now on, with the successor. Subscriptions get what is stored and then end; their
callbacks are told (hub.mode=denied). The topic's messages stay as long as retention keeps them; remove it with topics deregister.`
}

func (c *retireTopicCmd) Run(ctx context.Context, s Streams) error {
	mark := map[string]any{"status": "retired"}
	if c.Successor != "" {
		mark["successor"] = c.Successor
	}
	return c.set(ctx, s, mark)
}

type reinstateTopicCmd struct{ lifecycleFlags }

func (c *reinstateTopicCmd) Run(ctx context.Context, s Streams) error {
	return c.set(ctx, s, map[string]any{"status": "active"})
}
