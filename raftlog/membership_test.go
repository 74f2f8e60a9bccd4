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

// growing is a network whose nodes get their votes soon after joining.
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

// voters returns the IDs of the voters and of the other nodes, as the leader sees them.
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

func (w *network) mustChange(c raftlog.Change) {
	w.t.Helper()
	if err := w.apply(w.leader(), c); err != nil {
		w.t.Fatalf("%+v: %v", c, err)
	}
}

func (w *network) apply(m *member, c raftlog.Change) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return m.node.Change(ctx, c)
}

// refuses checks that any node refuses a change with code and a one-line error that contains words.
func (w *network) refuses(c raftlog.Change, code hub.Code, words string) {
	w.t.Helper()
	for _, m := range []*member{w.leader(), w.follower()} {
		err := w.apply(m, c)
		if hub.CodeOf(err) != code || err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			w.t.Errorf("%+v through %s: %v (%d), want code %d and %q", c, m.id, err, hub.CodeOf(err), code, words)
		}
	}
}

// awaitRemoved waits until a node has learned that it was removed, and stops it.
func (w *network) awaitRemoved(m *member) {
	w.t.Helper()
	select {
	case <-m.node.Removed():
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%s does not notice that it was removed:\n%s", m.id, w.logs[m])
	}
	// The nodes that refuse it are not removed themselves.
	for _, o := range w.members {
		if o == m || o.node == nil {
			continue
		}
		eventually(w.t, o.id+" refuses "+m.id, func() bool { return o.node.Dial(context.Background(), w.address(m)) != nil })
		select {
		case <-o.node.Removed():
			w.t.Errorf("%s believes it was removed", o.id)
		default:
		}
	}
	w.crash(m)
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == m })
}

// acceptsWrites waits until a node accepts a message: on a busy machine there may briefly be no leader.
func (w *network) acceptsWrites(m *member) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			for _, m := range w.members {
				w.t.Logf("log of %s:\n%s", m.id, w.logs[m])
			}
		}
	}()
	eventually(w.t, "the cluster accepts a message", func() bool {
		_, err := m.node.Propose(context.Background(), publish("a", "x"))
		return err == nil
	})
}

// From one node to five and back to one by removing leaders, with constant writers: nothing acknowledged is lost.
func TestI1GrowAndShrinkUnderLoad(t *testing.T) {
	w := growing(t, 1)
	w.start()
	l := newLedger()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	node := func() *raftlog.Node { // the leader
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
		w.mustChange(raftlog.Change{Operation: raftlog.RemoveNode, Node: lead.id})
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
		t.Errorf("remaining voters %v, others %v", v, o)
	}
	t.Logf("%d acknowledged, %d attempts with unknown outcome", l.acknowledged, l.unknown)
	if l.acknowledged < 50 {
		t.Error("too few acknowledged messages for a meaningful result")
	}
}

func TestRemovalIsPermanent(t *testing.T) {
	w := growing(t, 3)
	w.start()
	w.votersAre("node-1", "node-2", "node-3")
	f := w.follower()
	absent := w.members[slices.IndexFunc(w.members, func(m *member) bool { return m != f && m != w.leader() })]

	// A running node notices its removal, and does not start again.
	joiner := w.join("node-4")
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	eventually(t, "node-4 is recorded", func() bool {
		return w.apply(f, raftlog.Change{Operation: raftlog.RemoveNode, Node: "node-4"}) == nil
	})
	select {
	case <-joiner.node.Removed():
	case <-time.After(20 * time.Second):
		t.Fatal("node-4 does not notice that it was removed")
	}
	w.crash(joiner)
	err := w.open(context.Background(), joiner)
	mustProblem(t, err, "node.json", "was removed from its cluster", "new cluster.node_id")

	// Nor with new data under the same ID.
	joiner.dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, joiner); !raftlog.IsRefusal(err) || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("wiped, under the same id: %v", err)
	}
	w.members = slices.DeleteFunc(w.members, func(o *member) bool { return o == joiner })
	w.refuses(raftlog.Change{Operation: raftlog.AddNode, Node: "node-4", Address: "127.0.0.1:1"}, hub.CodeConflict, "choose another")

	// A node that was down learns of its removal when it returns.
	w.crash(absent)
	eventually(t, "the dead node can be removed", func() bool {
		return w.apply(w.leader(), raftlog.Change{Operation: raftlog.RemoveNode, Node: absent.id}) == nil
	})
	eventually(t, "it is no longer a member", func() bool { return len(w.leader().node.Members()) == 2 })
	if err := w.leader().node.AwaitRemoval(ctx, absent.id); err != nil {
		t.Error(err)
	}
	if err := w.open(context.Background(), absent); err != nil {
		t.Fatal(err)
	}
	w.awaitRemoved(absent)
	w.acceptsWrites(f)
}

