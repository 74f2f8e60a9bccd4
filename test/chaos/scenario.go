package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// SeedEnv is the environment variable that repeats the random choices of a run.
const SeedEnv = "QUORUMHUB_CHAOS_SEED"

// drainWithin is how long a subscription that is behind may receive nothing once the publishers have stopped.
// The whole backlog may take longer: slow subscribers are slow, and machines are busy.
const drainWithin = 60 * time.Second

// Scenario is a hub under load with its publishers and subscribers. Only one goroutine may call its methods.
type Scenario struct {
	Node   *hubtest.Node
	Ledger *Ledger
	Bounds Bounds
	Rand   *rand.Rand

	subscribers *Subscribers
	lasting     []*Subscription // active until the end
	churner     *Subscription   // subscribes and unsubscribes
	run         atomic.Int64    // number of the hub's current run
	publishers  []Publisher

	ctx       context.Context // of the whole scenario
	stopLoad  context.CancelFunc
	stopChurn chan struct{}
	load      sync.WaitGroup
	churnDone chan error
	barriers  int
}

// Options configures a scenario.
type Options struct {
	Settings hubtest.Settings
	// DataDir is the hub's data directory; empty means a temporary one.
	DataDir string
	// MaxSize is the size of the largest bodies; 0 means 64 KiB.
	MaxSize int
}

const (
	busyTopic = "busy" // published as fast as the hub answers
	calmTopic = "calm" // slow enough for a flaky subscriber
)

