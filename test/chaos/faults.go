package chaos

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// failoverGap is how long deliveries may pause when a node dies or stops.
const failoverGap = 4 * time.Second

// A node without a quorum must refuse a publisher within quick, or within busy in proportion to the load of
// the machine.
const (
	quick = 1500 * time.Millisecond
	busy  = 3 * time.Second
)

// Fault disrupts a cluster under load and undoes the disruption.
type Fault struct {
	Name   string
	Weight int // relative frequency
	Do     func(tb testing.TB, s *Trio)
}

// ProcessFaults are the faults that need only processes and signals.
func ProcessFaults() []Fault {
	return []Fault{
		{"SIGKILL of the leader", 5, func(tb testing.TB, s *Trio) { s.killFor(tb, "SIGKILL of the leader", s.Leader(tb)) }},
		{"SIGKILL of a follower", 4, func(tb testing.TB, s *Trio) { s.killFor(tb, "SIGKILL of a follower", s.follower(tb)) }},
		{"SIGSTOP of the leader", 4, func(tb testing.TB, s *Trio) {
			s.PauseFor(tb, "SIGSTOP of the leader", s.Leader(tb), s.between(time.Second, 6*time.Second))
		}},
		{"SIGSTOP of a follower", 4, func(tb testing.TB, s *Trio) {
			s.PauseFor(tb, "SIGSTOP of a follower", s.follower(tb), s.between(time.Second, 6*time.Second))
		}},
		{"power cut", 2, func(tb testing.TB, s *Trio) { s.PowerCut(tb) }},
		{"no quorum", 2, func(tb testing.TB, s *Trio) { s.NoQuorum(tb) }},
		{"rolling restart", 1, func(tb testing.TB, s *Trio) { s.RollingRestart(tb, 500*time.Millisecond) }},
		{"SIGKILL while it starts", 2, func(tb testing.TB, s *Trio) { s.killTwice(tb) }},
	}
}

// between returns a random time.
func (s *Trio) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.Rand.Int64N(int64(high-low)))
}

func (s *Trio) follower(tb testing.TB) int {
	tb.Helper()
	return (s.Leader(tb) + 1 + s.Rand.IntN(len(s.Nodes)-1)) % len(s.Nodes)
}

// Choose returns a random fault.
func (s *Trio) Choose(faults []Fault) Fault {
	sum := 0
	for _, f := range faults {
		sum += f.Weight
	}
	n := s.Rand.IntN(sum)
	for _, f := range faults {
		if n -= f.Weight; n < 0 {
			return f
		}
	}
	panic("weights changed")
}

// KillFor kills a node with SIGKILL and starts it again after down.
func (s *Trio) KillFor(tb testing.TB, what string, i int, down time.Duration) {
	tb.Helper()
	t := s.Ledger.Begin(what, failoverGap)
	s.Kill(tb, i)
	wait(s.ctx, down)
	s.Start(tb, i)
	s.Ledger.End(t)
}

func (s *Trio) killFor(tb testing.TB, what string, i int) {
	tb.Helper()
	s.KillFor(tb, what, i, s.between(0, 5*time.Second))
}

// PauseFor stops a node with SIGSTOP for d.
func (s *Trio) PauseFor(tb testing.TB, what string, i int, d time.Duration) {
	tb.Helper()
	t := s.Ledger.Begin(what, failoverGap)
	s.Pause(tb, i)
	wait(s.ctx, d)
	s.Resume(tb, i)
	s.Ledger.End(t)
}

// killTwice kills a node, and again while it starts.
func (s *Trio) killTwice(tb testing.TB) {
	tb.Helper()
	i := s.Rand.IntN(len(s.Nodes))
	t := s.Ledger.Begin("SIGKILL twice", 0)
	s.Kill(tb, i)
	before := s.Nodes[i].PID()
	started := make(chan error, 1)
	go func() { started <- s.Nodes[i].Run() }()
	hubtest.Eventually(tb, "the next process", func() error {
		if s.Nodes[i].PID() == before {
			return errors.New("not yet")
		}
		return nil
	})
	wait(s.ctx, s.between(0, 1200*time.Millisecond))
	if err := syscall.Kill(s.Nodes[i].PID(), syscall.SIGKILL); err != nil {
		tb.Errorf("kill: %v", err)
	}
	err := <-started
	if refused := new(hubtest.StartError); err != nil && (!errors.As(err, &refused) || refused.Code != -1) {
		tb.Fatalf("the start interrupted by SIGKILL: %v", err)
	}
	exited, _ := s.Nodes[i].Exited()
	<-exited
	s.Start(tb, i)
	s.Ledger.End(t)
}

// PowerCut kills all nodes at the same moment and starts them again.
func (s *Trio) PowerCut(tb testing.TB) {
	tb.Helper()
	t := s.Ledger.Begin("power cut", 0)
	s.Kill(tb, 0, 1, 2)
	wait(s.ctx, s.between(0, time.Second))
	s.Start(tb)
	s.Ledger.End(t)
}

// NoQuorum kills two nodes. Until they are back the third quickly refuses publishers with 503 and
// Retry-After.
func (s *Trio) NoQuorum(tb testing.TB) {
	tb.Helper()
	t := s.Ledger.Begin("no quorum", 0)
	last := s.Rand.IntN(len(s.Nodes))
	dead := []int{(last + 1) % 3, (last + 2) % 3}
	s.Kill(tb, dead...)
	s.refuses(tb, last)
	s.Start(tb, dead...)
	s.Ledger.End(t)
}

// refuses waits until a node notices that it has no quorum, and checks that it then refuses publishers
// quickly.
func (s *Trio) refuses(tb testing.TB, i int) {
	tb.Helper()
	// A publish may be in flight whose outcome the node cannot know.
	hubtest.Eventually(tb, "a node that notices the lost quorum", func() error {
		v, err := s.View(i)
		if err == nil && v.Leader != "" {
			err = fmt.Errorf("it reports %s as the leader", v.Leader)
		}
		return err
	})
	for n := range 3 {
		began := time.Now()
		reply, err := s.Nodes[i].Send(http.MethodPost, hubtest.PublishTarget(s.topic(0)), hubtest.Headers("Idempotency-Key", "probe"), nil)
		took := time.Since(began)
		switch {
		case err != nil:
			tb.Errorf("a publish to the node without a quorum: %v", err)
		case reply.Status != http.StatusServiceUnavailable || reply.Header.Get("Retry-After") == "":
			tb.Errorf("a publish to the node without a quorum: got %v, Retry-After %q; want 503", reply, reply.Header.Get("Retry-After"))
		case float64(took) > max(float64(quick), float64(busy)*(s.watch.Load(began, time.Now())-1)):
			tb.Errorf("a publish to the node without a quorum was refused after %v", took)
		}
		if n == 0 {
			s.noQuorum = max(s.noQuorum, took)
		}
	}
}

// RollingRestart stops each node gracefully and starts it again, with a pause between nodes.
func (s *Trio) RollingRestart(tb testing.TB, pause time.Duration) {
	tb.Helper()
	t := s.Ledger.Begin("rolling restart", 0)
	first := s.Rand.IntN(len(s.Nodes))
	for k := range s.Nodes {
		i := (first + k) % len(s.Nodes)
		printed := len(s.Nodes[i].Log())
		if code := s.Nodes[i].Stop(tb); code != 0 {
			tb.Errorf("SIGTERM: node-%d exited with code %d, want 0:\n%s", i+1, code, s.Nodes[i].Log()[printed:])
		}
		s.Start(tb, i)
		wait(s.ctx, pause)
	}
	s.Ledger.End(t)
}
