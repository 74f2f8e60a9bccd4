package cli

import (
	"encoding/json"
	"fmt"

	"quorumhub/cli/node"
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *versionCmd) Run(s Streams) error {
	b := node.ReadBuild()
	if c.JSON {
		return json.NewEncoder(s.Out).Encode(b)
	}
	text := "quorumhub " + b.Version
	if b.Revision != "" {
		text += " " + b.Revision
		if b.Modified {
			text += " (modified)"
		}
	}
	_, err := fmt.Fprintf(s.Out, "%s %s %s\n", text, b.Go, b.Platform)
	return err
}
