// Package demo shows a hub of three nodes at work, through a crash of its leader, and checks that nothing is lost. It may import
// client, exit, local, subscriber, terminal and configs.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/local"
	"quorumhub/cli/subscriber"
	"quorumhub/cli/terminal"
	"quorumhub/configs"
)

const (
	// demoLimit bounds the whole demo.
	demoLimit = 18 * time.Second
	// demoMessages is the number of messages published through the crash, one every demoPace.
	demoMessages = 120
	demoPace     = 25 * time.Millisecond
	// demoNodes is the number of nodes.
	demoNodes = 3
)

// Run runs the demo and narrates it on out. It returns an error unless every acknowledged message arrived.
func Run(ctx context.Context, out io.Writer) error {
	begin := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("the demo did not finish within %s", demoLimit))
	defer cancel()
	d := &show{out: &lockedWriter{w: out}, ledger: newLedger(), secret: "a shared secret", confirmed: make(chan subscriber.Verification, 8)}
	err := d.run(bounded)
	switch {
	case ctx.Err() != nil:
		err = exit.With(exit.Interrupted, errors.New("interrupted"))
	case bounded.Err() != nil:
		err = context.Cause(bounded)
	}
	if err != nil && ctx.Err() == nil {
		d.keepFiles()
	}
	err = errors.Join(err, d.close())
	if err != nil {
		return err
	}
	d.farewell(time.Since(begin))
	return nil
}

// show is one run of the demo.
type show struct {
	out    *lockedWriter
	ledger *ledger
	secret string

	cluster    *local.Cluster
	hubs       []*client.Client // one for each node
	hub        *client.Client   // the first of hubs
	origin     *demoOrigin
	subscriber *subscriber.Subscriber
	confirmed  chan subscriber.Verification
	topic      string
	quiet      atomic.Bool // do not print arrivals
	refusals   atomic.Int64
}

func (d *show) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.startHub, d.subscribe, d.publishFat, d.publishThin, d.publishThroughCrash, d.judge,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *show) title(n int, format string, args ...any) {
	fmt.Fprintf(d.out, "\n%d. %s\n", n, fmt.Sprintf(format, args...))
}

func (d *show) say(format string, args ...any) {
	fmt.Fprintf(d.out, "   %s\n", fmt.Sprintf(format, args...))
}

func (d *show) startHub(ctx context.Context) error {
	var err error
	// Do not pass the environment on: settings of a real hub must not affect a throw-away one.
	d.cluster, err = local.New(local.Options{
		Nodes: demoNodes, HTTP: "127.0.0.1:0",
		Set: []string{"delivery.retry.initial=100ms", "delivery.retry.max_interval=1s"},
	})
	if err != nil {
		return err
	}
	d.title(1, "Start a hub: %d nodes, with data in %s", demoNodes, d.cluster.Dir)
	begin := time.Now()
	if err := d.cluster.Start(ctx); err != nil {
		return err
	}
	d.say("ready after %s:", seconds(time.Since(begin)))
	for _, node := range d.cluster.Nodes {
		d.say("  %s %s/hub (process %d)", node.ID, node.URL(), node.PID())
		client, err := client.New([]string{node.URL()}, client.Options{Timeout: 3 * time.Second})
		if err != nil {
			return err
		}
		d.hubs = append(d.hubs, client)
	}
	d.hub = d.hubs[0]
	if d.topic, err = d.hub.TopicURL("news"); err != nil {
		return err
	}
	if err := d.hub.Register(ctx, d.topic); err != nil {
		return err
	}
	d.say("topic %s is registered", d.topic)
	return nil
}

