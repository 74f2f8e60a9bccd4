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