func TestWipedJoinedNodeNeedsANewID(t *testing.T) {
	w := growing(t, 3)
	w.start()
	m := w.join("node-4")
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	w.crash(m)
	m.dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, m); !raftlog.IsRefusal(err) || !strings.Contains(err.Error(), "new cluster.node_id") {
		t.Fatalf("the wiped node: %v", err)
	}
	// With a new ID at the same address it must wait until the old node is removed.
	again := newMember(t, "node-5")
	again.dir = m.dir + "/new"
	w.members[3], w.logs[again] = again, new(logBuffer)
	w.peers[3].ID = "node-5"
	opened := make(chan error, 1)
	go func() { opened <- w.open(ctx, again) }()
	eventually(t, "it is told what to do", func() bool {
		return strings.Contains(w.logs[again].String(), "quorumhub cluster remove node-4")
	})
	w.mustChange(raftlog.Change{Operation: raftlog.RemoveNode, Node: "node-4"})
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.votersAre("node-1", "node-2", "node-3", "node-5")
}

// A non-voter holds all data, and gets a vote only from an operator.
func TestPermanentNonvoters(t *testing.T) {
	w := growing(t, 1)
	own := w.change
	w.change = func(m *member, o *raftlog.Options) {
		own(m, o)
		o.Nonvoter = m.id != "node-1"
	}
	w.start()
	m := w.join("node-2")
	w.acceptsWrites(m)
	eventually(t, "it has the message", func() bool { _, n := m.hash(); return n > 0 })
	time.Sleep(time.Second) // five times as long as a future voter waits
	if v, o := w.voters(); len(v) != 1 || len(o) != 1 {
		t.Errorf("voters %v, others %v", v, o)
	}
	w.refuses(raftlog.Change{Operation: raftlog.TransferLeadership, Node: "node-2"}, hub.CodeConflict, "is not a voter")
	w.mustChange(raftlog.Change{Operation: raftlog.PromoteNode, Node: "node-2"})
	w.votersAre("node-1", "node-2")
	w.mustChange(raftlog.Change{Operation: raftlog.TransferLeadership})
	eventually(t, "the other node leads", func() bool { return w.leader() == m })
	w.mustChange(raftlog.Change{Operation: raftlog.DemoteNode, Node: "node-2"}) // the leader itself
	w.votersAre("node-1")
	time.Sleep(time.Second) // during which it must not get its vote back
	w.votersAre("node-1")
}

func TestChangesThatBreakTheQuorumAreRefused(t *testing.T) {
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
	w.crash(dead)
	lead := w.leader()
	eventually(t, "the leader sees that it is dead", func() bool {
		return slices.ContainsFunc(lead.node.Members(), func(m raftlog.Member) bool { return m.ID == dead.id && !m.Alive })
	})
	for _, m := range w.members {
		if m != dead {
			w.refuses(raftlog.Change{Operation: raftlog.RemoveNode, Node: m.id}, hub.CodeConflict, "of them alive")
			w.refuses(raftlog.Change{Operation: raftlog.DemoteNode, Node: m.id}, hub.CodeConflict, "of them alive")
		}
	}
	w.refuses(raftlog.Change{Operation: raftlog.TransferLeadership, Node: dead.id}, hub.CodeConflict, "not healthy")
	eventually(t, "the dead node can be removed", func() bool {
		return w.apply(lead, raftlog.Change{Operation: raftlog.RemoveNode, Node: dead.id}) == nil
	})
	eventually(t, "two voters are left", func() bool { v, _ := w.voters(); return len(v) == 2 })
}

// A fresh node that was told it is a member, by one that knew no better, does not wait for a leader that never comes.
func TestANodeThatWaitsInVainJoins(t *testing.T) {
	w := growing(t, 3)
	waiting := w.members[2]
	grow := w.change
	w.change = func(m *member, o *raftlog.Options) {
		grow(m, o)
		o.Join = m == waiting // as a node that was told so
		if m == w.members[0] {
			o.Peers = w.peers[:1] // it founds the cluster
		}
	}
	for _, m := range []*member{waiting, w.members[0], w.members[1]} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := w.open(ctx, m); err != nil {
			t.Fatalf("open %s: %v", m.id, err)
		}
		cancel()
	}
	for _, m := range w.members {
		w.ready(m)
	}
	eventually(t, "all three are voters", func() bool { v, _ := w.voters(); return len(v) == 3 })
}

func TestMovedNodeStaysAMember(t *testing.T) {
	w := growing(t, 3)
	w.start()
	for _, moved := range []*member{w.follower(), w.leader()} {
		w.crash(moved)
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
			eventually(t, m.id+" sees it at its new address, as a voter", func() bool {
				return slices.ContainsFunc(m.node.Members(), func(v raftlog.Member) bool {
					return v.ID == moved.id && v.Address == address && v.Voter && v.Alive
				})
			})
		}
	}
	w.acceptsWrites(w.follower())
}

