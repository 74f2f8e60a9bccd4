package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"quorumhub/cli/gateway"
)

type gatewayCheckCmd struct {
	File string `arg:"" help:"The registry (YAML, JSON or XML); - reads standard input." placeholder:"FILE"`
}

func (c *gatewayCheckCmd) Run(s Streams) error {
	report, err := gateway.Check(c.File, s.In, s.Env)
	if err != nil {
		return err
	}
	if note := report.Note(); note != "" {
		fmt.Fprintf(s.Err, "note: %s\n", note)
	}
	_, err = fmt.Fprintf(s.Out, "the registry is valid: %s\n", report)
	return err
}

type gatewaySchemaCmd struct{}

func (c *gatewaySchemaCmd) Run(s Streams) error {
	_, err := s.Out.Write(gateway.Schema())
	return err
}

type gatewayRoutesCmd struct {
	hubFlags
	File string `arg:"" optional:"" help:"A registry (YAML, JSON or XML) in place of the hub's; - reads standard input." placeholder:"FILE"`
	explainFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *gatewayRoutesCmd) Run(ctx context.Context, s Streams) error {
	if c.asked() {
		return c.explain(ctx, s)
	}
	services, err := c.services(ctx, s)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, struct {
			Services []gateway.Service `json:"services"`
		}{services})
	}
	table := s.table()
	table.Row(gateway.RoutesHead)
	for _, row := range gateway.Routes(services) {
		table.Row(row)
	}
	if len(services) == 0 {
		fmt.Fprintln(s.Err, "note: there are no services; quorumhub gateway apply makes a file the registry of the hub")
	}
	return table.Write(s.Out)
}

func (c *gatewayRoutesCmd) services(ctx context.Context, s Streams) ([]gateway.Service, error) {
	if c.File == "" {
		return c.ask(ctx)
	}
	report, err := gateway.Check(c.File, s.In, s.Env)
	if err != nil {
		return nil, err
	}
	return report.Services, nil
}

// ask returns what the hub's node serves.
func (c *gatewayRoutesCmd) ask(ctx context.Context) ([]gateway.Service, error) {
	hub, err := c.client()
	if err != nil {
		return nil, err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, http.MethodGet, "/v1/gateway", nil, "services")
	if err != nil {
		return nil, err
	}
	var serving struct {
		Services []gateway.Service `json:"services"`
	}
	if err := json.Unmarshal(answer, &serving); err != nil {
		return nil, hub.Unexpected("", err)
	}
	return serving.Services, nil
}
