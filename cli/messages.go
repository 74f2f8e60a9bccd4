package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// messagesCmd groups the commands for messages.
type messagesCmd struct {
	List listMessagesCmd `cmd:"" default:"withargs" help:"List the messages of a topic, the newest first (the default)."`
	Show showMessageCmd  `cmd:"" help:"Show what has become of a message: to whom it was delivered, each attempt, and who still waits for it."`
}

// messageItem is a message as the admin API shows it.
type messageItem struct {
	ID          string `json:"id"`
	Topic       string `json:"topic"`
	PublishedAt string `json:"published_at"`
	ContentType string `json:"content_type"`
	Size        int64  `json:"size"`
	Publisher   string `json:"publisher"`
}

type listMessagesCmd struct {
	hubFlags
	Topic string `required:"" help:"The topic: a URL, or the name of a hosted topic." placeholder:"TOPIC"`
	Key   string `help:"Only what was published under this Idempotency-Key, as long as it is remembered." placeholder:"KEY"`
	Since string `help:"Published at or after this time, or within this duration: 2026-01-31T12:00:00Z, 1h." placeholder:"TIME"`
	Until string `help:"Published before this time, or longer ago than this duration." placeholder:"TIME"`
	Limit int    `help:"At most this many." default:"100" placeholder:"N"`
	JSON  bool   `name:"json" help:"Print JSON: {\"items\": [...], \"next\": ...}."`
}

func (c *listMessagesCmd) Run(ctx context.Context, s Streams) error {
	times := letterFilterFlags{Since: c.Since, Until: c.Until}
	query, err := times.query()
	if err != nil {
		return err
	}
	if c.Limit < 1 || c.Limit > 1000 {
		return exit.Usagef("--limit: got %d, expected 1 to 1000", c.Limit)
	}
	query.Set("topic", c.Topic)
	query.Set("limit", fmt.Sprint(c.Limit))
	if c.Key != "" {
		query.Set("idempotency_key", c.Key)
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, http.MethodGet, "/v1/messages?"+query.Encode(), nil, "items")
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, answer)
	}
	var page struct {
		Items []messageItem `json:"items"`
		Next  string        `json:"next"`
	}
	if err := json.Unmarshal(answer, &page); err != nil {
		return hub.Unexpected("/v1/messages", err)
	}
	now := time.Now()
	table := s.table()
	table.Row("ID\tPUBLISHED\tCONTENT TYPE\tSIZE\tPUBLISHER")
	for _, m := range page.Items {
		table.Row(fmt.Sprintf("%s\t%s\t%s\t%s\t%s", terminal.OneLine(m.ID), terminal.When(m.PublishedAt, now), terminal.OneLine(m.ContentType), terminal.Bytes(m.Size), terminal.OrDash(m.Publisher)))
	}
	if err := table.Write(s.Out); err != nil || page.Next == "" {
		return err
	}
	_, err = fmt.Fprintf(s.Err, "There are older ones; see --limit and --until.\n")
	return err
}

type showMessageCmd struct {
	hubFlags
	ID   string `arg:"" help:"The message's ID, such as 3-17: what X-Hub-Message-Id says."`
	JSON bool   `name:"json" help:"Print JSON: {\"id\": ..., \"deliveries\": [...]}."`
}

// messageDelivery is what has become of a message with regard to one subscription.
type messageDelivery struct {
	Subscription string    `json:"subscription"`
	Callback     string    `json:"callback"`
	State        string    `json:"state"`
	DeadLetter   string    `json:"dead_letter"`
	Attempts     []sendTry `json:"attempts"`
	Unknown      string    `json:"attempts_unknown"`
}

func (c *showMessageCmd) Run(ctx context.Context, s Streams) error {
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	path := "/v1/messages/" + url.PathEscape(c.ID)
	var way struct {
		messageItem
		Deliveries []messageDelivery `json:"deliveries"`
		Next       string            `json:"next"`
	}
	var raw map[string]any
	all := []messageDelivery{}
	rawAll := []any{}
	for cursor := ""; ; cursor = way.Next {
		answer, err := hub.Call(ctx, http.MethodGet, path+"?limit=100&cursor="+url.QueryEscape(cursor), nil, "id", "deliveries")
		if err != nil {
			return err
		}
		way.Deliveries = nil
		err = json.Unmarshal(answer, &way)
		if err == nil {
			err = json.Unmarshal(answer, &raw)
		}
		if err != nil {
			return hub.Unexpected(path, err)
		}
		all = append(all, way.Deliveries...)
		if more, ok := raw["deliveries"].([]any); ok {
			rawAll = append(rawAll, more...)
		}
		if way.Next == "" {
			break
		}
	}
	if c.JSON {
		raw["deliveries"] = rawAll
		return writeJSON(s.Out, raw)
	}
	now := time.Now()
	fmt.Fprintf(s.Out, "message %s of %s, committed %s, %s of %s\n\n", terminal.OneLine(way.ID), terminal.OneLine(way.Topic), terminal.When(way.PublishedAt, now),
		terminal.Bytes(way.Size), terminal.OneLine(way.ContentType))
	table := s.table()
	table.Row("SUBSCRIPTION\tCALLBACK\tSTATE\tATTEMPT\tKIND\tRESPONSE\tLATENCY")
	for _, d := range all {
		state := terminal.OneLine(d.State)
		if d.DeadLetter != "" {
			state += " " + terminal.OneLine(d.DeadLetter)
		}
		if d.Unknown != "" {
			state += " (" + terminal.OneLine(d.Unknown) + ")"
		}
		who := terminal.OneLine(d.Subscription) + "\t" + terminal.OneLine(d.Callback) + "\t" + state
		if len(d.Attempts) == 0 {
			table.Row(who + "\t-\t-\t-\t-")
		}
		for _, a := range d.Attempts {
			table.Row(fmt.Sprintf("%s\t%s\t%s\t%s\t%s", who, terminal.When(a.At, now), terminal.OrDash(a.Kind), outcome(a.Status, a.Reason), latency(a.Latency)))
			who = "\t\t"
		}
	}
	return table.Write(s.Out)
}
