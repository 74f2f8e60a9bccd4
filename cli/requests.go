package cli

import (
	"context"
	"fmt"
	"net/url"

	"quorumhub/cli/client"
	"quorumhub/cli/terminal"
)

type requestsCmd struct {
	hubFlags
	Topic    string `help:"Only those about this topic: a URL, or the name of a hosted topic." placeholder:"TOPIC"`
	Callback string `help:"Only those about this callback." placeholder:"URL"`
	State    string `help:"Only those that are pending or failed." enum:",pending,failed" default:"" placeholder:"STATE"`
	Mine     bool   `help:"Only your own. This is the default without admin.view."`
	JSON     bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *requestsCmd) Run(ctx context.Context, s Streams) error {
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
