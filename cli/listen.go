package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/subscriber"
	"quorumhub/cli/terminal"
	"quorumhub/configs"
)

// The pause before a message of a stream is forwarded again, doubled each time.
const (
	firstRelayPause = 250 * time.Millisecond
	lastRelayPause  = 5 * time.Second
)

// goodbye limits how long unsubscribing on exit may take.
const goodbye = 5 * time.Second

type listenCmd struct {
	hubFlags
	secretFlags
	Topic             string       `help:"Subscribe to this topic: a URL, or the name of a hosted topic. Without it, confirm every intent and leave subscribing to others." placeholder:"TOPIC"`
	Stream            []string     `help:"Follow a topic as an event stream instead of receiving callbacks: the topic's URL on a node. With the URLs of several nodes, listen switches to another when a node stops. Repeatable." placeholder:"URL"`
	ForwardTo         string       `help:"Relay every delivery to a local program and return its response to the hub. With --stream, a message is repeated until the program accepts it." placeholder:"URL"`
	Start             string       `help:"With --stream: where to start, which is latest (the default), earliest, an offset or an RFC 3339 time." placeholder:"WHERE"`
	Addr              string       `help:"The address to listen on." default:"127.0.0.1:0" placeholder:"HOST:PORT"`
	CallbackURL       string       `name:"callback-url" help:"The URL where the hub reaches this listener. Default: derived from the address." placeholder:"URL"`
	Lease             flagLease    `help:"The lease to request; the hub may choose another. 0: the hub's default." placeholder:"DURATION"`
	Count             int          `short:"n" help:"Exit after this many messages, not counting duplicates and messages with a bad signature." placeholder:"N"`
	Timeout           flagDuration `help:"Fail with exit code 5 after this long." placeholder:"DURATION"`
	Keep              bool         `help:"Leave the subscription when exiting. Without this flag, listen unsubscribes." xor:"exit"`
	UnsubscribeOnExit bool         `hidden:"" xor:"exit" help:"No effect: unsubscribing is the default."`
	Full              bool         `help:"Print whole bodies."`
	JSON              bool         `name:"json" help:"Print one JSON object per delivery, and nothing else, to standard output."`
}

// Help is shown by --help below the flags.
func (c *listenCmd) Help() string {
	return `Examples:

    quorumhub listen --topic news --secret s3cret           # Ctrl-C unsubscribes
    quorumhub listen --topic news --count 3 --timeout 10s --json
    quorumhub listen --stream http://10.0.0.1:8080/topics/news --stream http://10.0.0.2:8080/topics/news --start earliest
    quorumhub listen --topic news --forward-to http://127.0.0.1:3000/hook
    quorumhub listen --addr 127.0.0.1:9000        # and elsewhere: quorumhub subscribe news http://127.0.0.1:9000/callback`
}

func (c *listenCmd) validate() error {
	switch {
	case c.Count < 0:
		return exit.Usagef("--count: expected a positive number")
	case len(c.Stream) > 0 && (c.Topic != "" || c.CallbackURL != "" || c.Lease > 0 || c.Keep || c.UnsubscribeOnExit || c.signed()):
		return exit.Usagef("--stream makes no subscription, so it cannot be combined with --topic, --callback-url, --lease, --secret or --keep")
	case len(c.Stream) == 0 && c.Start != "":
		return exit.Usagef("--start needs --stream")
	case c.Keep && c.Topic == "":
		return exit.Usagef("--keep needs --topic")
	case c.UnsubscribeOnExit && c.Topic == "":
		return exit.Usagef("--unsubscribe-on-exit needs --topic")
	case c.Lease > 0 && c.Topic == "":
		return exit.Usagef("--lease needs --topic")
	case c.ForwardTo != "" && subscriber.ValidCallback(c.ForwardTo) != "":
		return exit.Usagef("%s", "--forward-to: "+subscriber.ValidCallback(c.ForwardTo))
	case c.CallbackURL != "":
		if wrong := subscriber.ValidCallback(c.CallbackURL); wrong != "" {
			return exit.Usagef("%s", "--callback-url: "+wrong)
		}
	}
	return nil
}

