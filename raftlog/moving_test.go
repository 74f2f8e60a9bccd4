package raftlog_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"quorumhub/raftlog"
	"quorumhub/test/hubtest"
)

// restartAt stops all members and starts those that are not down with other addresses.
func (w *network) restartAt(addresses []string, down ...*member) {
	w.t.Helper()
	for _, m := range w.members {
		w.crash(m)
	}
	for i := range w.peers {
		w.peers[i].Address = addresses[i]
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, m := range w.members {
		if slices.Contains(down, m) {
			continue
		}
		if err := w.open(ctx, m); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, m := range w.members {
		if !slices.Contains(down, m) {
			w.ready(m)
		}
	}
}

func (w *network) addressesAre(addresses []string) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			for _, m := range w.members {
				w.t.Logf("log of %s:\n%s", m.id, w.logs[m])
				if n := w.node(m); n != nil {
					w.t.Logf("%s knows %+v", m.id, n.Members())
				}
			}
		}
	}()
	for _, m := range w.members {
		if w.node(m) == nil {
			continue
		}
		eventually(w.t, m.id+" knows all addresses", func() bool {
			for i, v := range m.node.Members() {
				if v.Address != addresses[i] || !v.Alive {
					return false
				}
			}
			return true
		})
	}
}

// All nodes are stopped and started with other addresses and the matching cluster.peers: entirely new ones, or each other's. They find
// each other by their IDs, and raft's configuration follows.
func TestAllNodesMoveAtOnce(t *testing.T) {
	a := makeAuthority(t)
	for name, change := range map[string]func(m *member, o *raftlog.Options){
		"plain": nil,
		"TLS":   func(m *member, o *raftlog.Options) { o.TLS = a.issue(m.id) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 3)
			w.change = change
			w.start()
			w.acceptsWrites(w.follower())
			was := []string{w.peers[0].Address, w.peers[1].Address, w.peers[2].Address}
			fresh := free(t, 3)
			swapped := []string{fresh[1], fresh[2], fresh[0]}
			for _, to := range [][]string{fresh, swapped, {swapped[1], swapped[0], was[2]}} {
				w.restartAt(to)
				w.acceptsWrites(w.follower())
				w.addressesAre(to)
				// Without the peers' help, too, now that it is in the log.
				eventually(t, "all have the same state", w.sameState)
			}
		})
	}
}

// One of the nodes that move stays down for a while.
func TestNodesMoveWhileOneIsDown(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	late := w.members[2]
	was := []string{w.peers[0].Address, w.peers[1].Address, w.peers[2].Address}
	to := []string{was[2], was[0], was[1]} // the one that is down had an address that another has now
	w.restartAt(to, late)
	w.acceptsWrites(w.leader())
	if err := w.open(context.Background(), late); err != nil {
		t.Fatal(err)
	}
	w.ready(late)
	w.addressesAre(to)
	eventually(t, "all have the same state", w.sameState)
}

// free returns addresses at which nobody listens, all with the same IP address.
func free(t testing.TB, n int) []string {
	t.Helper()
	addresses, err := hubtest.FreeAddrs(n)
	if err != nil {
		t.Fatal(err)
	}
	return addresses
}

// freeIP is their IP address.
func freeIP(t testing.TB) string {
	t.Helper()
	ip, _, err := net.SplitHostPort(free(t, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	return ip
}
