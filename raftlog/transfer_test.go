package raftlog_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"quorumhub/raftlog"
)

// timeoutNow is the first byte of the message by which raft's transport tells a node to stand for election.
const timeoutNow = 3

// timeouts are what becomes of these messages.
type timeouts struct {
	mu       sync.Mutex
	lost     bool          // they never arrive
	answered chan struct{} // their answers arrive once it is closed
}

// holdTimeouts has the members dial each other through connections that act on t.
func holdTimeouts(n *network, t *timeouts) {
	n.change = func(_ *member, o *raftlog.Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &heldConn{Conn: c, timeouts: t, closed: make(chan struct{})}, nil
		}
	}
}

// heldConn is a connection whose answer to a timeoutNow is held back.
type heldConn struct {
	net.Conn
	*timeouts
	once   sync.Once
	closed chan struct{}
	held   chan struct{}
}

func (c *heldConn) Write(p []byte) (int, error) {
	if len(p) == 0 || p[0] != timeoutNow {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	c.held = c.answered
	lost := c.lost
	c.mu.Unlock()
	if lost {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *heldConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held != nil && err == nil {
		select {
		case <-held:
		case <-c.closed:
		}
	}
	return n, err
}

func (c *heldConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A node that leads again while its last transfer of leadership has not been answered takes what others forward.
func TestALeaderThatIsBackFromATransferLeads(t *testing.T) {
	n := newNetwork(t, 3)
	held := &timeouts{answered: make(chan struct{})}
	holdTimeouts(n, held)
	n.start()
	n.touched()
	lead := n.leader()
	next, third := n.others(lead)[0], n.others(lead)[1]
	transfer := func(from, to *member) {
		t.Helper()
		if err := from.node.Change(t.Context(), raftlog.Change{Operation: raftlog.TransferLeadership, Node: to.id}); err != nil {
			t.Fatal(err)
		}
		eventually(t, to.id+" is elected", func() bool { return to.node.State() == "leader" })
	}
	transfer(lead, next)
	eventually(t, next.id+" leads", next.node.IsLeader)
	transfer(next, lead)
	time.Sleep(100 * time.Millisecond) // raft refuses what the leader prepares
	close(held.answered)
	eventually(t, lead.id+" leads again", lead.node.IsLeader)
	if _, err := third.node.Propose(t.Context(), publish("t", "after")); err != nil {
		t.Errorf("%s cannot write: %v", third.id, err)
	}
}

// A transfer of leadership to a node that does not answer keeps the leader from writing for as long as it may take, not until
// the network gives up.
func TestATransferThatIsNotAnsweredEnds(t *testing.T) {
	n := newNetwork(t, 3)
	held := &timeouts{lost: true, answered: make(chan struct{})}
	holdTimeouts(n, held)
	n.start()
	n.touched()
	lead := n.leader()
	next, third := n.others(lead)[0], n.others(lead)[1]
	if err := lead.node.Change(t.Context(), raftlog.Change{Operation: raftlog.TransferLeadership, Node: next.id}); err == nil {
		t.Fatal("the transfer is said to be done")
	}
	begin := time.Now()
	eventually(t, "a follower can write again", func() bool {
		_, err := third.node.Propose(t.Context(), publish("t", "after"))
		return err == nil
	})
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it could only %v after the transfer had failed", took.Round(time.Millisecond))
	}
}
