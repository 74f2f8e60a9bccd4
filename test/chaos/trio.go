package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

const trioTopics = 8

// Trio is a cluster of three nodes under load with its publishers and subscribers. Only one goroutine may
// call its methods.
type Trio struct {
	*Cluster
	Ledger *Ledger
	Bounds Bounds
	Rand   *rand.Rand

	subscribers *Subscribers
	lasting     []*Subscription
	churners    []*Subscription
	watch       *Watch

	ctx       context.Context
	stopLoad  context.CancelFunc
	stopWatch context.CancelFunc
	load      sync.WaitGroup
	watching  sync.WaitGroup
	stopChurn chan struct{}
	churnDone chan error
	barriers  int
	onces     []*Once
	starters  []starter
	noQuorum  time.Duration // the slowest refusal
}

// starter is a publisher and its client.
type starter struct {
	p      Publisher
	client PublishClient
}

// TrioOptions configures a Trio.
type TrioOptions struct {
	Settings hubtest.Settings
	// Sites are where the nodes run; nil means three sites on loopback.
	Sites []Site
	// SubscribersAt is the address of the callbacks; empty means loopback.
	SubscribersAt string
	// Every is the time from one message of a publisher to its next; 0 means 80 ms. There are two publishers
	// per topic.
	Every time.Duration
	// AllRetry makes all publishers keyed.
	AllRetry bool
	// NoChurn leaves out the subscriptions that come and go.
	NoChurn bool
}