func (c *listenCmd) Run(ctx context.Context, s Streams) error {
	if err := c.validate(); err != nil {
		return err
	}
	if len(c.Stream) > 0 {
		return c.follow(ctx, s)
	}
	secret, err := c.read()
	if err != nil {
		return err
	}
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	topic, topics := "", []string(nil)
	if c.Topic != "" {
		if topic, err = hub.TopicURL(c.Topic); err != nil {
			return err
		}
		topics = hub.TopicURLs(topic)
	}

	l := &listening{cmd: c, out: s.Out, notes: s.Out, topic: topic, topics: topics, ended: make(chan error, 1), unsubscribed: make(chan struct{}, 1)}
	if c.JSON {
		l.notes = s.Err
	}
	forward := c.forwarder()
	if forward != nil {
		defer forward.Close()
	}
	sub, err := subscriber.New(subscriber.Options{
		Forward: forward, Addr: c.Addr, CallbackURL: c.CallbackURL, Secret: secret, AcceptAny: topic == "",
		OnDelivery: l.delivery, OnVerification: l.verification,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(l.notes, "listening as %s\n", sub.CallbackURL())
	err = l.run(ctx, hub, sub, secret)

	return errors.Join(err, l.leave(ctx, hub, sub), sub.Close())
}

// leave ends the subscription, if there may be one, or says that it stays.
func (l *listening) leave(ctx context.Context, hub *client.Client, sub *subscriber.Subscriber) error {
	if !l.asked || l.denied.Load() {
		return nil
	}
	after := "quorumhub unsubscribe " + l.cmd.Topic + " " + sub.CallbackURL()
	if l.cmd.Keep {
		fmt.Fprintf(l.notes, "the subscription stays, and the hub keeps trying to deliver until its lease ends; end it with: %s\n", after)
		return nil
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := l.unsubscribe(last, hub, sub); err != nil {
		return fmt.Errorf("unsubscribe: %w; the subscription may stay until its lease ends; end it with: %s", err, after)
	}
	fmt.Fprintln(l.notes, "unsubscribed")
	return nil
}

// listening is one run of listen. The subscriber never calls delivery and verification concurrently.
type listening struct {
	cmd          *listenCmd
	out, notes   io.Writer
	topic        string
	topics       []string // its URLs at the hub's nodes
	got          int
	asked        bool        // the hub has accepted the request to subscribe
	denied       atomic.Bool // and then denied the subscription
	ended        chan error
	unsubscribed chan struct{}
}

func (l *listening) run(ctx context.Context, hub *client.Client, sub *subscriber.Subscriber, secret string) error {
	var overdue <-chan time.Time
	if l.cmd.Timeout > 0 {
		timer := time.NewTimer(time.Duration(l.cmd.Timeout))
		defer timer.Stop()
		overdue = timer.C
	}
	if l.topic != "" {
		for _, t := range l.topics {
			sub.Expect("subscribe", t)
		}
		var granted time.Duration
		err := hub.SendIntent(ctx, client.Intent{
			Mode: "subscribe", Granted: &granted, Topic: l.topic, Callback: sub.CallbackURL(), Lease: time.Duration(l.cmd.Lease), Secret: secret,
		})
		if err != nil {
			return err
		}
		l.asked = true
		fmt.Fprintf(l.notes, "asked %s to subscribe to %s\n", hub.Endpoint(), l.topic)
		noteLease(l.notes, time.Duration(l.cmd.Lease), granted)
	}
	select {
	case err := <-l.ended:
		return err
	case <-overdue:
		return l.overdue()
	case <-ctx.Done():
		if l.cmd.Count > 0 {
			return errInterrupted()
		}
		return nil
	}
}

func (l *listening) end(err error) {
	select {
	case l.ended <- err:
	default:
	}
}

func (l *listening) verification(v subscriber.Verification) {
	topic := terminal.Printable(v.Topic)
	switch {
	case v.Mode == "denied":
		fmt.Fprintf(l.notes, "the hub denied %s: %s\n", topic, terminal.Printable(v.Reason))
		if slices.Contains(l.topics, v.Topic) {
			l.denied.Store(true)
			l.end(exit.With(exit.Refused, fmt.Errorf("the hub denied the subscription to %s: %s", topic, terminal.Printable(v.Reason))))
		}
	case !v.Confirmed:
		fmt.Fprintf(l.notes, "not confirmed, as this listener did not ask for it: %s %s\n", terminal.Printable(v.Mode), topic)
	case v.Mode == "subscribe":
		fmt.Fprintf(l.notes, "confirmed: subscribe %s for %s\n", topic, configs.FormatDuration(v.Lease))
	default:
		fmt.Fprintf(l.notes, "confirmed: unsubscribe %s\n", topic)
		if slices.Contains(l.topics, v.Topic) {
			select {
			case l.unsubscribed <- struct{}{}:
			default:
			}
		}
	}
}

func (l *listening) delivery(d subscriber.Delivery) bool {
	if l.cmd.Count > 0 && l.got >= l.cmd.Count {
		// The hub sends it again, to whoever listens at this address next.
		return false
	}
	var err error
	if l.cmd.JSON {
		err = writeDeliveryJSON(l.out, d)
	} else {
		err = writeDelivery(l.out, d, l.cmd.Full)
	}
	if err != nil {
		l.end(fmt.Errorf("print a delivery: %w", err))
		return false
	}
	if d.Duplicate || d.Signature == subscriber.SignatureBad || d.Signature == subscriber.SignatureAbsent && l.signed() {
		return true
	}
	if d.Answer != nil && !d.Answer.Accepted() {
		return true // it comes again
	}
	if l.got++; l.cmd.Count > 0 && l.got == l.cmd.Count {
		l.end(nil)
	}
	return true
}

func (l *listening) signed() bool { return l.cmd.signed() }

// forwarder returns nil without --forward-to.
func (c *listenCmd) forwarder() *subscriber.Forwarder {
	if c.ForwardTo == "" {
		return nil
	}
	return subscriber.NewForwarder(c.ForwardTo)
}

func (c *listenCmd) signed() bool { return c.Secret != "" || c.SecretFile != "" }

// follow runs the command with --stream.
func (c *listenCmd) follow(ctx context.Context, s Streams) error {
	l := &listening{cmd: c, out: s.Out, notes: s.Out, ended: make(chan error, 1)}
	if c.JSON {
		l.notes = s.Err
	}
	roots, err := c.roots()
	if err != nil {
		return err
	}
	run, cancel := ctx, func() {}
	if c.Timeout > 0 {
		run, cancel = context.WithTimeout(ctx, time.Duration(c.Timeout))
	}
	defer cancel()
	forward := c.forwarder()
	if forward != nil {
		defer forward.Close()
	}
	errDone := errors.New("all messages arrived")
	stream, err := subscriber.NewStream(subscriber.StreamOptions{
		URLs: c.Stream, Start: c.Start, Token: c.Token, RootCAs: roots,
		Note: func(text string) { fmt.Fprintln(l.notes, text) },
		Deliver: func(d subscriber.Delivery) error {
			if forward != nil && !l.relay(run, forward, &d) {
				return nil // the time is up
			}
			l.delivery(d)
			select {
			case err := <-l.ended:
				if err == nil {
					return errDone
				}
				return err
			default:
				return nil
			}
		},
	})
	if err != nil {
		return err
	}
	err = stream.Run(run)
	switch {
	case errors.Is(err, errDone):
		return nil
	case err != nil:
		return err
	case ctx.Err() == nil:
		return l.overdue()
	case c.Count > 0:
		return errInterrupted()
	}
	return nil
}

// relay forwards a message of a stream until the program accepts it. It returns false if ctx ends first.
func (l *listening) relay(ctx context.Context, forward *subscriber.Forwarder, d *subscriber.Delivery) bool {
	header := http.Header{"Content-Type": {d.ContentType}, "X-Hub-Message-Id": {d.MessageID}, "Link": {"<" + d.Topic + `>; rel="self"`}}
	for wait := firstRelayPause; ; wait = min(2*wait, lastRelayPause) {
		d.Answer = forward.Forward(ctx, header, d.Body)
		if d.Answer.Accepted() {
			return true
		}
		fmt.Fprintf(l.notes, "message %s was not accepted (%s); it is sent again in %s\n", terminal.OrDash(d.MessageID), answerText(d.Answer), terminal.Duration(wait))
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return false
		}
	}
}

func (l *listening) overdue() error {
	return exit.With(exit.Timeout, fmt.Errorf("timed out after %s, before all messages arrived", configs.FormatDuration(time.Duration(l.cmd.Timeout))))
}

func errInterrupted() error {
	return exit.With(exit.Interrupted, errors.New("interrupted before all messages arrived"))
}

func (l *listening) unsubscribe(ctx context.Context, hub *client.Client, sub *subscriber.Subscriber) error {
	for _, t := range l.topics {
		sub.Expect("unsubscribe", t)
	}
	if err := hub.SendIntent(ctx, client.Intent{Mode: "unsubscribe", Topic: l.topic, Callback: sub.CallbackURL()}); err != nil {
		return err
	}
	select {
	case <-l.unsubscribed:
		return nil
	case <-ctx.Done():
		return exit.With(exit.Timeout, errors.New("timed out waiting for the hub to ask for confirmation"))
	}
}
