package cli

import (
	"context"

	"quorumhub/cli/demo"
)

type demoCmd struct{}

// Help is shown by --help below the flags.
func (c *demoCmd) Help() string {
	return `Starts a hub of three nodes in a temporary directory, a subscriber and a publisher, all on this machine. It publishes content
and pings, kills the leader in between, restarts it, and compares what was acknowledged with what arrived. The demo takes less than
20 seconds and cleans up after itself. Its exit code is 0 only if every message arrived.`
}

func (c *demoCmd) Run(ctx context.Context, s Streams) error { return demo.Run(ctx, s.Out) }