func (d *show) subscribe(ctx context.Context) error {
	var err error
	if d.origin, err = newDemoOrigin(d.hub.Endpoint()); err != nil {
		return err
	}
	d.origin.change("First edition")
	d.subscriber, err = subscriber.New(subscriber.Options{
		Addr: "127.0.0.1:0", Secret: d.secret,
		OnDelivery: d.arrived,
		OnVerification: func(v subscriber.Verification) {
			select {
			case d.confirmed <- v:
			default: // an unexpected verification; nobody waits for it
			}
		},
	})
	if err != nil {
		return err
	}
	d.title(2, "Subscribe to that topic and to a feed on another server")
	for _, topic := range []string{d.topic, d.origin.url} {
		d.subscriber.Expect("subscribe", topic)
		err := d.hub.SendIntent(ctx, client.Intent{Mode: "subscribe", Topic: topic, Callback: d.subscriber.CallbackURL(), Secret: d.secret})
		if err != nil {
			return err
		}
		d.say("subscribe %s", topic)
		select {
		case v := <-d.confirmed:
			if !v.Confirmed {
				return fmt.Errorf("the hub asked to confirm %s %s, which was not requested", v.Mode, v.Topic)
			}
			d.say("  the hub verified the intent with the callback; lease %s", configs.FormatDuration(v.Lease))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return d.untilActive(ctx, 2)
}

// untilActive waits until the hub lists want active subscriptions.
func (d *show) untilActive(ctx context.Context, want int) error {
	for {
		items, err := d.hub.List(ctx, "/v1/subscriptions", nil)
		if err != nil {
			return err
		}
		active := 0
		for _, raw := range items {
			var item client.Subscription
			if err := json.Unmarshal(raw, &item); err != nil {
				return fmt.Errorf("read the list of subscriptions: %w", err)
			}
			if item.State == "active" {
				active++
			}
		}
		if active >= want {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (d *show) publishFat(ctx context.Context) error {
	d.title(3, "Publish two messages with their content (fat)")
	for _, p := range []struct {
		how  string
		text string
		post func(context.Context, string, client.Message) (string, error)
	}{
		{"POST /topics/news", "Hello from the topic's own URL", d.hub.PublishHosted},
		{"POST /hub?hub.mode=publish&hub.topic=…/topics/news", "Hello from the hub's endpoint", d.hub.Publish},
	} {
		body := []byte(p.text)
		d.ledger.attempt(d.topic, body)
		id, err := p.post(ctx, d.topic, client.Message{Body: body, ContentType: "text/plain; charset=utf-8"})
		if err != nil {
			return err
		}
		d.ledger.acknowledge(d.topic, body)
		d.say("%s: acknowledged as message %s", p.how, id)
	}
	return d.untilArrived(ctx)
}

func (d *show) publishThin(ctx context.Context) error {
	d.title(4, "Announce a change of the feed (thin); the hub fetches it")
	before := d.origin.fetches()
	if err := d.pingFeed(ctx, d.origin.change("Second edition")); err != nil {
		return err
	}
	d.say("POST /hub hub.mode=publish&hub.url=%s: acknowledged", d.origin.url)
	if err := d.untilArrived(ctx); err != nil {
		return err
	}
	d.say("the hub fetched the feed (requests: %d)", d.origin.fetches()-before)
	return nil
}

func (d *show) pingFeed(ctx context.Context, edition []byte) error {
	d.ledger.attempt(d.origin.url, edition)
	if err := d.hub.Ping(ctx, d.origin.url); err != nil {
		return err
	}
	d.ledger.acknowledge(d.origin.url, edition)
	return nil
}

func (d *show) publishThroughCrash(ctx context.Context) error {
	d.title(5, "Publish %d more messages, to all nodes in turn, and kill the leader halfway", demoMessages)
	d.quiet.Store(true)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	half := make(chan struct{})
	var publisher sync.WaitGroup
	defer publisher.Wait()
	publisher.Go(func() {
		if err := d.publishMany(ctx, half); err != nil {
			cancel(err)
		}
	})
	select {
	case <-half:
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	d.say("%d messages acknowledged so far", d.ledger.read().Acknowledged)
	if err := d.killLeader(ctx); err != nil {
		return err
	}
	publisher.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.say("the publisher is done; %d of its requests failed meanwhile and were repeated at the next node with the same Idempotency-Key", d.refusals.Load())
	if err := d.untilArrived(ctx); err != nil {
		return err
	}
	return d.untilSame(ctx)
}

// killLeader kills the leader, waits for the next one and restarts the killed node.
func (d *show) killLeader(ctx context.Context) error {
	old, witness, err := d.leader(ctx)
	if err != nil {
		return err
	}
	if err := d.pingFeed(ctx, d.origin.change("Third edition, announced just before the crash")); err != nil {
		return err
	}
	pid := old.PID()
	old.Kill()
	d.say("the feed changes, too: right after acknowledging that ping, the leader %s is killed (SIGKILL to process %d)", old.ID, pid)
	begin := time.Now()
	for {
		c, err := witness.Cluster(ctx)
		if err != nil {
			return err
		}
		if c.Leader != "" && c.Leader != old.ID {
			d.say("%s is the new leader after %s", terminal.OneLine(c.Leader), seconds(time.Since(begin)))
			break
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	begin = time.Now()
	if err := old.Start(); err != nil {
		return err
	}
	if err := old.Ready(ctx); err != nil {
		return err
	}
	d.say("%s is back after %s (process %d)", old.ID, seconds(time.Since(begin)), old.PID())
	return nil
}

// leader returns the leader and a client of another node.
func (d *show) leader(ctx context.Context) (*local.Node, *client.Client, error) {
	c, err := d.hub.Cluster(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i, n := range d.cluster.Nodes {
		if n.ID == c.Leader {
			return n, d.hubs[(i+1)%len(d.hubs)], nil
		}
	}
	return nil, nil, fmt.Errorf("the hub's leader is %q, which is none of its nodes", c.Leader)
}

// untilSame waits until all nodes have applied the same log index and have the same state hash.
func (d *show) untilSame(ctx context.Context) error {
	for {
		c, err := d.hub.Cluster(ctx)
		if err != nil {
			return err
		}
		same := len(c.Nodes) == demoNodes
		for _, n := range c.Nodes {
			same = same && n.Role != "down" && n.AppliedIndex == c.Nodes[0].AppliedIndex && n.StateHash == c.Nodes[0].StateHash
		}
		if same {
			d.say("all nodes have the same state: hash %s after log entry %d", terminal.OneLine(c.Nodes[0].StateHash), c.Nodes[0].AppliedIndex)
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// publishMany publishes one message after another, repeating each until a node acknowledges it, and closes half when halfway.
func (d *show) publishMany(ctx context.Context, half chan<- struct{}) error {
	for i := range demoMessages {
		if i == demoMessages/2 {
			close(half)
		}
		m := client.Message{
			Body:        fmt.Appendf(nil, "message %d of %d", i+1, demoMessages),
			ContentType: "text/plain; charset=utf-8", IdempotencyKey: fmt.Sprintf("demo-%d", i+1),
		}
		d.ledger.attempt(d.topic, m.Body)
		for node := i; ; node++ {
			_, err := d.hubs[node%len(d.hubs)].Publish(ctx, d.topic, m)
			if err == nil {
				break
			}
			if exit.CodeOf(err) != exit.Unreachable {
				return err
			}
			d.refusals.Add(1)
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
		d.ledger.acknowledge(d.topic, m.Body)
		if err := pause(ctx, demoPace); err != nil {
			return err
		}
	}
	return nil
}

func (d *show) arrived(v subscriber.Delivery) bool {
	d.ledger.arrive(v)
	if d.quiet.Load() {
		return true
	}
	text := strings.TrimSpace(string(v.Body))
	if first, _, more := strings.Cut(text, "\n"); more {
		text = first + " …"
	}
	d.say("received message %s: %s, %d bytes, signature %s (%s): %s",
		terminal.OneLine(v.MessageID), terminal.OneLine(v.ContentType), len(v.Body), v.Signature, terminal.OneLine(v.Method), terminal.OneLine(text))
	return true
}

// untilArrived waits until every acknowledged message has arrived.
func (d *show) untilArrived(ctx context.Context) error {
	for d.ledger.read().lost() > 0 {
		select {
		case <-d.ledger.progress:
		case <-ctx.Done():
			v := d.ledger.read()
			d.say("%d of %d acknowledged messages have not arrived", v.lost(), v.Acknowledged)
			return context.Cause(ctx)
		}
	}
	return nil
}

func (d *show) judge(context.Context) error {
	v := d.ledger.read()
	d.title(6, "Compare what was acknowledged with what arrived")
	for _, line := range []struct {
		what  string
		count int
		note  string
	}{
		{"acknowledged", v.Acknowledged, ""},
		{"arrived", v.Arrived, ""},
		{"lost", v.lost(), ""},
		{"out of order", v.OutOfOrder, ""},
		{"altered", v.Altered, ""},
		{"bad signature", v.Unsigned, ""},
		{"repeated", v.Repeated, "  (a crash may repeat messages in flight; their IDs stay the same)"},
	} {
		d.say("%-16s%5d%s", line.what, line.count, line.note)
	}
	if !v.good() {
		return errors.New("not every acknowledged message arrived in order, unaltered and signed")
	}
	return nil
}

func (d *show) farewell(took time.Duration) {
	fmt.Fprintf(d.out, `
Nothing was lost. (%s)

Try next:
  quorumhub dev --nodes 3                              start a hub on http://127.0.0.1:8080
  quorumhub listen --topic news --secret s3cret        subscribe, in a second terminal
  quorumhub publish news --data "hello"                publish, in a third terminal
  quorumhub --help                                     list all commands
In a checkout, run "go run ." instead of quorumhub.
`, seconds(took))
}

// keepFiles keeps the hub's directory, to debug a failure.
func (d *show) keepFiles() {
	if d.cluster != nil {
		d.cluster.Keep()
		fmt.Fprintf(d.out, "\nThe hub's logs and data are kept in %s\n", d.cluster.Dir)
	}
}

func (d *show) close() error {
	var errs []error
	if d.cluster != nil {
		errs = append(errs, d.cluster.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if d.subscriber != nil {
		errs = append(errs, d.subscriber.Close())
	}
	if d.origin != nil {
		errs = append(errs, d.origin.close(ctx))
	}
	for _, h := range d.hubs {
		h.Close()
	}
	return errors.Join(errs...)
}

// lockedWriter serialises the writes of several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// pause waits for d, or returns the cause if the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
