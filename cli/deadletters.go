package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// deadLettersCmd groups the commands for dead letters.
type deadLettersCmd struct {
	List   listLettersCmd   `cmd:"" default:"withargs" help:"List the dead letters (the default)."`
	Show   showLetterCmd    `cmd:"" help:"Show one dead letter with its content and all attempts."`
	Replay replayLettersCmd `cmd:"" help:"Send dead letters to their subscriptions once more. Those acknowledged are removed, the others stay."`
	Drop   dropLettersCmd   `cmd:"" help:"Delete dead letters."`
	Export exportLettersCmd `cmd:"" help:"Print dead letters with their content, one JSON object per line."`
}

// letterFilterFlags select dead letters.
type letterFilterFlags struct {
	Topic        string `help:"Only those of this topic: a URL, or the name of a hosted topic." placeholder:"TOPIC"`
	Callback     string `help:"Only those of this callback." placeholder:"URL"`
	Subscription string `help:"Only those of this subscription." placeholder:"ID"`
	Status       string `help:"Only those with this last HTTP status: 404, a class such as 5xx, or none." placeholder:"STATUS"`
	Reason       string `help:"Only those with this class of last failure, such as http-status or timeout." placeholder:"CLASS"`
	Since        string `help:"Only those given up at or after this time, or within this duration: 2026-01-31T12:00:00Z, 1h." placeholder:"TIME"`
	Until        string `help:"Only those given up before this time, or longer ago than this duration." placeholder:"TIME"`
}

// values returns the filters that are set, by their names in the API.
func (f *letterFilterFlags) values(now time.Time) (map[string]string, error) {
	out := map[string]string{}
	for name, v := range map[string]string{"topic": f.Topic, "callback": f.Callback, "subscription": f.Subscription, "status": f.Status, "reason": f.Reason} {
		if v != "" {
			out[name] = v
		}
	}
	for name, v := range map[string]string{"since": f.Since, "until": f.Until} {
		if v == "" {
			continue
		}
		var ago flagDuration
		if err := ago.UnmarshalText([]byte(v)); err == nil {
			out[name] = now.Add(-time.Duration(ago)).UTC().Format(time.RFC3339Nano)
		} else if _, err := time.Parse(time.RFC3339, v); err == nil {
			out[name] = v
		} else {
			return nil, exit.Usagef("--%s: got %q, expected a time such as 2026-01-31T12:00:00Z or a duration such as 1h", name, v)
		}
	}
	return out, nil
}

func (f *letterFilterFlags) query() (url.Values, error) {
	values, err := f.values(time.Now())
	query := url.Values{}
	for name, v := range values {
		query.Set(name, v)
	}
	return query, err
}

// letterItem is a dead letter as the admin API lists it.
type letterItem struct {
	ID           string `json:"id"`
	Subscription string `json:"subscription"`
	Topic        string `json:"topic"`
	Callback     string `json:"callback"`
	MessageID    string `json:"message_id"`
	Attempts     uint32 `json:"attempts"`
	Status       int    `json:"status"`
	Reason       string `json:"reason"`
	At           string `json:"at"`
	PublishedAt  string `json:"published_at"`
	ContentType  string `json:"content_type"`
	Size         uint64 `json:"size"`
	Replaying    string `json:"replaying_since"`
}

// outcome is the result of an attempt in a table.
func outcome(status int, reason string) string {
	switch {
	case status != 0:
		return fmt.Sprint(status)
	case reason == "":
		return "-"
	}
	return terminal.OneLine(reason)
}

