package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// explainFlags ask what the gateway's stages do.
type explainFlags struct {
	Explain string `help:"Explain what the gateway does with the requests of this route: a service's name or a URI without the prefix." placeholder:"ROUTE"`
	Version string `help:"The version to explain; default: the service's." placeholder:"VERSION"`
	Request string `help:"Explain what the gateway would make of the request in this file (request line, headers, empty line, body), calling nothing; - for standard input." placeholder:"FILE"`
}

// asked reports whether routes are to be explained rather than listed.
func (f *explainFlags) asked() bool { return f.Explain != "" || f.Request != "" }

// maxRequestFile bounds the request to explain, in bytes.
const maxRequestFile = 512 << 10

func (c *gatewayRoutesCmd) explain(ctx context.Context, s Streams) error {
	if c.File != "" {
		return exit.Usagef("--explain and --request ask a running hub; expected no FILE")
	}
	body := map[string]string{"route": c.Explain, "version": c.Version}
	if c.Request != "" {
		text, err := readRequestFile(s, c.Request)
		if err != nil {
			return err
		}
		body = map[string]string{"request": text}
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	raw, err := hub.Call(ctx, http.MethodPost, "/v1/gateway/explain", body, "steps")
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, raw)
	}
	var out struct {
		Service, Version, Code string
		Status                 int
		Steps                  []struct{ Stage, Does, Outcome string }
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return hub.Unexpected("", err)
	}
	table := s.table()
	table.Row("STAGE\tDOES\tOUTCOME")
	for _, step := range out.Steps {
		table.Row(fmt.Sprintf("%s\t%s\t%s", terminal.OneLine(step.Stage), terminal.OneLine(cmp.Or(step.Does, "-")), terminal.OneLine(cmp.Or(step.Outcome, "-"))))
	}
	if err := table.Write(s.Out); err != nil {
		return err
	}
	if out.Status != 0 {
		_, err = fmt.Fprintf(s.Out, "status %d %s\n", out.Status, terminal.OneLine(out.Code))
	}
	return err
}

func readRequestFile(s Streams, name string) (string, error) {
	in := s.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", exit.Usagef("--request: %w", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxRequestFile+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read the request: %w", err)
	case len(text) > maxRequestFile:
		return "", exit.Usagef("--request: %s is larger than %d bytes", name, maxRequestFile)
	}
	return string(text), nil
}
