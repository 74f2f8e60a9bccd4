package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"quorumhub/cli/client"
	"quorumhub/cli/declare"
	"quorumhub/cli/exit"
)

type applyCmd struct {
	hubFlags
	Files       []string `arg:"" name:"file" help:"What is wanted, as quorumhub dump writes it; - for standard input. Several files say one thing together."`
	Check       bool     `help:"Only validate the files; no hub is needed." xor:"check"`
	DryRun      bool     `aliases:"diff" help:"Only print what would change. Exit code 6 when something would." xor:"check"`
	Prune       bool     `help:"Remove rules that the files do not name, if they have a list of rules."`
	PruneTopics bool     `help:"With --prune: also remove topics without subscriptions, and their messages, that the files do not name."`
	JSON        bool     `name:"json" help:"Print JSON: {\"changes\": [...], \"notes\": [...]}."`
}

// Help is shown by --help below the flags.
func (c *applyCmd) Help() string {
	return `Brings a hub to what the files say: registers topics, sets or clears their limits, sets rules, pauses and resumes subscriptions. What the
files do not name stays as it is, unless --prune is given. A second run changes nothing. It stops at the first error and says what is
done and what is not.

    topics:
      - name: orders/eu
        retention: {max_age: 7d, max_bytes: 1GiB}   # what is left out is the hub's limit
    rules:
      - name: reader
        may: [read, subscribe]
        topics: ["orders/**"]
        who: [{scope: orders.read}]
    subscriptions:
      - {topic: orders/eu, callback: "https://shop.example/hook", paused: true}

    quorumhub apply --check hub.yaml
    quorumhub apply --dry-run hub.yaml
    quorumhub apply hub.yaml`
}

func (c *applyCmd) Run(ctx context.Context, s Streams) error {
	if c.PruneTopics && !c.Prune {
		return exit.Usagef("--prune-topics: expected --prune with it")
	}
	want, err := c.read(s.In)
	if err != nil {
		return err
	}
	if c.Check {
		if c.JSON {
			return writeJSON(s.Out, map[string]int{declare.KeyTopics: len(want.Topics), declare.KeyRules: len(want.Rules), declare.KeySubscriptions: len(want.Subscriptions)})
		}
		_, err := fmt.Fprintf(s.Out, "valid: topics %d, rules %d, subscriptions %d\n", len(want.Topics), len(want.Rules), len(want.Subscriptions))
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	have, err := declare.ReadSettings(ctx, hub, want.Rules != nil, len(want.Subscriptions) > 0)
	if err != nil {
		return err
	}
	if err := declare.ResolveTopics(ctx, hub, have, want); err != nil {
		return err
	}
	changes, notes, err := declare.Plan(have, want, declare.Prune{Rules: c.Prune, Topics: c.PruneTopics})
	if err != nil {
		return err
	}
	return c.apply(ctx, s, hub, changes, notes)
}

// read takes the files.
func (c *applyCmd) read(in io.Reader) (*declare.Desired, error) {
	files := make([]declare.File, len(c.Files))
	for i, name := range c.Files {
		var text []byte
		var err error
		if name == "-" {
			name = "standard input"
			text, err = io.ReadAll(io.LimitReader(in, maxInputBytes+1))
		} else {
			text, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, exit.Usagef("FILE: %v", err)
		}
		if len(text) > maxInputBytes {
			return nil, exit.Usagef("FILE: %s has more than %d bytes", name, maxInputBytes)
		}
		files[i] = declare.File{Name: name, Text: text}
	}
	return declare.Parse(files)
}

// apply makes the changes one by one, or only shows them.
func (c *applyCmd) apply(ctx context.Context, s Streams, hub *client.Client, changes []declare.Change, notes []string) error {
	var failed error
	done := 0
	for i := range changes {
		if !c.DryRun {
			if err := changes[i].Apply(ctx, hub); err != nil {
				failed = fmt.Errorf("%s: %w", changes[i].String(), err)
				break
			}
			changes[i].Done = true
			done++
		}
		if !c.JSON {
			fmt.Fprintln(s.Out, changes[i].String())
		}
	}
	if c.JSON {
		if err := writeJSON(s.Out, struct {
			Changes []declare.Change `json:"changes"`
			Notes   []string         `json:"notes"`
		}{append([]declare.Change{}, changes...), append([]string{}, notes...)}); err != nil {
			return err
		}
	} else {
		for _, n := range notes {
			fmt.Fprintln(s.Err, "note: "+n)
		}
	}
	switch {
	case failed != nil:
		var rest strings.Builder
		for i := done; i < len(changes); i++ {
			rest.WriteString("\nnot done: " + changes[i].String())
		}
		return fmt.Errorf("%w\n%d of %d changes are done%s", failed, done, len(changes), rest.String())
	case c.DryRun && len(changes) > 0:
		return exit.With(exit.Differs, errors.New("")) // the changes say it
	case len(changes) == 0 && !c.JSON:
		_, err := fmt.Fprintln(s.Out, "nothing to change")
		return err
	}
	return nil
}