type listLettersCmd struct {
	hubFlags
	letterFilterFlags
	JSON bool `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *listLettersCmd) Run(ctx context.Context, s Streams) error {
	query, err := c.query()
	if err != nil {
		return err
	}
	now := time.Now()
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/dead-letters", query,
		"ID\tGIVEN UP\tTOPIC\tSUBSCRIPTION\tCALLBACK\tMESSAGE ID\tATTEMPTS\tLAST RESPONSE\tSIZE",
		func(d letterItem) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s", terminal.OneLine(d.ID), terminal.When(d.At, now), terminal.OneLine(d.Topic), terminal.OneLine(d.Subscription),
				terminal.OneLine(d.Callback), terminal.OneLine(d.MessageID), d.Attempts, outcome(d.Status, d.Reason), terminal.Bytes(int64(d.Size)))
		})
}

type showLetterCmd struct {
	hubFlags
	ID   string `arg:"" help:"The dead letter's ID, such as d-17."`
	Full bool   `help:"Print the whole body."`
	JSON bool   `name:"json" help:"Print JSON, with the whole body."`
}

// attemptLine is an attempt as the admin API shows it.
type attemptLine struct {
	At      string  `json:"at"`
	Status  int     `json:"status"`
	Latency float64 `json:"latency_ms"`
	Reason  string  `json:"reason"`
	Node    string  `json:"node"`
}

func letterPath(id string) (string, error) {
	if !strings.HasPrefix(id, "d-") {
		return "", exit.Usagef("ID: got %q, expected the ID of a dead letter such as d-17", id)
	}
	return "/v1/dead-letters/" + url.PathEscape(id), nil
}

func (c *showLetterCmd) Run(ctx context.Context, s Streams) error {
	path, err := letterPath(c.ID)
	if err != nil {
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, http.MethodGet, path, nil, "id")
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, answer)
	}
	var d struct {
		letterItem
		Active     bool              `json:"subscription_active"`
		Tries      []attemptLine     `json:"tries"`
		Headers    map[string]string `json:"headers"`
		Body       string            `json:"body"`
		BodyBase64 string            `json:"body_base64"`
	}
	if err := json.Unmarshal(answer, &d); err != nil {
		return hub.Unexpected(path, err)
	}
	body := []byte(d.Body)
	if d.BodyBase64 != "" {
		if body, err = base64.StdEncoding.DecodeString(d.BodyBase64); err != nil {
			return hub.Unexpected(path, err)
		}
	}
	now, state := time.Now(), "active"
	if !d.Active {
		state = "ended"
	}
	fmt.Fprintf(s.Out, "%s  message %s of %s, published %s\ngiven up %s for %s (%s), %s, after %d attempts\n", terminal.OneLine(d.ID), terminal.OneLine(d.MessageID),
		terminal.OneLine(d.Topic), terminal.When(d.PublishedAt, now), terminal.When(d.At, now), terminal.OneLine(d.Subscription), state, terminal.OneLine(d.Callback), d.Attempts)
	if d.Replaying != "" {
		fmt.Fprintf(s.Out, "waiting for replay since %s\n", terminal.When(d.Replaying, now))
	}
	fmt.Fprintln(s.Out)
	if err := writeAttempts(s, d.Tries, now); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "\nContent-Type: %s\nLink: %s\n%s:\n%s\n", terminal.OrDash(d.Headers["Content-Type"]), terminal.OrDash(d.Headers["Link"]),
		terminal.Bytes(int64(len(body))), bodyText(body, c.Full))
	return err
}

func writeAttempts(s Streams, attempts []attemptLine, now time.Time) error {
	table := s.table()
	table.Row("ATTEMPT\tSTATUS\tREASON\tLATENCY\tNODE")
	for _, a := range attempts {
		status := "-"
		if a.Status != 0 {
			status = fmt.Sprint(a.Status)
		}
		table.Row(fmt.Sprintf("%s\t%s\t%s\t%s\t%s", terminal.When(a.At, now), status, terminal.OrDash(a.Reason), latency(a.Latency), terminal.OrDash(a.Node)))
	}
	return table.Write(s.Out)
}

// latency formats milliseconds.
func latency(ms float64) string {
	return terminal.Duration(time.Duration(ms * float64(time.Millisecond)))
}

// letterActionFlags select the dead letters to replay or drop.
type letterActionFlags struct {
	hubFlags
	letterFilterFlags
	ID     string `arg:"" optional:"" help:"One dead letter, such as d-17, instead of a filter or --all."`
	All    bool   `help:"All dead letters."`
	DryRun bool   `help:"Print how many dead letters are selected, and do nothing."`
	Expect int    `help:"Do nothing unless exactly this many are selected." default:"-1" placeholder:"N"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *letterActionFlags) body() (map[string]any, error) {
	filter, err := c.values(time.Now())
	if err != nil {
		return nil, err
	}
	many := len(filter) > 0 || c.All || c.DryRun || c.Expect >= 0
	switch {
	case c.ID != "" && many:
		return nil, exit.Usagef("expected one dead letter or a filter, not both")
	case c.ID != "":
		return nil, nil
	case len(filter) == 0 && !c.All:
		return nil, exit.Usagef("expected the ID of a dead letter, a filter such as --topic or --status, or --all")
	case len(filter) > 0 && c.All:
		return nil, exit.Usagef("--all and filters are mutually exclusive")
	}
	body := map[string]any{"dry_run": c.DryRun}
	for name, v := range filter {
		body[name] = v
	}
	if c.All {
		body["all"] = true
	}
	if c.Expect >= 0 {
		body["expect"] = c.Expect
	}
	return body, nil
}

