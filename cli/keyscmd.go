package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"quorumhub/auth/keyring"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// keysCmd groups the commands for sealing keys. They show keys by ID only.
type keysCmd struct {
	Status    keysStatusCmd    `cmd:"" default:"withargs" help:"Show which node holds which keys, and how many secrets each key seals (the default)."`
	Rotate    keysRotateCmd    `cmd:"" help:"Switch all nodes to a new sealing key, or continue an unfinished rotation."`
	Reencrypt keysReencryptCmd `cmd:"" help:"Re-encrypt all secrets with the current sealing key while the hub runs."`
	Drop      keysDropCmd      `cmd:"" help:"Remove a key that seals no secret from all nodes' key files."`
	New       keysNewCmd       `cmd:"" help:"Generate a sealing key and print it as a key file, without a hub."`
}

// keysFlags are shared by the commands for sealing keys. --hub may be any node of the cluster.
type keysFlags struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// ask sends one request and returns the resulting status.
func (f *keysFlags) ask(ctx context.Context, method, path string, body any) (*keyring.Status, error) {
	hub, err := f.client()
	if err != nil {
		return nil, err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, method, path, body, "keys", "nodes")
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
	table := s.table()
	table.Row("KEY\tROLE\tSUBSCRIPTIONS\tFORMER SECRETS\tREQUESTS\tCALLBACKS\tGATEWAY\tSESSIONS\tHELD BY")
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
		table.Row(fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s", terminal.OrDash(k.ID), role, k.Subscriptions, k.Former, k.Requests, k.Callbacks, k.Gateway, k.Sessions, terminal.OrDash(strings.Join(k.Nodes, ", "))))
	}
	if err := table.Write(s.Out); err != nil {
		return err
	}
	fmt.Fprintln(s.Out)
	table = s.table()
	table.Row("NODE\tSEALS WITH\tHOLDS\tFROM")
	for _, n := range st.Nodes {
		holds := strings.Join(n.Holds, ", ")
		if n.Error != "" {
			holds = n.Error
		}
		table.Row(fmt.Sprintf("%s\t%s\t%s\t%s", terminal.OneLine(n.Node), terminal.OrDash(n.Seals), terminal.OrDash(holds), terminal.OrDash(n.Source)))
	}
	if err := table.Write(s.Out); err != nil {
		return err
	}
	if st.Next != "" {
		_, err := fmt.Fprintf(s.Out, "\nrotation to %s in progress: quorumhub keys rotate continues it, quorumhub keys drop %s cancels it\n", terminal.OneLine(st.Next), terminal.OneLine(st.Next))
		return err
	}
	return nil
}

type keysRotateCmd struct {
	keysFlags
	To      string `help:"The ID of a key that all nodes already hold. Default: a new key." placeholder:"ID"`
	DropOld bool   `help:"Afterwards re-encrypt all secrets and remove the old keys from all nodes."`
}

// Help is shown by --help below the flags.
func (*keysRotateCmd) Help() string {
	return "The node at --hub generates the new key and sends it to the other nodes' key files over the cluster port, sealed with the current key; it never enters the log. " +
		"Once every node has stored the key, all nodes seal with it. If a node is down or cannot write its file, the command names it, the current key stays in use, " +
		"and running the command again continues the rotation. Afterwards run reencrypt, then drop.\n\n" +
		"Keys from the configuration (secrets.key, QUORUMHUB_SECRETS_KEY) or from files that the hub cannot write must be changed by hand: generate a key with keys new, " +
		"add it after the current one on every node, restart nodes whose configuration changed, and run rotate --to with its ID.\n\n" +
		"OLDER BACKUPS STILL NEED THE OLD KEY. Keep a copy of it as long as you keep them."
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
	if _, err := fmt.Fprintf(s.Out, "%s is the sealing key now, on %d nodes\n", terminal.OneLine(st.Sealing), len(st.Nodes)); err != nil {
		return err
	}
	if c.DropOld {
		return sayDropped(s, st)
	}
	return sayOld(s, st)
}

