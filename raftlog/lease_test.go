package raftlog_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// wires are the connections of a network, which can be cut.
type wires struct {
	mu   sync.Mutex
	cut  map[[2]string]bool // from and to, by id
	open map[net.Conn][2]string
	ids  map[string]string // of addresses
}

// wire has the members dial each other through w. What is cut is closed, and refused from then on.
func wire(n *network) *wires {
	w := &wires{cut: map[[2]string]bool{}, open: map[net.Conn][2]string{}, ids: map[string]string{}}
	for _, p := range n.peers {
		w.ids[p.Address] = p.ID
	}
	n.change = func(m *member, o *raftlog.Options) {
		o.Dial = func(ctx context.Context, kind, address string) (net.Conn, error) {
			return w.dial(ctx, kind, m.id, address)
		}
	}
	return w
}

func (w *wires) dial(ctx context.Context, kind, from, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	way := [2]string{from, w.ids[address]}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[way] {
		return nil, errors.Join(errors.New("cut"), c.Close())
	}
	w.open[c] = way
	return c, nil
}

// part keeps two members from talking to each other.
func (w *wires) part(a, b *member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]string{a.id, b.id}], w.cut[[2]string{b.id, a.id}] = true, true
	for c, way := range w.open {
		if w.cut[way] {
			c.Close()
			delete(w.open, c)
		}
	}
}

func (w *network) others(m *member) (out []*member) {
	for _, o := range w.members {
		if o != m {
			out = append(out, o)
		}
	}
	return out
}

// touched waits until every member has had contact a moment ago.
func (w *network) touched() {
	w.t.Helper()
	eventually(w.t, "everybody has contact", func() bool {
		for _, m := range w.members {
			if m.node.Contact() > 500*time.Millisecond {
				return false
			}
		}
		return true
	})
}

// TestI4SteppingDownIsNoContact: the lease of a leader that is cut off counts from the last answer of a quorum, also when it
// has stepped down and stands for election.
func TestI4SteppingDownIsNoContact(t *testing.T) {
	n := newNetwork(t, 3)
	w := wire(n)
	n.start()
	n.touched()
	lead := n.leader()
	for _, o := range n.others(lead) {
		w.part(lead, o)
	}
	cut := time.Now()
	eventually(t, "it steps down", func() bool { return lead.node.State() != "leader" })
	for time.Since(cut) < time.Second {
		if contact, since := lead.node.Contact(), time.Since(cut); contact < since-20*time.Millisecond {
			t.Fatalf("%v after it was cut off, the last contact is %v old", since, contact)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// handOver makes one member lead instead of another, if that one leads, also when a slow machine has made it lead. It returns false.
func handOver(from, to *member) bool {
	if from.node.IsLeader() {
		_ = from.node.Change(context.Background(), raftlog.Change{Operation: raftlog.TransferLeadership, Node: to.id})
	}
	return false
}

// TestI4ANewLeaderCountsFromTheLastLease: that a new leader has not heard of a node for long says nothing while another one led
// that did.
func TestI4ANewLeaderCountsFromTheLastLease(t *testing.T) {
	n := newNetwork(t, 3)
	w := wire(n)
	n.start()
	n.touched()
	lead := n.leader()
	owner, next := n.others(lead)[0], n.others(lead)[1]
	w.part(owner, next)
	time.Sleep(hub.ContactLease + 200*time.Millisecond) // until next counts owner as dead
	eventually(t, "the owner has contact, for the leader hears it", func() bool {
		return owner.node.Contact() < time.Second || handOver(next, lead)
	})
	eventually(t, "the next leader counts", func() bool {
		if !next.node.IsLeader() {
			return handOver(lead, next) || handOver(owner, lead) // the owner cannot reach the next leader
		}
		i := slices.IndexFunc(next.node.Nodes(), func(s hub.NodeStatus) bool { return s.ID == owner.id })
		dead := next.node.Nodes()[i].DeadFor
		if contact := owner.node.Contact(); dead > contact { // looked at later, so it is older
			t.Fatalf("the new leader counts %v, the owner's last contact is %v old", dead, contact)
		}
		return dead > time.Second
	})
}