// act performs the action on one dead letter, or on those that the filter selects, and prints the result.
func (c *letterActionFlags) act(ctx context.Context, s Streams, method, below, action, done string) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	path, want := "/v1/dead-letters/"+action, []string{"matched"}
	if body == nil {
		want = nil
		if method == http.MethodPost {
			want = []string{"id"}
		}
		if path, err = letterPath(c.ID); err != nil {
			return err
		}
		path += below
	} else {
		method = http.MethodPost
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	var given any
	if body != nil {
		given = body
	}
	answer, err := hub.Call(ctx, method, path, given, want...)
	if err != nil {
		return err
	}
	if c.JSON {
		if len(answer) == 0 {
			answer = json.RawMessage("{}")
		}
		return writeJSON(s.Out, answer)
	}
	if body == nil {
		_, err = fmt.Fprintf(s.Out, "%s %s\n", c.ID, done)
		return err
	}
	var n struct {
		Matched   int `json:"matched"`
		Ended     int `json:"ended"`
		Replaying int `json:"replaying"`
		Dropped   int `json:"dropped"`
	}
	if err := json.Unmarshal(answer, &n); err != nil {
		return hub.Unexpected(path, err)
	}
	text := fmt.Sprintf("%d selected", n.Matched)
	if !c.DryRun {
		text += fmt.Sprintf(", %d %s", n.Replaying+n.Dropped, done)
	}
	if n.Ended > 0 && action == "replay" {
		text += fmt.Sprintf("; %d belong to subscriptions that have ended", n.Ended)
	}
	_, err = fmt.Fprintln(s.Out, text)
	return err
}

type replayLettersCmd struct{ letterActionFlags }

// Help is shown by --help below the flags.
func (c *replayLettersCmd) Help() string {
	return `Each replay is one request from the node that owns the subscription, made alongside regular deliveries. After three failed
requests in a row an endpoint gets no more, and its remaining dead letters stay. Examples:

    quorumhub dead-letters replay d-17
    quorumhub dead-letters replay --topic news --status 5xx --dry-run
    quorumhub dead-letters replay --topic news --status 5xx --expect 12`
}

func (c *replayLettersCmd) Run(ctx context.Context, s Streams) error {
	return c.act(ctx, s, http.MethodPost, "/replay", "replay", "queued for replay")
}

type dropLettersCmd struct{ letterActionFlags }

func (c *dropLettersCmd) Run(ctx context.Context, s Streams) error {
	return c.act(ctx, s, http.MethodDelete, "", "drop", "dropped")
}

type exportLettersCmd struct {
	hubFlags
	letterFilterFlags
}

func (c *exportLettersCmd) Run(ctx context.Context, s Streams) error {
	query, err := c.query()
	if err != nil {
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	return hub.Copy(ctx, "/v1/dead-letters/export?"+query.Encode(), time.Duration(c.Timeout), s.Out)
}