// Start starts a hub with lasting subscriptions to two topics, without load. Everything ends with the test.
func Start(tb testing.TB, o Options) *Scenario {
	tb.Helper()
	seed := seedOf(tb)
	tb.Logf("repeat the random choices with %s=%d", SeedEnv, seed)
	s := &Scenario{Ledger: NewLedger(), Rand: rand.New(rand.NewPCG(seed, 0))}

	node, err := hubtest.PrepareNode(hubtest.Options{Binary: hubtest.Binary(tb), Dir: tb.TempDir(), Settings: o.Settings})
	if err != nil {
		tb.Fatal(err)
	}
	if o.DataDir != "" { // the log must survive what happens to the data
		node.DataDir = o.DataDir
		node.Settings = node.Settings.With(hubtest.Settings{"data_dir": o.DataDir})
	}
	s.Node = node
	s.Bounds = Bounds{CursorFlush: 100 * time.Millisecond, Commit: 250 * time.Millisecond, AfterEnd: 250 * time.Millisecond}
	if s.subscribers, err = NewSubscribers(s.Ledger, func() int { return int(s.run.Load()) }, s.fork()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := node.Close(); err != nil {
			tb.Error(err)
		}
		if err := s.subscribers.Close(); err != nil {
			tb.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	s.stopLoad, s.stopChurn = func() {}, make(chan struct{})
	tb.Cleanup(func() {
		cancel()
		s.load.Wait()
	})
	node.ShowLogOnFailure(tb)

	s.Restart(tb)
	for _, sub := range []struct {
		name, topic, secret string
		terms               Terms
		manner              Manner
	}{
		{"steady", busyTopic, "", Terms{}, Steady}, {"signed", busyTopic, "a secret of the subscriber", Terms{}, Steady},
		{"slow", busyTopic, "", Terms{}, Slow}, {"calm", calmTopic, "", Terms{}, Steady},
		{"flaky", calmTopic, "another secret", Terms{}, Flaky},
		{"flaky-parallel", calmTopic, "", Terms{Mode: Parallel, Window: 8}, Flaky},
		{"flaky-keyed", calmTopic, "", Terms{Mode: Keyed, Window: 4, Key: byPointer}, Flaky},
		{"flaky-turns-1", calmTopic, "", Terms{Group: "turns"}, Flaky}, {"flaky-turns-2", calmTopic, "", Terms{Group: "turns"}, Flaky},
	} {
		lasting := s.subscription(sub.name, sub.topic, sub.secret, sub.terms, sub.manner)
		if _, err := lasting.Begin(s.patient(tb)); err != nil {
			tb.Fatal(err)
		}
		s.lasting = append(s.lasting, lasting)
	}
	s.churner = s.subscription("churner", busyTopic, "", Terms{}, Steady)
	size := o.MaxSize
	if size == 0 {
		size = 64 << 10
	}
	busy, calm := node.TopicURL(busyTopic), node.TopicURL(calmTopic)
	s.publishers = []Publisher{
		{Name: "plain-1", Topic: busy, MaxSize: size},
		{Name: "plain-2", Topic: busy, MaxSize: size},
		{Name: "keyed-1", Topic: busy, MaxSize: size, Keyed: true},
		{Name: "paced-1", Topic: calm, MaxSize: size, Every: 12 * time.Millisecond},
		{Name: "keyed-2", Topic: calm, MaxSize: size, Every: 12 * time.Millisecond, Keyed: true},
	}
	return s
}

func seedOf(tb testing.TB) uint64 {
	tb.Helper()
	given := os.Getenv(SeedEnv)
	if given == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(given, 10, 64)
	if err != nil {
		tb.Fatalf("%s=%q is not a number", SeedEnv, given)
	}
	return seed
}

// Choices returns a source of random choices that QUORUMHUB_CHAOS_SEED repeats.
func Choices(tb testing.TB) *rand.Rand {
	tb.Helper()
	return rand.New(rand.NewPCG(seedOf(tb), 1))
}

// fork returns a source of random choices for another goroutine.
func (s *Scenario) fork() *rand.Rand { return rand.New(rand.NewPCG(s.Rand.Uint64(), s.Rand.Uint64())) }

func (s *Scenario) subscription(name, topic, secret string, t Terms, m Manner) *Subscription {
	url := s.Node.TopicURL(topic)
	return &Subscription{
		Name: name, Topic: url, Secret: secret, Terms: t, Callback: s.subscribers.Add(name, url, secret, m), hub: s.Node, ledger: s.Ledger,
	}
}

// patient returns a context for something that must happen soon.
func (s *Scenario) patient(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(s.ctx, hubtest.Patience)
	tb.Cleanup(cancel)
	return ctx
}

// Load starts the publishers and the subscriber that subscribes and unsubscribes.
func (s *Scenario) Load() {
	ctx, cancel := context.WithCancel(s.ctx)
	s.stopLoad = cancel
	for _, p := range s.publishers {
		choices := s.fork()
		s.load.Go(func() { p.Run(ctx, s.Node, s.Ledger, choices) })
	}
	if s.churnDone == nil {
		s.churnDone = make(chan error, 1)
		choices := s.fork()
		s.load.Go(func() { s.churnDone <- s.churner.Churn(s.ctx, s.stopChurn, choices) })
	}
}

// Under lets the load run for a random time and returns it.
func (s *Scenario) Under(low, high time.Duration) time.Duration {
	d := low + time.Duration(s.Rand.Int64N(int64(high-low)))
	wait(s.ctx, d)
	return d
}

// Kill ends the hub with SIGKILL.
func (s *Scenario) Kill(tb testing.TB) {
	tb.Helper()
	s.Ledger.Ending(Killed)
	s.Node.Kill(tb)
}

// Stop ends the hub with SIGTERM, which must succeed.
func (s *Scenario) Stop(tb testing.TB) {
	tb.Helper()
	s.Ledger.Ending(Stopped)
	if code := s.Node.Stop(tb); code != 0 {
		tb.Fatalf("SIGTERM: exit code %d, want 0", code)
	}
}

// Restart starts the hub's next run and waits until it is ready.
func (s *Scenario) Restart(tb testing.TB) {
	tb.Helper()
	s.run.Store(int64(s.Ledger.Starting()))
	s.Node.Restart(tb)
}

// RestartAndKill starts the hub's next run and kills it after d, ready or not.
func (s *Scenario) RestartAndKill(tb testing.TB, d time.Duration) {
	tb.Helper()
	s.run.Store(int64(s.Ledger.Starting()))
	before := s.Node.PID()
	started := make(chan error, 1)
	go func() { started <- s.Node.Run() }()
	hubtest.Eventually(tb, "the next process", func() error {
		if s.Node.PID() == before {
			return errors.New("not yet")
		}
		return nil
	})
	wait(s.ctx, d)
	s.Ledger.Ending(Killed)
	if err := syscall.Kill(s.Node.PID(), syscall.SIGKILL); err != nil {
		tb.Errorf("kill: %v", err)
	}
	err := <-started
	var refused *hubtest.StartError
	if err != nil && (!errors.As(err, &refused) || refused.Code != -1) {
		tb.Fatalf("the start interrupted by SIGKILL: %v", err)
	}
	exited, _ := s.Node.Exited()
	<-exited
}

// Settle stops the load, waits until every lasting subscription has received everything, and runs all checks.
// The hub must be running.
func (s *Scenario) Settle(tb testing.TB) {
	tb.Helper()
	s.stopLoad()
	if s.churnDone != nil {
		close(s.stopChurn)
		if err := s.awaitChurn(); err != nil {
			tb.Fatal(err)
		}
	}
	s.load.Wait()
	s.Drain(tb)
	if err := s.Ledger.Check(s.Bounds); err != nil {
		tb.Fatalf("%s; the ledger shows errors:\n%v", s.Ledger.Summary(), err)
	}
	for _, sub := range s.subscribed() {
		last := s.Ledger.LastAcknowledged(sub.Topic)
		s.Node.WaitSubscription(tb, sub.Topic, sub.Callback, "no lag", func(found hubtest.Subscription) bool {
			return found.State == "active" && found.Lag == 0 && found.Cursor == last
		})
	}
	tb.Logf("%s; repeats after each end of a run, in descending order: %v", s.Ledger.Summary(), s.Ledger.DuplicatesByRun())
}

// subscribed returns the subscriptions that stay until the end.
func (s *Scenario) subscribed() []*Subscription {
	if s.churnDone == nil {
		return s.lasting
	}
	return append([]*Subscription{s.churner}, s.lasting...)
}

func (s *Scenario) awaitChurn() error {
	timer := time.NewTimer(drainWithin)
	defer timer.Stop()
	select {
	case err := <-s.churnDone:
		return err
	case <-timer.C:
		return fmt.Errorf("the churning subscriber has not finished after %v", drainWithin)
	}
}

// Drain publishes one more message to each topic and waits until all subscriptions have received everything.
// A subscription that does not get there in time is left for the checks to report.
func (s *Scenario) Drain(tb testing.TB) {
	tb.Helper()
	s.barriers++
	for _, topic := range []string{busyTopic, calmTopic} {
		body := fmt.Sprintf("barrier-%s-%d", topic, s.barriers)
		url := s.Node.TopicURL(topic)
		hubtest.Eventually(tb, "the last publish", func() error {
			if !send(s.Node, s.Ledger, url, newMessage(body, true, "", 0)) {
				return errors.New("not acknowledged")
			}
			return nil
		})
	}
	await(s.ctx, tb, s.Ledger)
}

// await waits until every unit has received everything due. It reports units that are incomplete and no
// longer receive anything.
func await(ctx context.Context, tb testing.TB, l *Ledger) {
	tb.Helper()
	start := time.Now()
	for {
		missing := l.Missing()
		if len(missing) == 0 {
			return
		}
		for unit, n := range missing {
			still := start
			if at := l.LastAccepted(unit); at.After(still) {
				still = at
			}
			if time.Since(still) > drainWithin {
				tb.Errorf("%s lacks %d messages and has received nothing for %v", unit, n, drainWithin)
				return
			}
		}
		wait(ctx, missingPause)
	}
}

// missingPause is the interval between two passes over the whole ledger.
const missingPause = 100 * time.Millisecond
