package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
)

// callHub sends one request to the admin API and prints the response, as JSON ({} if empty) or as the text that words makes of it. want
// lists the members that the response must have.
func callHub(ctx context.Context, s Streams, flags *hubFlags, asJSON bool, method, path string, body any, words func(json.RawMessage) (string, error), want ...string) error {
	hub, err := flags.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, method, path, body, want...)
	if err != nil {
		return err
	}
	if asJSON {
		if len(answer) == 0 {
			answer = json.RawMessage("{}")
		}
		return writeJSON(s.Out, answer)
	}
	text, err := words(answer)
	if err != nil {
		return hub.Unexpected("", err)
	}
	_, err = fmt.Fprintln(s.Out, text)
	return err
}

// listItems prints a list of the admin API: as a table with the columns of row, or as JSON with the items unchanged.
func listItems[T any](ctx context.Context, s Streams, flags hubFlags, asJSON bool, path string, query url.Values, head string, row func(T) string) error {
	hub, err := flags.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	items, err := hub.List(ctx, path, query)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(s.Out, struct {
			Items []json.RawMessage `json:"items"`
		}{items})
	}
	table := s.table()
	table.Row(head)
	for _, raw := range items {
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return hub.Unexpected(path, err)
		}
		table.Row(row(item))
	}
	return table.Write(s.Out)
}
