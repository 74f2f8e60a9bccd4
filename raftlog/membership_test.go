package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// growing is a network whose nodes vote soon after they have joined.
func growing(t testing.TB, n int) *network {
	w := newNetwork(t, n)
	w.change = func(_ *member, o *raftlog.Options) { o.Autopilot.Stabilization = 200 * time.Millisecond }
	return w
}

// join starts one more node.
func (w *network) join(id string) *member {
	w.t.Helper()
	m := w.add(id)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, m); err != nil {
		w.t.Fatalf("join %s: %v\n%s", id, err, w.logs[m])
	}
	w.ready(m)
	return m
}

// voters are the ids of the voters and of the others, as the leader sees them.
func (w *network) voters() (voters, others []string) {
	for _, m := range w.leader().node.Members() {
		if m.Voter {
			voters = append(voters, m.ID)
		} else {
			others = append(others, m.ID)
		}
	}
	return voters, others
}

func (w *network) votersAre(ids ...string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprint("the voters are ", ids), func() bool { v, _ := w.voters(); return slices.Equal(v, ids) })
}

func (w *network) must(c raftlog.Change) {
	w.t.Helper()
	if err := w.do(w.leader(), c); err != nil {
		w.t.Fatalf("%+v: %v", c, err)
	}
}

func (w *network) do(m *member, c raftlog.Change) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return m.node.Change(ctx, c)
}

// refuses checks that a change is refused with one line that says the words.
func (w *network) refuses(c raftlog.Change, code hub.Code, words string) {
	w.t.Helper()
	for _, m := range []*member{w.leader(), w.follower()} {
		err := w.do(m, c)
		if hub.CodeOf(err) != code || err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			w.t.Errorf("%+v asked of %s: %v (%d), want code %d and %q", c, m.id, err, hub.CodeOf(err), code, words)
		}
	}
}

// gone waits until a node has learnt that it was removed, and ends it.
func (w *network) gone(m *member) {
	w.t.Helper()
	select {
	case <-m.node.Removed():
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%s does not notice that it was removed:\n%s", m.id, w.logs[m])
	}
	// Who refuses it is not removed itself.
	for _, o := range w.members {
		if o == m || o.node == nil {
			continue
		}
		eventually(w.t, o.id+" does not talk to "+m.id, func() bool { return o.node.Dial(context.Background(), w.address(m)) != nil })
		select {
		case <-o.node.Removed():
			w.t.Errorf("%s takes itself for removed", o.id)
		default:
		}
	}
	w.take(m)
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == m })
}

// goesOn waits until a node takes a message; a busy machine may be without a leader for a moment.
func (w *network) goesOn(m *member) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			for _, m := range w.members {
				w.t.Logf("log of %s:\n%s", m.id, w.logs[m])
			}
		}
	}()
	eventually(w.t, "the cluster takes a message", func() bool {
		_, err := m.node.Propose(context.Background(), publish("a", "x"))
		return err == nil
	})
}

// From one node to five and back to one, leaders removed on the way, with writers all the time: nothing acknowledged
// is lost.
func TestI1GrowAndShrinkUnderLoad(t *testing.T) {
	w := growing(t, 1)
	w.start()
	l := newLedger()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	node := func() *raftlog.Node { // whichever leads
		w.mu.RLock()
		defer w.mu.RUnlock()
		for _, m := range w.members {
			if m.node != nil && m.node.IsLeader() {
				return m.node
			}
		}
		return nil
	}
	for i := range 4 {
		writers.Go(func() { l.publish(stop, i, node) })
	}
	var ids []string
	for i := range 5 {
		id := fmt.Sprintf("node-%d", i+1)
		if i > 0 {
			w.join(id)
		}
		if ids = append(ids, id); i != 1 {
			w.votersAre(ids...)
		}
	}
	for len(w.members) > 1 {
		lead := w.leader()
		w.must(raftlog.Change{Operation: raftlog.RemoveNode, Node: lead.id})
		select {
		case <-lead.node.Removed():
		case <-time.After(20 * time.Second):
			t.Fatalf("%s does not notice that it was removed:\n%s", lead.id, w.logs[lead])
		}
		w.mu.Lock()
		w.members = slices.DeleteFunc(slices.Clone(w.members), func(o *member) bool { return o == lead })
		lead.kill()
		w.mu.Unlock()
	}
	close(stop)
	writers.Wait()
	last := w.leader()
	if err := errors.Join(l.check(last.store), last.noFailure()); err != nil {
		t.Error(err)
	}
	if v, o := w.voters(); len(v) != 1 || len(o) != 0 {
		t.Errorf("left are %v and %v", v, o)
	}
	t.Logf("%d acknowledged, %d attempts without an answer", l.told, l.unknown)
	if l.told < 50 {
		t.Error("too little was acknowledged to show anything")
	}
}

