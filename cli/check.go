package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"quorumhub/cli/exit"
	"quorumhub/cli/node"
	"quorumhub/configs"
)

type checkCmd struct {
	configFlags
	JSON    bool `name:"json" help:"Print the effective configuration as JSON."`
	Verbose bool `short:"v" help:"Print the effective configuration."`
	Keys    bool `help:"Print every configuration key with its default and meaning, and exit."`
	Sample  bool `help:"Print a sample configuration with every key, and exit."`
}

func (c *checkCmd) Run(ctx context.Context, s Streams) error {
	switch {
	case c.Keys:
		return writeKeys(s.Out, c.JSON)
	case c.Sample:
		_, err := s.Out.Write(configs.Sample())
		return err
	}
	cfg, err := c.load(s.Env)
	if err != nil {
		return err
	}
	warnings, err := node.Check(ctx, cfg)
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	for _, w := range append(warnings, c.warnings()...) {
		fmt.Fprintf(s.Err, "warning: %s\n", w)
	}
	switch {
	case c.JSON:
		return writeJSON(s.Out, cfg.Map())
	case c.Verbose:
		text, err := configs.YAML(cfg.Shown())
		if err != nil {
			return err
		}
		_, err = s.Out.Write(text)
		return err
	default:
		_, err := fmt.Fprintln(s.Out, "the configuration is valid")
		return err
	}
}

// writeKeys prints the documentation of every configuration key.
func writeKeys(w io.Writer, asJSON bool) error {
	if asJSON {
		type key struct {
			Name     string `json:"name"`
			Env      string `json:"env"`
			Type     string `json:"type"`
			Default  string `json:"default"`
			Expected string `json:"expected"`
			Doc      string `json:"doc"`
		}
		var keys []key
		for _, k := range configs.Keys() {
			keys = append(keys, key{k.Name, k.Env, k.Type, k.Default, k.Expected, k.Doc})
		}
		return writeJSON(w, keys)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tTYPE\tDEFAULT\tMEANING")
	for _, k := range configs.Keys() {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", k.Name, k.Type, cmp.Or(k.Default, "-"), k.Doc)
	}
	return table.Flush()
}
