package cli

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"quorumhub/cli/terminal"
)

type eventsCmd struct {
	hubFlags
	After string `help:"Only those after this event, by ID." placeholder:"ID"`
	JSON  bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

// Help is shown by --help below the flags.
func (c *eventsCmd) Help() string {
	return `With admin.view all events are listed, otherwise those about your own subscriptions. The hub keeps them from the moment
at which hub.events is registered or first subscribed to. To follow all of them: quorumhub listen --topic hub.events`
}

func (c *eventsCmd) Run(ctx context.Context, s Streams) error {
	query := url.Values{}
	if c.After != "" {
		query.Set("cursor", c.After)
	}
	now := time.Now()
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/events", query, "ID\tWHEN\tEVENT\tSUBSCRIPTION\tTOPIC\tCALLBACK\tWHY",
		func(e struct{ ID, Type, Time, Subscription, Topic, Callback, Reason string }) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", terminal.OneLine(e.ID), terminal.When(e.Time, now), terminal.OneLine(e.Type),
				terminal.OrDash(e.Subscription), terminal.OrDash(e.Topic), terminal.OrDash(e.Callback), terminal.OrDash(e.Reason))
		})
}
