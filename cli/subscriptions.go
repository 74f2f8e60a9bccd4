package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// subscriptionsCmd groups the commands for subscriptions.
type subscriptionsCmd struct {
	List   listSubscriptionsCmd `cmd:"" default:"withargs" help:"List the subscriptions (the default)."`
	Show   showSubscriptionCmd  `cmd:"" help:"Show one subscription, its status and its last attempts."`
	Pause  pauseCmd             `cmd:"" help:"Pause deliveries to a subscription. It keeps its cursor, and its lease keeps running."`
	Resume resumeCmd            `cmd:"" help:"Resume deliveries to a paused subscription where they stopped."`
	Rewind rewindCmd            `cmd:"" help:"Move a subscription's cursor back or forward."`
	Assign reassignCmd          `cmd:"" name:"reassign" help:"Give subscriptions another owner, such as those of a revoked key."`
	Sign   signCmd              `cmd:"" help:"Set the method of a subscription's X-Hub-Signature, for receivers that support only one."`
	Send   redeliverCmd         `cmd:"" name:"redeliver" help:"Send one message to a subscription once more, and see what becomes of it. Its deliveries do not change."`
	Test   testMessageCmd       `cmd:"" help:"Send a test message to a subscription, and see what becomes of it. Nothing is published."`
	End    endCmd               `cmd:"" help:"End a subscription and notify its callback (hub.mode=denied)."`
}

// subscriptionFlags are shared by the commands for one subscription.
type subscriptionFlags struct {
	hubFlags
	ID   string `arg:"" help:"The subscription's ID, such as s-17."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// operate sends a request about the subscription and prints the response, as JSON or as the text that words makes of it.
func (f *subscriptionFlags) operate(ctx context.Context, s Streams, method, action string, body any, words func(json.RawMessage) (string, error), want ...string) error {
	if !strings.HasPrefix(f.ID, "s-") {
		return exit.Usagef("ID: got %q, expected the ID of a subscription such as s-17", f.ID)
	}
	return callHub(ctx, s, &f.hubFlags, f.JSON, method, "/v1/subscriptions/"+url.PathEscape(f.ID)+action, body, words, want...)
}

type pauseCmd struct{ subscriptionFlags }

func (c *pauseCmd) Run(ctx context.Context, s Streams) error {
	return c.operate(ctx, s, http.MethodPost, "/pause", nil, func(json.RawMessage) (string, error) { return c.ID + " paused", nil }, "id")
}

type resumeCmd struct{ subscriptionFlags }

func (c *resumeCmd) Run(ctx context.Context, s Streams) error {
	return c.operate(ctx, s, http.MethodPost, "/resume", nil, func(json.RawMessage) (string, error) { return c.ID + " resumed", nil }, "id")
}

type signCmd struct {
	subscriptionFlags
	Method string `required:"" enum:"sha1,sha256,sha384,sha512,default" help:"sha1, sha256, sha384, sha512, or default: the subscriber's choice, or else the hub's." placeholder:"METHOD"`
}

func (c *signCmd) Run(ctx context.Context, s Streams) error {
	body := struct {
		Method string `json:"method"`
	}{strings.TrimSuffix(c.Method, "default")}
	return c.operate(ctx, s, http.MethodPut, "/signature", body, func(json.RawMessage) (string, error) {
		return c.ID + " is signed with " + strings.Replace(c.Method, "default", "what its subscriber asked for, or else the hub's default", 1), nil
	}, "id")
}

type endCmd struct{ subscriptionFlags }

func (c *endCmd) Run(ctx context.Context, s Streams) error {
	return c.operate(ctx, s, http.MethodDelete, "", nil, func(json.RawMessage) (string, error) {
		return c.ID + " ended; the hub notifies its callback", nil
	})
}

type rewindCmd struct {
	subscriptionFlags
	To     string `required:"" help:"The new position: earliest, latest, the offset of the first message to send, or a time such as 2026-01-31T12:00:00Z." placeholder:"PLACE"`
	DryRun bool   `help:"Print how many messages would be sent again or skipped, and change nothing."`
}

func (c *rewindCmd) Run(ctx context.Context, s Streams) error {
	body := struct {
		To     string `json:"to"`
		DryRun bool   `json:"dry_run"`
	}{c.To, c.DryRun}
	return c.operate(ctx, s, http.MethodPost, "/rewind", body, func(answer json.RawMessage) (string, error) {
		var a struct {
			NextOffset uint64 `json:"next_offset"`
			SentAgain  uint64 `json:"sent_again"`
			Skipped    uint64 `json:"skipped"`
		}
		if err := json.Unmarshal(answer, &a); err != nil {
			return "", err
		}
		will := "continues"
		if c.DryRun {
			will = "would continue"
		}
		return fmt.Sprintf("%s %s with message %d: %d sent again, %d skipped", c.ID, will, a.NextOffset, a.SentAgain, a.Skipped), nil
	}, "next_offset")
}

type listSubscriptionsCmd struct {
	hubFlags
	Topic    string `help:"Only those of this topic: a URL, or the name of a hosted topic." placeholder:"TOPIC"`
	Callback string `help:"Only those of this callback." placeholder:"URL"`
	Mine     bool   `help:"Only your own. This is the default without admin.view."`
	JSON     bool   `name:"json" help:"Print JSON: {\"items\": [...]}."`
}

func (c *listSubscriptionsCmd) Run(ctx context.Context, s Streams) error {
	query := url.Values{}
	if c.Topic != "" {
		query.Set("topic", c.Topic)
	}
	if c.Callback != "" {
		query.Set("callback", c.Callback)
	}
	if c.Mine {
		query.Set("mine", "true")
	}
	now := time.Now()
	return listItems(ctx, s, c.hubFlags, c.JSON, "/v1/subscriptions", query,
		"ID\tSTATE\tTOPIC\tCALLBACK\tDELIVERY MODE\tOWNING NODE\tCURSOR (OFFSET)\tLAG (MESSAGES)\tLEASE ENDS\tOWNER",
		func(sub client.Subscription) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s", terminal.OneLine(sub.ID), terminal.OneLine(sub.State), terminal.OneLine(sub.Topic), terminal.OneLine(sub.Callback),
				terminal.OrDash(sub.Mode), terminal.OrDash(sub.Node), sub.Cursor, sub.Lag, terminal.When(sub.LeaseExpiresAt, now), terminal.OrDash(sub.Owner))
		})
}

type showSubscriptionCmd struct {
	hubFlags
	ID   string `arg:"" help:"The ID of a subscription, such as s-17, or of a pending request, such as r-17."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// subscriptionDetail is a subscription as the admin API shows it.
type subscriptionDetail struct {
	client.Subscription
	Signed       bool    `json:"signed"`
	LeaseSeconds int64   `json:"lease_seconds"`
	CreatedAt    string  `json:"created_at"`
	Delivered    uint64  `json:"delivered"`
	Failures     uint64  `json:"failures"`
	FailingSince string  `json:"failing_since"`
	Gap          uint64  `json:"gap"`
	DeadLetters  uint64  `json:"dead_letters"`
	OldestAge    float64 `json:"oldest_undelivered_seconds"`
	Options      struct {
		Window int `json:"window"`
	} `json:"options"`
	Delivery *struct {
		State    string `json:"state"`
		Progress *struct {
			Acknowledged uint64 `json:"acknowledged"`
			Ahead        uint64 `json:"ahead"`
			Lag          uint64 `json:"lag"`
			Head         uint64 `json:"head_offset"`
			Delivered    uint64 `json:"delivered"`
		} `json:"progress"`
		NextAttempt string   `json:"next_attempt_at"`
		Window      int      `json:"window_now"`
		SuccessRate *float64 `json:"success_rate"`
		Attempts    []struct {
			At      string  `json:"at"`
			Offset  uint64  `json:"offset"`
			Outcome string  `json:"outcome"`
			Status  int     `json:"status"`
			Latency float64 `json:"latency_ms"`
			Reason  string  `json:"reason"`
		} `json:"attempts"`
	} `json:"delivery"`
	DeliveryError string `json:"delivery_error"`
}

func (c *showSubscriptionCmd) Run(ctx context.Context, s Streams) error {
	if !strings.HasPrefix(c.ID, "s-") && !strings.HasPrefix(c.ID, "r-") {
		return exit.Usagef("ID: got %q, expected the ID of a subscription such as s-17", c.ID)
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, http.MethodGet, "/v1/subscriptions/"+url.PathEscape(c.ID), nil, "id")
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, answer)
	}
	var d subscriptionDetail
	if err := json.Unmarshal(answer, &d); err != nil {
		return hub.Unexpected("", err)
	}
	return d.write(s, time.Now())
}

