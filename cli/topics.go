package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
	"quorumhub/configs"
)

// topicsCmd groups the commands for topics.
type topicsCmd struct {
	List       listTopicsCmd       `cmd:"" default:"withargs" help:"List the topics (the default)."`
	Register   registerTopicCmd    `cmd:"" help:"Register a topic, so that it can be published and subscribed to (topics.auto_register: false)."`
	Deregister deregisterTopicCmd  `cmd:"" help:"Remove a topic with its messages, and end its subscriptions (hub.mode=denied)."`
	Set        setTopicCmd         `cmd:"" help:"Set a topic's own retention limits."`
	Deprecate  deprecateTopicCmd   `cmd:"" help:"Mark a topic as deprecated: tell those who use it that it will end, and what to use instead."`
	Retire     retireTopicCmd      `cmd:"" help:"Retire a topic now: nothing more is published or subscribed to, and what is stored is still delivered."`
	Content    topicContentCmd     `cmd:"" help:"Set whether subscriptions get content in the deliveries or references to it, and what references are good for."`
	Revoke     revokeReferencesCmd `cmd:"" help:"End the references to messages of a topic."`
	Reinstate  reinstateTopicCmd   `cmd:"" help:"Remove the mark of a topic that is deprecated or retired."`
}

type listTopicsCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

// ownLimits describes the topic's own limits.
func ownLimits(t *client.Topic) string {
	var out []string
	if t.Retention != nil {
		if t.Retention.MaxAge != "" {
			out = append(out, "age "+terminal.OneLine(t.Retention.MaxAge))
		}
		if t.Retention.MaxBytes != nil {
			out = append(out, "size "+terminal.Bytes(*t.Retention.MaxBytes))
		}
	}
	return strings.Join(out, ", ")
}

func (c *listTopicsCmd) Run(ctx context.Context, s Streams) error {
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/topics", nil,
		"TOPIC\tMESSAGES KEPT\tFIRST OFFSET\tHEAD OFFSET\tSUBSCRIPTIONS\tOWN LIMITS\tSTATUS",
		func(t client.Topic) string {
			kept := uint64(0)
			if t.FirstOffset > 0 && t.HeadOffset >= t.FirstOffset {
				kept = t.HeadOffset - t.FirstOffset + 1
			}
			return fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%s\t%s", terminal.OneLine(t.Name), kept, t.FirstOffset, t.HeadOffset, t.Subscriptions, terminal.OrDash(ownLimits(&t)), topicStatus(&t))
		})
}

type setTopicCmd struct {
	hubFlags
	Topic    string  `arg:"" help:"The name of a hosted topic, or the URL of a foreign topic."`
	MaxAge   *string `name:"max-age" help:"Drop messages older than this, such as 12h or 7d. 0 means no age limit." placeholder:"DURATION"`
	MaxBytes *string `name:"max-bytes" help:"Keep about this much of the topic's newest messages, such as 100MiB. 0 means no size limit for this topic." placeholder:"SIZE"`
	JSON     bool    `name:"json" help:"Print the topic as JSON."`
}

// Help is shown by --help below the flags.
func (c *setTopicCmd) Help() string {
	return `A limit that is not given falls back to the hub's (retention.max_age, retention.max_bytes); without any flags, the topic loses all
limits of its own. The hub's size limit always applies to all topics together.

    quorumhub topics set news --max-age 30d
    quorumhub topics set metrics --max-age 1h --max-bytes 64MiB
    quorumhub topics set news`
}

func (c *setTopicCmd) Run(ctx context.Context, s Streams) error {
	limits := map[string]any{}
	if c.MaxAge != nil {
		limits["max_age"] = *c.MaxAge
	}
	if c.MaxBytes != nil {
		n, err := configs.ParseBytes(*c.MaxBytes)
		if err != nil {
			return exit.Usagef("--max-bytes: got %q, expected a size such as 100MiB", *c.MaxBytes)
		}
		limits["max_bytes"] = int64(n)
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, http.MethodPut, "/v1/topics/"+url.PathEscape(c.Topic), map[string]any{"retention": limits}, "name")
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, answer)
	}
	var t client.Topic
	if err := json.Unmarshal(answer, &t); err != nil {
		return hub.Unexpected("", err)
	}
	own := ownLimits(&t)
	if own == "" {
		own = "none, the hub's limits apply"
	}
	_, err = fmt.Fprintf(s.Out, "own limits of %s: %s\n", terminal.OneLine(t.Name), own)
	return err
}

// topicFlags are shared by the commands for one topic.
type topicFlags struct {
	hubFlags
	Topic string `arg:"" help:"The name of a hosted topic, or the URL of a foreign topic."`
	JSON  bool   `name:"json" help:"Print JSON."`
}

// change carries out what is to be done with the topic's URL, and prints that it is done.
func (f *topicFlags) change(s Streams, done string, do func(hub *client.Client, topicURL string) error) error {
	hub, err := f.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	topicURL, err := hub.TopicURL(f.Topic)
	if err != nil {
		return err
	}
	if err := do(hub, topicURL); err != nil {
		return err
	}
	if f.JSON {
		return writeJSON(s.Out, map[string]any{"topic": topicURL, done: true})
	}
	_, err = fmt.Fprintf(s.Out, "%s %s\n", done, topicURL)
	return err
}

type registerTopicCmd struct{ topicFlags }

func (c *registerTopicCmd) Run(ctx context.Context, s Streams) error {
	return c.change(s, "registered", func(hub *client.Client, topicURL string) error { return hub.Register(ctx, topicURL) })
}

type deregisterTopicCmd struct{ topicFlags }

func (c *deregisterTopicCmd) Run(ctx context.Context, s Streams) error {
	return c.change(s, "deregistered", func(hub *client.Client, topicURL string) error { return hub.Deregister(ctx, topicURL) })
}
