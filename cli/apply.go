package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
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
		return usageError("--prune-topics: expected --prune with it")
	}
	want, err := c.read(s.In)
	if err != nil {
		return err
	}
	if c.Check {
		if c.JSON {
			return writeJSON(s.Out, map[string]int{keyTopics: len(want.topics), keyRules: len(want.rules), keySubscriptions: len(want.subscriptions)})
		}
		_, err := fmt.Fprintf(s.Out, "valid: topics %d, rules %d, subscriptions %d\n", len(want.topics), len(want.rules), len(want.subscriptions))
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.close()
	have, err := hub.settings(ctx, want.rules != nil, len(want.subscriptions) > 0)
	if err != nil {
		return err
	}
	if err := hub.resolveTopics(ctx, have, want); err != nil {
		return err
	}
	changes, notes, err := makePlan(have, want, pruning{rules: c.Prune, topics: c.PruneTopics})
	if err != nil {
		return err
	}
	return c.apply(ctx, s, hub, changes, notes)
}

// read takes the files.
func (c *applyCmd) read(in io.Reader) (*desired, error) {
	files := make([]desiredFile, len(c.Files))
	for i, name := range c.Files {
		var text []byte
		var err error
		if name == "-" {
			name = "standard input"
			text, err = io.ReadAll(io.LimitReader(in, maxAnswerBytes+1))
		} else {
			text, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, usageError("FILE: " + err.Error())
		}
		if len(text) > maxAnswerBytes {
			return nil, usageError(fmt.Sprintf("FILE: %s has more than %d bytes", name, maxAnswerBytes))
		}
		files[i] = desiredFile{name, text}
	}
	return parseDesired(files)
}

// apply makes the changes one by one, or only shows them.
func (c *applyCmd) apply(ctx context.Context, s Streams, hub *hubClient, changes []change, notes []string) error {
	var failed error
	done := 0
	for i := range changes {
		if !c.DryRun {
			if err := hub.change(ctx, &changes[i]); err != nil {
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
			Changes []change `json:"changes"`
			Notes   []string `json:"notes"`
		}{append([]change{}, changes...), append([]string{}, notes...)}); err != nil {
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
		return withCode(codeDiffers, errors.New("")) // the changes say it
	case len(changes) == 0 && !c.JSON:
		_, err := fmt.Fprintln(s.Out, "nothing to change")
		return err
	}
	return nil
}

// change makes one change.
func (c *hubClient) change(ctx context.Context, ch *change) error {
	switch {
	case ch.register:
		target, err := c.topicURL(ch.Name)
		if err != nil {
			return err
		}
		return c.register(ctx, target)
	case ch.unused:
		return c.removeUnused(ctx, ch.Name)
	default:
		_, err := c.operate(ctx, ch.method, ch.path, ch.body)
		return err
	}
}

// removeUnused removes a topic, unless it has got a subscription since the plan was made.
func (c *hubClient) removeUnused(ctx context.Context, name string) error {
	raw, err := c.operate(ctx, http.MethodGet, topicPath(name)+"?consistent=true", nil)
	if err != nil {
		return err
	}
	t, err := parseTopicItem(raw)
	if err != nil {
		return fmt.Errorf("the answer of %s is not what a hub says: %w", c.base, err)
	}
	if t.subscriptions > 0 {
		return withCode(codeRefused, errors.New("it has a subscription now"))
	}
	target, err := c.topicURL(name)
	if err != nil {
		return err
	}
	return c.form(ctx, url.Values{"hub.mode": {"deregister"}, "hub.topic": {target}})
}

// resolveTopics looks up topics that the hub does not list under the name in the files: a URL may be one of the hub's own. It also
// makes sure that what would be registered below --hub is a topic that the hub hosts, and not one elsewhere.
func (c *hubClient) resolveTopics(ctx context.Context, have *hubSettings, want *desired) error {
	known := map[string]bool{}
	for _, t := range have.topics {
		known[t.name] = true
	}
	named := map[string]string{}
	asked := false // what holds for one hosted topic holds for all
	for i := range want.topics {
		t := &want.topics[i]
		hosted := !strings.Contains(t.name, "://")
		if !known[t.name] && !(hosted && asked) {
			asked = asked || hosted
			target, err := c.topicURL(t.name)
			if err != nil {
				return err
			}
			name, err := c.nameOf(ctx, target)
			if err != nil {
				return err
			}
			switch {
			case name == "": // the hub does not say
			case hosted && name != t.name:
				return usageError(fmt.Sprintf("--hub: %s is not an address under which the hub knows its own topics; expected its http.public_url or one of http.alias_urls", c.base))
			case !hosted:
				t.name = name
			}
		}
		if first, ok := named[t.name]; ok {
			return usageError(fmt.Sprintf("%s: topics: topic %q is given twice, first at %s", t.origin, t.name, first))
		}
		named[t.name] = t.origin
	}
	return nil
}

// nameOf asks under which name the hub knows a topic's URL; empty when the caller may not ask that.
func (c *hubClient) nameOf(ctx context.Context, target string) (string, error) {
	raw, err := c.operate(ctx, http.MethodPost, "/v1/auth/explain", map[string]string{"action": "topic.register", "topic": target})
	if exitCode(err) == codeRefused {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var out struct{ Topic string }
	if err := json.Unmarshal(raw, &out); err != nil {
		return "", fmt.Errorf("the answer of %s is not what a hub says: %w", c.base, err)
	}
	return out.Topic, nil
}