func (d *subscriptionDetail) write(s Streams, now time.Time) error {
	w := s.Out
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("subscription", "%s, %s, %s", terminal.OneLine(d.ID), terminal.OneLine(d.State), terminal.OneLine(d.Mode))
	line("topic", "%s", terminal.OneLine(d.Topic))
	line("callback", "%s", terminal.OneLine(d.Callback))
	line("created", "%s, lease ends %s", terminal.When(d.CreatedAt, now), terminal.When(d.LeaseExpiresAt, now))
	if d.Owner != "" {
		line("owner", "%s", terminal.OneLine(d.Owner))
	}
	if d.PauseReason != "" {
		line("paused because of", "%s", terminal.OneLine(d.PauseReason))
	}
	line("signed", "%t", d.Signed)
	line("node", "%s", terminal.OrDash(d.Node))
	d.writeProgress(line)
	if d.OldestAge > 0 {
		line("oldest undelivered", "%s", terminal.Duration(time.Duration(d.OldestAge*float64(time.Second))))
	}
	if d.FailingSince != "" {
		line("failing since", "%s, %d attempts in a row", terminal.When(d.FailingSince, now), d.Failures)
	}
	if d.DeadLetters > 0 {
		line("dead letters", "%d", d.DeadLetters)
	}
	if d.Gap > 0 {
		line("dropped by retention", "%d", d.Gap)
	}
	switch {
	case d.Delivery == nil && d.DeliveryError != "":
		line("attempts", "unknown: %s", terminal.OneLine(d.DeliveryError))
	case d.Delivery != nil:
		next := ""
		if d.Delivery.NextAttempt != "" {
			next = ", next attempt " + terminal.When(d.Delivery.NextAttempt, now)
		}
		line("delivery", "%s%s", terminal.OneLine(d.Delivery.State), next)
		if d.Options.Window > 1 {
			line("window", "%d of %d", d.Delivery.Window, d.Options.Window)
		}
		if rate := d.Delivery.SuccessRate; rate != nil {
			line("success rate", "%.0f%% of the last %d", *rate*100, len(d.Delivery.Attempts))
		}
	}
	if err := out.Flush(); err != nil || d.Delivery == nil || len(d.Delivery.Attempts) == 0 {
		return err
	}
	fmt.Fprintln(w)
	table := s.table()
	table.Row("ATTEMPT\tMESSAGE (OFFSET)\tOUTCOME\tRESPONSE\tLATENCY")
	for _, a := range d.Delivery.Attempts {
		table.Row(fmt.Sprintf("%s\t%d\t%s\t%s\t%s", terminal.When(a.At, now), a.Offset, terminal.OneLine(a.Outcome), outcome(a.Status, a.Reason), latency(a.Latency)))
	}
	return table.Write(w)
}