func TestJoinSurvivesTheLeadersDeath(t *testing.T) {
	w := growing(t, 3)
	w.start()
	eventually(t, "all nodes are recorded", func() bool { return len(w.leader().known()) == 3 })
	lead := w.leader()
	m := w.add("node-4")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	opened := make(chan error, 1)
	go func() { opened <- w.open(ctx, m) }()
	eventually(t, "its request has been recorded", func() bool { return slices.Contains(lead.known(), "node-4") })
	w.crash(lead)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.ready(m)
	eventually(t, "it is a voter", func() bool { v, _ := w.voters(); return slices.Contains(v, "node-4") })
}

// known returns the IDs of the recorded nodes.
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
	w.mustChange(raftlog.Change{Operation: raftlog.AddNode, Node: "node-2", Address: w.address(m), Nonvoter: true})
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	w.ready(m)
	if v, o := w.voters(); len(v) != 1 || len(o) != 1 {
		t.Errorf("voters %v, others %v", v, o)
	}
}

func TestRefusedJoinGivesTheReason(t *testing.T) {
	for _, c := range []struct {
		name, words string
		change      func(o *raftlog.Options)
	}{
		{"wrong token", "cluster.token differs from that of", func(o *raftlog.Options) { o.Token = "another" }},
		{"another key", "secrets.key_file", func(o *raftlog.Options) { o.Shared = "another" }},
		{"an ID that is taken", "new cluster.node_id", func(o *raftlog.Options) { o.ID = "node-2" }},
		{"unresolvable address", "cannot resolve", func(o *raftlog.Options) {
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
			eventually(t, "all nodes are recorded", func() bool { return len(w.leader().known()) == 3 })
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
			w.acceptsWrites(w.members[0])
		})
	}
}

func TestCleanupOfDeadNodes(t *testing.T) {
	w := newNetwork(t, 3)
	w.change = func(_ *member, o *raftlog.Options) {
		o.Autopilot = raftlog.Autopilot{Stabilization: 200 * time.Millisecond, CleanupDead: 2 * time.Second, MinVoters: 3}
	}
	w.start()
	extra := w.join("node-4")
	w.votersAre("node-1", "node-2", "node-3", "node-4")
	w.crash(extra)
	w.votersAre("node-1", "node-2", "node-3")
	// MinVoters is respected.
	w.crash(w.follower())
	time.Sleep(4 * time.Second) // twice CleanupDead
	w.votersAre("node-1", "node-2", "node-3")
}

// All nodes see a node that announces its stop as stopping, and its next run as running.
func TestHandover(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	eventually(t, "all runs are recorded", func() bool {
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
		t.Fatal("no successor")
	}
	if lead.node.IsLeader() {
		t.Error("it still leads")
	}
	w.acceptsWrites(lead) // until it stops
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

// A drained node hands over what it delivers, and leadership, until it is let deliver again, whatever becomes of its process. While no
// other node can deliver, it counts as one that does.
func TestDrainedNodes(t *testing.T) {
	w := newNetwork(t, 3)
	w.start()
	lead := w.leader()
	eventually(t, "the leader sees successors", lead.node.HasSuccessors)
	draining := func(id string) bool {
		for _, m := range w.members {
			if m.node != nil && !slices.ContainsFunc(m.node.Nodes(), func(s hub.NodeStatus) bool { return s.ID == id && s.Draining }) {
				return false
			}
		}
		return true
	}
	eventually(t, "the leader can be drained", func() bool {
		return w.apply(lead, raftlog.Change{Operation: raftlog.DrainNode, Node: lead.id}) == nil
	})
	eventually(t, "all know it", func() bool { return draining(lead.id) })
	eventually(t, "another one leads", func() bool { return !lead.node.IsLeader() && w.leader() != lead })
	if v, _ := w.voters(); len(v) != 3 {
		t.Errorf("the voters are %v", v)
	}
	w.acceptsWrites(lead)
	lead.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, lead); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is still drained after a restart", func() bool { return draining(lead.id) })
	var others []*member
	for _, m := range w.members {
		if m != lead {
			others = append(others, m)
		}
	}
	w.mustChange(raftlog.Change{Operation: raftlog.DrainNode, Node: others[0].id})
	w.refuses(raftlog.Change{Operation: raftlog.DrainNode, Node: others[1].id}, hub.CodeConflict, "no other node could deliver")
	eventually(t, "two are drained", func() bool { return draining(lead.id) && draining(others[0].id) })
	w.crash(others[1])
	eventually(t, "they deliver, as nobody else can", func() bool { return !draining(lead.id) && !draining(others[0].id) })
	w.mustChange(raftlog.Change{Operation: raftlog.UndrainNode, Node: lead.id})
	eventually(t, "one may rest again", func() bool { return !draining(lead.id) && draining(others[0].id) })
}
