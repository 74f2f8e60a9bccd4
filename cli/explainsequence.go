package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// sequence explains what a service provider's sequence makes of credentials.
func (c *explainCmd) sequence(ctx context.Context, s Streams) error {
	body := map[string]any{"service_provider": c.Provider}
	if c.Browser {
		body["browser"] = true
	}
	if c.Request != "" {
		var text []byte
		var err error
		if c.Request == "-" {
			text, err = io.ReadAll(io.LimitReader(s.In, maxInputBytes))
		} else {
			text, err = os.ReadFile(c.Request)
		}
		if err != nil {
			return exit.Usagef("%v", err)
		}
		body["request"] = string(text)
	}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodPost, "/v1/auth/explain", body, func(raw json.RawMessage) (string, error) {
		var out struct {
			Status    string
			Reason    string
			Principal struct{ Principal string }
			Steps     []struct {
				Step                                    int
				Strategy, Authenticator, Status, Reason string
			}
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			return "", err
		}
		var b strings.Builder
		verdict := out.Status
		switch {
		case out.Principal.Principal != "":
			verdict += " as " + out.Principal.Principal
		case out.Reason != "":
			verdict += ": " + out.Reason
		}
		fmt.Fprintln(&b, terminal.OneLine(verdict))
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "STEP\tSTRATEGY\tAUTHENTICATOR\tSTATUS\tREASON")
		for _, t := range out.Steps {
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", t.Step, terminal.OneLine(t.Strategy), terminal.OneLine(t.Authenticator), terminal.OneLine(t.Status), terminal.OneLine(t.Reason))
		}
		err := table.Flush()
		return strings.TrimRight(b.String(), "\n"), err
	}, "status")
}
