package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/gateway"
	"quorumhub/cli/terminal"
	"quorumhub/web/gateway/registry"
)

// gatewayCmd groups the commands for the gateway.
type gatewayCmd struct {
	Check  gatewayCheckCmd  `cmd:"" help:"Check a registry, without a hub."`
	Apply  applyGatewayCmd  `cmd:"" help:"Make a file the registry of the gateway, on all nodes at once."`
	Diff   diffGatewayCmd   `cmd:"" help:"Show what applying a file would change. The exit code is 6 if anything would."`
	Show   showGatewayCmd   `cmd:"" help:"Print the registry as it was applied, without its secrets."`
	Routes gatewayRoutesCmd `cmd:"" help:"List the routes that a node serves, or those of a registry's file."`
	Import gatewayImportCmd `cmd:"" help:"Make a registry of an OpenAPI document."`
	Schema gatewaySchemaCmd `cmd:"" help:"Print the JSON Schema of the registry, for editors."`
	Usage  gatewayUsageCmd  `cmd:"" help:"Show who calls which version, over all nodes."`
}

// registryFlags are shared by the commands that take the file of a registry.
type registryFlags struct {
	hubFlags
	File string `arg:"" help:"The registry in YAML, JSON or XML; - for standard input. Files that it names are relative to it; $${NAME} are variables of this command's environment."`
}

func (f *registryFlags) read(s Streams) (registry.Document, error) {
	return gateway.Ready(f.File, s.In, s.Env)
}

// appliedRegistry is what the hub answers to a registry.
type appliedRegistry struct {
	Hash    string   `json:"hash"`
	Index   uint64   `json:"index"`
	Changed bool     `json:"changed"`
	Secrets []string `json:"changed_secrets"`
}

// put sends a registry to the hub.
func putRegistry(ctx context.Context, hub *client.Client, doc registry.Document, dryRun bool, replaces string) (raw json.RawMessage, a appliedRegistry, err error) {
	body := map[string]any{"text": string(doc.Text), "files": doc.Files, "secrets": doc.Secrets}
	header := map[string]string{}
	if replaces != "" {
		header["If-Match"] = `"` + replaces + `"`
	}
	path := "/v1/gateway"
	if dryRun {
		path += "?" + url.Values{"dry_run": {"true"}}.Encode()
	}
	if raw, err = hub.CallWith(ctx, http.MethodPut, path, header, body, "hash", "changed"); err != nil {
		return nil, a, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, a, hub.Unexpected("/v1/gateway", err)
	}
	return raw, a, nil
}

type applyGatewayCmd struct {
	registryFlags
	DryRun   bool   `help:"Print what would change, without changing it. The exit code is 6 if anything would."`
	Replaces string `help:"Apply it only if the present registry has this hash, as gateway diff prints it." placeholder:"HASH"`
	JSON     bool   `name:"json" help:"Print the hub's answer as JSON."`
}

// Help is shown by --help below the flags.
func (c *applyGatewayCmd) Help() string {
	return `The registry replaces the present one as a whole, on all nodes at one place of the log; requests under way end on the one they began
with. One with mistakes is refused, and the present one goes on. The same registry again changes nothing. Values of ${NAME} and
${file:NAME} are encrypted before they are stored, and shown nowhere.

    quorumhub gateway diff gateway.yaml
    HR_KEY=... quorumhub gateway apply gateway.yaml`
}

func (c *applyGatewayCmd) Run(ctx context.Context, s Streams) error {
	doc, err := c.read(s)
	if err != nil {
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	if c.DryRun {
		return diffRegistry(ctx, s, hub, doc, c.Replaces, c.JSON)
	}
	raw, a, err := putRegistry(ctx, hub, doc, false, c.Replaces)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, raw)
	}
	words := fmt.Sprintf("applied %s at entry %d", shortHash(a.Hash), a.Index)
	if !a.Changed {
		words = fmt.Sprintf("nothing to change: the hub has %s", shortHash(a.Hash))
	}
	_, err = fmt.Fprintln(s.Out, words)
	return err
}

// shortHash returns as much of a hash as people compare.
func shortHash(hash string) string {
	const enough = 12
	return terminal.OneLine(hash[:min(len(hash), enough)])
}

type diffGatewayCmd struct {
	registryFlags
	JSON bool `name:"json" help:"Print JSON: {\"hash\": ..., \"changes\": [...]}."`
}

