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

// quick is how soon a node without a quorum must refuse a publisher, and how much longer on a busy machine it may take.
const (
	quick = 1500 * time.Millisecond
	busy  = 3 * time.Second
)

// Fault does something to a cluster under load and undoes it.
type Fault struct {
	Name   string
	Weight int // how often it is chosen
	Do     func(tb testing.TB, s *Trio)
}

// ProcessFaults are those that need nothing of the machine but processes and signals.
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

// between draws a time.
func (s *Trio) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.Rand.Int64N(int64(high-low)))
}

func (s *Trio) follower(tb testing.TB) int {
	tb.Helper()
	return (s.Leader(tb) + 1 + s.Rand.IntN(len(s.Nodes)-1)) % len(s.Nodes)
}

// Choose draws a fault.
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

// KillFor ends a node with SIGKILL and starts it again after a while.
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

// PauseFor stops a node for a while.
func (s *Trio) PauseFor(tb testing.TB, what string, i int, d time.Duration) {
	tb.Helper()
	t := s.Ledger.Begin(what, failoverGap)
	s.Pause(tb, i)
	wait(s.ctx, d)
	s.Resume(tb, i)
	s.Ledger.End(t)
}

// killTwice kills a node, and once more while it starts.
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
		tb.Fatalf("the start that was cut off by SIGKILL: %v", err)
	}
	exited, _ := s.Nodes[i].Exited()
	<-exited
	s.Start(tb, i)
	s.Ledger.End(t)
}

// PowerCut ends all nodes at the same moment and starts them again.
func (s *Trio) PowerCut(tb testing.TB) {
	tb.Helper()
	t := s.Ledger.Begin("power cut", 0)
	s.Kill(tb, 0, 1, 2)
	wait(s.ctx, s.between(0, time.Second))
	s.Start(tb)
	s.Ledger.End(t)
}

// NoQuorum kills two nodes. The third refuses publishers quickly, with 503 and Retry-After, until they are back.
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

// refuses waits until a node that has no quorum knows it, and checks that it says so quickly then.
func (s *Trio) refuses(tb testing.TB, i int) {
	tb.Helper()
	// It may have a publish under way that it cannot tell the end of.
	hubtest.Eventually(tb, "the node knows that there is no quorum", func() error {
		v, err := s.View(i)
		if err == nil && v.Leader != "" {
			err = fmt.Errorf("it says that %s leads", v.Leader)
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

// RollingRestart stops each node in good order and starts it again, with a pause between two of them.
func (s *Trio) RollingRestart(tb testing.TB, pause time.Duration) {
	tb.Helper()
	t := s.Ledger.Begin("rolling restart", 0)
	first := s.Rand.IntN(len(s.Nodes))
	for k := range s.Nodes {
		i := (first + k) % len(s.Nodes)
		printed := len(s.Nodes[i].Log())
		if code := s.Nodes[i].Stop(tb); code != 0 {
			tb.Errorf("SIGTERM: node-%d ended with %d, want 0:\n%s", i+1, code, s.Nodes[i].Log()[printed:])
		}
		s.Start(tb, i)
		wait(s.ctx, pause)
	}
	s.Ledger.End(t)
}
