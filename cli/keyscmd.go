package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"quorumhub/auth/keyring"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// keysCmd is the group of commands about the keys for secrets at rest. Keys are shown by their ids only.
type keysCmd struct {
	Status    keysStatusCmd    `cmd:"" default:"withargs" help:"Show which node holds which keys, and how many secrets are sealed with each (the default)."`
	Rotate    keysRotateCmd    `cmd:"" help:"Bring in a new key that seals, on all nodes; or go on with a rotation that was begun."`
	Reencrypt keysReencryptCmd `cmd:"" help:"Seal all secrets anew with the present key, while the hub works."`
	Drop      keysDropCmd      `cmd:"" help:"Remove a key that no secret is sealed with from the files of all nodes."`
	New       keysNewCmd       `cmd:"" help:"Make a key and print it as a key file, without a hub."`
}

// keysFlags are those of commands about keys; any node of the cluster can be asked.
type keysFlags struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// ask makes one request and reads the keys as they then are.
func (f *keysFlags) ask(ctx context.Context, method, path string, body any) (*keyring.Status, error) {
	hub, err := f.client()
	if err != nil {
		return nil, err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	st := new(keyring.Status)
	if err := json.Unmarshal(answer, st); err != nil {
		return nil, hub.Unexpected("", err)
	}
	return st, nil
}

type keysStatusCmd struct{ keysFlags }

// Run shows the keys.
func (c *keysStatusCmd) Run(ctx context.Context, s Streams) error {
	st, err := c.ask(ctx, http.MethodGet, "/v1/keys", nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, st)
	}
	return printKeys(s, st)
}

