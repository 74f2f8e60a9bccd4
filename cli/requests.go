package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// requestsCmd groups the commands for subscribe and unsubscribe requests.
type requestsCmd struct {
	List listRequestsCmd `cmd:"" default:"withargs" help:"List the requests that await confirmation or failed within the last hour, and why (the default)."`
	Ask  askAgainCmd     `cmd:"" help:"Make a request once more, as it was made: its callback is asked for confirmation at once."`
}

type askAgainCmd struct {
	hubFlags
	ID   string `arg:"" help:"The ID of a request that is pending, or failed within the last hour, such as r-17."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *askAgainCmd) Run(ctx context.Context, s Streams) error {
	if !strings.HasPrefix(c.ID, "r-") {
		return exit.Usagef("ID: got %q, expected the ID of a request such as r-17", c.ID)
	}
	return callHub(ctx, s, &c.hubFlags, c.JSON, http.MethodPost, "/v1/requests/"+url.PathEscape(c.ID)+"/ask", nil, func(answer json.RawMessage) (string, error) {
		var a struct {
			ID string `json:"id"`
		}
		err := json.Unmarshal(answer, &a)
		return fmt.Sprintf("%s is asked again as %s; quorumhub requests shows what becomes of it", c.ID, terminal.OneLine(a.ID)), err
	}, "id")
}

type listRequestsCmd struct {
	hubFlags
	Topic    string `help:"Only those about this topic: a URL, or the name of a hosted topic." placeholder:"TOPIC"`
	Callback string `help:"Only those about this callback." placeholder:"URL"`
	State    string `help:"Only those that are pending or failed." enum:",pending,failed" default:"" placeholder:"STATE"`
	Mine     bool   `help:"Only your own. This is the default without admin.view."`
	JSON     bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *listRequestsCmd) Run(ctx context.Context, s Streams) error {
	query := url.Values{}
	for name, value := range map[string]string{"topic": c.Topic, "callback": c.Callback, "state": c.State} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if c.Mine {
		query.Set("mine", "true")
	}
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/requests", query, "ID\tMODE\tTOPIC\tCALLBACK\tSTATE\tWHY\tREQUESTED",
		func(r client.Request) string {
			why := ""
			if r.State == "failed" {
				why = r.Why()
			}
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", terminal.OneLine(r.ID), terminal.OneLine(r.Mode), terminal.OneLine(r.Topic), terminal.OneLine(r.Callback),
				terminal.OneLine(r.State), terminal.OrDash(why), terminal.OrDash(r.RequestedAt))
		})
}
