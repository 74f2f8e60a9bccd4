package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"

	"quorumhub/cli/declare"
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
	if err := renameio.WriteFile(c.Output, text, 0o600, renameio.WithTempDir(filepath.Dir(c.Output))); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	return nil
}