func TestARemovedNodeStaysAway(t *testing.T) {
	w := growing(t, 3)
	w.start()
	w.votersAre("node-1", "node-2", "node-3")
	f := w.follower()
	asleep := w.members[slices.IndexFunc(w.members, func(m *member) bool { return m != f && m != w.leader() })]

	// One that runs notices, and does not start again.
	joiner := w.join("node-4")
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	eventually(t, "it is on record", func() bool {
		return w.do(f, raftlog.Change{Operation: raftlog.RemoveNode, Node: "node-4"}) == nil
	})
	select {
	case <-joiner.node.Removed():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not notice that it was removed")
	}
	w.take(joiner)
	err := w.open(context.Background(), joiner)
	mustProblem(t, err, "node.json", "was removed from its cluster", "new cluster.node_id")

	// Nor under its id with other files.
	joiner.dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, joiner); !raftlog.IsRefusal(err) || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("wiped, under the same id: %v", err)
	}
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == joiner })
	w.refuses(raftlog.Change{Operation: raftlog.AddNode, Node: "node-4", Address: "127.0.0.1:1"}, hub.CodeConflict, "choose another")

	// One that was down is told when it comes back.
	w.take(asleep)
	eventually(t, "the dead node can be removed", func() bool {
		return w.do(w.leader(), raftlog.Change{Operation: raftlog.RemoveNode, Node: asleep.id}) == nil
	})
	eventually(t, "it is no member", func() bool { return len(w.leader().node.Members()) == 2 })
	if err := w.leader().node.AwaitRemoval(ctx, asleep.id); err != nil {
		t.Error(err)
	}
	if err := w.open(context.Background(), asleep); err != nil {
		t.Fatal(err)
	}
	w.gone(asleep)
	w.goesOn(f)
}

func TestAWipedLaterMemberMustComeBackUnderANewID(t *testing.T) {
	w := growing(t, 3)
	w.start()
	m := w.join("node-4")
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	w.take(m)
	m.dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, m); !raftlog.IsRefusal(err) || !strings.Contains(err.Error(), "new cluster.node_id") {
		t.Fatalf("the wiped node: %v", err)
	}
	// Under a new id at the same address it has to wait until the old one is removed.
	again := newMember(t, "node-5")
	again.dir = m.dir + "/new"
	w.members[3], w.logs[again] = again, new(logBuffer)
	w.peers[3].ID = "node-5"
	opened := make(chan error, 1)
	go func() { opened <- w.open(ctx, again) }()
	eventually(t, "it is told what to do", func() bool {
		return strings.Contains(w.logs[again].String(), "quorumhub cluster remove node-4")
	})
	w.must(raftlog.Change{Operation: raftlog.RemoveNode, Node: "node-4"})
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.votersAre("node-1", "node-2", "node-3", "node-5")
}

// A node without a vote holds everything, until an operator gives it one.
func TestPermanentNonvoters(t *testing.T) {
	w := growing(t, 1)
	own := w.change
	w.change = func(m *member, o *raftlog.Options) {
		own(m, o)
		o.Nonvoter = m.id != "node-1"
	}
	w.start()
	m := w.join("node-2")
	w.goesOn(m)
	eventually(t, "it has the message", func() bool { _, n := m.hash(); return n > 0 })
	time.Sleep(time.Second) // five times as long as a voter has to wait
	if v, o := w.voters(); len(v) != 1 || len(o) != 1 {
		t.Errorf("voters %v, others %v", v, o)
	}
	w.refuses(raftlog.Change{Operation: raftlog.TransferLeadership, Node: "node-2"}, hub.CodeConflict, "is not a voter")
	w.must(raftlog.Change{Operation: raftlog.PromoteNode, Node: "node-2"})
	w.votersAre("node-1", "node-2")
	w.must(raftlog.Change{Operation: raftlog.TransferLeadership})
	eventually(t, "the other one leads", func() bool { return w.leader() == m })
	w.must(raftlog.Change{Operation: raftlog.DemoteNode, Node: "node-2"}) // the leader itself
	w.votersAre("node-1")
	time.Sleep(time.Second) // in which nobody may give it its vote back
	w.votersAre("node-1")
}

