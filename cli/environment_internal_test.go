package cli

import (
	"io"
	"testing"

	"github.com/alecthomas/kong"

	"quorumhub/configs"
)

// Variables that commands read, such as QUORUMHUB_TOKEN, may stay exported: a node does not take them for misspelt keys.
func TestVariablesOfCommandsDoNotStopANode(t *testing.T) {
	parser, err := newParser(new(commands), Streams{Out: io.Discard, Err: io.Discard}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	err = kong.Visit(parser.Model.Node, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, name := range flag.Envs {
				names[name] = true
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 4 {
		t.Fatalf("found only %v", names)
	}
	for name := range names {
		if _, err := configs.Load(configs.Source{Env: []string{name + "=x"}}); err != nil {
			t.Errorf("with %s: %v", name, err)
		}
	}
}
