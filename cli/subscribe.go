package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
)

type subscribeCmd struct {
	hubFlags
	secretFlags
	waitFlag
	Topic    string    `arg:"" help:"The topic's URL, or the name of a hosted topic."`
	Callback string    `arg:"" help:"The URL that receives the deliveries."`
	Lease    flagLease `help:"The lease to request; the hub may choose another. 0: the hub's default." placeholder:"DURATION"`
	Start    string    `help:"Where a new subscription starts: latest (the hub's default), earliest, an offset, or a time such as 2026-01-31T12:00:00Z." placeholder:"PLACE"`
	Mode     string    `help:"The delivery mode: ordered (the hub's default), parallel or keyed." placeholder:"MODE"`
	Window   int       `help:"How many messages may be in flight at once, with mode parallel or keyed." placeholder:"N"`
	Key      string    `help:"The key of keyed deliveries: header:NAME or json:POINTER." placeholder:"KEY"`
	Group    string    `help:"The consumer group to join." placeholder:"NAME"`
	Content  string    `help:"body, or reference: a reference in place of the content, where the topic offers it." placeholder:"HOW"`
	Rate     float64   `help:"The maximum number of messages per second." placeholder:"N"`
	Method   string    `name:"signature-method" help:"The X-Hub-Signature method that the receiver supports: sha1, sha256, sha384 or sha512." placeholder:"METHOD"`
	Scheme   string    `name:"signature-scheme" help:"standard-webhooks adds the signature headers of Standard Webhooks." placeholder:"SCHEME"`
	JSON     bool      `name:"json" help:"Print JSON."`
}

// options returns the request parameters that WebSub does not define.
func (c *subscribeCmd) options() url.Values {
	more := url.Values{}
	for name, value := range map[string]string{"hub.start": c.Start, "hub.delivery_mode": c.Mode, "hub.delivery_key": c.Key, "hub.consumer_group": c.Group, "hub.content": c.Content, "hub.signature_method": c.Method} {
		if value != "" {
			more.Set(name, value)
		}
	}
	if c.Window != 0 {
		more.Set("hub.delivery_window", strconv.Itoa(c.Window))
	}
	if c.Rate != 0 {
		more.Set("hub.rate", strconv.FormatFloat(c.Rate, 'f', -1, 64))
	}
	return more
}

func (c *subscribeCmd) Run(ctx context.Context, s Streams) error {
	secret, err := c.read()
	if err != nil {
		return err
	}
	return sendIntent(ctx, s, c.hubFlags, c.waitFlag, c.JSON, client.Intent{
		Mode: "subscribe", Topic: c.Topic, Callback: c.Callback, Lease: time.Duration(c.Lease), Secret: secret, More: c.options(), Scheme: c.Scheme,
	})
}

type unsubscribeCmd struct {
	hubFlags
	waitFlag
	Topic    string `arg:"" help:"The topic's URL, or the name of a hosted topic."`
	Callback string `arg:"" help:"The subscription's callback."`
	JSON     bool   `name:"json" help:"Print JSON."`
}

func (c *unsubscribeCmd) Run(ctx context.Context, s Streams) error {
	return sendIntent(ctx, s, c.hubFlags, c.waitFlag, c.JSON, client.Intent{Mode: "unsubscribe", Topic: c.Topic, Callback: c.Callback})
}

// waitFlag says how long a command waits for a request to be settled.
type waitFlag struct {
	Wait flagDuration `help:"How long to wait for the callback to confirm; 0 does not wait." default:"1m" placeholder:"DURATION"`
}

// sendIntent sends a request and waits until the callback has confirmed it. That it did not is an error, with the reason.
func sendIntent(ctx context.Context, s Streams, flags hubFlags, wait waitFlag, asJSON bool, i client.Intent) error {
	hub, err := flags.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	if i.Topic, err = hub.TopicURL(i.Topic); err != nil {
		return err
	}
	var granted time.Duration
	i.Granted = &granted
	request, err := hub.Ask(ctx, i)
	if err != nil {
		return err
	}
	noteLease(s.Err, i.Lease, granted)
	outcome := client.Unknown
	if wait.Wait > 0 {
		bound, cancel := context.WithTimeout(ctx, time.Duration(wait.Wait))
		defer cancel()
		if outcome, err = hub.Settled(bound, request, i); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if outcome == client.Waiting {
			return exit.With(exit.Timeout, fmt.Errorf("%s %s: %s has not confirmed within %s; the hub goes on asking, and quorumhub requests shows what comes of it",
				i.Mode, request.ID, i.Callback, time.Duration(wait.Wait)))
		}
	}
	if asJSON {
		return writeJSON(s.Out, struct {
			Mode     string         `json:"mode"`
			Topic    string         `json:"topic"`
			Callback string         `json:"callback"`
			Accepted bool           `json:"accepted"`
			Request  string         `json:"request,omitempty"`
			Outcome  client.Outcome `json:"outcome"`
		}{i.Mode, i.Topic, i.Callback, true, request.ID, outcome})
	}
	text := "accepted; the hub is asking %s to confirm (%s %s)\n"
	if outcome == client.Confirmed {
		text = "confirmed by %s (%s %s)\n"
	}
	_, err = fmt.Fprintf(s.Out, text, i.Callback, i.Mode, i.Topic)
	return err
}