func TestNobodyBreaksTheQuorum(t *testing.T) {
	w := growing(t, 3)
	w.start()
	w.refuses(raftlog.Change{Operation: raftlog.RemoveNode, Node: "node-9"}, hub.CodeNotFound, "its nodes are node-1, node-2, node-3")
	w.refuses(raftlog.Change{Operation: raftlog.PromoteNode}, hub.CodeInvalid, "node")
	w.refuses(raftlog.Change{Operation: "explode", Node: "node-1"}, hub.CodeInvalid, "operation")
	w.refuses(raftlog.Change{Operation: raftlog.AddNode, Node: "node-1", Address: "127.0.0.1:1"}, hub.CodeConflict, "is already a node of this cluster")
	w.refuses(raftlog.Change{Operation: raftlog.AddNode, Node: "node-4", Address: "nowhere.invalid:8180"}, hub.CodeInvalid, "cannot resolve")
	w.refuses(raftlog.Change{Operation: raftlog.AddNode, Node: "node-4", Address: "10.1.2.3:8180"}, hub.CodeInvalid, "plain TCP")
	w.refuses(raftlog.Change{Operation: raftlog.AddNode, Node: "node-4", Address: w.peers[0].Address}, hub.CodeConflict, "is the address of node-1")
	dead := w.follower()
	w.take(dead)
	lead := w.leader()
	eventually(t, "it is seen to be dead", func() bool {
		return slices.ContainsFunc(lead.node.Members(), func(m raftlog.Member) bool { return m.ID == dead.id && !m.Alive })
	})
	for _, m := range w.members {
		if m != dead {
			w.refuses(raftlog.Change{Operation: raftlog.RemoveNode, Node: m.id}, hub.CodeConflict, "of them alive")
			w.refuses(raftlog.Change{Operation: raftlog.DemoteNode, Node: m.id}, hub.CodeConflict, "of them alive")
		}
	}
	w.refuses(raftlog.Change{Operation: raftlog.TransferLeadership, Node: dead.id}, hub.CodeConflict, "not healthy")
	eventually(t, "the dead one can be removed", func() bool {
		return w.do(lead, raftlog.Change{Operation: raftlog.RemoveNode, Node: dead.id}) == nil
	})
	eventually(t, "two voters are left", func() bool { v, _ := w.voters(); return len(v) == 2 })
}

func TestAMovedNodeKeepsItsPlace(t *testing.T) {
	w := growing(t, 3)
	w.start()
	for _, moved := range []*member{w.follower(), w.leader()} {
		w.take(moved)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		w.peers = slices.Clone(w.peers)
		for i := range w.peers {
			if w.peers[i].ID == moved.id {
				w.peers[i].Address = address
			}
		}
		if err := w.open(context.Background(), moved); err != nil {
			t.Fatal(err)
		}
		w.ready(moved)
		for _, m := range w.members {
			eventually(t, m.id+" sees it at its new address, and a voter", func() bool {
				return slices.ContainsFunc(m.node.Members(), func(v raftlog.Member) bool {
					return v.ID == moved.id && v.Address == address && v.Voter && v.Alive
				})
			})
		}
	}
	w.goesOn(w.follower())
}

func TestANodeJoinsWhileTheLeaderDies(t *testing.T) {
	w := growing(t, 3)
	w.start()
	eventually(t, "all are on record", func() bool { return len(w.leader().known()) == 3 })
	lead := w.leader()
	m := w.add("node-4")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	opened := make(chan error, 1)
	go func() { opened <- w.open(ctx, m) }()
	eventually(t, "it has asked", func() bool { return slices.Contains(lead.known(), "node-4") })
	w.take(lead)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.ready(m)
	eventually(t, "it votes", func() bool { v, _ := w.voters(); return slices.Contains(v, "node-4") })
}

