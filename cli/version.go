package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"quorumhub/cli/node"
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *versionCmd) Run(s Streams) error {
	b := node.ReadBuild()
	if c.JSON {
		return writeJSON(s.Out, b)
	}
	_, err := fmt.Fprintf(s.Out, "quorumhub %s, commit %s, %s, %s\n", b.Version, b.CommitText(), b.Go, b.Platform)
	return err
}

// helpCmd documents help; asked rewrites it before the line is parsed.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command to explain, such as cluster add."`
}

// asked turns the usual ways of asking for the help or the version into the forms that the parser knows.
func asked(app *kong.Application, args []string) ([]string, error) {
	if len(args) == 0 {
		return []string{"--help"}, nil
	}
	switch args[0] {
	case "-v", "-V", "--version", "-version":
		return append([]string{"version"}, args[1:]...), nil
	case "help":
	default:
		return args, nil
	}
	at, words := app.Node, []string{}
	for _, word := range args[1:] {
		if strings.HasPrefix(word, "-") {
			continue
		}
		i := slices.IndexFunc(at.Children, func(n *kong.Node) bool { return n.Name == word })
		if i < 0 {
			return nil, fmt.Errorf("help: got %q, expected a command", strings.Join(args[1:], " "))
		}
		at, words = at.Children[i], append(words, word)
	}
	return append(words, "--help"), nil
}
