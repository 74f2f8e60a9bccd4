package cli

import (
	"fmt"

	"quorumhub/cli/gateway"
)

type gatewayImportCmd struct {
	File     string `arg:"" help:"The OpenAPI 3 document (YAML or JSON); - reads standard input." placeholder:"FILE"`
	Out      string `short:"o" help:"Write the registry to this new file, and JSON Schemas beside it; otherwise it is printed." placeholder:"FILE"`
	Upstream string `help:"The upstream's name in the registry." default:"upstream" placeholder:"NAME"`
	URL      string `name:"url" help:"The upstream's address; otherwise the document's first server." placeholder:"URL"`
}

// Run prints or writes the registry, and what a person should know about it.
func (c *gatewayImportCmd) Run(s Streams) error {
	notes, err := gateway.Import(c.File, c.Out, c.Upstream, c.URL, s.In, s.Out)
	for _, note := range notes {
		fmt.Fprintf(s.Err, "note: %s\n", note)
	}
	return err
}
