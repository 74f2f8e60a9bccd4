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
	Files       []string `arg:"" name:"file" help:"YAML files in the format of quorumhub dump, - for standard input. Several files are merged."`
	Check       bool     `help:"Validate the files and exit; no hub is needed." xor:"check"`
	DryRun      bool     `aliases:"diff" help:"Print what would change, without changing it. The exit code is 6 if anything would." xor:"check"`
	Prune       bool     `help:"Remove access rules that the files do not name. Needs a list of rules in the files."`
	PruneTopics bool     `help:"With --prune: also remove topics that the files do not name and that have no subscriptions, with their messages."`
	JSON        bool     `name:"json" help:"Print JSON: {\"changes\": [...], \"notes\": [...]}."`
}

// Help is shown by --help below the flags.
func (c *applyCmd) Help() string {
	return `Makes a hub match the files: registers topics, sets or clears their limits, marks those that end, sets access rules, pauses and resumes subscriptions. Without
--prune, whatever the files do not name stays as it is. Applying the same files again changes nothing. Apply stops at the first error
and lists what was done and what was not.

    topics:
      - name: orders/eu
        retention: {max_age: 7d, max_bytes: 1GiB}   # the hub's limits by default
        lifecycle: {status: deprecated, successor: orders/v2, sunset_at: 2027-06-30}   # left alone by default
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
		return exit.Usagef("--prune-topics needs --prune")
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

// read reads and parses the files.
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
			return nil, exit.Usagef("%v", err)
		}
		if len(text) > maxInputBytes {
			return nil, exit.Usagef("%s is larger than %d bytes", name, maxInputBytes)
		}
		files[i] = declare.File{Name: name, Text: text}
	}
	return declare.Parse(files)
}

// apply makes the changes one by one and prints each, or only prints them with --dry-run.
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
		return fmt.Errorf("%w\n%d of %d changes were made%s", failed, done, len(changes), rest.String())
	case c.DryRun && len(changes) > 0:
		return exit.With(exit.Differs, errors.New("")) // the changes were printed
	case len(changes) == 0 && !c.JSON:
		_, err := fmt.Fprintln(s.Out, "nothing to change")
		return err
	}
	return nil
}
