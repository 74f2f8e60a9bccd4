package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// callbacksCmd groups the commands for the headers and credentials of callbacks.
type callbacksCmd struct {
	List   listCallbacksCmd  `cmd:"" default:"withargs" help:"List the callbacks that have headers or credentials, without their values (the default)."`
	Set    setCallbackCmd    `cmd:"" help:"Set the headers and credentials that the hub sends to callbacks, or replace them."`
	Remove removeCallbackCmd `cmd:"" help:"Remove the headers and credentials of a callback."`
}

type listCallbacksCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

// Run lists the patterns.
func (c *listCallbacksCmd) Run(ctx context.Context, s Streams) error {
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/callback-credentials", nil, "CALLBACK\tCREDENTIALS\tHEADERS\tSET AT\tSET BY",
		func(i struct {
			Callback string   `json:"callback"`
			Kind     string   `json:"kind"`
			Headers  []string `json:"headers"`
			SetAt    string   `json:"set_at"`
			SetBy    string   `json:"set_by"`
		}) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", terminal.OneLine(i.Callback), terminal.OrDash(i.Kind), terminal.OrDash(strings.Join(i.Headers, " ")),
				terminal.OrDash(i.SetAt), terminal.OrDash(i.SetBy))
		})
}

type setCallbackCmd struct {
	hubFlags
	Callback string `arg:"" help:"The URL of a callback, or a host: hooks.example.org, *.example.org or hooks.example.org:8443."`
	File     string `required:"" help:"A JSON file with headers and one of basic, bearer and oauth2; - for standard input." placeholder:"FILE"`
}

// Help shows the file's format.
func (c *setCallbackCmd) Help() string {
	return `Examples of FILE:

  {"headers": {"X-Api-Key": "..."}}
  {"basic": {"user": "hub", "password": "..."}}
  {"bearer": "..."}
  {"oauth2": {"token_url": "https://idp.example.org/token", "client_id": "hub", "client_secret": "...", "scope": "deliver"}}

They are encrypted with the sealing key before they are stored, and shown nowhere. They are sent with verifications and deliveries.`
}

// Run sets the credentials.
func (c *setCallbackCmd) Run(ctx context.Context, s Streams) error {
	var text []byte
	var err error
	if c.File == "-" {
		text, err = io.ReadAll(io.LimitReader(s.In, maxInputBytes))
	} else {
		text, err = os.ReadFile(c.File)
	}
	if err != nil {
		return exit.Usagef("--file: %v", err)
	}
	body := map[string]any{}
	if err := json.Unmarshal(text, &body); err != nil {
		return exit.Usagef("--file: is not a JSON object; expected one such as {\"headers\": {\"X-Api-Key\": \"...\"}}")
	}
	body["callback"] = c.Callback
	return callHub(ctx, s, &c.hubFlags, false, http.MethodPut, "/v1/callback-credentials", body, func(raw json.RawMessage) (string, error) {
		var made struct{ Callback string }
		err := json.Unmarshal(raw, &made)
		return terminal.OneLine(made.Callback) + " set", err
	}, "callback")
}

type removeCallbackCmd struct {
	hubFlags
	Callback string `arg:"" help:"The callback as listed."`
}

// Run removes the credentials.
func (c *removeCallbackCmd) Run(ctx context.Context, s Streams) error {
	return callHub(ctx, s, &c.hubFlags, false, http.MethodDelete, "/v1/callback-credentials?callback="+url.QueryEscape(c.Callback), nil,
		func(json.RawMessage) (string, error) { return terminal.OneLine(c.Callback) + " removed", nil })
}