// sayOld prints what is left to do with the old keys.
func sayOld(s Streams, st *keyring.Status) error {
	n := 0
	for i := range st.Keys {
		if st.Keys[i].ID != st.Sealing {
			n += st.Keys[i].Secrets()
		}
	}
	if n == 0 {
		_, err := fmt.Fprintln(s.Out, "old keys seal no secrets; remove them from the nodes with quorumhub keys drop --old")
		return err
	}
	_, err := fmt.Fprintf(s.Out, "old keys seal %d secrets; re-encrypt them with quorumhub keys reencrypt\n", n)
	return err
}

type keysReencryptCmd struct{ keysFlags }

// Run re-encrypts all secrets.
func (c *keysReencryptCmd) Run(ctx context.Context, s Streams) error { return c.reencrypt(ctx, s) }

// reencrypt repeats its request until no secret is left, and prints its progress.
func (f *keysFlags) reencrypt(ctx context.Context, s Streams) error {
	hub, err := f.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	total := 0
	for {
		answer, err := hub.Call(ctx, http.MethodPost, "/v1/keys/reencrypt", nil, "left")
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
			fmt.Fprintf(s.Err, "%d secrets re-encrypted, %d left\n", total, out.Left)
			continue
		case out.Left > 0:
			for _, line := range out.Failing {
				fmt.Fprintln(s.Err, terminal.OneLine(line))
			}
			return fmt.Errorf("%d secrets were re-encrypted, but %d cannot be opened; add the missing key to the key files (see quorumhub keys status) and run this again", total, out.Left)
		}
		if f.JSON {
			out.Sealed = total
			return writeJSON(s.Out, out)
		}
		_, err = fmt.Fprintf(s.Out, "%d secrets were re-encrypted; the current key seals all secrets. Older backups still need the old key\n", total)
		return err
	}
}

type keysDropCmd struct {
	keysFlags
	ID  string `arg:"" optional:"" help:"The key's ID."`
	Old bool   `help:"Drop all keys except the sealing key."`
}

// Help is shown by --help below the flags.
func (*keysDropCmd) Help() string {
	return "A key can be dropped only if it seals no secret, and dropping is permanent: the hub never accepts secrets sealed with it again. Every node removes the key from its key file; " +
		"a node that is down does so when it is back. Dropping the key of an unfinished rotation cancels the rotation.\n\n" +
		"OLDER BACKUPS STILL NEED THE KEY. Keep a copy of it as long as you keep them."
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
		return exit.Usagef("ID: got %q, expected a key ID such as 1a2b3c4d (see quorumhub keys status)", id)
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

// sayDropped prints which nodes still hold dropped keys.
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
			fmt.Fprintf(s.Out, "%s does not respond; it removes its copy when it is back\n", terminal.OneLine(n.Node))
		case len(still) > 0 && n.Source != "file":
			fmt.Fprintf(s.Out, "%s still has %s in its configuration; remove it there\n", terminal.OneLine(n.Node), terminal.OneLine(strings.Join(still, ", ")))
		case len(still) > 0:
			fmt.Fprintf(s.Out, "%s still has %s in its key file; see its log for the reason\n", terminal.OneLine(n.Node), terminal.OneLine(strings.Join(still, ", ")))
		}
	}
	_, err := fmt.Fprintln(s.Out, "dropped; "+terminal.OneLine(st.Sealing)+" is the sealing key. Older backups still need the old keys: keep a copy of them")
	return err
}

type keysNewCmd struct{}

// Run generates a key.
func (*keysNewCmd) Run(s Streams) error {
	id, text, err := keyring.GenerateKey()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "# Key %s seals subscribers' secrets. Keep a copy: without it, deliveries cannot be signed.\n%s\n", id, text)
	return err
}