// StartTrio starts the nodes and the lasting subscriptions, without load. Everything ends with the test.
func StartTrio(tb testing.TB, o TrioOptions) *Trio {
	tb.Helper()
	seed := seedOf(tb)
	tb.Logf("to repeat the random choices: %s=%d", SeedEnv, seed)
	s := &Trio{Ledger: NewLedger(), Rand: rand.New(rand.NewPCG(seed, 0)), watch: &Watch{}, stopLoad: func() {}, stopWatch: func() {}}
	s.Bounds = Bounds{CursorFlush: 100 * time.Millisecond, Commit: 250 * time.Millisecond, AfterEnd: 500 * time.Millisecond,
		Lease: 2500 * time.Millisecond, Recovery: time.Second, Load: s.watch.Load}
	if o.Sites == nil {
		var err error
		if o.Sites, err = FreeSites(3); err != nil {
			tb.Fatal(err)
		}
	}
	s.Cluster = PrepareCluster(tb, o.Sites, o.Settings)
	var err error
	if s.subscribers, err = newSubscribers(o.SubscribersAt, s.Ledger, func() int { return 0 }, s.fork()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.subscribers.Close(); err != nil {
			tb.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx, s.stopChurn = ctx, make(chan struct{})
	tb.Cleanup(func() {
		cancel()
		s.load.Wait()
		s.watching.Wait()
	})
	s.Cluster.Start(tb)
	s.Leader(tb)
	for t := range trioTopics { // five units each: four subscriptions and a consumer group
		s.lasting = append(s.lasting, s.subscription(fmt.Sprintf("t%d-0", t), t, Terms{}, "", Steady),
			s.subscription(fmt.Sprintf("t%d-1", t), t, Terms{}, fmt.Sprintf("the secret at topic %d", t), Steady),
			s.subscription(fmt.Sprintf("t%d-2", t), t, Terms{}, "", Slow),
			s.subscription(fmt.Sprintf("t%d-3", t), t, termsAt(t), fmt.Sprintf("another secret at topic %d", t), Uneven))
		group, manner := groupAt(t)
		for m := range 2 + t%2 {
			s.lasting = append(s.lasting, s.subscription(fmt.Sprintf("t%d-4-%d", t, m), t, group, "", manner))
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(s.lasting))
	patient, done := context.WithTimeout(ctx, 2*hubtest.Patience)
	defer done()
	for i, sub := range s.lasting {
		wg.Go(func() { _, errs[i] = sub.Begin(patient) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	if !o.NoChurn {
		for t := range 2 {
			group, manner := groupAt(t)
			for _, c := range []*Subscription{
				s.subscription(fmt.Sprintf("churner-%d", t), t, Terms{}, "", Steady),
				s.subscription(fmt.Sprintf("churner-%d-4", t), t, group, "", manner),
			} {
				c.Rest = s.Bounds.Lease
				s.churners = append(s.churners, c)
			}
		}
	}
	s.publishers(o)
	return s
}

func (s *Trio) fork() *rand.Rand { return rand.New(rand.NewPCG(s.Rand.Uint64(), s.Rand.Uint64())) }

func (s *Trio) topic(t int) string { return s.Nodes[0].TopicURL(fmt.Sprintf("t%d", t)) }

// termsAt returns the terms of a topic's one subscription that is not ordered.
func termsAt(topic int) Terms {
	switch topic % 4 {
	case 1:
		return Terms{Mode: Keyed, Window: 4, Key: byHeader}
	case 3:
		return Terms{Mode: Keyed, Window: 8, Key: byPointer}
	}
	return Terms{Mode: Parallel, Window: 4 + topic}
}

// groupAt returns the terms of a topic's consumer group and the manner of its members: two take turns, or
// three share messages in parallel, at some topics in key order.
func groupAt(topic int) (Terms, Manner) {
	t := Terms{Group: fmt.Sprintf("t%d-4", topic)}
	switch {
	case topic%2 == 0:
		return t, Slow
	case topic%4 == 1:
		t.Mode, t.Window = Parallel, 4
	default:
		t.Mode, t.Window, t.Key = Keyed, 4, byHeader
	}
	return t, Uneven
}

func (s *Trio) subscription(name string, topic int, terms Terms, secret string, m Manner) *Subscription {
	url := s.topic(topic)
	return &Subscription{Name: name, Topic: url, Secret: secret, Terms: terms, Callback: s.subscribers.Add(name, url, secret, m),
		hub: Roam(s.Nodes, s.Rand.IntN(len(s.Nodes)), false), ledger: s.Ledger}
}

// publishers creates two publishers per topic: a keyed one that retries at the next node until it is
// acknowledged, and one that sends once to the node it knows. They start with Load.
func (s *Trio) publishers(o TrioOptions) {
	every := o.Every
	if every == 0 {
		every = 80 * time.Millisecond
	}
	for t := range trioTopics {
		keyed := &Once{Roamer: Roam(s.Nodes, t, false)}
		s.onces = append(s.onces, keyed)
		clients := []PublishClient{keyed, Roam(s.Nodes, t+1, true)}
		for k, client := range clients {
			p := Publisher{Name: fmt.Sprintf("t%d-p%d", t, k), Topic: s.topic(t), Keyed: k == 0, Every: every, MaxSize: 32 << 10}
			if k == 1 && o.AllRetry {
				again := &Once{Roamer: Roam(s.Nodes, t+1, false)}
				s.onces = append(s.onces, again)
				client, p.Keyed = again, true
			}
			s.starters = append(s.starters, starter{p, client})
		}
	}
}

// Load starts publishers, readers, churning subscribers and the watch.
func (s *Trio) Load() {
	ctx, cancel := context.WithCancel(s.ctx)
	s.stopLoad = cancel
	for _, st := range s.starters {
		choices := s.fork()
		s.load.Go(func() { st.p.Run(ctx, st.client, s.Ledger, choices) })
	}
	for i := range s.Nodes {
		var topics []string
		for t := range trioTopics {
			topics = append(topics, s.topic(t))
		}
		choices := s.fork()
		s.load.Go(func() { reader(ctx, Roam(s.Nodes, i, false), s.Ledger, topics, 30*time.Millisecond, choices) })
	}
	if s.churnDone == nil {
		s.churnDone = make(chan error, len(s.churners))
		for _, c := range s.churners {
			choices := s.fork()
			s.load.Go(func() { s.churnDone <- c.Churn(s.ctx, s.stopChurn, choices) })
		}
		watched, stop := context.WithCancel(s.ctx)
		s.stopWatch = stop
		s.watching.Go(func() { s.watch.Run(watched, s.Cluster, s.Ledger) })
	}
}

// Under lets the load run for a random time.
func (s *Trio) Under(low, high time.Duration) {
	wait(s.ctx, low+time.Duration(s.Rand.Int64N(int64(high-low))))
}

// Settle stops the load, waits until every lasting subscription has received everything, and runs all checks.
// All nodes must be running.
func (s *Trio) Settle(tb testing.TB) Figures {
	tb.Helper()
	s.stopLoad()
	if s.churnDone != nil {
		close(s.stopChurn)
		for range s.churners {
			select {
			case err := <-s.churnDone:
				if err != nil {
					tb.Error(err)
				}
			case <-time.After(drainWithin):
				tb.Errorf("a churning subscriber has not finished after %v", drainWithin)
			}
		}
	}
	s.load.Wait()
	s.drain(tb)
	shares := s.Even(tb, s.units())
	s.stopWatch()
	s.watching.Wait()
	s.SameState(tb)
	bad := false
	for _, err := range s.Ledger.CheckCluster(s.Bounds) {
		if err != nil {
			bad = true
			tb.Errorf("the ledger does not balance:\n%v", err)
		}
	}
	figures := s.Ledger.Figures()
	tb.Logf("%v shares %v", figures, shares)
	if bad {
		s.Ledger.logDisruptions(tb)
		s.Keep(tb)
	}
	return figures
}

// keepEnv is the environment variable that names a directory for the evidence of failures.
const keepEnv = "QUORUMHUB_CHAOS_KEEP"

// Keep writes the nodes' logs and all deliveries to the directory in QUORUMHUB_CHAOS_KEEP, if it is set.
func (s *Trio) Keep(tb testing.TB) {
	tb.Helper()
	dir := os.Getenv(keepEnv)
	if dir == "" {
		return
	}
	for i, n := range s.Nodes {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("node-%d.log", i+1)), []byte(n.Log()), 0o600); err != nil {
			tb.Error(err)
		}
	}
	var b strings.Builder
	for _, d := range s.Ledger.deliveries {
		fmt.Fprintf(&b, "%s %s %s %d %s %d %s\n", d.At.Format(clock+"000"), d.Subscription, d.ID, d.Offset, d.From, d.Reply, d.Replied.Format(clock+"000"))
	}
	if err := os.WriteFile(filepath.Join(dir, "deliveries"), []byte(b.String()), 0o600); err != nil {
		tb.Error(err)
	}
}

// logDisruptions logs the disruptions, for comparison with the nodes' logs.
func (l *Ledger) logDisruptions(tb testing.TB) {
	for _, t := range l.disruptions {
		tb.Logf("%s to %s: %s", t.Began.Format(clock), t.Ended.Format(clock), t.What)
	}
}

// drain publishes one more message to each topic and waits until all subscriptions have received everything.
func (s *Trio) drain(tb testing.TB) {
	tb.Helper()
	s.barriers++
	client := Roam(s.Nodes, 0, false)
	for t := range trioTopics {
		body := fmt.Sprintf("barrier-%d-%d", t, s.barriers)
		hubtest.EventuallyWithin(tb, 2*hubtest.Patience, "the last publish", func() error {
			if !send(client, s.Ledger, s.topic(t), newMessage(body, true, "", 0)) {
				return errors.New("not acknowledged")
			}
			return nil
		})
	}
	await(s.ctx, tb, s.Ledger)
}

// units returns how many subscriptions there are at the end, counting a group as one.
func (s *Trio) units() (n int) {
	groups := map[string]bool{}
	for _, sub := range append(s.lasting[:len(s.lasting):len(s.lasting)], s.churners...) {
		if g := sub.Terms.Group; g == "" || !groups[g] {
			groups[g] = true
			n++
		}
	}
	return n
}

// GaveUp returns how many messages of retrying publishers were refused by every node in turn, and how long
// the slowest message took.
func (s *Trio) GaveUp() (n int64, slowest time.Duration) {
	for _, o := range s.onces {
		n += o.Failed()
		slowest = max(slowest, o.Worst())
	}
	return n, slowest
}