func (c *diffGatewayCmd) Run(ctx context.Context, s Streams) error {
	doc, err := c.read(s)
	if err != nil {
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	return diffRegistry(ctx, s, hub, doc, "", c.JSON)
}

// diffRegistry prints what applying a registry would change.
func diffRegistry(ctx context.Context, s Streams, hub *client.Client, doc registry.Document, replaces string, asJSON bool) error {
	have, hash, err := presentRegistry(ctx, hub)
	if err != nil {
		return err
	}
	_, a, err := putRegistry(ctx, hub, doc, true, replaces)
	if err != nil {
		return err
	}
	if !a.Changed {
		if asJSON {
			return writeJSON(s.Out, map[string]any{"hash": hash, "changes": []registry.Change{}})
		}
		_, err := fmt.Fprintln(s.Out, "nothing to change")
		return err
	}
	changes, err := registry.Diff(have, doc, a.Secrets)
	if err != nil {
		return err
	}
	if asJSON {
		if err := writeJSON(s.Out, map[string]any{"hash": hash, "changes": append([]registry.Change{}, changes...)}); err != nil {
			return err
		}
		return exit.With(exit.Differs, errors.New(""))
	}
	for _, ch := range changes {
		fmt.Fprintln(s.Out, terminal.OneLine(ch.String()))
	}
	if len(changes) == 0 {
		fmt.Fprintln(s.Out, "only comments, order or spelling differ")
	}
	if hash != "" {
		fmt.Fprintf(s.Err, "note: the hub has %s; apply --replaces %s refuses if somebody changes it meanwhile\n", shortHash(hash), terminal.OneLine(hash))
	}
	return exit.With(exit.Differs, errors.New("")) // the changes were printed
}

// presentRegistry returns the registry of the hub; it is empty if there is none.
func presentRegistry(ctx context.Context, hub *client.Client) (doc registry.Document, hash string, err error) {
	raw, err := hub.Call(ctx, http.MethodGet, "/v1/gateway/document", nil, "hash", "text")
	if client.NotFound(err) {
		return doc, "", nil
	}
	if err != nil {
		return doc, "", err
	}
	var in struct {
		Hash, Text string
		Files      map[string][]byte
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return doc, "", hub.Unexpected("/v1/gateway/document", err)
	}
	return registry.Document{Text: []byte(in.Text), Files: in.Files}, in.Hash, nil
}

type showGatewayCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print the registry with its files and the names of its secrets as JSON."`
}

func (c *showGatewayCmd) Run(ctx context.Context, s Streams) error {
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodGet, "/v1/gateway/document", nil, func(raw json.RawMessage) (string, error) {
		var doc struct{ Text string }
		err := json.Unmarshal(raw, &doc)
		return strings.TrimRight(terminal.Printable(doc.Text), "\n"), err
	}, "hash", "text")
}

type gatewayUsageCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

// Help is shown by --help below the flags.
func (c *gatewayUsageCmd) Help() string {
	return `Calls are counted since each node started, by consumer and version, for a bounded number of these; the rest are "other". It shows who
still calls a deprecated version.`
}

func (c *gatewayUsageCmd) Run(ctx context.Context, s Streams) error {
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	raw, err := hub.Call(ctx, http.MethodGet, "/v1/gateway/usage", nil, "items")
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, raw)
	}
	var out struct {
		Items []struct {
			Consumer, Service, Version string
			Requests, Failures         uint64
			LastAt                     string `json:"last_at"`
		}
		Missing []string
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return hub.Unexpected("/v1/gateway/usage", err)
	}
	table, now := s.table(), time.Now()
	table.Row("SERVICE\tVERSION\tCONSUMER\tREQUESTS\tFAILURES\tLAST CALL")
	for _, i := range out.Items {
		table.Row(fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%s", terminal.OneLine(i.Service), terminal.OneLine(i.Version), terminal.OneLine(i.Consumer), i.Requests, i.Failures,
			terminal.When(i.LastAt, now)))
	}
	if err := table.Write(s.Out); err != nil {
		return err
	}
	if len(out.Missing) > 0 {
		fmt.Fprintln(s.Err, "warning: not counted, because they do not answer: "+terminal.OneLine(strings.Join(out.Missing, ", ")))
	}
	return nil
}
