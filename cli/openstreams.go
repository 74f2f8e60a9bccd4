package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"quorumhub/cli/terminal"
)

// streamsCmd groups the commands for open event streams.
type streamsCmd struct {
	List listStreamsCmd `cmd:"" default:"withargs" help:"List the event streams that are open at the node of --hub (the default)."`
	End  endStreamCmd   `cmd:"" help:"End an event stream at the node of --hub. Its reader may come back as long as it may read the topic."`
}

type listStreamsCmd struct {
	hubFlags
	Topic string `help:"Only those of this topic, by name or URL." placeholder:"TOPIC"`
	JSON  bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *listStreamsCmd) Run(ctx context.Context, s Streams) error {
	query := url.Values{}
	if c.Topic != "" {
		query.Set("topic", c.Topic)
	}
	now := time.Now()
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/streams", query, "ID\tTOPIC\tSINCE\tOWNER\tREADER\tNODE",
		func(st struct{ ID, Topic, Since, Owner, Address, Node string }) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", terminal.OneLine(st.ID), terminal.OneLine(st.Topic), terminal.When(st.Since, now),
				terminal.OrDash(st.Owner), terminal.OrDash(st.Address), terminal.OneLine(st.Node))
		})
}

type endStreamCmd struct {
	hubFlags
	ID string `arg:"" help:"The stream's ID."`
}

func (c *endStreamCmd) Run(ctx context.Context, s Streams) error {
	return callHub(ctx, s, &c.hubFlags, false, http.MethodDelete, "/v1/streams/"+url.PathEscape(c.ID), nil,
		func(json.RawMessage) (string, error) { return terminal.OneLine(c.ID) + " ended", nil })
}
