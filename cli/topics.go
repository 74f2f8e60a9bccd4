package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"text/tabwriter"
)

type topicsCmd struct {
	hubFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *topicsCmd) Run(ctx context.Context, s Streams) error {
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/topics", nil,
		"TOPIC\tMESSAGES\tFIRST\tHEAD\tSUBSCRIPTIONS",
		func(t struct {
			Name          string `json:"name"`
			HeadOffset    uint64 `json:"head_offset"`
			FirstOffset   uint64 `json:"first_offset"`
			Subscriptions int    `json:"subscriptions"`
		}) string {
			kept := uint64(0)
			if t.FirstOffset > 0 && t.HeadOffset >= t.FirstOffset {
				kept = t.HeadOffset - t.FirstOffset + 1
			}
			return fmt.Sprintf("%s\t%d\t%d\t%d\t%d", oneLine(t.Name), kept, t.FirstOffset, t.HeadOffset, t.Subscriptions)
		})
}

type subscriptionsCmd struct {
	hubFlags
	Topic    string `help:"Only those of this topic: a URL, or the name of a topic that the hub hosts." placeholder:"TOPIC"`
	Callback string `help:"Only those of this callback." placeholder:"URL"`
	JSON     bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *subscriptionsCmd) Run(ctx context.Context, s Streams) error {
	query := url.Values{}
	if c.Topic != "" {
		query.Set("topic", c.Topic)
	}
	if c.Callback != "" {
		query.Set("callback", c.Callback)
	}
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/subscriptions", query,
		"ID\tSTATE\tTOPIC\tCALLBACK\tNODE\tCURSOR\tLAG\tLEASE ENDS",
		func(sub subscriptionItem) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s", oneLine(sub.ID), oneLine(sub.State), oneLine(sub.Topic), oneLine(sub.Callback),
				orDash(sub.Node), sub.Cursor, sub.Lag, orDash(sub.LeaseExpiresAt))
		})
}

// subscriptionItem is a subscription as the admin API lists it.
type subscriptionItem struct {
	ID             string `json:"id"`
	Topic          string `json:"topic"`
	Callback       string `json:"callback"`
	State          string `json:"state"`
	Node           string `json:"node"`
	LeaseExpiresAt string `json:"lease_expires_at"`
	Cursor         uint64 `json:"cursor"`
	Lag            uint64 `json:"lag"`
	Mode           string `json:"mode"`
}

// listItems prints a list of the admin API: a table of the fields that row picks, or as JSON the items as they came.
func listItems[T any](ctx context.Context, s Streams, flags hubFlags, asJSON bool, path string, query url.Values, head string, row func(T) string) error {
	hub, err := flags.client()
	if err != nil {
		return err
	}
	defer hub.close()
	items, err := hub.list(ctx, path, query)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(s.Out, struct {
			Items []json.RawMessage `json:"items"`
		}{items})
	}
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, head)
	for _, raw := range items {
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return fmt.Errorf("an item of %s%s is not what a hub says: %w", hub.base, path, err)
		}
		fmt.Fprintln(table, row(item))
	}
	return table.Flush()
}
