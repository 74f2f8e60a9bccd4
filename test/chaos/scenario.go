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

// SeedEnv names the environment variable that repeats the random choices of a run.
const SeedEnv = "QUORUMHUB_CHAOS_SEED"

// drainWithin is how long nothing may come to a subscription that is behind when the publishers have stopped. How
// long the whole backlog takes is no fault: slow subscribers are slow, and machines are busy.
const drainWithin = 60 * time.Second

// Scenario is a hub under load with everyone around it. Its methods are called by one goroutine.
type Scenario struct {
	Node   *hubtest.Node
	Ledger *Ledger
	Bounds Bounds
	Rand   *rand.Rand

	subscribers *Subscribers
	lasting     []*Subscription // until the end
	comer       *Subscription   // comes and goes
	run         atomic.Int64    // the current life
	publishers  []Publisher

	ctx       context.Context // of the whole scenario
	stopLoad  context.CancelFunc
	stopComer chan struct{}
	load      sync.WaitGroup
	comerDone chan error
	barriers  int
}

// Options of a scenario.
type Options struct {
	Settings hubtest.Settings
	// DataDir is the hub's data directory. Empty: a temporary one.
	DataDir string
	// MaxSize is the size of the largest bodies. 0: 64 KiB.
	MaxSize int
}

const (
	busyTopic = "busy" // published as fast as the hub answers
	calmTopic = "calm" // slow enough for a flaky subscriber
)

// Start starts a hub with lasting subscriptions at two topics and no load yet.
// Everything ends with the test.
func Start(tb testing.TB, o Options) *Scenario {
	tb.Helper()
	seed := seedOf(tb)
	tb.Logf("to repeat the random choices: %s=%d", SeedEnv, seed)
	s := &Scenario{Ledger: NewLedger(), Rand: rand.New(rand.NewPCG(seed, 0))}

	node, err := hubtest.PrepareNode(hubtest.Options{Binary: hubtest.Binary(tb), Dir: tb.TempDir(), Settings: o.Settings})
	if err != nil {
		tb.Fatal(err)
	}
	if o.DataDir != "" { // the log is not to share its fate
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
	s.stopLoad, s.stopComer = func() {}, make(chan struct{})
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
	s.comer = s.subscription("comer", busyTopic, "", Terms{}, Steady)
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
		tb.Fatalf("%s=%q is no number", SeedEnv, given)
	}
	return seed
}

// Choices is a source of random choices that QUORUMHUB_CHAOS_SEED repeats.
func Choices(tb testing.TB) *rand.Rand {
	tb.Helper()
	return rand.New(rand.NewPCG(seedOf(tb), 1))
}

// fork returns a source of choices for another goroutine.
func (s *Scenario) fork() *rand.Rand { return rand.New(rand.NewPCG(s.Rand.Uint64(), s.Rand.Uint64())) }

func (s *Scenario) subscription(name, topic, secret string, t Terms, m Manner) *Subscription {
	url := s.Node.TopicURL(topic)
	return &Subscription{
		Name: name, Topic: url, Secret: secret, Terms: t, Callback: s.subscribers.Add(name, url, secret, m), hub: s.Node, ledger: s.Ledger,
	}
}

// patient is a context for something that must happen soon.
func (s *Scenario) patient(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(s.ctx, hubtest.Patience)
	tb.Cleanup(cancel)
	return ctx
}

// Load starts the publishers and the subscriber that comes and goes.
func (s *Scenario) Load() {
	ctx, cancel := context.WithCancel(s.ctx)
	s.stopLoad = cancel
	for _, p := range s.publishers {
		choices := s.fork()
		s.load.Go(func() { p.Run(ctx, s.Node, s.Ledger, choices) })
	}
	if s.comerDone == nil {
		s.comerDone = make(chan error, 1)
		choices := s.fork()
		s.load.Go(func() { s.comerDone <- s.comer.ComeAndGo(s.ctx, s.stopComer, choices) })
	}
}

// Under lets the load run for a random time.
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

// Stop ends the hub with SIGTERM, which must be a success.
func (s *Scenario) Stop(tb testing.TB) {
	tb.Helper()
	s.Ledger.Ending(Stopped)
	if code := s.Node.Stop(tb); code != 0 {
		tb.Fatalf("SIGTERM: exit code %d, want 0", code)
	}
}

// Restart starts the next life of the hub and waits until it is ready.
func (s *Scenario) Restart(tb testing.TB) {
	tb.Helper()
	s.run.Store(int64(s.Ledger.Starting()))
	s.Node.Restart(tb)
}

// RestartAndKill starts the next life of the hub and kills it after d, ready or not.
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
		tb.Fatalf("the start that was cut off by SIGKILL: %v", err)
	}
	exited, _ := s.Node.Exited()
	<-exited
}

// Settle stops the load, waits until every lasting subscription has got everything, and runs all checks. The hub
// must be running.
func (s *Scenario) Settle(tb testing.TB) {
	tb.Helper()
	s.stopLoad()
	if s.comerDone != nil {
		close(s.stopComer)
		if err := s.awaitComer(); err != nil {
			tb.Fatal(err)
		}
	}
	s.load.Wait()
	s.Drain(tb)
	if err := s.Ledger.Check(s.Bounds); err != nil {
		tb.Fatalf("%s; the ledger does not balance:\n%v", s.Ledger.Summary(), err)
	}
	for _, sub := range s.subscribed() {
		last := s.Ledger.LastAcknowledged(sub.Topic)
		s.Node.WaitSubscription(tb, sub.Topic, sub.Callback, "no lag", func(found hubtest.Subscription) bool {
			return found.State == "active" && found.Lag == 0 && found.Cursor == last
		})
	}
	tb.Logf("%s; repeated after each end, most first: %v", s.Ledger.Summary(), s.Ledger.DuplicatesByLife())
}

// subscribed are the subscriptions that are there to stay.
func (s *Scenario) subscribed() []*Subscription {
	if s.comerDone == nil {
		return s.lasting
	}
	return append([]*Subscription{s.comer}, s.lasting...)
}

func (s *Scenario) awaitComer() error {
	timer := time.NewTimer(drainWithin)
	defer timer.Stop()
	select {
	case err := <-s.comerDone:
		return err
	case <-timer.C:
		return fmt.Errorf("the subscriber that comes and goes is not done after %v", drainWithin)
	}
}

// Drain publishes one more message to each topic and waits until all of them are everywhere. A subscription that they do
// not reach in time is left for the checks to name.
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

// await waits until everything is where it is owed. Units that do not come to it, though nothing is sent to them any more,
// are named.
func await(ctx context.Context, tb testing.TB, l *Ledger) {
	tb.Helper()
	start := time.Now()
	for {
		owing := l.Owing()
		if len(owing) == 0 {
			return
		}
		for unit, n := range owing {
			still := start
			if at := l.LastTaken(unit); at.After(still) {
				still = at
			}
			if time.Since(still) > drainWithin {
				tb.Errorf("%s has not got %d messages, and nothing else for %v", unit, n, drainWithin)
				return
			}
		}
		wait(ctx, owingPause)
	}
}

// owingPause is how long to wait between two looks at the whole ledger.
const owingPause = 100 * time.Millisecond
