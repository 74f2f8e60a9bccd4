package cli

import (
	"context"

	"quorumhub/cli/demo"
)

type demoCmd struct{}

// Help is shown by --help below the flags.
func (c *demoCmd) Help() string {
	return `Starts a hub of three nodes in a temporary directory, a subscriber and a publisher, all on this machine; publishes content
and pings, kills the leader in between and starts it again, and compares what was acknowledged with what arrived. Ends by
itself in less than 20 seconds, with exit code 0 only if every message arrived, and leaves nothing behind.`
}

func (c *demoCmd) Run(ctx context.Context, s Streams) error { return demo.Run(ctx, s.Out) }