// known are the ids of the nodes on record.
func (m *member) known() (ids []string) {
	m.store.View(func(s *hub.State) {
		for _, n := range s.Nodes() {
			ids = append(ids, n.ID)
		}
	})
	return ids
}

func TestOnlyListedNodesJoin(t *testing.T) {
	w := growing(t, 1)
	own := w.change
	w.change = func(m *member, o *raftlog.Options) {
		own(m, o)
		o.ListedOnly = true
	}
	w.start()
	m := w.add("node-2")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	opened := make(chan error, 1)
	go func() { opened <- w.open(ctx, m) }()
	eventually(t, "it is told what to do", func() bool { return strings.Contains(w.logs[m].String(), "quorumhub cluster add node-2") })
	w.must(raftlog.Change{Operation: raftlog.AddNode, Node: "node-2", Address: w.address(m), Nonvoter: true})
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.ready(m)
	if v, o := w.voters(); len(v) != 1 || len(o) != 1 {
		t.Errorf("voters %v, others %v", v, o)
	}
}

func TestWhoMayNotJoinIsTold(t *testing.T) {
	for _, c := range []struct {
		name, words string
		change      func(o *raftlog.Options)
	}{
		{"wrong token", "cluster.token differs from that of", func(o *raftlog.Options) { o.Token = "another" }},
		{"another key", "secrets.key_file", func(o *raftlog.Options) { o.Shared = "another" }},
		{"an id that is taken", "new cluster.node_id", func(o *raftlog.Options) { o.ID = "node-2" }},
		{"address that resolves nowhere", "cannot resolve", func(o *raftlog.Options) {
			o.Peers = slices.Clone(o.Peers)
			o.Peers[3].Address = "nowhere.invalid:8180"
		}},
		{"address of another machine", "plain TCP", func(o *raftlog.Options) {
			o.Peers = slices.Clone(o.Peers)
			o.Peers[3].Address = "192.0.2.1:8180"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := growing(t, 3)
			w.start()
			eventually(t, "all are on record", func() bool { return len(w.leader().known()) == 3 })
			m := w.add("node-4")
			own := w.change
			w.change = func(_ *member, o *raftlog.Options) {
				own(m, o)
				c.change(o)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			err := w.open(ctx, m)
			if !raftlog.IsRefusal(err) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.words)
			}
			w.goesOn(w.members[0])
		})
	}
}

func TestDeadNodesAreRemovedWhenThatIsWanted(t *testing.T) {
	w := newNetwork(t, 3)
	w.change = func(_ *member, o *raftlog.Options) {
		o.Autopilot = raftlog.Autopilot{Stabilization: 200 * time.Millisecond, CleanupDead: 2 * time.Second, MinVoters: 3}
	}
	w.start()
	extra := w.join("node-4")
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	w.take(extra)
	w.votersAre("node-1", "node-2", "node-3")
	// The floor holds.
	w.take(w.follower())
	time.Sleep(4 * time.Second) // twice as long as a dead node is kept
	w.votersAre("node-1", "node-2", "node-3")
}

// A node that announces its end is known to all as stopping, and its next run as back.
func TestHandover(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	eventually(t, "all runs are on record", func() bool {
		started := 0
		w.leader().store.View(func(s *hub.State) {
			for _, n := range s.Nodes() {
				if n.Boot != "" {
					started++
				}
			}
		})
		return started == 3
	})
	lead := w.leader()
	eventually(t, "the leader sees successors", lead.node.HasSuccessors)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if !lead.node.Handover(ctx) {
		t.Fatal("nobody is there to take over")
	}
	if lead.node.IsLeader() {
		t.Error("it still leads")
	}
	w.goesOn(lead) // until it ends
	stopping := func(m *member) bool {
		return slices.ContainsFunc(m.node.Nodes(), func(s hub.NodeStatus) bool { return s.ID == lead.id && s.Draining })
	}
	for _, m := range w.members {
		eventually(t, m.id+" knows", func() bool { return stopping(m) })
	}
	if err := lead.node.HandoverDone(ctx); err != nil {
		t.Error(err)
	}
	lead.stop()
	if err := w.open(ctx, lead); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.members {
		eventually(t, m.id+" knows that it is back", func() bool { return !stopping(m) })
	}
}
