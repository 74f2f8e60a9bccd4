package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// shownDigits is how much of a session's ID lists show. It is enough to end one.
const shownDigits = 12

type sessionsCmd struct {
	hubFlags
	Principal     string `help:"Only those of this principal." placeholder:"PRINCIPAL"`
	Authenticator string `help:"Only those that have passed this identity provider or other authenticator." placeholder:"NAME"`
	JSON          bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *sessionsCmd) Run(ctx context.Context, s Streams) error {
	query := url.Values{}
	for name, value := range map[string]string{"principal": c.Principal, "authenticator": c.Authenticator} {
		if value != "" {
			query.Set(name, value)
		}
	}
	now := time.Now()
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/auth/sessions", query, "ID\tPRINCIPAL\tNAME\tBY\tWITH\tSTARTED\tENDS",
		func(i struct {
			ID        string `json:"id"`
			Principal string `json:"principal"`
			Name      string `json:"name"`
			Client    string `json:"client"`
			StartedAt string `json:"started_at"`
			EndsAt    string `json:"ends_at"`
			Passed    []struct {
				Authenticator string `json:"authenticator"`
			} `json:"passed"`
		}) string {
			var by []string
			for _, p := range i.Passed {
				by = append(by, p.Authenticator)
			}
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", terminal.OneLine(i.ID[:min(len(i.ID), shownDigits)]), terminal.OneLine(i.Principal), terminal.OrDash(i.Name),
				terminal.OrDash(strings.Join(by, ", ")), terminal.OrDash(i.Client), terminal.When(i.StartedAt, now), terminal.When(i.EndsAt, now))
		})
}

type endSessionCmd struct {
	hubFlags
	IDs           []string `arg:"" optional:"" name:"ID" help:"The sessions, by the first 12 digits of their IDs or more."`
	Principal     string   `help:"All sessions of this principal." placeholder:"PRINCIPAL"`
	Authenticator string   `help:"All sessions that have passed this identity provider or other authenticator." placeholder:"NAME"`
	All           bool     `help:"All sessions of everybody."`
}

func (c *endSessionCmd) Run(ctx context.Context, s Streams) error {
	body := map[string]any{}
	switch {
	case c.All:
		body["all"] = true
	case c.Authenticator != "":
		body["authenticator"] = c.Authenticator
	case c.Principal != "":
		body["principal"] = c.Principal
	}
	given := len(c.IDs)
	for _, is := range []bool{c.All, c.Authenticator != "", c.Principal != ""} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return exit.Usagef("which sessions? expected IDs, --principal, --authenticator or --all")
	case len(c.IDs) != given && given > 1:
		return exit.Usagef("IDs, --principal, --authenticator and --all exclude each other; expected one kind of them")
	}
	if len(body) > 0 {
		return callHub(ctx, s, &c.hubFlags, false, http.MethodPost, "/v1/auth/sessions/end", body, func(raw json.RawMessage) (string, error) {
			var out struct {
				Ended int `json:"sessions_ended"`
			}
			err := json.Unmarshal(raw, &out)
			return fmt.Sprintf("%d sessions ended", out.Ended), err
		}, "sessions_ended")
	}
	for _, id := range c.IDs {
		if err := callHub(ctx, s, &c.hubFlags, false, http.MethodDelete, "/v1/auth/sessions/"+url.PathEscape(id), nil,
			func(json.RawMessage) (string, error) { return terminal.OneLine(id) + " ended", nil }); err != nil {
			return err
		}
	}
	return nil
}