func printKeys(s Streams, st *keyring.Status) error {
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tROLE\tSUBSCRIPTIONS\tFORMER SECRETS\tREQUESTS\tHELD BY")
	for _, k := range st.Keys {
		role := "opens"
		switch k.ID {
		case st.Sealing:
			role = "seals"
		case st.Next:
			role = "next"
		}
		if slices.Contains(st.Retired, k.ID) {
			role = "retired"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%s\n", terminal.OrDash(terminal.OneLine(k.ID)), role, k.Subscriptions, k.Former, k.Requests, terminal.OrDash(terminal.OneLine(strings.Join(k.Nodes, ", "))))
	}
	fmt.Fprintln(table, "\nNODE\tSEALS WITH\tHOLDS\tFROM")
	for _, n := range st.Nodes {
		holds := strings.Join(n.Holds, ", ")
		if n.Error != "" {
			holds = n.Error
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", terminal.OneLine(n.Node), terminal.OrDash(terminal.OneLine(n.Seals)), terminal.OrDash(terminal.OneLine(holds)), terminal.OrDash(terminal.OneLine(n.Source)))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if st.Next != "" {
		_, err := fmt.Fprintf(s.Out, "\na rotation to %s is under way: quorumhub keys rotate goes on with it, quorumhub keys drop %s gives it up\n", terminal.OneLine(st.Next), terminal.OneLine(st.Next))
		return err
	}
	return nil
}

type keysRotateCmd struct {
	keysFlags
	To      string `help:"The id of a key that all nodes hold already, in place of a new one." placeholder:"ID"`
	DropOld bool   `help:"Then seal all secrets anew, and remove the old keys from all nodes."`
}

// Help is the longer text of --help.
func (*keysRotateCmd) Help() string {
	return "A new key is made on the node that is asked, and goes to the key files of the others over the cluster port, sealed with the present one; it is never in the log. " +
		"When every node has it on its disk, all of them seal with it. A node that is down or cannot write its file keeps that from happening and is named; " +
		"secrets are sealed as before then, and the same command goes on where this one stopped. Run reencrypt afterwards, then drop.\n\n" +
		"Keys that come from the configuration (secrets.key, QUORUMHUB_SECRETS_KEY) or from files that the hub cannot write are yours to change: make a key with keys new, " +
		"put it behind the present one on every node, restart those whose configuration changed, and run rotate --to with its id.\n\n" +
		"BACKUPS THAT WERE MADE BEFORE STILL NEED THE OLD KEY. Keep a copy of it as long as you keep them."
}

// Run rotates.
func (c *keysRotateCmd) Run(ctx context.Context, s Streams) error {
	st, err := c.ask(ctx, http.MethodPost, "/v1/keys/rotate", struct {
		To string `json:"to,omitempty"`
	}{c.To})
	if err != nil {
		return err
	}
	if c.DropOld {
		if err := c.reencrypt(ctx, s); err != nil {
			return err
		}
		if st, err = c.ask(ctx, http.MethodDelete, "/v1/keys/old", nil); err != nil {
			return err
		}
	}
	if c.JSON {
		return writeJSON(s.Out, st)
	}
	if _, err := fmt.Fprintf(s.Out, "%s seals secrets now, on %d nodes\n", terminal.OneLine(st.Sealing), len(st.Nodes)); err != nil {
		return err
	}
	if c.DropOld {
		return sayDropped(s, st)
	}
	return sayOld(s, st)
}

// sayOld says what is left to do with the keys before the present one.
func sayOld(s Streams, st *keyring.Status) error {
	n := 0
	for i := range st.Keys {
		if st.Keys[i].ID != st.Sealing {
			n += st.Keys[i].Secrets()
		}
	}
	if n == 0 {
		_, err := fmt.Fprintln(s.Out, "no secret is sealed with another key: quorumhub keys drop --old removes those from the nodes")
		return err
	}
	_, err := fmt.Fprintf(s.Out, "%d secrets are sealed with another key: quorumhub keys reencrypt\n", n)
	return err
}

type keysReencryptCmd struct{ keysFlags }

// Run seals all secrets anew.
func (c *keysReencryptCmd) Run(ctx context.Context, s Streams) error { return c.reencrypt(ctx, s) }

// reencrypt repeats its request until nothing is left, and prints how far it is.
func (f *keysFlags) reencrypt(ctx context.Context, s Streams) error {
	hub, err := f.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	total := 0
	for {
		answer, err := hub.Call(ctx, http.MethodPost, "/v1/keys/reencrypt", nil)
		if err != nil {
			return err
		}
		var out keyring.Reencrypted
		if err := json.Unmarshal(answer, &out); err != nil {
			return hub.Unexpected("", err)
		}
		total += out.Sealed
		switch {
		case out.Left > 0 && out.Sealed > 0:
			fmt.Fprintf(s.Err, "%d secrets sealed anew, %d left\n", total, out.Left)
			continue
		case out.Left > 0:
			for _, line := range out.Failing {
				fmt.Fprintln(s.Err, terminal.OneLine(line))
			}
			return fmt.Errorf("%d secrets were sealed anew, and %d cannot be opened; put the key that they need into the key files (quorumhub keys status), and repeat", total, out.Left)
		}
		if f.JSON {
			out.Sealed = total
			return writeJSON(s.Out, out)
		}
		_, err = fmt.Fprintf(s.Out, "%d secrets were sealed anew; all are sealed with the present key. Backups made before still need the old one\n", total)
		return err
	}
}

type keysDropCmd struct {
	keysFlags
	ID  string `arg:"" optional:"" help:"The id of the key."`
	Old bool   `help:"All keys but the one that seals."`
}

// Help is the longer text of --help.
func (*keysDropCmd) Help() string {
	return "A key is dropped only when no secret of the hub is sealed with it, and for ever: secrets sealed with it are not taken any more. Every node removes it from its key file, " +
		"a node that is down when it comes back. Dropping the key of a rotation that is under way gives the rotation up.\n\n" +
		"BACKUPS THAT WERE MADE BEFORE STILL NEED THE KEY. Keep a copy of it as long as you keep them."
}

// Run drops keys.
func (c *keysDropCmd) Run(ctx context.Context, s Streams) error {
	id := c.ID
	switch {
	case c.Old == (id != ""):
		return exit.Usagef("expected the ID of a key, or --old")
	case c.Old:
		id = "old"
	case strings.Trim(id, "0123456789abcdef") != "":
		return exit.Usagef("ID: got %q, expected the id of a key such as 1a2b3c4d (quorumhub keys status)", id)
	}
	st, err := c.ask(ctx, http.MethodDelete, "/v1/keys/"+url.PathEscape(id), nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, st)
	}
	return sayDropped(s, st)
}

// sayDropped says which nodes still hold what was dropped.
func sayDropped(s Streams, st *keyring.Status) error {
	for _, n := range st.Nodes {
		var still []string
		for _, id := range n.Holds {
			if slices.Contains(st.Retired, id) {
				still = append(still, id)
			}
		}
		switch {
		case n.Error != "":
			fmt.Fprintf(s.Out, "%s does not answer; it removes what it has when it is back\n", terminal.OneLine(n.Node))
		case len(still) > 0 && n.Source != "file":
			fmt.Fprintf(s.Out, "%s still has %s in its configuration; take it out there\n", terminal.OneLine(n.Node), terminal.OneLine(strings.Join(still, ", ")))
		case len(still) > 0:
			fmt.Fprintf(s.Out, "%s still has %s in its file; its log says why\n", terminal.OneLine(n.Node), terminal.OneLine(strings.Join(still, ", ")))
		}
	}
	_, err := fmt.Fprintln(s.Out, "dropped; "+terminal.OneLine(st.Sealing)+" seals secrets. Backups made before still need the old keys: keep a copy of them")
	return err
}

type keysNewCmd struct{}

// Run makes a key.
func (*keysNewCmd) Run(s Streams) error {
	id, text, err := keyring.GenerateKey()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "# Key %s, which seals subscribers' secrets. Keep it: without it nothing can be signed.\n%s\n", id, text)
	return err
}
