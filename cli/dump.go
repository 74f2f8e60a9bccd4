package cli

import (
	"context"

	"quorumhub/cli/declare"
	"quorumhub/durable"
)

type dumpCmd struct {
	hubFlags
	Output        string `short:"o" help:"Write to this file instead of standard output." placeholder:"FILE"`
	Subscriptions bool   `help:"Include which subscriptions are paused."`
}

// Help is shown by --help below the flags.
func (c *dumpCmd) Help() string {
	return `The output is meant for version control and for quorumhub apply. It holds all topics, with their own limits if any, and the access
rules set on the running hub (not those of auth.file). It holds no messages, API keys or secrets; quorumhub backup saves everything.

    quorumhub dump -o hub.yaml`
}

func (c *dumpCmd) Run(ctx context.Context, s Streams) error {
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	have, err := declare.ReadSettings(ctx, hub, true, c.Subscriptions)
	if err != nil {
		return err
	}
	text := have.YAML(c.Subscriptions)
	if c.Output == "" {
		_, err = s.Out.Write(text)
		return err
	}
	return atFile("--output", c.Output, durable.WriteFile(c.Output, text, 0o600))
}
